"""Digests: `algorithm:hex`, the names of all that a registry holds. Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

__all__ = ["Digest"]

# Those of the image specification that everybody can check: algorithm -> digits.
LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A digest of a known algorithm. `hex` is in lower case and of the right length."""

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        length = LENGTHS.get(self.algorithm)
        if length is None:
            raise ValueError(f"the digest's algorithm is none of {', '.join(LENGTHS)}")
        if not HEX.fullmatch(self.hex):
            raise ValueError(f"a digest's digits are 0-9 and a-f, as in {self.algorithm}:0a1b…")
        if len(self.hex) != length:
            raise ValueError(f"a digest by {self.algorithm} has {length} digits, not {len(self.hex)}")

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Raises ValueError, with a message that does not repeat the text."""
        algorithm, colon, digits = text.partition(":")
        if not colon:
            raise ValueError("a digest is written as algorithm:hex")
        return cls(algorithm, digits)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """The digest of these bytes."""
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    def holds(self, data: bytes) -> bool:
        """Whether this is the digest of these bytes."""
        return Digest.of(data, self.algorithm) == self

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"
