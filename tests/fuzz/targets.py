"""What is fuzzed from Python: bytes in, an AssertionError where a promise is broken.

Each target has a second, independent reading of the same text beside it, of a few lines,
and says what the answer must be like. Knows nothing of how inputs are made.
"""

from __future__ import annotations

import base64
import errno
import json
import math
import os
import re
import sys
import tempfile
from types import MappingProxyType

from parpull import journal
from parpull._journal import ENTRY_SIZE, claimed, entry, sum_of
from parpull._response import verdict_of
from parpull.checksums import LENGTHS, parse_checksum, stated
from parpull.cli.lists import find_sum, parse_list, parse_sums, text_of
from parpull.cli.outcome import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["TARGETS"]

LINUX = sys.platform == "linux"
if LINUX:
    from parpull._untar import Unsafe, Untar

LIMIT = 1 << 60
RANGE = re.compile(rb"[ \t]*bytes[ \t]*[=:]?[ \t]*(?:(\d+)-(\d+)|\*)[ \t]*/[ \t]*(?:(\d+)|\*)[ \t]*", re.IGNORECASE)
NAMES = ("content-range", "content-length", "content-encoding", "content-type", "etag", "last-modified", "retry-after")


def content_range(text: bytes) -> tuple[int, int, int] | None:
    """(start, stop, total) of a Content-Range, -1 for what is not said; None for garbage."""
    found = RANGE.fullmatch(text)
    if found is None:
        return None
    first, last, total = (-1 if n is None else int(n) for n in found.groups())
    stop = last + 1 if first >= 0 else -1
    right = first <= last and (total < 0 or total >= stop or found[3] is None)
    right = right and (found[3] is None or total >= stop) and max(first, last, total) <= LIMIT
    return (first, stop, total) if right else None


def _whole(text: bytes | None) -> int | None:
    found = None if text is None else re.fullmatch(rb"[ \t]*(\d+)[ \t]*", text)
    return int(found[1]) if found and int(found[1]) <= LIMIT else None


def responses(data: bytes) -> None:
    """The judge: lines of status, first, start, stop, total, then a header each ('-': none)."""
    lines = [None if line == b"-" else line for line in data.replace(b"\0", b"").split(b"\n")] + [None] * 14
    status, first, start, stop, total = (_whole(line) for line in lines[:5])
    asked = {"start": -1, "stop": -1} if start is None else {"start": start, "stop": max(stop or 0, start + 1)}
    known = -1 if total is None else total
    headers = {name: line for name, line in zip(NAMES, lines[5:12], strict=True) if line is not None}
    etag, date = lines[12], lines[13]
    status = min(206 if status is None else status, 9999)
    got = verdict_of(status, headers, **asked, total=known, first=bool(first), etag=etag, last_modified=date)
    wait, at = got["retry_after"], got["retry_at"]
    assert wait is None or (math.isfinite(wait) and wait >= 0 and wait == float(_whole(headers["retry-after"]) or 0))
    assert at is None or (wait is None and 0 <= at <= 253402300800)
    coded = headers.get("content-encoding", b"").strip(b" \t").lower() not in {b"", b"identity"}
    length = headers.get("content-length")
    says = content_range(headers.get("content-range", b""))
    if got["kind"] == "land":
        assert status == 206
        assert not coded
        assert not got["flaw"]
        assert (got["start"], got["stop"], got["total"]) == says, "another reading of Content-Range"
        assert asked["start"] == got["start"] < got["stop"] <= asked["stop"]
        assert -1 in {known, got["total"]} or known == got["total"]
        assert length is None or _whole(length) == got["stop"] - got["start"]
    elif got["kind"] == "stream":
        assert status in {200, 203}
        assert not coded
        assert first or asked["start"] < 0
        assert length is None or _whole(length) == got["total"] > 0
        assert -1 in {known, got["total"]} or known == got["total"]
    if got["kind"] in {"land", "stream"} and etag is not None and "etag" in headers:
        opaque = [tag.removeprefix(b"W/") for tag in (etag, headers["etag"])]
        assert opaque[0] == opaque[1], "bytes of another version"
        assert etag.startswith(b"W/") or etag == headers["etag"]
    # The other way round: a plain good answer is not turned away.
    if says is None or -1 in says or status != 206 or coded or etag is not None or date is not None:
        return
    plain = asked["start"] == says[0] and says[1] <= asked["stop"] and known in {-1, says[2]}
    plain = plain and (length is None or _whole(length) == says[1] - says[0])
    if plain and not headers.get("content-type", b"").lower().lstrip().startswith(b"multipart/"):
        assert got["kind"] == "land", f"turned away: {got}"


