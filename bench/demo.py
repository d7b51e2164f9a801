"""The main job, shown: one object, 1 and 16 connections, into memory and into a file.

`python -m bench.demo` starts the tests' origin, which paces each connection as a cloud
store does, and fetches through the public API. The bars are rich's; the digests are
checked against what the origin should have served. It shows the idea, not the speed
of this machine: that is what `make bench` measures.
"""

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

import parpull
from parpull.options import parse_size
from tests.servers import content
from tests.servers.origin import Origin

PLACES = ("memory", "file")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.demo", description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=parse_size, default=1 << 30, help="of the object (default 1GiB)")
    parser.add_argument("--pace", type=parse_size, default=100_000_000, help="bytes/s of one connection (100M)")
    parser.add_argument("--connections", default="1,16", help="numbers to try (1,16)")
    args = parser.parse_args()
    console = Console(stderr=True)
    console.print(
        f"An origin on this machine serves an object of {args.size / 2**30:.2g} GiB and paces every connection to "
        f"{args.pace / 1e6:.0f} MB/s,\nas a cloud store does. parpull {parpull.__version__} brings it:"
    )
    expected = content.sha256(args.size)
    table = Table("destination", "connections", "seconds", "MB/s", "requests", "sha256")
    wrong = 0
    with Origin() as origin, tempfile.TemporaryDirectory(prefix="parpull-demo-") as folder, bars(console) as bar:
        for place in PLACES:
            for connections in map(int, args.connections.split(",")):
                url = origin.url(f"{place}-{connections}", size=args.size, pace=args.pace)
                into = None if place == "memory" else Path(folder) / f"object-{connections}"
                seconds, requests, digest = fetch(bar, url, into, connections, f"{place:6} x{connections:<2}")
                wrong += digest != expected
                table.add_row(
                    place,
                    str(connections),
                    f"{seconds:.2f}",
                    f"{args.size / seconds / 1e6:.0f}",
                    str(requests),
                    "right" if digest == expected else "WRONG",
                )
    Console().print(table)
    return 1 if wrong else 0


@contextmanager
def bars(console: Console) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(True), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield progress


def fetch(bar: Progress, url: str, into: Path | None, connections: int, label: str) -> tuple[float, int, str]:
    """Seconds, requests and the SHA-256 of what arrived."""
    task = bar.add_task(label, total=None)
    with parpull.submit(url, into, connections=connections) as download:
        while not download.done():
            now = download.progress()
            bar.update(task, total=now.size, completed=now.received)
            time.sleep(0.05)
        blob = download.result()
    last = download.progress()
    bar.update(task, total=blob.size, completed=blob.size)
    with blob, memoryview(blob) as view:
        digest = hashlib.sha256(view).hexdigest()
    return last.seconds, last.requests, digest


if __name__ == "__main__":
    sys.exit(main())
