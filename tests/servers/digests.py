"""Digests of the test objects, as servers state them in headers.

`stated(form, size, version)` gives the header lines of one of FORMS; a wrong one is that of a larger
object. Must import nothing of the project: crc32c is computed here, by numpy in a few thousand lanes.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

from tests.servers.content import content, views

if TYPE_CHECKING:
    from typing import Any

Form = Literal["repr-digest", "digest", "x-goog-hash", "amz-crc32", "amz-crc32c", "amz-sha256", "amz-composite"]
FORMS: tuple[str, ...] = get_args(Form)
_LANES = 4096
_POLYNOMIAL = 0x82F63B78  # Castagnoli's, reflected


@lru_cache(maxsize=64)
def stated(form: Form, size: int, version: int) -> tuple[tuple[str, str], ...]:
    """The header lines that state the digest of the object."""
    match form:
        case "repr-digest":
            return (("Repr-Digest", f"sha-256=:{_hashlib('sha256', size, version)}:"),)
        case "digest":
            return (("Digest", f"sha-256={_hashlib('sha256', size, version)}"),)
        case "x-goog-hash":  # Google sends two lines
            crc, md5 = _crc32c(size, version), _hashlib("md5", size, version)
            return ("x-goog-hash", f"crc32c={crc}"), ("x-goog-hash", f"md5={md5}")
        case "amz-crc32":
            crc32 = 0
            for view in views(0, size, version):
                crc32 = zlib.crc32(view, crc32)
            return (("x-amz-checksum-crc32", _base64(crc32.to_bytes(4))),)
        case "amz-crc32c":
            return ("x-amz-checksum-crc32c", _crc32c(size, version)), ("x-amz-checksum-type", "FULL_OBJECT")
        case "amz-sha256":
            return (("x-amz-checksum-sha256", _hashlib("sha256", size, version)),)
        case "amz-composite":  # a sum of the sums of two parts, which nobody can check without them
            return ("x-amz-checksum-crc32", "AAAAAA==-2"), ("x-amz-checksum-type", "COMPOSITE")


def crc32c(data: bytes) -> int:
    """The CRC-32C of `data`, which is at least four bytes long."""
    import numpy as np  # here, since the servers must start fast

    table: Any = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> 1) ^ (table & 1) * np.uint32(_POLYNOMIAL)
    width = -(-len(data) // _LANES)
    padded = np.zeros(_LANES * width, np.uint8)
    padded[len(padded) - len(data) :] = np.frombuffer(data, np.uint8)  # zeros in front change nothing of a state of 0
    padded[len(padded) - len(data) :][:4] ^= 0xFF  # the same as a first state of ones
    lanes = _run(np.zeros(_LANES, np.uint32), padded.reshape(_LANES, width).T, table)
    zeros = np.zeros((width, 1), np.uint8)
    after = _run(np.uint32(1) << np.arange(32, dtype=np.uint32), zeros, table)  # a bit, `width` zeros later
    total = 0
    for lane in lanes:
        shifted = 0
        for bit in range(32):
            if total >> bit & 1:
                shifted ^= int(after[bit])
        total = shifted ^ int(lane)
    return total ^ 0xFFFFFFFF


def _run(states: Any, columns: Any, table: Any) -> Any:
    for column in columns:
        states = table[(states ^ column) & 0xFF] ^ (states >> 8)
    return states


def _crc32c(size: int, version: int) -> str:
    return _base64(crc32c(content(0, size, version)).to_bytes(4))


def _hashlib(algorithm: str, size: int, version: int) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    for view in views(0, size, version):
        digest.update(view)
    return _base64(digest.digest())


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
