"""connections="auto" beside fixed numbers, on an nginx that gives each connection so much.

    python -m bench.auto                             # 10, 50 and 200 MB/s, some 9 minutes
    python -m bench.auto --paces 10 --seconds 20

Each run reads for so many seconds through a window and throws the bytes away, so that no disk
and no memory bounds it; on loopback the machine's cores do. Told is the goodput of the whole
run, and of what comes after its first 5 seconds, as a share of the best fixed number in the
same round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.measure import ROOT, machine, revision
from tests.servers.real import Nginx

FIXED = (4, 8, 16, 32)
SIZE = 200 << 30  # of a sparse file: more than any run reads
RESULT = ROOT / "bench" / "results" / "auto.json"
CLIENT = """
import json, sys, time, parpull
url, connections, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
steps = []
def told(event):
    if event.kind == "adapted":
        steps.append([round(time.monotonic() - began, 2), event.after, event.why])
began = time.monotonic()
total, early, buffer = 0, None, bytearray(4 << 20)
with parpull.open(url, 0, access="sequential", window=256 << 20, on_event=told,
                  connections="auto" if connections == "auto" else int(connections)) as reader:
    while (now := time.monotonic() - began) < seconds:
        total += reader.readinto(buffer)
        if early is None and now >= 5:
            early = now, total
    print(json.dumps({"whole": total / now, "after": (total - early[1]) / (now - early[0]), "steps": steps}))
"""


def once(url: str, connections: str, seconds: float) -> dict[str, float]:
    """One run of a process of its own: bytes per second."""
    command = [sys.executable, "-c", CLIENT, url, connections, str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    print(
        f"{connections:>5} {found['whole'] / 1e6:8.0f} {found['after'] / 1e6:8.0f} MB/s {found['steps']}",
        file=sys.stderr,
    )
    return found


def main() -> int:
    """Measure, print a table, keep it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--paces", default="10,50,200", help="MB/s of one connection, with commas")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    runs: dict[str, list[dict[str, dict[str, float]]]] = {}
    print("| MB/s of one connection | best fixed | auto, after 5 s | auto, whole |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        with (Path(place) / "object").open("wb") as file:
            file.truncate(SIZE)
        for pace in options.paces.split(","):
            with Nginx(place, pace=int(float(pace) * 1e6)) as nginx:
                url = nginx.url("object")
                for _ in range(options.rounds):
                    found = {n: once(url, n, options.seconds) for n in (*map(str, FIXED), "auto")}
                    runs.setdefault(pace, []).append(found)
            print(row(pace, runs[pace]), flush=True)
    document = {"machine": machine(), "revision": revision(), "seconds": options.seconds, "runs": runs}
    RESULT.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def row(pace: str, rounds: list[dict[str, dict[str, float]]]) -> str:
    """Shares of the best fixed number, each time of its own round; medians."""

    def share(what: str) -> str:
        many = [found["auto"][what] / max(found[str(n)][what] for n in FIXED) for found in rounds]
        return f"{statistics.median(many):.0%}"

    best = [max(FIXED, key=lambda n, found=found: found[str(n)]["after"]) for found in rounds]  # type: ignore[misc]
    return f"| {pace} | {', '.join(map(str, best))} | {share('after')} | {share('whole')} |"


if __name__ == "__main__":
    raise SystemExit(main())
