"""Journals: what survives of a file that was being written when its process died.

NAME.parpull beside NAME.parpull-part: a page that says which object and which file it
is about, then one entry per block (see src/_journal.pyx). The same file after the same
boot is what its entries say, because a killed process loses nothing that the kernel
has. After another boot, of another file (a copy; device numbers that are dealt anew), or
when somebody has touched the file since, every entry is a claim, and its block is read
and summed. Whatever is not about exactly this object counts for nothing. First floor;
the lock on the part file guards both.
"""

from __future__ import annotations

import os
import socket
import stat

from ._journal import ENTRY_SIZE, claimed, proven, sum_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

__all__ = ["Journal", "boot_id", "is_journal", "remove_journal"]

SUFFIX = ".parpull"
PAGE = 4096  # bytes before the first entry
MAGIC = b"parpull journal\n"
VERSION = 1
FIELDS = ("source", "validator", "total", "start", "size", "block", "device", "inode", "boot", "host", "pid")
ARGUMENTS = FIELDS[:6]
STEP = 64  # blocks that are proven between two looks whether it is still wanted
TEXTS = ("source", "validator", "boot", "host")
MOST = 1 << 26  # entries: 64 TiB in blocks of 1 MiB
TOUCHED = 2_000_000_000  # nanoseconds that the part file may be younger than its journal


def boot_id() -> str:
    """What tells this boot of the system from every other; "" where nothing does."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read(64).strip()
    except (OSError, ValueError):
        return ""


def is_journal(fd: int) -> bool:
    """Whether the open file begins as a journal does, of whatever version."""
    return os.pread(fd, len(MAGIC), 0) == MAGIC


def remove_journal(path: str) -> None:
    """Remove what is there if it is a journal, or what a power cut has left of one;
    nobody's own file that happens to have the name. OSError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            page = os.pread(fd, PAGE, 0)
            if page.startswith(MAGIC) or MAGIC.startswith(page.rstrip(b"\0")):
                os.unlink(path)
    finally:
        os.close(fd)


