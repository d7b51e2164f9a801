"""A layer's tar, read from a descriptor, made into files below a folder.

Knows a descriptor of each; nothing of images, digests or processes. Bytes are unproven:
every path is resolved by the kernel, with the folder as the root of all symlinks
(openat2), a member is made by one component's name in its folder's descriptor, always
as something new (O_EXCL), and what is in its place is removed first. So nothing is
ever written through a symlink or a hard link. It runs in a process of its own with one
thread (parpull/oci/untar.py), so it keeps the GIL.

Two styles. plain: over the layers below, whose files whiteouts remove. overlay: an upper
folder, where a whiteout is a device 0:0 and an opaque folder has an attribute.
"""
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from libc.errno cimport (
    E2BIG, EACCES, EEXIST, EFBIG, EINTR, EINVAL, EISDIR, ELOOP, EMFILE, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM,
    ERANGE, errno,
)
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove

from parpull._tar cimport (
    BLOCK, Head, Record, tar_blank, tar_decimal, tar_extents, tar_head, tar_record, tar_time,
)

import os

from parpull._tar import FLAWS as _FLAWS

cdef extern from "confine.h" nogil:
    int open_below(int root, const char* path, int flags)
    int c_confine "confine"(int root, uint64_t keep)
    int CONFINED_ROOT, CONFINED_LANDLOCK, CONFINED_CALLS, CONFINED_CAPS
    int O_PATH

cdef extern from "<sys/stat.h>" nogil:
    struct timespec:
        int64_t tv_sec
        long tv_nsec
    struct stat_t "stat":
        uint64_t st_ino
        unsigned int st_mode
        uint64_t st_rdev
        timespec st_mtim
    int fstat(int fd, stat_t* st)
    int fstatat(int fd, const char* name, stat_t* st, int flags)
    int mkdirat(int fd, const char* name, unsigned int mode)
    int mknodat(int fd, const char* name, unsigned int mode, uint64_t device)
    int fchmod(int fd, unsigned int mode)
    int fchmodat(int fd, const char* name, unsigned int mode, int flags)
    int futimens(int fd, const timespec* times)
    int utimensat(int fd, const char* name, const timespec* times, int flags)
    bint S_ISDIR(unsigned int mode)
    bint S_ISLNK(unsigned int mode)
    bint S_ISCHR(unsigned int mode)
    unsigned int S_IFCHR, S_IFBLK, S_IFIFO
    long UTIME_OMIT

cdef extern from "<errno.h>" nogil:
    int ENOTSUP

cdef extern from "<sys/sysmacros.h>" nogil:
    uint64_t makedev(unsigned int major, unsigned int minor)

cdef extern from "<sys/xattr.h>" nogil:
    int fsetxattr(int fd, const char* name, const void* value, size_t size, int flags)
    int lsetxattr(const char* path, const char* name, const void* value, size_t size, int flags)

cdef extern from "<fcntl.h>" nogil:
    int openat(int fd, const char* name, int flags, ...)
    int O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW, O_DIRECTORY, O_CLOEXEC
    int AT_SYMLINK_NOFOLLOW, AT_REMOVEDIR

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int fd, void* data, size_t size)
    ssize_t write(int fd, const void* data, size_t size)
    int64_t lseek(int fd, int64_t offset, int whence)
    int ftruncate(int fd, int64_t size)
    int close(int fd)
    int dup(int fd)
    int fchdir(int fd)
    int fchown(int fd, unsigned int uid, unsigned int gid)
    int fchownat(int fd, const char* name, unsigned int uid, unsigned int gid, int flags)
    int linkat(int fd, const char* name, int to, const char* link, int flags)
    int symlinkat(const char* target, int fd, const char* name)
    int unlinkat(int fd, const char* name, int flags)
    unsigned int geteuid()
    unsigned int getegid()

cdef enum:
    BUFFER = 1 << 20
    EXTENDED = 1 << 20          # bytes of an extended header, a long name, or the map of a sparse file
    EXTENTS = 1 << 19
    WARNINGS = 20               # that are told by name
    IMPLIED = 100000

MARK = b".wh."
OPAQUE = b".wh..wh..opq"

# Of a member's name or content, not of the machine it is unpacked on.
cdef tuple OF_THE_NAME = (ENAMETOOLONG, ELOOP, ENOTDIR, ENOENT, EEXIST, EINVAL, EISDIR, EMFILE, EFBIG)


