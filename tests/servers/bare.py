"""What bare libcurl makes of a scenario: the yardstick that shows a fault still bites.

An object of 4 parts is fetched with CURLOPT_RANGE through pycurl: the first part alone, then the
other three at once, redirects followed, statuses from 400 on failing, silence given up after a
second. `python -m tests.servers.bare [SCENARIO…]` prints what came of it, as the lines of a
`[bare]` table. Independent of the project: it must import nothing of it.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pycurl

from tests.servers.content import first_difference
from tests.servers.origin import Origin
from tests.servers.scenarios import Bare, Scenario, load_all

if TYPE_CHECKING:
    from collections.abc import Sequence

PARTS = 4
PART = 1 << 20
SIZE = PARTS * PART
_HELD = 3  # seconds for which an unanswered transfer may hold the others up


@dataclass
class _Transfer:
    """One part on one handle."""

    start: int
    curl: pycurl.Curl
    body: bytearray = field(default_factory=bytearray)
    code: int = -1

    def right(self) -> bool:
        return len(self.body) == PART and first_difference(self.body, self.start) is None


def fetch_barely(url: str, ca_file: str | None = None, *, proxy: str = "", resolve: Sequence[str] = ()) -> Bare:
    """Fetch the object of SIZE bytes at `url` as parts; the codes that occurred, each once."""
    multi = pycurl.CurlMulti()
    transfers = [_transfer(url, start, ca_file) for start in range(0, SIZE, PART)]
    for transfer in transfers:
        if proxy:
            transfer.curl.setopt(pycurl.PROXY, proxy)
            transfer.curl.setopt(pycurl.NOPROXY, "")
        if resolve:
            transfer.curl.setopt(pycurl.RESOLVE, list(resolve))
    _run(multi, transfers[:1])
    _run(multi, transfers[1:])
    codes = tuple(sorted({t.code for t in transfers if t.code})) or (0,)
    accepted = [t.right() for t in transfers if t.code == 0]
    if not all(accepted):
        return Bare(codes, "wrong")
    return Bare(codes, "right" if len(accepted) == PARTS else "missing")


def measure(scenario: Scenario, origin: Origin, name: str = "") -> Bare:
    """Fetch barely under one scenario."""
    url = scenario.url(origin, name or f"bare-{scenario.name}", size=SIZE)
    return fetch_barely(url, origin.ca_file, proxy=scenario.proxy(origin), resolve=scenario.resolve(origin))


def _transfer(url: str, start: int, ca_file: str | None) -> _Transfer:
    curl = pycurl.Curl()
    made = _Transfer(start, curl)
    curl.setopt(pycurl.URL, url)
    curl.setopt(pycurl.RANGE, f"{start}-{start + PART - 1}")
    curl.setopt(pycurl.WRITEFUNCTION, made.body.extend)
    curl.setopt(pycurl.FOLLOWLOCATION, 1)
    curl.setopt(pycurl.MAXREDIRS, 10)
    curl.setopt(pycurl.FAILONERROR, 1)
    curl.setopt(pycurl.NOPROXY, "*")
    curl.setopt(pycurl.LOW_SPEED_LIMIT, 1000)
    curl.setopt(pycurl.LOW_SPEED_TIME, 1)
    curl.setopt(pycurl.TIMEOUT, _HELD)
    if ca_file is not None:
        curl.setopt(pycurl.CAINFO, ca_file)
    return made


def _run(multi: pycurl.CurlMulti, transfers: list[_Transfer]) -> None:
    by_handle = {t.curl: t for t in transfers}
    for transfer in transfers:
        multi.add_handle(transfer.curl)
    running = len(transfers)
    while running:
        _, running = multi.perform()
        multi.select(0.1)
    _, good, bad = multi.info_read(len(transfers))
    for curl in good:
        by_handle[curl].code = 0
    for curl, code, _ in bad:
        by_handle[curl].code = code
    for transfer in transfers:
        multi.remove_handle(transfer.curl)


def main() -> None:
    """Measure the named scenarios, or all."""
    known = load_all()
    with Origin() as plain, Origin(tls=True) as secure:
        for name in sys.argv[1:] or known:
            alone = Origin(tls=known[name].tls or False) if known[name].alone else None
            with alone or nullcontext(secure if known[name].tls else plain) as origin:
                bare = measure(known[name], origin)
            noted = known[name].bare
            holds = set(bare.code) <= set(noted.code) and bare.bytes == noted.bytes
            mark = "ok" if holds else f"noted {noted.code} {noted.bytes}"
            print(f"{name:28} code = {list(bare.code)}, bytes = {bare.bytes!r:9} {mark}")


if __name__ == "__main__":
    main()