def journals(data: bytes) -> None:
    """A journal's page (its sum made right, so that what is behind it is reached), and entries."""
    page = (journal.MAGIC + data[: journal.PAGE]).ljust(journal.PAGE - 4, b"\0")[: journal.PAGE - 4]
    assert journal._fields(page + bytes(4)) is None or sum_of(page) == 0
    _page(page + sum_of(page).to_bytes(4, "little"))
    _page(data)
    text = data[: journal.PAGE - 24]
    body = (journal.MAGIC + len(text).to_bytes(4, "little") + text).ljust(journal.PAGE - 4, b"\0")
    _page(body + sum_of(body).to_bytes(4, "little"))
    flags = claimed(data)
    assert len(flags) == len(data) // ENTRY_SIZE
    for index, flag in enumerate(flags):
        mine = data[index * ENTRY_SIZE : (index + 1) * ENTRY_SIZE]
        assert flag == (entry(index, int.from_bytes(mine[:4], "little")) == mine)


def _page(page: bytes) -> None:
    fields = journal._fields(page)
    if fields is None:
        return
    assert set(fields) == set(journal.FIELDS)
    assert all(fields[name] >= 0 for name in fields if name not in journal.TEXTS)
    assert 4096 <= fields["block"] <= 1 << 30
    assert -(-fields["size"] // fields["block"]) <= journal.MOST
    try:
        again = journal._page(fields)
    except OSError:  # it was written without the escapes that we use
        return
    assert journal._fields(again) == fields
    assert json.loads(json.dumps(fields)) == fields


def lists(data: bytes) -> None:
    """Input files and lists of sums, from anywhere."""
    try:
        text = text_of(data, "list")
    except UsageError:
        return
    try:
        entries = parse_list(text, "list")
    except UsageError as error:
        assert str(error).startswith("list")
    else:
        for one in entries:
            assert "://" in one.url
            assert one.url.isprintable()
            assert re.fullmatch(r"list:[1-9][0-9]*", one.where)
            assert one.out is None or not (one.out.startswith("/") or ".." in one.out.split("/")), "leads out"
            assert one.out is None or one.out.isprintable()
            assert one.checksum is None or parse_checksum(one.checksum)
    try:
        sums = parse_sums(text, "list")
    except UsageError:
        return
    for name, known in sums.items():
        for algorithm, digest in known.items():
            assert len(digest) == LENGTHS[algorithm]
            assert parse_checksum(f"{algorithm}={digest}").expected == digest
        found = find_sum(sums, name)
        assert found is not None
        assert found.partition("=")[2] in known.values()


def digests(data: bytes) -> None:
    """What a server states: lines of NAME: VALUE."""
    headers: dict[str, str] = {}
    for line in data.decode("latin-1").split("\n"):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    got = stated(headers)
    if got is None:
        return
    assert len(got.expected) == LENGTHS[got.algorithm]
    raw = bytes.fromhex(got.expected)
    assert raw.hex() == got.expected
    assert raw in _digests_in(headers.values()), "a digest that nobody stated"


def _digests_in(values: Iterable[str]) -> Iterator[bytes]:
    for text in re.findall("[A-Za-z0-9+/]+=*", " ".join(values)):
        try:
            yield base64.b64decode(text)
        except ValueError:
            continue


def tars(data: bytes) -> None:
    """A layer, over one below that has a door out: whatever it is, nothing happens outside. Sums of
    headers are made right, so that what is behind them is reached."""
    blocks = [bytearray(data[at : at + 512]) for at in range(0, len(data), 512)]
    for block in blocks:
        if block[257:262] == b"ustar" and len(block) == 512:
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block)
    here, umask = os.open(".", os.O_RDONLY), os.umask(0o022)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as box:
        os.mkdir(f"{box}/out")
        with open(f"{box}/out/kept", "xb") as file:
            file.write(b"kept")
        os.mkdir(f"{box}/in")
        os.symlink(f"{box}/out", f"{box}/in/door")
        os.symlink("../out", f"{box}/in/a")
        root = os.open(f"{box}/in", os.O_RDONLY)
        before = os.stat(f"{box}/out"), os.stat(f"{box}/out/kept")
        try:
            _unpack(b"".join(blocks), root, overlay=bool(data[:1] < b"."))
            assert (os.stat(f"{box}/out"), os.stat(f"{box}/out/kept")) == before, "something outside was touched"
            assert sorted(os.listdir(box)) == ["in", "out"]
            assert os.listdir(f"{box}/out") == ["kept"]
        finally:
            os.fchdir(here)
            os.umask(umask)
            os.close(root)
            os.close(here)


def _unpack(data: bytes, root: int, *, overlay: bool) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        options = {"private": True, "owners": "ignore", "devices": "skip", "entries": 500, "size": 1 << 20}
        unpacking = Untar(file.fileno(), root, overlay=overlay, **options)
        try:
            unpacking.run()
        except Unsafe as error:
            why, name = error.args
            assert why
            assert isinstance(name, bytes)
        except OSError as error:  # more than the file system can
            assert error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EOVERFLOW}, error
        else:
            told = unpacking.told()
            assert told["files"] <= told["entries"] <= 500
            assert told["bytes"] <= told["read"] == len(data)


TARGETS: Mapping[str, Callable[[bytes], None]] = MappingProxyType(
    {
        "responses": responses,
        "journals": journals,
        "lists": lists,
        "digests": digests,
        **({"tars": tars} if LINUX else {}),
    }
)
