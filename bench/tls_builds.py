"""CPU of the client over TLS, of two installations of parpull: the wheel's libcurl beside the system's.

    python -m bench.tls_builds PYTHON PYTHON [--rounds 7]

nginx on the first CPU, the client on the last, into memory, 8 connections. The figure is the slope between 1 and 3
GiB, so that starting costs nothing. Rounds alternate; the ratio is of the medians. What others used is told.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.measure import warm_up
from tests.servers.real import Nginx

SIZES = (1 << 30, 3 << 30)
CLIENT = """
import resource, sys, parpull
url, ca_file, size = sys.argv[1:]
blob = parpull.fetch(url, ca_file=ca_file, stop=int(size), connections=8)
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime, used.ru_stime)
"""


def cpu(python: str, url: str, ca_file: str, size: int) -> tuple[float, float]:
    """Seconds in the program and in the kernel."""
    warm_up(size)
    command = [python, "-c", CLIENT, url, ca_file, str(size)]
    last = max(os.sched_getaffinity(0))
    done = subprocess.run(
        command, cwd="/", capture_output=True, text=True, check=True, preexec_fn=lambda: os.sched_setaffinity(0, {last})
    )
    user, system = done.stdout.split()
    return float(user), float(system)


def slope(python: str, url: str, ca_file: str) -> tuple[float, float]:
    """CPU seconds a GiB: (in the program, in the kernel)."""
    low, high = (cpu(python, url, ca_file, size) for size in SIZES)
    gib = (SIZES[1] - SIZES[0]) / (1 << 30)
    return (high[0] - low[0]) / gib, (high[1] - low[1]) / gib


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
            file.truncate(SIZES[1])
        os.sched_setaffinity(0, {min(here)})
        with Nginx(folder, tls=True) as server:
            os.sched_setaffinity(0, here)
            before = busy() - of_children() - of_server(server.folder)
            for n in range(args.rounds):
                for python in args.pythons if n % 2 else args.pythons[::-1]:
                    found[python].append(slope(python, server.url("object"), str(server.ca_file)))
                    print(f"round {n + 1}: {sum(found[python][-1]):.3f} {python}", file=sys.stderr, flush=True)
            foreign = busy() - of_children() - of_server(server.folder) - before
    medians = []
    for python, slopes in found.items():
        ask = "from parpull._reactor import libcurl_version; print(*libcurl_version().split()[:2])"
        version = subprocess.run(
            [python, "-c", ask], cwd="/", capture_output=True, text=True, check=True
        ).stdout.strip()
        totals = [user + system for user, system in slopes]
        medians.append(statistics.median(totals))
        kernel = statistics.median(system for _, system in slopes)
        print(
            f"{version}: {medians[-1]:.3f} CPU s/GiB ({min(totals):.3f}-{max(totals):.3f}), {kernel:.3f} in the kernel"
        )
    print(f"ratio {medians[0] / medians[1]:.2f}; CPU used by others meanwhile: {foreign:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
