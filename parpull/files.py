"""Files: where a target goes on disk, under which name, and how it gets there.

Bytes are written to NAME.parpull-part beside the target, which gets its name by
one atomic step when it is complete and proven. The part file is locked: a second
transfer to the same place is told so. First floor.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from urllib.parse import unquote, urlsplit

from ._landing import Landing, direct_align, file_system, reserve
from .errors import InUse, NoSpace, SinkError, TargetExists

__all__ = ["FileSink", "default_name", "sink_error"]

EXT4, XFS = 0xEF53, 0x58465342
DIRECT_FROM = 8 << 20
READ = 4 << 20
LONGEST = 240  # bytes of a name, so that .parpull-part still fits into 255


def default_name(url: str) -> str:
    """The name for a URL's object in the current folder: the last segment of its
    path, without anything that could lead elsewhere or upset a terminal."""
    name = unquote(urlsplit(url).path.rstrip("/").rpartition("/")[2], errors="replace")
    name = "".join("_" if c in '/\\\0<>:"|?*' or not c.isprintable() else c for c in name)
    name = name.encode("utf-8", "replace")[:LONGEST].decode("utf-8", "ignore")
    return name.strip().lstrip(". ") or "index"


def sink_error(code: int, path: str | None) -> SinkError:
    """The typed error for an errno of the destination."""
    where = path or "the destination"
    kind: type[SinkError] = SinkError
    hint = None
    if code in (errno.ENOSPC, errno.EDQUOT):
        kind, hint = NoSpace, "free some room, or choose another folder with -d"
    elif code in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "choose a folder that you may write to"
    elif code == errno.EFBIG:
        hint = "the file system, or ulimit -f, allows no file of this size"
    return kind(f"cannot write {where}: {os.strerror(code)}", path=path, errno=code, hint=hint)


class FileSink:
    """A file as destination; see memory.py for the life of a sink."""

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False, durable: bool = False) -> None:
        self.path = os.path.realpath(os.fsdecode(path))
        self.part = self.path + ".parpull-part"
        self._overwrite = overwrite
        self._durable = durable
        self._fd = self._direct = -1
        self._scratch: bytearray | None = None

    def check(self) -> None:
        """Whether the file may and can be written, before any request."""
        folder = os.path.dirname(self.path)
        if os.path.isdir(self.path):
            raise SinkError(
                f"{self.path} is a folder", path=self.path, errno=errno.EISDIR, hint="name a file in it, or use -d"
            )
        if not os.path.isdir(folder):
            code = errno.ENOTDIR if os.path.exists(folder) else errno.ENOENT
            raise SinkError(
                f"cannot write {self.path}: there is no folder {folder}",
                path=self.path,
                errno=code,
                hint="make it first",
            )
        if os.path.exists(self.path):
            if not stat.S_ISREG(os.stat(self.path).st_mode):
                raise SinkError(
                    f"{self.path} is not a regular file",
                    path=self.path,
                    errno=errno.EINVAL,
                    hint="ranges land out of order, so pipes and devices can't take them; use -o - to stream",
                )
            if not self._overwrite:
                raise self._exists()
        if not os.access(folder, os.W_OK | os.X_OK):
            raise sink_error(errno.EACCES, self.path)

    def _exists(self) -> TargetExists:
        return TargetExists(
            f"{self.path} exists", path=self.path, errno=errno.EEXIST, hint="--overwrite (overwrite=True) replaces it"
        )

    def open(self, size: int | None, *, followed: bool) -> Landing:
        """The part file, locked and with its room reserved. `followed`: somebody
        reads along, so the bytes had better be in the page cache."""
        try:
            self._open_part()
            os.ftruncate(self._fd, 0)
            if size:
                self._make_room(size)
        except OSError as error:
            if isinstance(error, SinkError):
                raise
            raise sink_error(error.errno or errno.EIO, self.path) from error
        landing = Landing(-1 if size is None else size)
        align = 0
        if not followed and size is not None and size >= DIRECT_FROM:
            align = self._open_direct()
        landing.into_file(self._fd, direct_fd=self._direct, align=align)
        return landing

    def _open_part(self) -> None:
        """Open and lock the part file. Whoever held the lock may have renamed or
        removed it meanwhile: then it is another file's, and we begin again. Never
        through a link, which could lead to somebody's treasure."""
        while True:
            self._fd = os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
            self._lock()
            about = os.fstat(self._fd)
            if not stat.S_ISREG(about.st_mode):
                os.close(self._fd)
                self._fd = -1
                raise sink_error(errno.EINVAL, self.part)
            try:
                named = os.stat(self.part, follow_symlinks=False)
            except FileNotFoundError:
                named = None
            if named is not None and os.path.samestat(about, named):
                return
            os.close(self._fd)
            self._fd = -1

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            self._fd = -1
            raise InUse(
                f"another transfer writes {self.path}",
                path=self.path,
                errno=errno.EBUSY,
                owner=None,
                hint="wait for it, or choose another name",
            ) from None

    def _make_room(self, size: int) -> None:
        about = os.fstatvfs(self._fd)
        free = about.f_bavail * about.f_frsize
        if free < size and about.f_blocks:
            raise NoSpace(
                f"{os.path.dirname(self.path)} has {free:,} bytes free, the object needs {size:,}",
                path=self.path,
                errno=errno.ENOSPC,
                hint="free some room, or choose another folder with -d",
            )
        # tmpfs would zero every page for nothing; elsewhere fallocate may be missing.
        if file_system(self._fd) not in (EXT4, XFS) or not reserve(self._fd, size):
            os.ftruncate(self._fd, size)

    def _open_direct(self) -> int:
        """Open the part file past the page cache; return the alignment, or 0.
        Asked of the type first: tmpfs accepts O_DIRECT and gains nothing."""
        flag = getattr(os, "O_DIRECT", 0)
        if not flag or file_system(self._fd) not in (EXT4, XFS):
            return 0
        align = int(direct_align(self._fd))
        try:
            self._direct = os.open(self.part, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flag)
        except OSError:
            return 0
        return align

    def overflow(self, landed: int) -> SinkError:
        """A file only ends where the disk does."""
        return sink_error(errno.ENOSPC, self.path)

    def read(self, start: int, stop: int) -> memoryview:
        """Bytes in place; the view is good until the next call."""
        if self._scratch is None:
            self._scratch = bytearray(READ)
        view = memoryview(self._scratch)[: min(stop - start, READ)]
        return view[: os.preadv(self._fd, [view], start)]

    def commit(self, size: int) -> str:
        """Give the complete file its name; return the path."""
        try:
            os.ftruncate(self._fd, size)
            if self._durable:
                os.fsync(self._fd)
            self._rename()
            if self._durable:
                self._sync_folder()
        except OSError as error:
            if isinstance(error, SinkError):
                raise
            raise sink_error(error.errno or errno.EIO, self.path) from error
        self._close()
        return self.path

    def _rename(self) -> None:
        if self._overwrite:
            os.replace(self.part, self.path)
            return
        try:
            os.link(self.part, self.path)  # unlike rename, fails when somebody was faster
        except FileExistsError:
            raise self._exists() from None
        except OSError:  # a file system without hard links
            if os.path.lexists(self.path):
                raise self._exists() from None
            os.rename(self.part, self.path)
        else:
            os.unlink(self.part)

    def _sync_folder(self) -> None:
        folder = os.open(os.path.dirname(self.path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self) -> None:
        """Leave nothing behind."""
        if self._fd >= 0:
            try:
                os.unlink(self.part)
            except FileNotFoundError:
                pass
            self._close()

    def abandon(self) -> None:
        """In a forked child: the parent goes on writing the file."""
        self._close()

    def _close(self) -> None:
        for fd in (self._direct, self._fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._direct = -1
        self._scratch = None
