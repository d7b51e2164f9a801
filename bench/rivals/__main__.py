"""Every rival once, against one nginx: is it here, and are its bytes the right ones?

    python -m bench.rivals                      # 64 MiB, 3 connections, memory and tmpfs
    python -m bench.rivals --tls --only aria2,obstore

Not a measurement. The table is in Markdown.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.clients import sample_offsets
from bench.measure import Failed, run
from bench.rivals import MEMORY, NULL, RIVALS, TMPFS, Job, Rival, check, digest
from bench.rivals.stores import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY, SMALL = 40, 64 << 10


class Trial:
    """A store with one object, and many small ones; tries rivals on it."""

    def __init__(self, folder: Path, size: int, tls: bool) -> None:
        self._out = folder / "out"
        root = folder / "root"
        root.mkdir()
        data = os.urandom(size)
        (root / "object").write_bytes(data)
        small = os.urandom(SMALL)
        names = [f"small-{number:04}" for number in range(MANY)]
        for name in names:
            (root / name).write_bytes(small)
        self.digest = hashlib.sha256(data).hexdigest()
        self.expected = bytes(data[at] for at in sample_offsets(size))
        self.small = bytes(small[at] for at in sample_offsets(SMALL))
        self.store = Store(root, tls=tls)
        self.job = Job(self.store.url("object"), size, None, self._out, ca_file=self.store.ca_file)
        self.urls = tuple(map(self.store.url, names))

    def once(self, rival: Rival, destination: str, connections: int | None, many: bool = False) -> None:
        """Raises `Failed` unless it brings what is served, all of it."""
        self._out.mkdir()
        job = replace(self.job, destination=destination, connections=connections)
        if many:
            job = replace(job, url=self.urls[0], urls=self.urls, size=SMALL)
        try:
            _, output = run(rival.command(job), [], timeout=60)
            check(job, output, self.small if many else self.expected)
            if not many and destination != NULL and digest(job, output) != self.digest:
                raise Failed("other bytes than were served")
        finally:
            shutil.rmtree(self._out)


@contextmanager
def trial(size: int, tls: bool = False) -> Iterator[Trial]:
    """In tmpfs; nothing of it stays behind."""
    with tempfile.TemporaryDirectory(prefix="parpull-rivals-", dir="/dev/shm") as name:
        Path(name).chmod(0o755)
        tried = Trial(Path(name), size, tls)
        with tried.store:
            yield tried


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.rivals", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=64, help="MiB")
    parser.add_argument("--connections", type=int, default=3)
    parser.add_argument("--only", default="", help="names, with commas")
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    os.environ["BENCH_HASH"] = "1"
    print("| rival | version | memory | tmpfs | null | its default | many |\n" + "|---" * 7 + "|")
    failed = 0
    with trial(options.size << 20, options.tls) as tried:
        for rival in RIVALS:
            if options.only and rival.name not in options.only.split(","):
                continue
            cells = _cells(tried, rival, options.connections)
            failed += sum(cell not in {"", "right"} for cell in cells[1:])
            print("| " + " | ".join([rival.name, *cells]) + " |", flush=True)
    return 1 if failed else 0


def _cells(tried: Trial, rival: Rival, connections: int) -> list[str]:
    try:
        version = rival.version()
    except Failed as missing:
        return [f"not here: {missing}", "", "", "", "", ""]

    def cell(destination: str, number: int | None, many: bool = False) -> str:
        if destination not in rival.destinations or (many and not rival.many):
            return ""
        try:
            tried.once(rival, destination, number, many)
        except Failed as failure:
            return str(failure)
        return "right"

    first = next(each for each in (TMPFS, MEMORY, NULL) if each in rival.destinations)
    tries = [cell(each, 1 if rival.name == "curl" else connections) for each in (MEMORY, TMPFS, NULL)]
    return [version, *tries, cell(first, None), cell(TMPFS, connections, many=True)]


if __name__ == "__main__":
    sys.exit(main())
