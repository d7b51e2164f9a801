"""Checksums: how the bytes are proven, along the front, on a thread of their own.

A digest costs about as much CPU as the download itself, so it runs beside it: a
follower reads what is contiguously in place and feeds the hash, which lets go of
the GIL. Ground floor: it sees a Landing only by its methods.
"""

from __future__ import annotations

import threading

from .errors import BadOption, ChecksumMismatch, TransferError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._landing import Landing

__all__ = ["Checksum", "Follower", "parse_checksum"]

LENGTHS = {"md5": 32, "sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128, "blake2b": 128}
STEP = 8 << 20


class Checksum:
    """A digest that is expected: `algorithm` and lower-case hexadecimal `expected`."""

    __slots__ = ("algorithm", "expected")

    def __init__(self, algorithm: str, expected: str) -> None:
        self.algorithm = algorithm
        self.expected = expected

    def hasher(self) -> Any:
        """A new hash object."""
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
