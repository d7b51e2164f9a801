"""The verb `clean`: remove what interrupted transfers left behind.

That is NAME.parpull-part, as files.py calls it, and its journal NAME.parpull. A name
proves little, so a file goes only if it is a regular one, is looked at without
following any link, and is locked by nobody; and it is removed through the folder that
was read, so that nothing swapped in between is met. What is removed is listed on
stdout, a size and a path a line; all else is told on stderr.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time

from .._landing import file_system
from ..errors import SinkError
from ..journal import SUFFIX, is_journal
from .outcome import CANNOT_WRITE, OK, UsageError, complain, say, write_out
from .parser import add_telling
from .text import clean, human_size, plural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from .parser import Arguments, Parser

__all__ = ["InUse", "Left", "add", "find", "run"]

SUMMARY = "remove what interrupted transfers left in a folder"
USAGE = "parpull clean [options] [DIR]"
EPILOG = """\
Removes each NAME.parpull-part that is a regular file and not in use, and the
journal NAME.parpull beside it: what it holds has to be fetched again then.

exit codes: 0 ok, 2 usage, 6 something could not be removed
"""
PART = ".parpull-part"
# File systems that other machines write to, whose locks may not reach us: NFS, SMB,
# Lustre, Ceph, GPFS, AFS, 9p, FUSE. There, what was written to of late is in use.
SHARED = frozenset({
    0x6969, 0x517B, 0xFE534D42, 0xFF534D42, 0x0BD00BD0, 0x00C36400, 0x47504653, 0x5346414F, 0x01021997, 0x65735546,
})  # fmt: skip
OF_LATE = 600.0  # seconds


class InUse(Exception):
    """A running transfer writes to the file, or may; the message says which."""


class Left:
    """A file that a transfer left: `name` in the folder open as `folder`, `path` to
    show, `size` in bytes."""

    def __init__(self, folder: int, name: str, path: str, size: int) -> None:
        self.folder = folder
        self.name = name
        self.path = path
        self.size = size

    @property
    def journal(self) -> str:
        """The name of its journal; of a journal its own."""
        return self.name.removesuffix("-part")

    def remove(self, *, dry: bool = False) -> None:
        """Remove it and its journal, or only see whether that may be done. InUse; OSError where the
        system refuses, FileNotFoundError if somebody was faster."""
        fd = self._open()
        try:
            about = os.fstat(fd)
            if not stat.S_ISREG(about.st_mode):  # swapped since it was found
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InUse("a running transfer writes to it") from None
            age = time.time() - about.st_mtime
            if file_system(fd) & 0xFFFFFFFF in SHARED and age < OF_LATE:
                raise InUse(f"written to {max(age, 0):.0f} s ago, and its folder may be shared with other machines")
            # Whoever held the lock until now may have given the file its name.
            if os.path.samestat(about, os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)) and not dry:
                if self.journal != self.name and _is_journal(self.folder, self.journal):
                    os.unlink(self.journal, dir_fd=self.folder)  # first: it must not outlive the part
                os.unlink(self.name, dir_fd=self.folder)
        finally:
            os.close(fd)

    def _open(self) -> int:
        flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        try:
            return os.open(self.name, os.O_RDWR | flags, dir_fd=self.folder)  # NFS locks only what may be written
        except PermissionError:
            return os.open(self.name, os.O_RDONLY | flags, dir_fd=self.folder)


def add(parser: Parser) -> None:
    """The arguments of `clean`."""
    what = parser.add_argument_group("what")
    what.add_argument("folder", nargs="?", default=".", metavar="DIR", help="where to look (default: here)")
    what.add_argument("-n", "--dry-run", action="store_true", help="only list what would be removed")
    what.add_argument("-r", "--recursive", action="store_true", help="also in the folders below")
    add_telling(parser, verbose=False)


def run(args: Arguments) -> int:
    """Remove, list, and sum up; 6 when something could not be removed."""
    try:
        top = os.open(args.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"there is no folder {args.folder}", USAGE) from None
    except OSError as error:
        raise _refused(f"cannot read {args.folder}", error) from None
    try:
        return _clean(top, args.folder, recursive=args.recursive, dry=args.dry_run, quiet=args.quiet)
    finally:
        os.close(top)


def _refused(what: str, error: OSError) -> SinkError:
    return SinkError(f"{what}: {error.strerror}", path=None, errno=error.errno)


def _clean(top: int, folder: str, *, recursive: bool, dry: bool, quiet: bool) -> int:
    count = size = 0
    refused: list[SinkError] = []

    def unreadable(error: OSError) -> None:
        where = error.filename if isinstance(error.filename, str) else folder
        refused.append(_refused(f"cannot read {where}", error))

    for left in find(top, folder, recursive=recursive, onerror=unreadable):
        try:
            left.remove(dry=dry)
        except InUse as reason:
            if not quiet:
                say(f"{left.path} is left alone: {reason}")
        except FileNotFoundError:
            pass
        except OSError as error:
            refused.append(_refused(f"cannot remove {left.path}", error))
        else:
            count += 1
            size += left.size
            _list(left)
    for failure in refused:
        complain(failure)
    if not quiet:
        done = "would remove" if dry else "removed"
        say(f"{done} {plural(count, 'file')}, {human_size(size)}" if count else f"nothing to remove in {folder}")
    return CANNOT_WRITE if refused else OK


def find(top: int, folder: str, *, recursive: bool, onerror: Callable[[OSError], None]) -> Iterator[Left]:
    """What transfers left in the folder open as `top`, by name and kind; not in those
    that a link leads to. `folder` is what its user calls it. Each is good until the
    next is asked for."""
    try:
        for root, _, names, fd in os.fwalk(".", dir_fd=top, onerror=onerror):
            for name in sorted(names):
                if not _is_ours(fd, name, names):
                    continue
                try:
                    about = os.stat(name, dir_fd=fd, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(about.st_mode):
                    path = os.path.normpath(os.path.join(root, name))  # "./a/b" -> "a/b"
                    yield Left(fd, name, path if folder == "." else os.path.join(folder, path), about.st_size)
            if not recursive:
                return
    except OSError as error:  # in the middle of a folder: a disk, or a network, that fails
        onerror(error)


def _is_ours(folder: int, name: str, names: Collection[str]) -> bool:
    """A part file, or a journal whose part file is gone."""
    if name.endswith(PART):
        return name != PART
    if name.endswith((SUFFIX, SUFFIX + "~")):
        return name.rstrip("~") + "-part" not in names and _is_journal(folder, name)
    return False


def _is_journal(folder: int, name: str) -> bool:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=folder)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode) and is_journal(fd)
    except OSError:
        return False
    finally:
        os.close(fd)


def _list(left: Left) -> None:
    line = f"{human_size(left.size):>10}  {clean(left.path)}\n"
    write_out(line.encode("utf-8", "backslashreplace"))
