"""Lists: what to fetch, and what it must be. Pure: texts in, values out.

`parse_list` reads the input files of aria2: a line with an address, then lines that
begin with white space and hold options of that object. `parse_sums` reads what the
sums programs of GNU and BSD write. A list may come from anywhere, so it never leads
out of the folder it is for, and an error names FILE:LINE but quotes no address: that
may be a secret.
"""

from __future__ import annotations

import re

from ..checksums import LENGTHS, parse_checksum
from ..errors import BadOption
from .outcome import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Entry", "find_sum", "parse_list", "parse_sums", "text_of"]

OPTIONS = ("out", "dir", "checksum", "header")
# Of several digests of one object, the first of these; also the order in which a length is read.
STRENGTH = ("sha512", "blake2b", "sha384", "sha256", "blake3", "sha224", "sha1", "md5")
GNU = re.compile(r"(\\?)([0-9A-Fa-f]{32,128})(?: [ *]|\t)(.+)")
BSD = re.compile(r"(\\?)([A-Za-z0-9-]+) ?\((.+)\) ?= ([0-9A-Fa-f]+)")
ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}


class Entry:
    """One object of a list. where: FILE:LINE of its address; mirrors: its
    other addresses, behind tabs."""

    __slots__ = ("checksum", "directory", "headers", "mirrors", "out", "url", "where")

    def __init__(self, url: str, where: str, mirrors: tuple[str, ...]) -> None:
        self.url = url
        self.where = where
        self.mirrors = mirrors
        self.out: str | None = None
        self.directory: str | None = None
        self.checksum: str | None = None
        self.headers: tuple[str, ...] = ()


def text_of(data: bytes, name: str) -> str:
    """A list's bytes as text. UsageError names the line that is none."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{name}:{line}: this is not UTF-8 text") from None


def parse_list(text: str, name: str) -> list[Entry]:
    """The entries of an input file called `name`. UsageError for a broken line."""
    entries: list[Entry] = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        where = f"{name}:{number}"
        if not line.strip() or line.startswith("#"):
            continue
        if not line[0].isspace():
            url, *mirrors = (part.strip() for part in line.split("\t"))
            if not url.isprintable():
                raise UsageError(f"{where}: the address holds control characters")
            if "://" not in url:
                raise UsageError(f"{where}: this is no URL", "one URL a line; its options below it, indented")
            entries.append(Entry(url, where, tuple(filter(None, mirrors))))
        elif line.strip().startswith("#"):
            continue
        elif not entries:
            raise UsageError(f"{where}: an option before any address", "options stand below their address, indented")
        else:
            _option(entries[-1], line.strip(), where)
    if not entries:
        raise UsageError(f"{name} names no address", "one URL a line; its options below it, indented")
    return entries


def _option(entry: Entry, line: str, where: str) -> None:
    key, sign, value = line.partition("=")
    key, value = key.strip(), value.strip()
    if key not in OPTIONS:
        import difflib

        near = difflib.get_close_matches(key, OPTIONS, n=1)
        hint = f"did you mean {near[0]} ?" if near else f"there are: {', '.join(OPTIONS)}"
        shown = key if re.fullmatch(r"[\w-]{1,40}", key) else "what stands there"
        raise UsageError(f"{where}: {shown} is no option of a list", hint)
    if not sign or not value:
        raise UsageError(f"{where}: {key} has no value", f"write {key}=VALUE")
    if key == "header":
        entry.headers += (value,)
        return
    attribute = {"dir": "directory"}.get(key, key)
    if getattr(entry, attribute) is not None:
        raise UsageError(f"{where}: {key} is given twice for one object")
    if key == "checksum":
        try:
            parse_checksum(value)
        except BadOption as error:
            raise UsageError(f"{where}: {error}", error.hint) from None
    elif not value.isprintable():
        raise UsageError(f"{where}: {key} holds control characters")
    elif key == "out" and not _inside(value):
        raise UsageError(f"{where}: out leads out of the folder, or names none of its files", "dir= chooses the folder")
    setattr(entry, attribute, value)


def _inside(path: str) -> bool:
    """Whether a relative path names something below the folder it begins at."""
    return not path.startswith("/") and not path.endswith("/") and not {"", ".", ".."} & set(path.split("/"))


def parse_sums(text: str, name: str) -> dict[str, dict[str, str]]:
    """{file name: {algorithm: digest}} of a file of checksums called `name`. What is
    no such line is passed over, as the sums programs do: signed lists have some."""
    sums: dict[str, dict[str, str]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if found := GNU.fullmatch(line):
            escaped, digest, file = found.groups()
            algorithm = _algorithm(len(digest), name)
        elif found := BSD.fullmatch(line):
            escaped, tag, file, digest = found.groups()
            algorithm = {"blake2": "blake2b"}.get(tag.lower(), tag.lower().replace("-", ""))
        else:
            continue
        if LENGTHS.get(algorithm) != len(digest):
            continue
        if escaped:
            file = re.sub(r"\\[\\nr]", lambda match: ESCAPES[match[0]], file)
        known = sums.setdefault(file, {})
        if known.setdefault(algorithm, digest.lower()) != digest.lower():
            raise UsageError(f"{name}:{number}: a second {algorithm} for one file, and another one")
    if not sums:
        raise UsageError(f"{name} holds no checksums", "lines are HEX  NAME, or SHA256 (NAME) = HEX")
    return sums


def _algorithm(length: int, name: str) -> str:
    """By the digest's length; where two have it, by the name of the list (B2SUMS)."""
    likely = [algorithm for algorithm in STRENGTH if LENGTHS[algorithm] == length]
    named = re.search(r"(?:b|blake)([23])", name.rpartition("/")[2].lower())
    blake = {"2": "blake2b", "3": "blake3"}[named[1]] if named else ""
    return blake if blake in likely else likely[0] if likely else ""


def find_sum(sums: Mapping[str, Mapping[str, str]], *names: str) -> str | None:
    """ALGORITHM=HEX for the first of these names that the sums have: as it stands, else
    below any folder, as long as that is not ambiguous."""
    for name in names:
        found = [sums[name]] if name in sums else [v for key, v in sums.items() if key.rpartition("/")[2] == name]
        for algorithm in STRENGTH:
            digests = {digest for known in found if (digest := known.get(algorithm))}
            if len(digests) == 1:
                return f"{algorithm}={digests.pop()}"
    return None
