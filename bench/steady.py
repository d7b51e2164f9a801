"""CPU per GiB into memory that is there already: floors, parpull and its rivals, to the percent.

    python -m bench.steady [--tls] [--python PYTHON …] [--openssl PREFIX] [--connections 8] [--rounds 7]

A process fetches 1 GiB once, which touches its memory and does not count, and then twice more into the same place.
So neither starting nor the first touch of memory is in the figure, which on a virtual machine vary more than all that
is compared here. nginx on the first CPU, the clients on the last; they take turns, every second round backwards.

--python: whose parpull is measured beside this one's: a wheel's, in an environment of its own. --openssl: the prefix
of a static OpenSSL for the floor of TLS.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bench import own
from bench.fetching import python as bench_python
from bench.measure import ROOT, Failed, machine, revision
from tests.servers.real import Nginx

SIZE = 1 << 30
TIMES = 2
RESULTS = ROOT / "bench" / "results"
REPEAT = """
import mmap, resource, sys
url, ca_file, size, count = sys.argv[1], sys.argv[2] or None, int(sys.argv[3]), int(sys.argv[4])
memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_HUGEPAGE)
memory = memoryview(memory)
def repeat(fetch):
    for n in range(TIMES + 1):
        if n == 1: before = resource.getrusage(resource.RUSAGE_SELF)
        fetch()
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime, file=sys.stderr)
""".replace("TIMES", str(TIMES))
PARPULL = (
    REPEAT
    + """
import parpull
repeat(lambda: parpull.fetch(url, into=memory, ca_file=ca_file, connections=count))
"""
)
PYCURL = (
    REPEAT
    + """
from bench.clients import Task
from bench.clients.pycurl_multi import part, perform, to_memory
job = Task(url, size, count, None, ca_file, ())
repeat(lambda: perform([part(job, a, b, to_memory(memory, a, b)) for a, b in job.parts()]))
"""
)
THREADS = (
    REPEAT
    + """
from bench.clients import Task, in_threads
from bench.clients.recv_into import ask, connect, receive
job = Task(url, size, count, None, ca_file, ())
def fetch():
    parts = job.parts()
    def work():
        start, stop = parts.pop()
        with connect(job) as connection:
            body = ask(job, connection, start, stop)
            memory[start : start + len(body)] = body
            receive(connection, memory[start + len(body) : stop])
    in_threads(work, len(parts))
repeat(fetch)
"""
)
LIBRARIES = "from parpull._reactor import libcurl_version as v; print(*v().split()[:2])"


@dataclass
class Row:
    """One of those that are compared: its command but for what is fetched, and (program, kernel) seconds a GiB."""

    name: str
    command: list[str]
    runs: list[tuple[float, float]] = field(default_factory=list)

    def totals(self) -> list[float]:
        return [program + kernel for program, kernel in self.runs]


def rows(tls: bool, pythons: list[str], openssl: str) -> list[Row]:
    """Floor first, then every parpull, then the rivals that are here."""
    floor = "tls" if tls else "recv"
    own.build(floor, openssl)
    found = [Row("floor", [str(own.program(floor, openssl))])]
    for python in [sys.executable, *pythons]:
        asked = subprocess.run([python, "-c", LIBRARIES], cwd="/", capture_output=True, text=True, check=True)
        found.append(Row(f"parpull, {asked.stdout.strip()}", [python, "-c", PARPULL]))
    found.append(Row("recv-into", [sys.executable, "-c", THREADS]))
    try:
        found.append(Row("pycurl", [bench_python("pycurl"), "-c", PYCURL]))
    except Failed as missing:
        print(f"pycurl is left out: {missing}", file=sys.stderr)
    return found


def cost(row: Row, url: str, ca_file: str, connections: int) -> tuple[float, float]:
    """CPU seconds a GiB, in the program and in the kernel."""
    if row.name == "floor":
        parts = urlsplit(url)
        trust = ["-a", ca_file] if ca_file else []
        target = [str(parts.hostname), str(parts.port), parts.path, str(SIZE)]
        given = ["-c", str(connections), "-n", str(TIMES), *trust, *target]
    else:
        given = [url, ca_file, str(SIZE), str(connections)]
    last = max(os.sched_getaffinity(0))
    # Here `parpull/` would hide the installed one.
    place = "/" if row.name.startswith("parpull") else ROOT
    done = subprocess.run(
        [*row.command, *given],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, {last}),
    )
    if done.returncode:
        raise Failed(f"{row.name}: {(done.stderr.strip().splitlines() or ['no reason told'])[-1]}")
    program, kernel = done.stderr.split()[-2:]
    gib = TIMES * SIZE / (1 << 30)
    return float(program) / gib, float(kernel) / gib


def table(found: list[Row]) -> str:
    """CPU, and the ratio to the floor and of the first parpull to each, of the same rounds."""
    lines = ["| client | CPU s/GiB | in the program | in the kernel | x floor | parpull / it |", "|---" * 6 + "|"]
    for row in found:
        totals, program, kernel = row.totals(), *zip(*row.runs, strict=True)
        over = statistics.median(a / b for a, b in zip(totals, found[0].totals(), strict=True))
        ours = statistics.median(a / b for a, b in zip(found[1].totals(), totals, strict=True))
        spread = f"{statistics.median(totals):.3f} ({min(totals):.3f}..{max(totals):.3f})"
        parts = f"{statistics.median(program):.3f} | {statistics.median(kernel):.3f}"
        lines.append(f"| {row.name} | {spread} | {parts} | {over:.2f} | {ours:.2f} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table, keep it."""
    parser = argparse.ArgumentParser(prog="python -m bench.steady", description=__doc__.splitlines()[0])
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--python", action="append", default=[], metavar="PYTHON")
    parser.add_argument("--openssl", default="", metavar="PREFIX")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    here = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        with open(os.path.join(folder, "object"), "wb") as file:
            file.write(os.urandom(1 << 20) * (SIZE >> 20))
        os.sched_setaffinity(0, {min(here)})
        with Nginx(folder, tls=options.tls) as server:
            os.sched_setaffinity(0, here)
            found = rows(options.tls, options.python, options.openssl)
            for number in range(options.rounds):
                for row in found if number % 2 else found[::-1]:
                    row.runs.append(cost(row, server.url("object"), str(server.ca_file or ""), options.connections))
                    print(f"round {number + 1}: {sum(row.runs[-1]):.3f} {row.name}", file=sys.stderr, flush=True)
    print(table(found))
    document = {
        "machine": machine(),
        "revision": revision(),
        "connections": options.connections,
        "clients": {row.name: row.runs for row in found},
    }
    path = Path(RESULTS / f"steady-{'tls' if options.tls else 'plain'}.json")
    path.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
