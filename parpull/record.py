"""Records: what a finished file is, kept in an extended attribute of the file itself.

With it a second run knows, after one request, that the file which is there is the
object that it was asked for. A record is a claim, so it counts only while the file
is still the very one it was written for: same inode, size and time of last change,
owned by us, and with all of its bytes on the disk, which a power cut may prevent.
Where the file system can't keep or tell such things there is no record, and nothing
else changes. First floor.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from urllib.parse import urlsplit

from ._landing import file_system
from .checksums import parse_checksum
from .errors import BadOption

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Record", "conditions", "fingerprint", "keep", "read"]

ATTRIBUTE = "user.parpull"
VERSION = 1
LIMIT = 2048  # bytes; ext4 has one block for all attributes of a file
LONGEST = 256  # characters of a validator
TMPFS = 0x01021994
# linux/fiemap.h
FS_IOC_FIEMAP, SYNC = 0xC020660B, 1
NOT_WRITTEN = 0x2 | 0x4 | 0x800  # UNKNOWN, DELALLOC, UNWRITTEN
HEAD, EXTENT = struct.Struct("=QQLLLL"), struct.Struct("=QQQ16xL12x")
EXTENTS = 512  # at a time
# What may be sent back in a request: one quoted tag, in ASCII. "*" would match anything.
TAG = re.compile(r'(W/)?"[!#-~]*"')


class Record:
    """What a file is. source: a hash of the URL it came from, whole; validator: the
    ETag or date that came with it, verbatim, or None; size in bytes; mtime_ns,
    inode: of the finished file; digests: what was proven, {algorithm: hexadecimal}."""

    __slots__ = ("digests", "inode", "mtime_ns", "size", "source", "validator")

    def __init__(
        self, *, source: str, validator: str | None, size: int, mtime_ns: int, inode: int, digests: Mapping[str, str]
    ) -> None:
        self.source = source
        self.validator = validator
        self.size = size
        self.mtime_ns = mtime_ns
        self.inode = inode
        self.digests = dict(digests)

    def is_from(self, url: str) -> bool:
        """Whether the file came from this URL: tags are unique for one resource only,
        and many servers make them of nothing but size and time."""
        return self.source == fingerprint(url)

    def proves(self, checksum: str) -> bool:
        """Whether this very digest ("sha256=HEX") was proven of the file."""
        expected = parse_checksum(checksum)
        return self.digests.get(expected.algorithm) == expected.expected

    def is_version(self, *, validator: str | None, size: int | None) -> bool:
        """Whether a response with this validator and size is of the same version."""
        return self.validator is not None and (self.validator, self.size) == (validator, size)

    def text(self) -> bytes:
        """The record as it is kept; equal records have equal texts."""
        import json

        fields = {"version": VERSION} | {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(fields, separators=(",", ":"), sort_keys=True).encode("ascii")

    def __repr__(self) -> str:
        return f"Record(size={self.size}, validator={self.validator!r}, digests={self.digests})"


def fingerprint(url: str) -> str:
    """A hash of the URL without userinfo and fragment. Of the query too, which may
    name the object; a hash, because it may as well be a secret."""
    import hashlib

    parts = urlsplit(url.strip())
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
    return hashlib.sha256(bare.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def keep(fd: int, url: str, *, validator: str | None, digests: Mapping[str, str]) -> bool:
    """Record of the open, finished file that it is the whole object at `url`. False
    if that can't be kept, which is no failure."""
    if (validator is None and not digests) or not hasattr(os, "setxattr"):
        return False
    about = os.fstat(fd)
    record = Record(
        source=fingerprint(url),
        validator=validator,
        size=about.st_size,
        mtime_ns=about.st_mtime_ns,
        inode=about.st_ino,
        digests=digests,
    )
    text = record.text()
    if _parse(text) is None:  # a validator as long as a novel
        return False
    try:
        os.setxattr(fd, ATTRIBUTE, text)
    except OSError:
        return False
    return True


def read(path: str) -> Record | None:
    """The record of a file, if there is one and the file is still what it says."""
    if not hasattr(os, "getxattr"):
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        about = os.fstat(fd)
        # Whoever else owns the file may have written what they like into the record.
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid():
            return None
        record = _parse(os.getxattr(fd, ATTRIBUTE))
        if record is None:
            return None
        # The inode: copies and unpacked archives carry attributes along, and forged ones.
        if (record.size, record.mtime_ns, record.inode) != (about.st_size, about.st_mtime_ns, about.st_ino):
            return None
        return record if _is_written(fd, record.size) else None
    except OSError:
        return None
    finally:
        os.close(fd)


def _is_written(fd: int, size: int) -> bool:
    """Whether all bytes of the file are on the disk; writes those that are on the way.

    After a power cut the names, sizes and attributes of the last seconds may be there
    while the bytes are not: room that was reserved reads as zeros. SEEK_HOLE does not
    tell, as it takes such zeros for data once anybody has read them. OSError where the
    file system can't say."""
    import fcntl

    if file_system(fd) == TMPFS:
        return True
    at = 0
    while at < size:
        room = bytearray(HEAD.size + EXTENTS * EXTENT.size)
        HEAD.pack_into(room, 0, at, size - at, SYNC, 0, EXTENTS, 0)
        fcntl.ioctl(fd, FS_IOC_FIEMAP, room)
        count = min(HEAD.unpack_from(room)[3], EXTENTS)
        before = at
        for i in range(count):
            start, _, length, flags = EXTENT.unpack_from(room, HEAD.size + i * EXTENT.size)
            if start > at or flags & NOT_WRITTEN:
                return False
            at = max(at, start + length)
        if at == before:
            return False
    return True


def _parse(raw: bytes) -> Record | None:
    """The record that a text holds, None if it is not one that we would write."""
    import json

    if len(raw) > LIMIT:
        return None
    try:
        data = json.loads(raw.decode("ascii"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or data.pop("version", None) != VERSION or set(data) != set(Record.__slots__):
        return None
    numbers = (data["size"], data["mtime_ns"], data["inode"])
    if not all(type(number) is int and number >= 0 for number in numbers):
        return None
    validator, digests = data["validator"], data["digests"]
    if not isinstance(data["source"], str) or not isinstance(digests, dict):
        return None
    if validator is not None and not (isinstance(validator, str) and _plain(validator)):
        return None
    if not all(isinstance(digest, str) and _is_digest(name, digest) for name, digest in digests.items()):
        return None
    return Record(**data)


def _plain(text: str) -> bool:
    """Whether it can be a header's value: Latin-1 without controls, not too long."""
    return 0 < len(text) <= LONGEST and all(" " <= c <= "~" or "\xa0" <= c <= "\xff" for c in text)


def _is_digest(algorithm: str, digest: str) -> bool:
    try:
        checksum = parse_checksum(f"{algorithm}={digest}")
    except BadOption:
        return False
    return (checksum.algorithm, checksum.expected) == (algorithm, digest)


def conditions(record: Record, headers: Sequence[str] = ()) -> tuple[str, ...]:
    """The header lines that ask for the object unless it is the recorded version.
    None where `headers`, the user's own lines, set a condition: an answer to theirs
    says nothing of ours. None for a date: If-Modified-Since is answered by 304 also
    when an older object has taken the place of a newer one."""
    if any(line.lower().startswith("if-") for line in headers):
        return ()
    if record.validator is None or not TAG.fullmatch(record.validator):
        return ()
    return (f"If-None-Match: {record.validator}",)
