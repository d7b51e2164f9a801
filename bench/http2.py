"""Why goroutines showed nothing: over HTTPS Go puts all requests to one server on one connection.

    python -m bench.http2 [--pace 50000000] [--rounds 3]

nginx with TLS speaks HTTP/2 and 1.1; what is paced is each *connection*, as by a distance, a load balancer or a cloud
store. The goroutine downloader of go/ takes what Go's client takes by default, which is HTTP/2 where the server has it,
and then with GODEBUG=http2client=0; parpull stands beside it. Connections are counted in nginx's log.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.fetching import go_source
from bench.harness import scratch
from bench.measure import ROOT, machine, revision
from tests.servers.real import Nginx

SIZE = 1 << 28
COUNTS = (1, 4, 8, 16)
RESULTS = ROOT / "bench" / "results"
GO, GO1, PARPULL = "goroutines, as Go is", "goroutines, HTTP/1.1", "parpull"


class _Both(Nginx):
    """HTTP/2 as well."""

    def _configuration(self) -> str:
        return super()._configuration().replace(" ssl;", " ssl http2;")


def main() -> int:
    """Measure, print the table, keep it."""
    parser = argparse.ArgumentParser(prog="python -m bench.http2", description=__doc__.splitlines()[0])
    parser.add_argument("--pace", type=int, default=50_000_000, help="bytes a second of a connection")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    program = go_source("goroutines")
    rows: dict[tuple[str, int], list[float]] = {(name, n): [] for name in (GO, GO1, PARPULL) for n in COUNTS}
    used: dict[tuple[str, int], int] = {}
    with scratch() as place, tempfile.TemporaryDirectory(dir=place) as out:
        (place / "object").write_bytes(os.urandom(SIZE))
        for _ in range(options.rounds):
            for (name, count), walls in rows.items():
                with _Both(place, tls=True, pace=options.pace) as server:
                    command, environment = _command(name, count, program, server, Path(out) / "got")
                    began = time.monotonic()
                    subprocess.run(command, env={**os.environ, **environment}, check=True, cwd=out)
                    walls.append(time.monotonic() - began)
                    used[name, count] = len({row[0] for row in server.seen()})
                (Path(out) / "got").unlink()
    cells: list[dict[str, Any]] = [
        {"client": name, "asked": count, "connections": used[name, count], "seconds": statistics.median(walls),
         "least": min(walls), "most": max(walls)}
        for (name, count), walls in rows.items()
    ]  # fmt: skip
    for cell in cells:
        print("| {client} | {asked} | {connections} | {seconds:.2f} ({least:.2f}..{most:.2f}) |".format(**cell))
    found = {"machine": machine(), "revision": revision(), "pace": options.pace, "size": SIZE, "cells": cells}
    (RESULTS / "http2.json").write_text(json.dumps(found, indent=1) + "\n")
    return 0


def _command(name: str, count: int, program: str, server: Nginx, got: Path) -> tuple[list[str], dict[str, str]]:
    url, ca_file = server.url("object"), server.ca_file or ""
    if name == PARPULL:
        return [sys.executable, "-m", "parpull", "-q", "-x", str(count), "--cacert", ca_file, "-o", str(got), url], {}
    environment = {"SSL_CERT_FILE": ca_file} | ({"GODEBUG": "http2client=0"} if name == GO1 else {})
    return [program, "-n", str(count), "-size", str(SIZE), "-out", str(got), url], environment


if __name__ == "__main__":
    sys.exit(main())
