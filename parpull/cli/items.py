"""Items: what a run of `get` fetches, where each goes, and what it must be.

Everything is checked here as far as it goes without touching anything: a mistake in
the last URL, or in the last line of a list, is told before the first is fetched.
"""

from __future__ import annotations

import os

from ..checksums import parse_checksum
from ..errors import BadOption, BadURL, MemoryBudget, SourceError, redact
from ..files import default_name
from ..sources import origin_of, resolve
from . import VERBS
from .lists import Entry, find_sum, parse_list, parse_sums, text_of
from .outcome import Item, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..options import Options

__all__ = ["fetch_sums", "items_of", "prove_by", "read_sums"]

MAX_LIST = 16 << 20  # bytes of a list; nobody writes a larger one


def items_of(
    urls: Sequence[str],
    listed: str | None,
    output: str | None,
    directory: str | None,
    options: Options,
    *,
    mirrors: Sequence[str] = (),
) -> list[Item]:
    """The objects of the command line, then those of the list. mirrors: of the only one."""
    if options.checksum:
        parse_checksum(options.checksum)
    entries = [Entry(url, "", tuple(mirrors)) for url in urls]
    if listed is not None:
        entries += _read_list(listed)
    if mirrors and len(entries) > 1:
        raise UsageError(
            "--mirror is of one object, and here are several",
            "in a list (-i) the mirrors stand behind their address, after a tab",
        )
    items: list[Item] = []
    taken: dict[str, str] = {}
    folders: dict[str, str] = {}
    for number, entry in enumerate(entries, 1):
        headers = _checked(entry, options)
        name = default_name(entry.url)
        item = Item(number, entry.url, name=name, path=None)
        if output != "-":
            folder = _folder(entry, directory)
            path = os.path.join(folder, output or entry.out or name)
            made = os.path.dirname(path) if entry.out else folder
            item = Item(number, entry.url, name=os.path.basename(path), path=path, folder=made or None)
            place = _place(path, folders)
            if place in taken:
                raise UsageError(
                    f"{taken[place]} and another URL would both become {path}",
                    f"give each a name of its own: {'out=NAME in the list' if entry.where else 'one by one, -o FILE'}",
                )
            taken[place] = redact(entry.url)
        item.checksum, item.headers, item.mirrors = entry.checksum, headers, entry.mirrors
        items.append(item)
    return items


def _place(path: str, folders: dict[str, str]) -> str:
    """Where a path really leads. Of many files in one folder, the folder is looked at once."""
    if os.path.islink(path):
        return os.path.realpath(path)
    folder, name = os.path.split(path)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    return os.path.join(folders[folder], name)


def _read_list(listed: str) -> list[Entry]:
    name = "standard input" if listed == "-" else listed
    return parse_list(text_of(_read(listed, name), name), name)


def _read(path: str, name: str) -> bytes:
    try:
        with open(0 if path == "-" else path, "rb", closefd=path != "-") as file:
            data = file.read(MAX_LIST + 1)
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from None
    if len(data) > MAX_LIST:
        raise UsageError(f"{name} is larger than {MAX_LIST >> 20} MiB", "it is a list that goes here, not the object")
    return data


def _checked(entry: Entry, options: Options) -> tuple[str, ...] | None:
    """The headers of an entry that has its own. Raises if there can be no request."""
    url = entry.url
    try:
        chosen = options.replace(headers=options.headers + entry.headers) if entry.headers else options
        resolve(url, chosen)
    except (BadOption, SourceError) as error:
        if entry.where:
            shown = "header=" if isinstance(error, BadOption) and error.name == "headers" else str(error)
            what = f"{shown} is not possible" if shown == "header=" else shown
            raise UsageError(f"{entry.where}: {what}", error.hint) from error
        if url in VERBS:
            raise UsageError(f"{url} is no URL", f"a command stands first: parpull {url} …") from error
        if isinstance(error, BadURL) and not any(c in url for c in ":./"):
            raise UsageError(
                f"{url} is neither a URL nor a command", "a URL begins with https:// or http://"
            ) from error
        raise
    return chosen.headers if entry.headers else None


def _folder(entry: Entry, directory: str | None) -> str:
    """Where an entry goes: never, as a list alone would have it, outside of -d."""
    base = directory or ""
    if entry.directory is None:
        return base
    folder = os.path.normpath(os.path.join(base, entry.directory))
    home = os.path.abspath(base)
    if os.path.commonpath([home, os.path.abspath(folder)]) != home:
        raise UsageError(f"{entry.where}: dir leads out of {base or 'the current folder'}", "-d / allows any folder")
    return folder


def read_sums(source: str) -> str | None:
    """The text of a file of checksums; None if it has to be fetched."""
    return None if source.startswith(("https://", "http://")) else text_of(_read(source, source), source)


def fetch_sums(items: list[Item], source: str, options: Options, fetch: Callable[[str, Options], bytes]) -> str:
    """The same from its URL."""
    chosen = options.replace(checksum=None, max_memory=MAX_LIST)
    if origin_of(source) not in {origin_of(item.url) for item in items}:
        # -H, -u and --cookie are for the objects' server; it is another one's list.
        chosen = chosen.replace(headers=(), auth=None, cookies=None)
    try:
        return text_of(fetch(source, chosen), redact(source))
    except MemoryBudget:
        raise UsageError(
            f"{redact(source)} is larger than {MAX_LIST >> 20} MiB", "is it a list of checksums?"
        ) from None


def prove_by(items: list[Item], text: str, source: str) -> None:
    """Give each item its checksum from the text of `source`. UsageError when one is
    missing there."""
    name = redact(source) if "://" in source else source
    sums = parse_sums(text, name)
    for item in items:
        if item.checksum is None:
            item.checksum = find_sum(sums, item.name, default_name(item.url))
        if item.checksum is None:
            some = ", ".join(sorted(sums)[:3]) + (", …" if len(sums) > 3 else "")
            raise UsageError(f"{name} has no usable checksum of {item.name}", f"it has those of: {some}")