class Unsafe(Exception):
    """args: why, and the member's name as bytes."""


def confine(int root, uint64_t keep):
    """Give up what unpacking into `root` doesn't need, but the capabilities whose bits are
    in `keep`; the names of the steps that this kernel has. OSError if one that each has was refused."""
    cdef int taken = c_confine(root, keep)
    if taken < 0:
        raise OSError(errno, os.strerror(errno))
    steps = ((CONFINED_ROOT, "root"), (CONFINED_LANDLOCK, "landlock"), (CONFINED_CALLS, "calls"),
             (CONFINED_CAPS, "capabilities"))
    return [name for bit, name in steps if taken & bit]


cdef inline int64_t padding(int64_t size) noexcept nogil:
    return (BLOCK - size % BLOCK) % BLOCK


cdef bytes varint(uint64_t number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


cdef bint is_refusal(int number) noexcept nogil:
    """An attribute is not for this file, file system or user."""
    return number == EPERM or number == EACCES or number == ENOTSUP


cdef bint is_whiteout(int folder, bytes name):
    cdef stat_t st
    return fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0 and S_ISCHR(st.st_mode) and st.st_rdev == 0


cdef class _Stream:
    """What comes in, what is known of the member at hand, and whose fault an error is."""

    cdef int source, root, folder_fd
    cdef bint overlay, ended, stale
    cdef str owners, devices
    cdef bytes opaque, folder_path, name
    cdef uint64_t folder_ino
    cdef unsigned int euid, egid
    cdef char* data
    cdef size_t at, end
    cdef int64_t most_entries, most_bytes
    cdef Head head
    cdef timespec times[2]
    cdef dict pax, folders, implied
    cdef list sparse, warnings
    cdef set put
    cdef int64_t entries, files, size, seen, skipped

    def __cinit__(self, int source, int root, *, bint overlay, bint private, str owners, str devices,
                  int64_t entries, int64_t size):
        self.source, self.root, self.overlay = source, root, overlay
        self.opaque = b"user.overlay.opaque" if private else b"trusted.overlay.opaque"
        self.owners, self.devices, self.most_entries, self.most_bytes = owners, devices, entries, size
        self.euid, self.egid = geteuid(), getegid()
        self.pax, self.folders, self.implied, self.put, self.warnings = {}, {}, {}, set(), []
        self.name = b""
        self.folder_fd = -1
        self.data = <char*>malloc(BUFFER)
        if self.data is NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.data)
        if self.folder_fd >= 0:
            close(self.folder_fd)

    # ------------------------------------------------------------------ bytes

    cdef bint more(self, size_t size) except -1:
        """At least `size` bytes (of at most the buffer) are at hand; False: the end came before."""
        cdef ssize_t got
        while self.end - self.at < size:
            if self.at + size > BUFFER or self.at == self.end:
                memmove(self.data, self.data + self.at, self.end - self.at)
                self.end -= self.at
                self.at = 0
            got = read(self.source, self.data + self.end, BUFFER - self.end)
            if got == 0:
                return False
            if got < 0:
                if errno == EINTR:
                    continue
                raise OSError(errno, os.strerror(errno))
            self.end += got
            self.seen += got
            if self.seen > self.most_bytes:
                raise self.unsafe(f"it unpacks to more than {self.most_bytes} bytes")
        return True

    cdef bytes take(self, int64_t size):
        """The next bytes of the tar, few."""
        cdef bytes taken = PyBytes_FromStringAndSize(NULL, size)
        cdef int64_t done = 0, n
        while done < size:
            if not self.more(1):
                raise self.unsafe("the tar is cut off")
            n = min(size - done, <int64_t>(self.end - self.at))
            memcpy(PyBytes_AsString(taken) + done, self.data + self.at, n)
            done += n
            self.at += n
        return taken

    cdef int copy(self, int fd, int64_t size) except -1:
        """`size` bytes of the tar to fd, or to nowhere (-1)."""
        cdef int64_t n
        cdef ssize_t done
        while size:
            if self.at == self.end and not self.more(1):
                raise self.unsafe("the tar is cut off")
            n = min(size, <int64_t>(self.end - self.at))
            if fd >= 0:
                done = write(fd, self.data + self.at, n)
                if done < 0:
                    if errno == EINTR:
                        continue
                    raise self.failed()
                n = done
            self.at += n
            size -= n
        return 0

    # ----------------------------------------------------------------- errors

    cdef object unsafe(self, str why):
        return Unsafe(why, self.name)

    cdef object failed(self, str why=""):
        """What errno says of this member: the layer's fault, or the machine's."""
        cdef int number = errno
        if number in OF_THE_NAME:
            return self.unsafe(why or os.strerror(number))
        return OSError(number, os.strerror(number), os.fsdecode(self.name))

    cdef int warn(self, str why) except -1:
        self.skipped += 1
        if len(self.warnings) < WARNINGS:
            self.warnings.append((why, self.name))
        return 0

    cdef int count(self) except -1:
        self.entries += 1
        if self.entries > self.most_entries:
            raise self.unsafe(f"it has more than {self.most_entries} members")
        return 0

    # ----------------------------------------------------------------- sparse

    cdef int64_t decimal(self, bytes text) except -1:
        cdef int64_t number
        if not tar_decimal(PyBytes_AsString(text), len(text), &number):
            raise self.unsafe("a number of its extended header is none")
        return number

    cdef int old_sparse(self) except -1:
        """Old GNU: four extents in the header, 21 in each of the blocks that follow."""
        cdef int64_t pairs[42]
        cdef int n = tar_extents(self.data + self.at, 386, 4, pairs)
        cdef bint extended = self.head.extended
        self.sparse = []
        while n >= 0:
            self.sparse += [(pairs[2 * i], pairs[2 * i + 1]) for i in range(n)]
            self.at += BLOCK
            if not extended:
                return 0
            if not self.more(BLOCK):
                raise self.unsafe("the tar is cut off")
            n = tar_extents(self.data + self.at, 0, 21, pairs)
            extended = self.data[self.at + 504] != 0
            if len(self.sparse) > EXTENTS:
                break
        raise self.unsafe(_FLAWS[4])

    cdef int64_t holes(self, int64_t size) except -2:
        """Fill `sparse` from the extended header; the bytes of the map before the content, or
        -1 where the file has no holes."""
        cdef dict pax = self.pax
        cdef int64_t taken = 0
        if self.sparse is not None:
            return 0
        if pax.get(b"GNU.sparse.major") == b"1" and pax.get(b"GNU.sparse.minor") == b"0":
            lines, rest, wanted = [], b"", 1
            while len(lines) < wanted:
                if taken + BLOCK > min(size, <int64_t>EXTENDED * 16):
                    raise self.unsafe(_FLAWS[4])
                *whole, rest = (rest + self.take(BLOCK)).split(b"\n")
                taken += BLOCK
                if not lines and whole:
                    wanted = 1 + 2 * self.decimal(whole[0])
                    if wanted > 2 * EXTENTS:
                        raise self.unsafe(_FLAWS[4])
                lines += whole
                if len(rest) > BLOCK:
                    raise self.unsafe(_FLAWS[4])
            numbers = lines[1:wanted]
            real = pax.get(b"GNU.sparse.realsize", b"")
        elif b"GNU.sparse.map" in pax or b"GNU.sparse.size" in pax:
            numbers = [text for text in pax.get(b"GNU.sparse.map", b"").split(b",") if text]
            real = pax.get(b"GNU.sparse.size", b"")
        else:
            return -1
        if len(numbers) % 2:
            raise self.unsafe(_FLAWS[4])
        numbers = [self.decimal(text) for text in numbers]
        self.sparse = list(zip(numbers[::2], numbers[1::2], strict=True))
        self.head.real = self.decimal(real)
        return taken

    cdef int spread(self, int fd, int64_t size) except -1:
        """A sparse file's content, `size` bytes, to where its extents are."""
        cdef int64_t at = 0, total = 0, offset, length
        for offset, length in self.sparse:
            if offset < at or length < 0 or length > self.head.real - offset or length > size - total:
                raise self.unsafe(_FLAWS[4])
            at = offset + length
            total += length
            if length and lseek(fd, offset, 0) < 0:
                raise self.failed()
            self.copy(fd, length)
        if total != size:
            raise self.unsafe(_FLAWS[4])
        if ftruncate(fd, self.head.real) < 0:
            raise self.failed("it is larger than any file")
        return 0


