"""CPU of the client over TLS, of two installations of parpull: the wheel's libcurl beside the system's.

    python -m bench.tls_builds PYTHON PYTHON [--rounds 7]

nginx on the first CPU, the client on the last, 8 connections, into memory that is there already: a fetch that does
not count touches it, then the same GiB is fetched twice more. So neither starting nor the first touch of memory is in
the figure. Rounds alternate; the ratio is of the medians. What others used is told.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.servers.real import Nginx

SIZE = 1 << 30
TIMES = 2
CLIENT = """
import mmap, resource, sys, parpull
url, ca_file, size, times = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_HUGEPAGE)
for n in range(times + 1):
    if n == 1: before = resource.getrusage(resource.RUSAGE_SELF)
    parpull.fetch(url, into=memoryview(memory), ca_file=ca_file, connections=8)
after = resource.getrusage(resource.RUSAGE_SELF)
print(after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime)
"""


def cost(python: str, url: str, ca_file: str) -> tuple[float, float]:
    """CPU seconds a GiB: (in the program, in the kernel)."""
    command = [python, "-c", CLIENT, url, ca_file, str(SIZE), str(TIMES)]
    last = max(os.sched_getaffinity(0))
    done = subprocess.run(
        command, cwd="/", capture_output=True, text=True, check=True, preexec_fn=lambda: os.sched_setaffinity(0, {last})
    )
    user, system = done.stdout.split()
    gib = TIMES * SIZE / (1 << 30)
    return float(user) / gib, float(system) / gib


def busy() -> float:
    """Seconds that all CPUs have worked, since the machine started."""
    fields = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:8])) / os.sysconf("SC_CLK_TCK")


def of_children() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def of_server(folder: Path) -> float:
    """Seconds of nginx and its worker."""
    total = 0
    master = (folder / "pid").read_text().strip()
    workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    for pid in (master, *workers):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.tls_builds", description=__doc__.splitlines()[0])
    parser.add_argument("pythons", nargs=2, metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args(arguments)
    found: dict[str, list[tuple[float, float]]] = {python: [] for python in args.pythons}
    here = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        with open(os.path.join(folder, "object"), "wb") as file:
            file.truncate(SIZE)
        os.sched_setaffinity(0, {min(here)})
        with Nginx(folder, tls=True) as server:
            os.sched_setaffinity(0, here)
            before = busy() - of_children() - of_server(server.folder)
            for n in range(args.rounds):
                for python in args.pythons if n % 2 else args.pythons[::-1]:
                    found[python].append(cost(python, server.url("object"), str(server.ca_file)))
                    print(f"round {n + 1}: {sum(found[python][-1]):.3f} {python}", file=sys.stderr, flush=True)
            foreign = busy() - of_children() - of_server(server.folder) - before
    medians = []
    for python, costs in found.items():
        ask = "from parpull._reactor import libcurl_version; print(*libcurl_version().split()[:2])"
        version = subprocess.run(
            [python, "-c", ask], cwd="/", capture_output=True, text=True, check=True
        ).stdout.strip()
        totals = [user + system for user, system in costs]
        medians.append(statistics.median(totals))
        kernel = statistics.median(system for _, system in costs)
        print(
            f"{version}: {medians[-1]:.3f} CPU s/GiB ({min(totals):.3f}-{max(totals):.3f}), {kernel:.3f} in the kernel"
        )
    print(f"ratio {medians[0] / medians[1]:.2f}; CPU used by others meanwhile: {foreign:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
