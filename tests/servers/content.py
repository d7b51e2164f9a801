"""What the test objects are made of: bytes that follow from offset and version alone.

Byte `i` of an object is `tile[i % PERIOD]`, and the tile is pseudo-random, made from the version.
PERIOD is a prime just above 16 MiB, so no block, part or page size divides it and a byte that lands
at a wrong offset cannot pass. Knows nothing of HTTP, and holds no object: a terabyte costs one
tile.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer

PERIOD = 16_777_259
_COMPARED_AT_ONCE = 256 << 10  # both sides and the verdicts stay in the second-level cache


@lru_cache(maxsize=8)
def tile(version: int = 0) -> bytes:
    """The PERIOD bytes that an object of this version repeats (about 30 ms to make)."""
    return hashlib.shake_128(b"parpull test object %d" % version).digest(PERIOD)


def views(offset: int, length: int, version: int = 0) -> Iterator[memoryview]:
    """The bytes `[offset, offset + length)`, uncopied, in pieces that end where the tile does."""
    whole = memoryview(tile(version))
    while length > 0:
        at = offset % PERIOD
        view = whole[at : at + length]
        yield view
        offset += len(view)
        length -= len(view)


def content(offset: int, length: int, version: int = 0) -> bytes:
    """The bytes `[offset, offset + length)` as one copy."""
    return b"".join(views(offset, length, version))


def sha256(size: int, version: int = 0, start: int = 0) -> str:
    """The hex digest of the bytes `[start, size)`."""
    digest = hashlib.sha256()
    for view in views(start, size - start, version):
        digest.update(view)
    return digest.hexdigest()


def first_difference(buffer: Buffer, start: int = 0, version: int = 0) -> int | None:
    """The index within `buffer` of the first byte that differs from the object at `start`, or None.

    Compares at memory speed and in small pieces, so a buffer of many GiB needs no second one.
    """
    import numpy as np  # here, since the servers import this module too and must start fast

    got = np.frombuffer(memoryview(buffer).cast("B"), dtype=np.uint8)
    done = 0
    for view in views(start, got.size, version):
        want = np.frombuffer(view, dtype=np.uint8)
        for at in range(0, want.size, _COMPARED_AT_ONCE):
            right = want[at : at + _COMPARED_AT_ONCE]
            differs = got[done : done + right.size] != right
            if differs.any():
                return done + int(differs.argmax())
            done += right.size
    return None
