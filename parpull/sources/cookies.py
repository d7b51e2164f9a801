"""Cookies: those of a browser's or curl's file that are for one URL. First floor.

The Netscape format: a cookie a line, seven fields with tabs between. Read anew for
each URL and only as far as its host is concerned. http.cookiejar would do it too, at
the price of importing half of urllib, and it takes curl's session cookies (expiry 0)
for expired ones.
"""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from ..errors import BadOption

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

__all__ = ["cookies_for", "matching"]


def cookies_for(url: str, path: str | os.PathLike[str]) -> str:
    """The value of the Cookie header for a URL, "" for none. BadOption if the file is
    none of cookies; what is in it is never shown."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = file.read().split("\n")
    except OSError as error:
        raise _bad(path, f"it can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _bad(path, "it is not UTF-8") from None
    try:
        return "; ".join(matching(lines, url, time.time()))
    except ValueError as error:
        raise _bad(path, str(error)) from None


def _bad(path: str | os.PathLike[str], what: str) -> BadOption:
    return BadOption(
        f"the file of cookies {path}: {what}",
        name="cookie file",
        value=str(path),
        hint="it is written in the Netscape format, by curl -c or a browser's extension",
    )


def matching(lines: list[str], url: str, now: float) -> list[str]:
    """NAME=VALUE of each cookie for this URL, those of longer paths first. ValueError
    names a line that is none."""
    parts = urlsplit(url)
    host, asked = (parts.hostname or "").rstrip("."), parts.path or "/"
    found: list[tuple[int, str]] = []
    for number, line in enumerate(lines, 1):
        line = line.removesuffix("\r").removeprefix("#HttpOnly_")
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split("\t")
        if len(fields) == 6:
            fields.append("")  # an empty value, and an editor that cut its tab
        if len(fields) != 7:
            raise ValueError(f"line {number} has {len(fields)} fields, not 7")
        domain, below, path, secure, expires, name, value = fields
        bare = domain.lower().lstrip(".")
        # curl's leading dot says the same as the flag behind it.
        wide = below == "TRUE" or domain.startswith(".")
        if host != bare and not (wide and bare and host.endswith("." + bare) and not _is_address(host)):
            continue
        if secure == "TRUE" and parts.scheme != "https":
            continue
        try:
            if 0 < float(expires or 0) <= now:
                continue
        except ValueError:
            raise ValueError(f"line {number} has no proper time of expiry") from None
        if not f"{name}{value}".isprintable() or ";" in name + value:
            raise ValueError(f"line {number} is no cookie that could be sent")
        if _below(path or "/", asked):
            found.append((-len(path), f"{name}={value}" if name else value))
    return [text for _, text in sorted(found, key=lambda pair: pair[0])]


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdecimal()


def _below(path: str, asked: str) -> bool:
    """Whether a cookie of this path is for the path that is asked for (RFC 6265)."""
    return asked == path or (asked.startswith(path) and (path.endswith("/") or asked[len(path)] == "/"))
