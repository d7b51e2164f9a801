"""Checksums: how the bytes are proven, along the front, on a thread of their own.

A digest costs about as much CPU as the download itself, so it runs beside it: a
follower reads what is contiguously in place and feeds the hash, which lets go of
the GIL. Digests that a server states of an object are checked unasked, the cheapest
of them. Ground floor: it sees a Landing only by its methods.
"""

from __future__ import annotations

import threading

from ._crc import Crc32c, Crc64Nvme
from .errors import BadOption, ChecksumMismatch, TransferError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from ._landing import Landing

__all__ = ["Checksum", "Follower", "parse_checksum", "stated"]

# Hexadecimal digits of each.
LENGTHS = {
    "md5": 32, "sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128, "blake2b": 128,
    "crc32": 8, "crc32c": 8, "crc64nvme": 16, "blake3": 64, "xxh3_128": 32,
}  # fmt: skip
# Seconds of CPU for a GiB, roughly; the cheapest of those that are stated is checked.
CHEAPEST = ("crc32c", "crc32", "crc64nvme", "sha256", "sha1", "md5", "sha512")
# RFC 9530's names, RFC 3230's, Amazon's, Google's.
NAMES = {"sha-256": "sha256", "sha-512": "sha512", "sha": "sha1", "md5": "md5", "crc32c": "crc32c",
         "sha256": "sha256", "sha1": "sha1", "crc32": "crc32", "crc64nvme": "crc64nvme"}  # fmt: skip
LISTS = ("x-goog-hash", "repr-digest", "digest")
STEP = 8 << 20


class Checksum:
    """A digest that is expected: `algorithm` and lower-case hexadecimal `expected`."""

    __slots__ = ("algorithm", "expected")

    def __init__(self, algorithm: str, expected: str) -> None:
        self.algorithm = algorithm
        self.expected = expected

    def hasher(self) -> Any:
        """A new hash object."""
        match self.algorithm:
            case "crc32c":
                return Crc32c()
            case "crc64nvme":
                return Crc64Nvme()
            case "crc32":
                return _Crc32()
            case "blake3":
                return _library("blake3").blake3()
            case "xxh3_128":
                return _library("xxhash").xxh3_128()
        import hashlib

        return hashlib.new(self.algorithm, usedforsecurity=False)

    def compare(self, actual: str) -> None:
        """ChecksumMismatch unless `actual` is the expected digest."""
        if actual != self.expected:
            raise ChecksumMismatch(
                f"{self.algorithm} is {actual}, not {self.expected}",
                algorithm=self.algorithm,
                expected=self.expected,
                actual=actual,
                hint="the object is damaged or another version; nothing was kept under its name",
            )


def parse_checksum(text: str) -> Checksum:
    """A checksum written "sha256=HEX" or "sha256:HEX". BadOption for anything else."""
    mark = "=" if "=" in text else ":"
    algorithm, sep, digest = (part.strip().lower() for part in text.partition(mark))
    algorithm = algorithm.replace("-", "")
    algorithm = {"xxh3": "xxh3_128", "xxh128": "xxh3_128"}.get(algorithm, algorithm)
    if not sep or algorithm not in LENGTHS:
        raise BadOption(
            f"checksum={text!r} names no known algorithm",
            name="checksum",
            value=text,
            hint=f"write ALGORITHM=HEX; algorithms: {', '.join(LENGTHS)}",
        )
    if len(digest) != LENGTHS[algorithm] or digest.strip("0123456789abcdef"):
        raise BadOption(
            f"checksum={text!r} is not a {algorithm} digest",
            name="checksum",
            value=text,
            hint=f"{algorithm} has {LENGTHS[algorithm]} hexadecimal digits",
        )
    return Checksum(algorithm, digest)


def _library(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise BadOption(
            f"{name} is not installed",
            name="checksum",
            value=name,
            hint=f"pip install {name}, or use another algorithm",
        ) from None


class _Crc32:
    """zlib's CRC-32 as a hash object."""

    def __init__(self) -> None:
        self._crc = 0

    def update(self, data: Any) -> None:
        import zlib

        self._crc = zlib.crc32(data, self._crc)

    def hexdigest(self) -> str:
        return f"{self._crc:08x}"


def stated(headers: Mapping[str, str]) -> Checksum | None:
    """The cheapest digest of the whole object that a response's headers state (names in
    lower case); None where there is none. What can't be read is taken for not stated.

    Repr-Digest (RFC 9530), Digest (RFC 3230), x-goog-hash unless the object is served
    decompressed, x-amz-checksum-* unless it is one of parts."""
    found: dict[str, str] = {}
    lists = ["repr-digest", "digest"]
    if headers.get("x-goog-stored-content-encoding", "identity") == "identity":
        lists.append("x-goog-hash")
    for header in lists:
        for member in headers.get(header, "").split(","):
            name, _, value = member.strip().partition("=")
            _add(found, NAMES.get(name.strip().lower()), value.partition(";")[0].strip(": "))
    if headers.get("x-amz-checksum-type", "FULL_OBJECT") == "FULL_OBJECT":
        for header, value in headers.items():
            if header.startswith("x-amz-checksum-"):
                _add(found, NAMES.get(header.removeprefix("x-amz-checksum-")), value)
    return next((Checksum(name, found[name]) for name in CHEAPEST if name in found), None)


def _add(found: dict[str, str], algorithm: str | None, value: str) -> None:
    import binascii

    if algorithm is None or "-" in value:  # "…-5": a sum of the sums of five parts
        return
    try:
        digest = binascii.a2b_base64(value, strict_mode=True).hex()
    except ValueError:
        return
    if len(digest) == LENGTHS[algorithm]:
        found.setdefault(algorithm, digest)


class Follower:
    """Hashes what lies in front of a landing, as it grows.

    `read(start, stop)` gives the bytes of the target; `done(hexdigest)` is called
    on the follower's thread with the digest, or None when the transfer ended
    short of its end. The thread ends by itself once the landing is closed."""

    def __init__(
        self,
        checksum: Checksum,
        landing: Landing,
        read: Callable[[int, int], bytes | memoryview],
        done: Callable[[str | None, BaseException | None], None],
    ) -> None:
        self._hash = checksum.hasher()
        self._landing = landing
        self._read = read
        self._done = done
        self._thread = threading.Thread(target=self._run, name="parpull-checksum", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            digest, error = self._digest(), None
        except BaseException as failed:  # the transfer must not wait for a digest that never comes
            digest, error = None, failed
        self._done(digest, error)

    def _digest(self) -> str | None:
        landing = self._landing
        at = 0
        while (front := landing.wait(at + 1)) > at:
            while at < front:
                piece = self._read(at, min(front, at + STEP))
                if not len(piece):
                    raise TransferError("the file shrank while it was written")
                self._hash.update(piece)
                at += len(piece)
                del piece
        whole = landing.size < 0 or at == landing.size
        return str(self._hash.hexdigest()) if whole else None

    def join(self) -> None:
        """Wait for the thread."""
        self._thread.join()
