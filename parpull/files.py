"""Files: where a target goes on disk, under which name, and how it gets there.

Bytes are written to NAME.parpull-part beside the target, which gets its name by
one atomic step when it is complete and proven. The part file is locked: a second
transfer to the same place is told so, and who holds it. A file that is there already
may be what is wanted: record.py tells. First floor.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from urllib.parse import unquote, urlsplit

from . import record
from ._landing import Landing, direct_align, file_system, reserve
from .errors import InUse, NoSpace, SinkError, TargetExists
from .journal import PAGE, SUFFIX, Journal, remove_journal
from .record import fingerprint
from .sink import Sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .record import Record

__all__ = ["FileSink", "default_name", "lock_owner", "sink_error"]

EXT4, XFS = 0xEF53, 0x58465342
DIRECT_FROM = 8 << 20
READ = 4 << 20
BLOCK = 1 << 20
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


def lock_owner(about: os.stat_result, *, proc: str = "/proc") -> str | None:
    """Who holds the flock of a file, as words; None where that can't be known: not on
    Linux, from within a container, on a file system whose numbers are its own."""
    device = about.st_dev
    place = f"{os.major(device):02x}:{os.minor(device):02x}:{about.st_ino}"
    try:
        with open(f"{proc}/locks", encoding="ascii", errors="replace") as file:
            # "1: FLOCK ADVISORY WRITE 1234 fe:00:4711 0 EOF"; with "->" it is one waited for
            lines = [line.split() for line in file]
        pids = [int(line[4]) for line in lines if len(line) > 5 and line[1] == "FLOCK" and line[5] == place]
        pid = next((pid for pid in pids if pid > 0), None)  # 0, -1: somebody outside of our namespace
        if pid is None:
            return None
        if str(pid) == os.readlink(f"{proc}/self"):
            return "this process"
        with open(f"{proc}/{pid}/comm", encoding="utf-8", errors="replace") as file:
            name = file.read(64).strip()
    except (OSError, ValueError):
        return None
    return f"process {pid} ({''.join(c if c.isprintable() else '_' for c in name)})"


def remove_quietly(path: str) -> None:
    """Remove a file if it is there and can be."""
    try:
        os.unlink(path)
    except OSError:
        pass


class FileSink(Sink):
    """A file as destination.

    url: the address whose whole object the file will be; without it (a part of an
    object) no record is kept of the file, and none is asked; nor is it resumed.
    checksum: "sha256=HEX" of the object, if the caller knows. resume: go on where an
    earlier transfer of the same object ended, and leave what the next one needs.

    After check(): existing is the record of a file that is there and may be what is
    wanted, see is_current(); gap the first bytes [start, stop) that an earlier transfer
    has not left, a guess; None if there was none."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        durable: bool = False,
        url: str | None = None,
        checksum: str | None = None,
        resume: bool = True,
    ) -> None:
        name = os.fsdecode(path)
        if "\0" in name:
            raise sink_error(errno.EINVAL, name.replace("\0", "?"))
        self.path: str = os.path.realpath(name)
        self.part = self.path + ".parpull-part"
        self.existing: Record | None = None
        self._resume = resume
        self._doubted = False
        self._journal: Journal | None = None
        self._overwrite = overwrite
        self._durable = durable
        self._url = url
        self._checksum = checksum
        self._fd = self._direct = -1
        self._about: os.stat_result | None = None  # of the part file
        self._scratch: bytearray | None = None

    def check(self) -> None:
        """Whether the file may and can be written, before any request."""
        folder = os.path.dirname(self.path)
        mode = self._mode()
        if stat.S_ISDIR(mode):
            raise SinkError(
                f"{self.path} is a folder", path=self.path, errno=errno.EISDIR, hint="name a file in it, or use -d"
            )
        if not mode and not os.path.isdir(folder):
            code = errno.ENOTDIR if os.path.exists(folder) else errno.ENOENT
            raise SinkError(
                f"cannot write {self.path}: there is no folder {folder}",
                path=self.path,
                errno=code,
                hint="make it first, or let -d FOLDER make it",
            )
        if mode:
            if not stat.S_ISREG(mode):
                raise SinkError(
                    f"{self.path} is not a regular file",
                    path=self.path,
                    errno=errno.EINVAL,
                    hint="ranges land out of order, which no pipe or device takes; parpull cat, or open(), streams",
                )
            if not self._overwrite:
                self.existing = self._existing()
                return
        if not os.access(folder, os.W_OK | os.X_OK):
            raise sink_error(errno.EACCES, self.path)
        self.gap = self._first_gap()

    def _mode(self) -> int:
        """st_mode of what is there, 0 if nothing is."""
        try:
            return os.stat(self.path).st_mode
        except OSError:
            return 0

    # --- a file that is there already -----------------------------------------------

    def _existing(self) -> Record:
        """The record of the file that is there; TargetExists if it cannot be what is
        wanted, whatever the server says."""
        found = None if self._url is None else record.read(self.path)
        if found is None or self._url is None:
            raise self.exists()
        if self._checksum is None:
            if found.validator is None or not found.is_from(self._url):
                raise self.exists()
        elif not found.proves(self._checksum):
            # Not hashed here: a checksum proves what is fetched, it does not inspect files.
            raise self.exists("it was not proven to have this checksum")
        return found

    def conditions(self, headers: Sequence[str] = ()) -> tuple[str, ...]:
        """Header lines for the request: an answer of 304 to them means that the file
        which is there is current. `headers`: the user's own lines."""
        return () if self.existing is None else record.conditions(self.existing, headers)

    def is_current(self, *, validator: str | None, size: int | None) -> bool:
        """Whether the file that is there is the object of a response with this
        validator and size. With a checksum it is what has that checksum."""
        if self.existing is None:
            return False
        return self._checksum is not None or self.existing.is_version(validator=validator, size=size)

    def settle_existing(self) -> Landing:
        """The current file that is there, as a landing on which everything is in place;
        TargetExists if somebody has changed it since check()."""
        now = record.read(self.path)
        if self.existing is None or now is None or now.text() != self.existing.text():
            raise self.exists()
        self._about = os.stat(self.path)  # tap() reads from this file
        self._sweep()
        landing = Landing(now.size, BLOCK)
        landing.restore(b"\1" * (now.size // BLOCK + 1))
        landing.close()
        return landing

    def _sweep(self) -> None:
        """What is left when a process dies between naming its file and tidying up: a
        second name of it, a journal of nothing."""
        try:
            if os.path.samestat(os.stat(self.part, follow_symlinks=False), os.stat(self.path)):
                os.unlink(self.part)
        except OSError:
            pass
        if not os.path.lexists(self.part):
            self._forget()

    def exists(self, why: str | None = None) -> TargetExists:
        """The error for a file that is there and not what is wanted."""
        message = f"{self.path} exists" + (f", and {why}" if why else "")
        return TargetExists(
            message, path=self.path, errno=errno.EEXIST, hint="--overwrite (overwrite=True) replaces it"
        )

    # --- a file that is written -----------------------------------------------------

    def open(
        self,
        size: int | None,
        *,
        followed: bool,
        validator: str | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> Landing:
        """The part file, locked and with its room reserved; what an earlier transfer of
        this version left in it is in place, which may take as long as reading all of
        it, or until it is not `wanted` any more. `followed`: somebody reads along, so
        the bytes had better be in the page cache. `validator`: of an object that can
        be resumed."""
        blocks = None
        try:
            self._open_part()
            if size is not None and validator is not None:
                blocks = self._take_over(size, validator, wanted)
            if blocks is None:
                self._begin(size, validator)
        except OSError as error:
            if isinstance(error, SinkError):
                raise
            raise sink_error(error.errno or errno.EIO, self.path) from error
        landing = Landing(-1 if size is None else size, BLOCK)
        align = 0
        if not followed and size is not None and size >= DIRECT_FROM:
            align = self._open_direct()
        journal_fd = self._journal.fd if self._journal is not None and wanted() else -1
        landing.into_file(self._fd, direct_fd=self._direct, align=align, journal_fd=journal_fd, journal_at=PAGE)
        if blocks is not None:
            landing.restore(blocks)
        return landing

    # --- what an earlier transfer left ------------------------------------------------

    def _first_gap(self) -> tuple[int, int] | None:
        journal = self._left()
        if journal is None:
            return None
        try:
            return journal.gap() if os.path.exists(self.part) else None
        finally:
            journal.close()

    def _left(self) -> Journal | None:
        """The journal of an earlier transfer from this URL."""
        if not self._resume or self._url is None:
            return None
        journal = Journal.read(self.path + SUFFIX)
        if journal is not None and journal.source != fingerprint(self._url):
            journal.close()
            return None
        return journal

    def _take_over(self, size: int, validator: str, wanted: Callable[[], bool]) -> bytearray | None:
        """The blocks of the part file that hold what they should, None if it is not
        about this version of the object. Under the lock."""
        journal = self._left()
        if journal is None:
            return None
        try:
            ours = journal.is_of(validator=validator, total=size, start=0, size=size)
            if not ours or journal.block != BLOCK:
                return None
            if journal.is_certain(os.fstat(self._fd)):
                blocks = journal.claims()
            else:
                blocks = journal.proofs(self._fd, wanted)
                if wanted():  # else the next one proves them anew: nothing may be entered meanwhile
                    journal = self._renewed(journal, blocks)
                    os.ftruncate(self._fd, size)
            self._journal, journal = journal, None
            return blocks
        finally:
            if journal is not None:
                journal.close()

    def _renewed(self, journal: Journal, blocks: bytearray) -> Journal | None:
        """The journal with what was proven; None where it can't be written: a file can be
        fetched without one, but not with one that claims what was refuted."""
        try:
            return journal.renew(self._fd, blocks)
        except OSError:
            journal.remove()
            return None

    def _begin(self, size: int | None, validator: str | None) -> None:
        """An empty part file; a journal that says so comes first, so that no entry is
        ever about bytes of another version."""
        self._forget()
        if self._url is not None and self._resume and validator is not None and size is not None and size > BLOCK:
            try:
                self._journal = Journal.create(
                    self.path + SUFFIX, self._fd, source=fingerprint(self._url), validator=validator,
                    total=size, start=0, size=size, block=BLOCK,
                )  # fmt: skip
            except OSError:
                pass  # a file can be fetched without one
        os.ftruncate(self._fd, 0)
        if size:
            self._make_room(size)

    def _forget(self) -> None:
        try:
            remove_journal(self.path + SUFFIX)
        except OSError:
            pass  # what it says is older than what is written from now on: to be proven

    @property
    def keeps(self) -> bool:
        """Whether another transfer could go on from what is here."""
        return self._journal is not None and not self._doubted and any(self._journal.claims())

    def doubt(self) -> None:
        """Not every byte is from where the validator is: the next transfer, which may have
        no digest, can't go on from here, not even after a crash."""
        self._doubted = True
        self._forget()

    def keep(self) -> None:
        """Leave it for the next transfer."""
        self._close()

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
                if about.st_nlink == 1:
                    self._about = about
                    return
                os.unlink(self.part)  # a second name of the file that we were to replace, or of another
            os.close(self._fd)
            self._fd = -1

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = lock_owner(os.fstat(self._fd))
            os.close(self._fd)
            self._fd = -1
            raise InUse(
                f"another transfer writes {self.path}" + (f" ({owner})" if owner else ""),
                path=self.path,
                errno=errno.EBUSY,
                owner=owner,
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

    def tap(self) -> int:
        """A descriptor of the caller's own, to read what is in place; also when the file
        has got its name meanwhile."""
        for path in (self.part, self.path):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            if self._about is not None and os.path.samestat(os.fstat(fd), self._about):
                return fd
            os.close(fd)
        raise sink_error(errno.ENOENT, self.path)

    def commit(self, size: int, *, validator: str | None = None, digests: Mapping[str, str] | None = None) -> str:
        """Give the complete file its name; return the path. `validator`, `digests`:
        what the file is, for its record."""
        try:
            os.ftruncate(self._fd, size)
            if self._url is not None:
                record.keep(self._fd, self._url, validator=validator, digests=digests or {})
            if self._durable:
                os.fsync(self._fd)
            self._rename()
            if self._durable:
                self._sync_folder()
        except OSError as error:
            if isinstance(error, SinkError):
                raise
            raise sink_error(error.errno or errno.EIO, self.path) from error
        if self._journal is not None:
            self._journal.remove()
        self._close()
        return self.path

    def _rename(self) -> None:
        if self._overwrite:
            os.replace(self.part, self.path)
            return
        try:
            os.link(self.part, self.path)  # unlike rename, fails when somebody was faster
        except FileExistsError:
            raise self.exists() from None
        except OSError:  # a file system without hard links
            if os.path.lexists(self.path):
                raise self.exists() from None
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
            if self._journal is not None:
                self._journal.remove()  # first: it must not outlive what it is about
            remove_quietly(self.part)
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
        if self._journal is not None:
            self._journal.close()
