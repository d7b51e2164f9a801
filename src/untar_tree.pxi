# Members in the tree: the part of src/_untar.pyx that makes, replaces and removes files.

cdef class _Tree(_Stream):

    cdef bytes clean(self, bytes path):
        """Without what says nothing; b"" is the root itself."""
        if b"\0" in path:
            raise self.unsafe("a NUL is in its name")
        parts = [part for part in path.split(b"/") if part and part != b"."]
        if b".." in parts:
            raise self.unsafe("its name leads out, by '..'")
        return b"/".join(parts)

    cdef bint place(self, bytes path, char kind, int64_t size, bytes link) except -1:
        """Make one member; True: its content is still to be read over."""
        cdef bytes whole = self.clean(path), folder, base
        if path[:1] == b"/" and whole:
            raise self.unsafe("its name is absolute")
        folder, _, base = whole.rpartition(b"/")
        if MARK in whole and self.whiteout(whole, folder, base):
            return True
        if not whole:
            if kind != c'5':
                raise self.unsafe("it would be the root itself, and is no folder")
            self.folder(b"")
            self.furnish(self.root, b"")
            return False
        self.folder(folder)
        if kind == c'0' or kind == c'7' or kind == c'S':
            self.file(base, size)
        elif kind == c'5' or kind == c'D':
            self.directory(whole, base)
            if kind == c'D':
                return True
        elif kind == c'1':
            self.hardlink(base, link)
        elif kind == c'2':
            self.symlink(base, link)
        elif kind == c'3' or kind == c'4' or kind == c'6':
            self.device(base, kind)
        else:
            raise self.unsafe(f"it is of a kind that no layer has, {chr(<unsigned char>kind)!r}")
        if not self.overlay:
            self.put.add((self.folder_ino, base))
        self.files += 1
        return False

    # ---------------------------------------------------------------- folders

    cdef int folder(self, bytes path) except -1:
        """Make `path` the folder that members are made in, also if it is not there yet."""
        cdef stat_t st
        cdef int fd
        if self.folder_fd >= 0 and not self.stale and path == self.folder_path:
            return 0
        if self.folder_fd >= 0:
            close(self.folder_fd)
            self.folder_fd = -1
        fd = open_below(self.root, path or b".", O_PATH | O_DIRECTORY | O_CLOEXEC)
        if fd < 0 and errno == EACCES:
            self.unlock(path)
            fd = open_below(self.root, path or b".", O_PATH | O_DIRECTORY | O_CLOEXEC)
        if fd < 0:
            if errno != ENOENT and errno != ENOTDIR:
                raise self.failed("its folder is a loop, or its name too long")
            fd = self.make_folders(path)
        self.folder_fd, self.folder_path, self.stale = fd, path, False
        if fstat(fd, &st) < 0:
            raise self.failed()
        self.folder_ino = st.st_ino
        if not self.overlay and self.euid and st.st_mode & 0o700 != 0o700:
            self.unlock(path)
        # What lies below keeps its time, though something is made in it.
        if not self.overlay and st.st_ino not in self.folders and st.st_ino not in self.implied:
            self.folders[st.st_ino] = (path, st.st_mode & 0o7777, st.st_mtim.tv_sec, st.st_mtim.tv_nsec)
        return 0

    cdef int make_folders(self, bytes path) except -1:
        """The folders that a name implies and no member describes; the last one's descriptor."""
        cdef int fd = dup(self.root), inner
        cdef stat_t st
        cdef bytes prefix = b""
        cdef bint veiled
        for part in path.split(b"/"):
            prefix = prefix + b"/" + part if prefix else part
            inner = open_below(self.root, prefix, O_PATH | O_DIRECTORY | O_CLOEXEC)
            if inner < 0 and (errno == ENOENT or errno == ENOTDIR):
                veiled = False
                if mkdirat(fd, part, 0o755) < 0:
                    veiled = self.overlay and is_whiteout(fd, part)
                    if not veiled or unlinkat(fd, part, 0) < 0 or mkdirat(fd, part, 0o755) < 0:
                        close(fd)
                        raise self.unsafe("its folder is no folder")
                inner = openat(fd, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                if inner >= 0 and fstat(inner, &st) == 0:
                    self.count()
                    if len(self.implied) >= IMPLIED:
                        raise self.unsafe("too many of its folders are described nowhere")
                    self.implied[st.st_ino] = prefix
                    if veiled:
                        self.set_opaque(inner)
            close(fd)
            if inner < 0:
                raise self.failed("its folder can't be made")
            fd = inner
        return fd

    cdef int unlock(self, bytes path) except -1:
        """Without root, a folder from below may forbid what is to be done in it; finish() gives
        it its mode again."""
        cdef stat_t st
        cdef int fd = self.root, inner
        cdef bytes prefix = b""
        for part in [b"."] + path.split(b"/"):
            prefix = prefix + b"/" + part
            if fstatat(fd, part, &st, AT_SYMLINK_NOFOLLOW) == 0 and S_ISDIR(st.st_mode) and st.st_mode & 0o700 != 0o700:
                self.folders.setdefault(
                    st.st_ino, (prefix[3:], st.st_mode & 0o7777, st.st_mtim.tv_sec, st.st_mtim.tv_nsec))
                fchmodat(fd, part, (st.st_mode & 0o7777) | 0o700, 0)
            inner = open_below(self.root, prefix, O_PATH | O_DIRECTORY | O_CLOEXEC)
            if fd != self.root:
                close(fd)
            if inner < 0:
                return 0
            fd = inner
        close(fd)
        return 0

    cdef int finish(self) except -1:
        """Modes and times of folders, the deepest first: making a member changes its folder's
        time, and a mode may forbid to go in."""
        cdef stat_t st
        cdef int fd
        for ino, (path, mode, seconds, nanos) in sorted(
                self.folders.items(), key=lambda item: (-item[1][0].count(b"/"), -len(item[1][0]))):
            fd = open_below(self.root, path or b".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            if fd < 0:
                continue
            self.name = path
            self.times[1].tv_sec, self.times[1].tv_nsec = seconds, nanos
            if fstat(fd, &st) == 0 and st.st_ino == <uint64_t>ino:
                if fchmod(fd, mode) < 0 or futimens(fd, self.times) < 0:
                    close(fd)
                    raise self.failed()
            close(fd)
        return 0

    # ---------------------------------------------------------------- members

    cdef int clear_way(self, bytes base, bint folder=False) except -1:
        """Remove what has the name, unless both are folders: 1 then, else 2."""
        cdef stat_t st
        if errno != EEXIST:
            raise self.failed()
        if fstatat(self.folder_fd, base, &st, AT_SYMLINK_NOFOLLOW) < 0:
            raise self.failed()
        if folder and S_ISDIR(st.st_mode):
            return 1
        self.remove(self.folder_fd, base, False)
        self.stale = self.stale or S_ISDIR(st.st_mode) or S_ISLNK(st.st_mode)
        return 2

    cdef int file(self, bytes base, int64_t size) except -1:
        cdef int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
        cdef unsigned int mode = self.head.mode & 0o7777
        # Without root, attributes can't be given to what may not be written.
        cdef unsigned int first = mode & 0o777 | (0o600 if self.euid else 0)
        cdef int64_t mapped = self.holes(size) if self.pax or self.sparse is not None else -1
        cdef int fd = openat(self.folder_fd, base, flags, first)
        if fd < 0:
            self.clear_way(base)
            fd = openat(self.folder_fd, base, flags, first)
            if fd < 0:
                raise self.failed()
        try:
            if mapped >= 0:
                self.spread(fd, size - mapped)
            else:
                self.copy(fd, size)
            self.size += size
            # In this order: a write or a new owner takes setuid and capabilities away.
            if self.owners == "keep" and (self.head.uid != self.euid or self.head.gid != self.egid):
                if fchown(fd, <unsigned int>self.head.uid, <unsigned int>self.head.gid) < 0:
                    raise self.failed()
            self.attributes(fd, base)
            if mode != first and fchmod(fd, mode) < 0:
                raise self.failed()
            if futimens(fd, self.times) < 0:
                raise self.failed()
        finally:
            close(fd)
        return 0

    cdef int directory(self, bytes whole, bytes base) except -1:
        cdef int way = 0, fd
        if mkdirat(self.folder_fd, base, 0o700) < 0:
            way = self.clear_way(base, True)
            if way != 1 and mkdirat(self.folder_fd, base, 0o700) < 0:
                raise self.failed()
        fd = openat(self.folder_fd, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        if fd < 0 and errno == EACCES and fchmodat(self.folder_fd, base, 0o700, 0) == 0:
            fd = openat(self.folder_fd, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        if fd < 0:
            raise self.failed()
        try:
            if way == 2 and self.overlay:   # what was in its place hid what lies below
                self.set_opaque(fd)
            self.furnish(fd, whole)
        finally:
            close(fd)
        return 0

    cdef int furnish(self, int fd, bytes whole) except -1:
        """A folder's owner and attributes now, its mode and time at the end."""
        cdef stat_t st
        if fstat(fd, &st) < 0:
            raise self.failed()
        if self.owners == "keep" and fchown(fd, <unsigned int>self.head.uid, <unsigned int>self.head.gid) < 0:
            raise self.failed()
        self.attributes(fd, None)
        self.folders[st.st_ino] = (whole, self.head.mode & 0o7777, self.times[1].tv_sec, self.times[1].tv_nsec)
        return 0

    cdef int symlink(self, bytes base, bytes link) except -1:
        if not link or b"\0" in link:
            raise self.unsafe("it links to nothing")
        if symlinkat(link, self.folder_fd, base) < 0:
            self.clear_way(base)
            if symlinkat(link, self.folder_fd, base) < 0:
                raise self.failed()
        return self.dress(base, 0)

    cdef int hardlink(self, bytes base, bytes link) except -1:
        """To a file of this layer or, when plain, of one below. Its head says nothing that the
        file's own has not said; a symlink is linked itself."""
        cdef bytes target = self.clean(link), folder, other
        cdef stat_t st, own
        cdef int fd
        folder, _, other = target.rpartition(b"/")
        if not target:
            raise self.unsafe("it links to nothing")
        fd = open_below(self.root, folder or b".", O_PATH | O_DIRECTORY | O_CLOEXEC)
        if fd < 0:
            raise self.failed("it links to what is not in the tree")
        try:
            if fstatat(fd, other, &st, AT_SYMLINK_NOFOLLOW) < 0 or S_ISDIR(st.st_mode):
                raise self.unsafe("it links to what is not in the tree, or is a folder")
            if fstatat(self.folder_fd, base, &own, AT_SYMLINK_NOFOLLOW) == 0 and own.st_ino == st.st_ino:
                return 0            # it is that already, or links to itself
            if linkat(fd, other, self.folder_fd, base, 0) < 0:
                self.clear_way(base)
                if linkat(fd, other, self.folder_fd, base, 0) < 0:
                    raise self.failed()
        finally:
            close(fd)
        return 0

    cdef int device(self, bytes base, char kind) except -1:
        cdef unsigned int mode = self.head.mode & 0o7777
        cdef uint64_t number = 0
        if kind == c'6':
            mode |= S_IFIFO
        else:
            if not (0 <= self.head.major < 1 << 12 and 0 <= self.head.minor < 1 << 20):
                raise self.unsafe("a device of that number can't be")
            number = makedev(<unsigned int>self.head.major, <unsigned int>self.head.minor)
            mode |= S_IFCHR if kind == c'3' else S_IFBLK
            if self.devices == "refuse":
                raise self.unsafe("it is a device")
            if self.devices == "skip" or (self.overlay and number == 0):
                return self.warn("it is a device")
        if mknodat(self.folder_fd, base, mode, number) < 0:
            if errno == EPERM:
                return self.warn("it is a device, and may not be made")
            self.clear_way(base)
            if mknodat(self.folder_fd, base, mode, number) < 0:
                raise self.failed()
        return self.dress(base, mode)

    cdef int dress(self, bytes base, unsigned int mode) except -1:
        """Owner, attributes, mode and time of what can't be opened; mode 0: a symlink."""
        if self.owners == "keep" and fchownat(self.folder_fd, base, <unsigned int>self.head.uid,
                                              <unsigned int>self.head.gid, AT_SYMLINK_NOFOLLOW) < 0:
            raise self.failed()
        if mode and mode & 0o7000 and fchmodat(self.folder_fd, base, mode & 0o7777, 0) < 0:
            raise self.failed()
        self.attributes(-1, base)
        if utimensat(self.folder_fd, base, self.times, AT_SYMLINK_NOFOLLOW) < 0:
            raise self.failed()
        return 0

    cdef int attributes(self, int fd, bytes base) except -1:
        """Extended attributes, of `base` in the folder where there is no descriptor. Those that
        steer an overlay are the machine's, not the layer's."""
        cdef int done
        cdef bytes name, value
        wanted = [(key[13:], value) for key, value in self.pax.items() if key.startswith(b"SCHILY.xattr.")] \
            if self.pax else []
        if self.owners == "record" and fd >= 0 and (self.head.uid or self.head.gid):
            # As umoci and others have it: fields 1 and 2 of a protobuf.
            wanted.append((b"user.rootlesscontainers", b"\x08" + varint(self.head.uid) + b"\x10" + varint(self.head.gid)))
        for name, value in wanted:
            if name.startswith((b"trusted.overlay.", b"user.overlay.")):
                self.warn("an attribute of it would steer the overlay")
                continue
            if fd >= 0:
                done = fsetxattr(fd, name, PyBytes_AsString(value), len(value), 0)
            else:
                done = -1 if fchdir(self.folder_fd) < 0 else lsetxattr(
                    base, name, PyBytes_AsString(value), len(value), 0)
            if done < 0:
                if errno in (EINVAL, ERANGE, E2BIG, ENAMETOOLONG) or is_refusal(errno):
                    self.warn(f"its attribute {os.fsdecode(name)[:255]!r} can't be set here")
                    continue
                raise self.failed()
        return 0

    # -------------------------------------------------------------- whiteouts

    cdef bint whiteout(self, bytes whole, bytes folder, bytes base) except -1:
        """Whether the name is a mark, and then what it asks for. It asks it of the layers below:
        what this layer brought stays, in whatever order they come."""
        cdef bytes hidden
        parts = whole.split(b"/")
        if base == OPAQUE:
            self.opaque_folder(folder)
            return True
        if any([part.startswith(b".wh..wh.") for part in parts]):
            return True             # what aufs kept for itself
        if any([part.startswith(MARK) for part in parts[:-1]]):
            raise self.unsafe("it lies in a folder that is a whiteout")
        if not base.startswith(MARK):
            return False
        hidden = base[len(MARK):]
        if hidden in (b"", b".", b".."):
            raise self.unsafe("it is a whiteout of nothing")
        self.folder(folder)
        if not self.overlay:
            self.hide(hidden)
        elif mknodat(self.folder_fd, hidden, S_IFCHR, 0) < 0:
            if errno != EEXIST:
                raise self.failed()
            fd = openat(self.folder_fd, hidden, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            if fd >= 0:
                self.set_opaque(fd)
                close(fd)
        return True

    cdef int hide(self, bytes name) except -1:
        cdef stat_t st
        if fstatat(self.folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0:
            return 0
        self.remove(self.folder_fd, name, True)
        self.stale = True
        return 0

    cdef int opaque_folder(self, bytes folder) except -1:
        cdef int fd
        self.folder(folder)
        fd = openat(self.folder_fd, b".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if fd < 0:
            raise self.failed()
        try:
            if self.overlay:
                self.set_opaque(fd)
            else:
                for name in os.listdir(fd):
                    self.remove(fd, os.fsencode(name), True)
                self.stale = True
        finally:
            close(fd)
        return 0

    cdef int set_opaque(self, int fd) except -1:
        if fsetxattr(fd, self.opaque, b"y", 1, 0) < 0:
            raise self.failed()
        return 0

    cdef int remove(self, int folder, bytes name, bint below) except -1:
        """Remove `name` and all in it. below: but not what this layer has put there."""
        cdef stat_t st
        cdef int fd
        cdef bint own = False
        if below:
            if fstat(folder, &st) < 0:
                raise self.failed()
            own = (st.st_ino, name) in self.put
        if fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0:
            raise self.failed()
        if not S_ISDIR(st.st_mode):
            if not own and unlinkat(folder, name, 0) < 0:
                raise self.failed()
            return 0
        if self.euid and st.st_mode & 0o700 != 0o700:
            fchmodat(folder, name, 0o700, 0)
        fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        if fd < 0:
            raise self.failed("its folders are too deep")
        try:
            for inner in os.listdir(fd):
                self.remove(fd, os.fsencode(inner), below)
        finally:
            close(fd)
        if own:
            return 0
        if unlinkat(folder, name, AT_REMOVEDIR) == 0:
            self.folders.pop(st.st_ino, None)
            self.implied.pop(st.st_ino, None)
        elif not below:             # else something of this layer is in it
            raise self.failed()
        return 0
