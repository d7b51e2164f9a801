"""Platforms: which of an index's images a machine can run. Pure.

As containerd chooses: names are brought to one form, and a machine takes what it was
made for first, then what it also runs: arm/v7 takes v6 and v5, arm64 takes 32-bit arm,
amd64/v3 takes v2 and v1, and amd64 takes 386.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from .errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeVar

    T = TypeVar("T")

__all__ = ["Platform", "rank"]

# Other names of an architecture -> (name, variant that it implies).
SAME = {
    "i386": ("386", ""),
    "i686": ("386", ""),
    "x86_64": ("amd64", None),
    "x86-64": ("amd64", None),
    "aarch64": ("arm64", None),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
}
DEFAULT = {"amd64": "v1", "arm64": "v8", "arm": "v7"}  # a variant that goes without saying
OLDEST = {"amd64": 1, "arm64": 8, "arm": 5}
VARIANT = re.compile(r"v?([0-9]{1,3})(?:\.0)?")
PART = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Platform:
    """os and architecture as Go names them; variant is "" where it goes without saying.
    version is the system's, which counts on Windows only."""

    os: str
    architecture: str
    variant: str = ""
    version: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """os/architecture[/variant], in any usual spelling. Raises ImageError."""
        parts = text.split("/")
        if not 2 <= len(parts) <= 3 or not all(PART.fullmatch(part) for part in parts):
            raise ImageError(
                "a platform is os/architecture, or os/architecture/variant", hint="for example linux/arm64"
            )
        return cls(*parts).normal()

    def normal(self) -> Platform:
        """The same platform under its usual names."""
        system, architecture, variant = self.os.lower(), self.architecture.lower(), self.variant.lower()
        system = "darwin" if system == "macos" else system
        architecture, implied = SAME.get(architecture, (architecture, None))
        variant = variant if implied is None else implied
        if architecture in DEFAULT and (number := VARIANT.fullmatch(variant)):
            variant = f"v{number[1]}"
        if variant == DEFAULT.get(architecture):
            variant = ""
        return replace(self, os=system, architecture=architecture, variant=variant)

    def takes(self) -> tuple[Platform, ...]:
        """What a machine of this platform runs, best first, each in its usual names."""
        own = self.normal()
        found = [own]
        oldest = OLDEST.get(own.architecture)
        number = VARIANT.fullmatch(own.variant or DEFAULT.get(own.architecture, ""))
        if oldest is not None and number:
            found += [replace(own, variant=f"v{older}").normal() for older in range(int(number[1]) - 1, oldest - 1, -1)]
        if own.architecture == "amd64":
            found.append(replace(own, architecture="386", variant=""))
        if own.architecture == "arm64":
            found += replace(own, architecture="arm", variant="v8").takes()
        return tuple(found)

    def runs(self, other: Platform) -> bool:
        """Whether a machine of this platform runs what was made for the other."""
        return bool(rank(self, [(other, None)]))

    def _fits(self, other: Platform) -> bool:
        """Of two in their usual names; a Windows version counts where one was asked for."""
        if (self.os, self.architecture, self.variant) != (other.os, other.architecture, other.variant):
            return False
        return not self.version or f"{other.version}.".startswith(f"{self.version}.")

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def rank(wanted: Platform, offered: Sequence[tuple[Platform, T]]) -> list[T]:
    """Those that `wanted` runs, best first; of equals the first in the index."""
    normal = [(platform.normal(), thing) for platform, thing in offered]
    return [thing for taken in wanted.takes() for platform, thing in normal if taken._fits(platform)]
