"""Targets: what the first good response says of the object. Pure."""

from __future__ import annotations

from ..checksums import LISTS
from ..errors import redact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Target", "target_of"]


class Target:
    """An object as its server describes it.

    url: resolved, redacted. size: bytes of the whole object, None while unknown.
    etag, last_modified: as sent. ranges: whether the server gives ranges, so that
    several connections help. headers: all of them, names in lower case; of several
    of one name the last. address: the server's."""

    __slots__ = ("address", "etag", "headers", "last_modified", "ranges", "size", "url")

    def __init__(
        self,
        url: str,
        *,
        size: int | None,
        etag: str | None,
        last_modified: str | None,
        ranges: bool,
        headers: Mapping[str, str],
        address: str | None = None,
    ) -> None:
        self.url = url
        self.size = size
        self.etag = etag
        self.last_modified = last_modified
        self.ranges = ranges
        self.headers = headers
        self.address = address

    @property
    def validator(self) -> str | None:
        """What tells this version of the object from another: ETag, else the date."""
        return self.etag or self.last_modified

    def __repr__(self) -> str:
        return f"Target({self.url!r}, size={self.size}, validator={self.validator!r}, ranges={self.ranges})"


def target_of(url: str, text: str, *, total: int, ranges: bool, address: str | None) -> Target:
    """The target of a response: `text` holds a `name:value` line per header, `total`
    is the object's size or -1."""
    headers: dict[str, str] = {}
    for line in text.split("\n"):  # not splitlines(): a value may hold U+0085
        name, _, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
        if name in LISTS and name in headers:
            value = f"{headers[name]}, {value}"
        headers[name] = value
    return Target(
        redact(url),
        size=None if total < 0 else total,
        etag=headers.get("etag") or None,
        last_modified=headers.get("last-modified") or None,
        ranges=ranges,
        headers=headers,
        address=address,
    )