class Journal:
    """One journal, open. source: a hash of the URL; validator: the object's; total: its
    size; start, size: the target's part of it; block; device, inode: the part file's;
    boot, host, pid: who wrote it. Sizes and offsets in bytes."""

    source: str
    validator: str
    total: int
    start: int
    size: int
    block: int
    device: int
    inode: int
    boot: str
    host: str
    pid: int

    def __init__(self, fd: int, path: str, fields: dict[str, Any]) -> None:
        self.fd = fd
        self.path = path
        self.__dict__.update(fields)

    # --- on the disk -------------------------------------------------------------------

    @classmethod
    def create(
        cls, path: str, part_fd: int, *, source: str, validator: str, total: int, start: int, size: int, block: int
    ) -> Self:
        """A new one for the open part file, in place of any other. OSError, also where a
        file of that name is none of ours."""
        if size > MOST * block:
            raise OSError("of as many blocks as this no track is kept")
        about = os.fstat(part_fd)
        fields = {
            "source": source, "validator": validator, "total": total, "start": start, "size": size, "block": block,
            "device": about.st_dev, "inode": about.st_ino, "boot": boot_id(), "host": socket.gethostname(),
            "pid": os.getpid(),
        }  # fmt: skip
        page = _page(fields)
        remove_journal(path)
        # Not through a link, and nobody else's file: it did not exist a moment ago.
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            os.pwrite(fd, page, 0)
        except BaseException:
            os.close(fd)
            os.unlink(path)
            raise
        return cls(fd, path, fields)

    @classmethod
    def read(cls, path: str) -> Self | None:
        """The journal that is there; None if there is none, or it can't be trusted: torn,
        garbage, a link, somebody else's, or of another version."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            about = os.fstat(fd)
            fields = None
            if stat.S_ISREG(about.st_mode) and about.st_uid == os.geteuid():
                fields = _fields(os.pread(fd, PAGE, 0))
            if fields is not None:
                journal, fd = cls(fd, path, fields), -1
                return journal
            return None
        except OSError:
            return None
        finally:
            if fd >= 0:
                os.close(fd)

    def renew(self, part_fd: int, blocks: bytes | bytearray) -> Self:
        """One that is of this boot, with the entries of these blocks only; takes the
        place of this one in one step. OSError."""
        fields = {name: getattr(self, name) for name in FIELDS if name in ARGUMENTS}
        new = self.create(self.path + "~", part_fd, **fields)
        try:
            entries = bytearray(
                os.pread(self.fd, len(blocks) * ENTRY_SIZE, PAGE).ljust(len(blocks) * ENTRY_SIZE, b"\0")
            )
            for index, there in enumerate(blocks):
                if not there:
                    entries[index * ENTRY_SIZE : (index + 1) * ENTRY_SIZE] = bytes(ENTRY_SIZE)
            os.pwrite(new.fd, entries, PAGE)
            os.replace(new.path, self.path)
        except BaseException:
            new.remove()
            raise
        new.path = self.path
        self.close()
        return new

    def close(self) -> None:
        """Close the descriptor; the file stays."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def remove(self) -> None:
        """It has done its work."""
        self.close()
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass

    # --- what it says ------------------------------------------------------------------

    def is_of(self, *, validator: str, total: int, start: int, size: int) -> bool:
        """Whether it is about this target of its source."""
        return (self.validator, self.total, self.start, self.size) == (validator, total, start, size)

    def is_certain(self, part: os.stat_result) -> bool:
        """Whether its entries can be believed as they are: it is about this very part
        file, no other boot has come between, and nobody has written to the file since.
        By the time of change, which nobody can set."""
        written = os.fstat(self.fd).st_mtime_ns
        return (
            (self.device, self.inode, self.size) == (part.st_dev, part.st_ino, part.st_size)
            and self.boot != ""
            and self.boot == boot_id()
            and part.st_ctime_ns - written < TOUCHED
        )

    def claims(self) -> bytearray:
        """Which blocks have an entry, a byte each."""
        count = -(-self.size // self.block)
        return claimed(self._entries(count)).ljust(count, b"\0")[:count]

    def proofs(self, part_fd: int, wanted: Callable[[], bool]) -> bytearray:
        """Which of them hold what they did, by reading and summing them all: without the
        GIL, as long as the disk takes, or until `wanted` says no."""
        count = -(-self.size // self.block)
        entries = self._entries(count)
        found = bytearray()
        while len(found) < count and wanted():
            found += proven(part_fd, entries, self.size, self.block, len(found), STEP)
        return found.ljust(count, b"\0")[:count]

    def _entries(self, count: int) -> bytes:
        return os.pread(self.fd, min(count, MOST) * ENTRY_SIZE, PAGE)

    def gap(self) -> tuple[int, int]:
        """The first bytes [start, stop) of the target that are not claimed; at the end
        of a complete one its last block. A guess for the first request."""
        flags = self.claims()
        first = flags.find(0)
        if first < 0:
            return max(len(flags) - 1, 0) * self.block, self.size
        stop = flags.find(1, first)
        return first * self.block, self.size if stop < 0 else stop * self.block


def _page(fields: dict[str, Any]) -> bytes:
    import json

    text = json.dumps({"version": VERSION} | fields, separators=(",", ":")).encode("ascii")
    body = MAGIC + len(text).to_bytes(4, "little") + text
    if len(body) > PAGE - 4:
        raise OSError("a validator as long as this is not kept")
    body = body.ljust(PAGE - 4, b"\0")
    return body + sum_of(body).to_bytes(4, "little")


def _fields(page: bytes) -> dict[str, Any] | None:
    """What a page says, None unless it is one that we would write."""
    import json

    if len(page) != PAGE or not page.startswith(MAGIC) or sum_of(page[:-4]) != int.from_bytes(page[-4:], "little"):
        return None
    length = int.from_bytes(page[len(MAGIC) : len(MAGIC) + 4], "little")
    try:
        data = json.loads(page[len(MAGIC) + 4 : len(MAGIC) + 4 + length])
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or data.pop("version", None) != VERSION or set(data) != set(FIELDS):
        return None
    if not all(isinstance(data[name], str) if name in TEXTS else type(data[name]) is int for name in FIELDS):
        return None
    numbers = [data[name] for name in FIELDS if name not in TEXTS]
    block = data["block"]
    if min(numbers) < 0 or not 4096 <= block <= 1 << 30 or block & (block - 1) or not 0 < data["size"] <= MOST * block:
        return None
    return data
