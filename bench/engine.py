"""What the engine costs over the floor: plain HTTP, one machine, clients in turn.

Usage: `python -m bench.engine [--rounds 3] [--sizes 1,5] [--connections 8]
[--only floor,parpull]`

The figure is the *slope*, (cpu(large) - cpu(small)) / (large - small): CPU seconds for
one GiB more, free of start-up.  The whole process at the largest size stands beside it.
Clients take turns within a round, every second round backwards, and a ratio compares
two slopes of the same round: the machine's mood then weighs on both.

What was measured goes to `bench/results/engine.json`; the table is a summary of that.
"""

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from bench.clients import sample_offsets
from bench.measure import (
    GIB,
    ROOT,
    Failed,
    Usage,
    available_memory,
    descendants,
    run,
    warm_up,
)
from bench.report import Row, document, table, verdict
from bench.rivals import RIVALS, Job
from tests.servers.real import Nginx, Unavailable

RESULTS = ROOT / "bench" / "results" / "engine.json"
_BLOCK = 64 << 20


def _objects(root: Path, sizes: list[float]) -> dict[float, bytes]:
    """Write one object a size under ROOT; returns the bytes at the sampled places.

    Each block is the same random one, shifted by a byte more than the last, so that no
    two offsets can be taken for each other and 6 GiB take seconds to make.
    """
    random = memoryview(os.urandom(_BLOCK + 4096))
    expected: dict[float, bytes] = {}
    for gib in sizes:
        left, shift = int(gib * GIB), 0
        with (root / _name(gib)).open("w+b") as file:
            while left:
                left -= file.write(random[shift : shift + min(left, _BLOCK)])
                shift += 1
            offsets = sample_offsets(int(gib * GIB))
            file.flush()
            expected[gib] = b"".join(os.pread(file.fileno(), 1, at) for at in offsets)
    return expected


def _name(gib: float) -> str:
    return f"{gib:g}.bin"


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A directory in tmpfs; its objects and downloads leave memory when we do."""
    with tempfile.TemporaryDirectory(prefix="parpull-bench-", dir="/dev/shm") as name:
        Path(name).chmod(0o755)  # a server worker may run as somebody else
        yield Path(name)


def _pin(core: int) -> None:
    """What is started from here on runs on this core, if there is another."""
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})


def _readable(command: list[str], job: Job) -> str:
    """The command line without what is only true of this run and this machine."""
    local = {job.url: "$URL", str(job.out): "$OUT"}
    local |= {sys.executable: "python", f"{ROOT}/": ""}
    text = "; ".join(" ".join(command).splitlines())
    for long, short in local.items():
        text = text.replace(long, short)
    return text


def _measure(rows: list[Row], sizes: list[float], connections: int, rounds: int) -> str:
    """Fill the rows, round by round; returns what the server says it is.

    Round 0 fetches the smallest object only, to warm up and to find what is broken.
    """
    with _scratch() as scratch:
        root = scratch / "root"
        root.mkdir()
        expected = _objects(root, sizes)
        _pin(0)
        with Nginx(root) as nginx:
            _pin(1)
            server = descendants()
            for number in range(rounds + 1):
                for row in _turn(rows, number):
                    row.runs.append({})
                for gib in sizes if number else sizes[:1]:
                    url, size = nginx.url(_name(gib)), int(gib * GIB)
                    job = Job(url, size, connections, scratch / "out")
                    for row in _turn(rows, number):
                        _one(row, number, gib, job, server, expected[gib])
                if number == 0:  # it took the first-time costs: forget it
                    for row in rows:
                        row.runs.clear()
            return _server_name(nginx.url())


def _server_name(url: str) -> str:
    """What it calls itself in its answers: nginx/1.22.1 or the like."""
    with urllib.request.urlopen(url) as answer:
        return str(answer.headers["Server"])


def _turn(rows: list[Row], number: int) -> list[Row]:
    """Those still in; every second round backwards, so that neighbours swap places."""
    running = [row for row in rows if not row.trouble]
    return running if number % 2 else running[::-1]


def _one(row: Row, number: int, gib: float, job: Job, server: list[int], expected: bytes) -> None:
    """One run; a rival that fails is out, and its round does not count."""
    job.out.mkdir()
    try:
        warm_up(job.size)
        command = row.rival.command(job)
        usage, output = run(command, server)
        row.rival.check(job, output, expected)
    except Failed as failed:
        row.trouble = f"failed in round {number}: {failed}"
        row.runs.pop()
    else:
        row.command = _readable(command, job)
        row.runs[-1][gib] = usage
        _progress(row, number, gib, usage)
    finally:
        shutil.rmtree(job.out)


def _progress(row: Row, number: int, gib: float, usage: Usage) -> None:
    head = f"round {number}  {gib:g} GiB  {row.rival.name:<13}"
    cost = f"cpu {usage.cpu:6.3f}  wall {usage.wall:6.3f}"
    others = f"server {usage.server:5.2f}  foreign {usage.foreign:5.2f}"
    print(head, cost, others, sep="  ", file=sys.stderr)


def _prepare(only: list[str]) -> list[Row]:
    rows = [Row(rival) for rival in RIVALS if not only or rival.name in only]
    for row in rows:
        try:
            row.version = row.rival.version()
        except Failed as missing:
            row.trouble = f"skipped: {missing}"
    return rows


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.engine")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", default="1,5", help="GiB, comma-separated")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--only", default="", help=",".join(r.name for r in RIVALS))
    options = parser.parse_args()
    unknown = set(filter(None, options.only.split(","))) - {r.name for r in RIVALS}
    if unknown or options.rounds < 1:
        parser.error(f"no such client: {', '.join(unknown)}" if unknown else "no rounds")
    return options


def _need_memory(sizes: list[float]) -> None:
    """The objects and one download of the largest are in memory at the same time."""
    need = sum(sizes) + max(sizes) * 1.25 + 1
    if available_memory() < need * GIB:
        sys.exit(f"needs {need:.1f} GiB of available memory")


def main() -> int:
    options = _options()
    sizes = sorted(float(size) for size in options.sizes.split(","))
    _need_memory(sizes)
    rows = _prepare([name for name in options.only.split(",") if name])
    try:
        server = _measure(rows, sizes, options.connections, options.rounds)
    except Unavailable as reason:
        sys.exit(f"no server to measure against: {reason}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(document(rows, server, options), indent=1) + "\n")
    print(table(rows), verdict(rows), sep="\n")
    return int(any(row.trouble.startswith("failed") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
