"""Journals: what survives of a file that was being written when its process died.

NAME.parpull beside NAME.parpull-part: a page that says which object and which file it
is about, then one entry per block (see src/_journal.pyx). The same file after the same
boot is what its entries say, because a killed process loses nothing that the kernel
has. After another boot, or when somebody has touched the file since, every entry is a
claim, and its block is read and summed. Whatever is not about exactly this object and
this file counts for nothing. First floor; the lock on the part file guards both.
"""

from __future__ import annotations

import os
import socket
import stat

from ._journal import ENTRY_SIZE, claimed, proven, sum_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

__all__ = ["Journal", "boot_id"]

SUFFIX = ".parpull"
PAGE = 4096  # bytes before the first entry
MAGIC = b"parpull journal\n"
VERSION = 1
FIELDS = ("source", "validator", "total", "start", "size", "block", "device", "inode", "boot", "host", "pid")
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
        """A new one for the open part file, in place of any other. OSError."""
        about = os.fstat(part_fd)
        fields = {
            "source": source, "validator": validator, "total": total, "start": start, "size": size, "block": block,
            "device": about.st_dev, "inode": about.st_ino, "boot": boot_id(), "host": socket.gethostname(),
            "pid": os.getpid(),
        }  # fmt: skip
        page = _page(fields)
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
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

    def is_of(self, *, source: str, validator: str | None, total: int, start: int, size: int) -> bool:
        """Whether it is about this target."""
        return validator is not None and (self.source, self.validator, self.total, self.start, self.size) == (
            source, validator, total, start, size,
        )  # fmt: skip

    def is_about(self, part: os.stat_result) -> bool:
        """Whether it is about this part file."""
        return (self.device, self.inode) == (part.st_dev, part.st_ino)

    def is_certain(self, part: os.stat_result) -> bool:
        """Whether its entries can be believed as they are: no other boot has come
        between, and nobody has written to the file since."""
        written = os.fstat(self.fd).st_mtime_ns
        return (
            self.boot != ""
            and self.boot == boot_id()
            and part.st_size == self.size
            and part.st_mtime_ns - written < TOUCHED
        )

    def blocks(self, part_fd: int) -> bytearray:
        """Which blocks of the part file are in place, a byte each. Reads and sums them
        all unless is_certain(); without the GIL, as long as the disk takes."""
        count = -(-self.size // self.block)
        entries = os.pread(self.fd, min(count, MOST) * ENTRY_SIZE, PAGE)
        part = os.fstat(part_fd)
        if not self.is_about(part):
            return bytearray(count)
        found = claimed(entries) if self.is_certain(part) else proven(part_fd, entries, self.size, self.block)
        return found.ljust(count, b"\0")[:count]

    def gap(self) -> tuple[int, int]:
        """The first bytes [start, stop) of the target that are not claimed; at the end
        of a complete one its last block. A guess for the first request."""
        count = -(-self.size // self.block)
        flags = claimed(os.pread(self.fd, min(count, MOST) * ENTRY_SIZE, PAGE)).ljust(count, b"\0")[:count]
        first = flags.find(0)
        if first < 0:
            return max(count - 1, 0) * self.block, self.size
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
    if min(numbers) < 0 or not 4096 <= block <= 1 << 30 or block & (block - 1) or data["size"] > MOST * block:
        return None
    return data