include "untar_tree.pxi"


cdef class Untar(_Tree):
    """One layer. source, root: descriptors, not owned. overlay: the style; else plain.
    private: user.overlay.* instead of trusted.overlay.*. owners: keep, ignore or record.
    devices: make, skip or refuse. entries, size: the most members, and bytes of the tar."""

    def run(self):
        """Unpack to the tar's end, and read on to the descriptor's. Unsafe, or OSError with
        the member's name as `filename`."""
        while self.more(BLOCK):
            if tar_blank(self.data + self.at):
                self.ended = True
                break
            self.member()
        if not self.ended and self.end != self.at:
            raise self.unsafe("the tar is cut off")
        # Padding, or whatever else: the digest is over that too, and the writer is not to be stopped.
        self.at = self.end
        while self.more(1):
            self.at = self.end
        self.name = b""
        self.finish()

    def told(self):
        """What was done, for JSON."""
        implied = [os.fsdecode(path) for ino, path in self.implied.items() if ino not in self.folders]
        warnings = [[why, os.fsdecode(name)] for why, name in self.warnings]
        return {"entries": self.entries, "files": self.files, "bytes": self.size, "read": self.seen,
                "implied": implied, "skipped": self.skipped, "warnings": warnings}

    # ---------------------------------------------------------------- headers

    cdef int member(self) except -1:
        cdef int flaw = tar_head(self.data + self.at, &self.head)
        cdef char kind = self.head.kind
        cdef int64_t size, left
        if flaw:
            raise self.unsafe(_FLAWS[flaw])
        self.count()
        if kind == c'S':
            self.old_sparse()
        else:
            self.at += BLOCK
        size = self.head.size
        if kind in (c'x', c'X', c'g', c'L', c'K'):
            if size > EXTENDED:
                raise self.unsafe(f"a header is longer than {EXTENDED} bytes")
            text = self.take(size)
            self.copy(-1, padding(size))
            if kind == c'L' or kind == c'K':
                self.pax[b"L" if kind == c'L' else b"K"] = text.partition(b"\0")[0]
            elif kind != c'g':      # a global one is nobody's: so do Go's reader, and with it all that makes layers
                self.records(text)
            return 0
        pax = self.pax
        path = pax.get(b"L") or pax.get(b"GNU.sparse.name") or pax.get(b"path") or <bytes>self.head.name
        link = pax.get(b"K") or pax.get(b"linkpath") or <bytes>self.head.link
        self.name = path
        self.numbers(pax)
        size = self.head.size
        if kind in (c'1', c'2', c'3', c'4', c'5', c'6'):
            size = 0                # has no content, whatever it says: as Go's reader has it
        elif kind == 0:             # by its whole name: a header's may be cut behind a slash
            kind = c'D' if path.endswith(b"/") else c'0'
        left = padding(size)
        if kind == c'V' or self.place(path, kind, size, link):
            self.copy(-1, size)
        self.copy(-1, left)
        if pax:
            self.pax = {}
        self.sparse = None
        return 0

    cdef int records(self, bytes text) except -1:
        """An extended header, for the member after it."""
        cdef Record record
        cdef size_t at = 0, size = len(text), length
        cdef list extents = []
        while at < size:
            length = tar_record(PyBytes_AsString(text) + at, size - at, &record)
            if length == 0:
                raise self.unsafe("an extended header is malformed")
            at += length
            key = record.key[:record.key_size]
            value = record.value[:record.value_size]
            if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
                extents.append(value)
            elif value or key.startswith(b"SCHILY.xattr."):
                self.pax[key] = value
            else:
                self.pax.pop(key, None)
        if extents:
            self.pax[b"GNU.sparse.map"] = b",".join(extents)
        return 0

    cdef int numbers(self, dict pax) except -1:
        """Size, owner, time: those of the extended header instead, where there are any."""
        self.times[0].tv_nsec = UTIME_OMIT
        self.times[1].tv_sec, self.times[1].tv_nsec = self.head.mtime, 0
        if pax:
            if b"size" in pax:
                self.head.size = self.decimal(pax[b"size"])
            if b"uid" in pax:
                self.head.uid = self.decimal(pax[b"uid"])
            if b"gid" in pax:
                self.head.gid = self.decimal(pax[b"gid"])
            if b"mtime" in pax:
                text = <bytes>pax[b"mtime"]
                if not tar_time(PyBytes_AsString(text), len(text), &self.times[1].tv_sec, &self.times[1].tv_nsec):
                    raise self.unsafe("a number of its extended header is none")
        # The last one means "leave it" to the kernel.
        if not (0 <= self.head.uid < 0xFFFFFFFF and 0 <= self.head.gid < 0xFFFFFFFF):
            raise self.unsafe("its owner is none")
        return 0
