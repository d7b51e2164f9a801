"""The tail: what one bad connection of 16 costs, by tool.

    python -m bench.tail                   # 3 rounds, some 3 minutes
    python -m bench.tail --only parpull,parpull-plain --rounds 9

An nginx that gives each connection 12 MB/s lies behind a proxy that makes the third connection
a bad one: slow (a tenth of the others) or dead (silent after 1 MB). Wall time against a clean
run of the same tool in the same round; the bytes that the proxy forwarded tell what was wasted.
Nothing here is limited by CPU, so only the shape of the end shows. Destinations are files in
tmpfs for all tools.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure import ROOT, machine, revision
from tests.servers.fetch import Unavailable, debian
from tests.servers.proxy import Proxy
from tests.servers.real import Nginx

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 512 << 20
CONNECTIONS = 16
PACE = 12_000_000
STALL = 5.0  # seconds; also aria2's and curl's
CASES: dict[str, dict[str, object]] = {
    "clean": {},
    "slow": {"pace": PACE // 10},
    "dead": {"after": 1_000_000, "then": "stall"},
}
RESULT = ROOT / "bench" / "results" / "tail.json"
OURS = """
import sys, json, parpull
url, path, *off = sys.argv[1:]
with parpull.submit(url, path, connections=16, stall_timeout=5.0, **{name: False for name in off}) as download:
    download.result()
    progress = download.progress()
print(json.dumps({name: getattr(progress, name) for name in ("steals", "hedges", "wasted", "requests")}))
"""


def ours(*off: str) -> Callable[[str, Path], list[str]]:
    """parpull, without some of its means."""
    return lambda url, path: [sys.executable, "-c", OURS, url, str(path), *off]


def aria2(url: str, path: Path) -> list[str]:
    """At its best for one object; it waits for a silent connection as long as we do."""
    program, needs = debian("aria2", "usr/bin/aria2c")
    many = [f"-x{CONNECTIONS}", f"-s{CONNECTIONS}", "-k1M", f"--timeout={STALL:.0f}", "--retry-wait=1"]
    quiet = ["-q", "--file-allocation=none", "--no-conf", "--allow-overwrite=true"]
    return [
        "env",
        *(f"{name}={value}" for name, value in needs.items()),
        str(program),
        *many,
        *quiet,
        "-d",
        str(path.parent),
        "-o",
        path.name,
        url,
    ]


def forked(url: str, path: Path) -> list[str]:
    """One curl a part; each gives up a connection that is silent, and goes on from there."""
    step = SIZE // CONNECTIONS
    one = f"curl -sf --retry 5 --retry-all-errors -y {STALL:.0f} -Y 1000 -r"
    parts = " ".join(f"{one} {i * step}-{(i + 1) * step - 1} -o {path}.{i:02} {url} &" for i in range(CONNECTIONS))
    return ["bash", "-c", f"{parts} wait"]


TOOLS: dict[str, Callable[[str, Path], list[str]]] = {
    "parpull": ours(),
    "parpull, hedge=False": ours("hedge"),
    "parpull, hedge=steal=False": ours("hedge", "steal"),
    "aria2": aria2,
    "forked-curl": forked,
}


def once(tool: str, case: str, nginx: Nginx, folder: Path) -> dict[str, float]:
    """One run: seconds, bytes forwarded, and what parpull says of itself."""
    with Proxy(nginx.port) as proxy, tempfile.TemporaryDirectory(dir=folder) as out:
        if CASES[case]:
            proxy.order(3, **CASES[case])
        command = TOOLS[tool](proxy.url(nginx.url("object")), Path(out) / "object")
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        seconds = time.monotonic() - began
        size = sum(file.stat().st_size for file in Path(out).iterdir())
        said = json.loads(done.stdout) if done.stdout.startswith("{") else {}
        forwarded = sum(count.down for count in proxy.counts())
        return {"seconds": seconds, "ok": done.returncode == 0 and size == SIZE, "forwarded": forwarded, **said}


def main() -> int:
    """Measure, print a table, keep it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="tools, with commas")
    options = parser.parse_args()
    tools = [tool for tool in TOOLS if not options.only or tool in options.only.split(",")]
    runs: dict[str, dict[str, list[dict[str, float]]]] = {tool: {case: [] for case in CASES} for tool in tools}
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        folder = Path(place)
        with (folder / "object").open("wb") as file:
            file.truncate(SIZE)
        with Nginx(folder, pace=PACE) as nginx:
            for number in range(options.rounds):
                for tool in list(tools):
                    try:
                        for case in CASES:
                            runs[tool][case].append(once(tool, case, nginx, folder))
                            print(number, tool, case, runs[tool][case][-1], file=sys.stderr, flush=True)
                    except Unavailable as error:
                        print(f"{tool} is left out: {error}", file=sys.stderr)
                        tools.remove(tool)
    heads = ("tool", "clean, s", "slow / clean", "dead / clean", "dead - clean, s", "more bytes, slow", "hedges")
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for tool in tools:
        print(row(tool, runs[tool]))
    document = {"machine": machine(), "revision": revision(), "size": SIZE, "pace": PACE, "runs": runs}
    RESULT.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def row(tool: str, cases: dict[str, list[dict[str, float]]]) -> str:
    """A tool's medians, with their spread."""

    def ratio(case: str) -> str:
        many = [bad["seconds"] / clean["seconds"] for clean, bad in zip(cases["clean"], cases[case], strict=True)]
        failed = "" if all(run["ok"] for run in cases[case]) else " **failed**"
        return f"{statistics.median(many):.2f} ({min(many):.2f}..{max(many):.2f}){failed}"

    clean = statistics.median(run["seconds"] for run in cases["clean"])
    later = statistics.median(
        bad["seconds"] - ok["seconds"] for ok, bad in zip(cases["clean"], cases["dead"], strict=True)
    )
    more = statistics.median(run["forwarded"] / SIZE - 1 for run in cases["slow"])
    hedges = [f"{run['hedges']:.0f}" for case in ("slow", "dead") for run in cases[case] if "hedges" in run]
    return (
        f"| {tool} | {clean:.2f} | {ratio('slow')} | {ratio('dead')} | {later:.2f} | {more:.1%} | {' '.join(hedges)} |"
    )


if __name__ == "__main__":
    raise SystemExit(main())
