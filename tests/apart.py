"""A download in a network of its own, as a process: `unshare -n python -m tests.apart away …`.

`away`: the network goes away for some seconds in the middle. `moved`: in a mount namespace, with a
hosts file of its own, the server's name gets another address in the middle, and nothing answers at
the old one. Prints one line of JSON: what the origin saw, and how it went.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path

import parpull
from tests.running import wait_for
from tests.servers.content import first_difference
from tests.servers.origin import Origin

SIZE = 64 << 20
PACE = 4_000_000  # of each of 4 connections
NAME = "moving.test"


def link(state: str) -> None:
    """The loopback interface up, or down."""
    subprocess.run(["ip", "link", "set", "lo", state], check=True)


def begun(download: parpull.Download) -> int:
    """Wait for a quarter of it; how much had landed."""
    wait_for(lambda: download.progress().landed >= SIZE // 4, 60)
    return download.progress().landed


def ended(download: parpull.Download, since: float) -> dict[str, object]:
    """Wait for the end of it."""
    with download.result(900) as blob, memoryview(blob) as view:
        return {"difference": first_difference(view), "seconds": round(time.monotonic() - since, 2)}


def away(seconds: float, options: dict[str, object]) -> dict[str, object]:
    """The link goes down, and up again by itself."""
    link("up")
    retries = []
    with Origin() as origin:
        with parpull.Client(connections=4, on_event=retries.append, **options) as client:
            download = client.submit(origin.url("away", size=SIZE, pace=PACE))
            landed = begun(download)
            link("down")
            time.sleep(seconds)
            during = download.progress().landed
            link("up")
            told = ended(download, time.monotonic())
        log = origin.log("away")
        progress = download.progress()
        told |= {"landed": landed, "during": during, "wasted": progress.wasted, "sent": log.sent, "requests": len(log)}
    causes = sorted({type(e.error).__name__ for e in retries if hasattr(e, "error") and e.error})
    return told | {"connections": log.connections, "causes": causes}


def moved(hosts: Path) -> dict[str, object]:
    """The name moves from one origin to another."""
    hosts.write_text(f"127.0.0.2 {NAME}\n")
    subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
    link("up")
    with Origin(host="127.0.0.2") as old, Origin(host="127.0.0.3", port=old.port) as new:
        with parpull.Client(connections=4) as client:
            download = client.submit(old.url("moved", size=SIZE, pace=PACE, host=NAME, etag="strong"))
            begun(download)
            hosts.write_text(f"127.0.0.3 {NAME}\n")
            before = old.log("moved", 0)
            old.stop()
            told = ended(download, time.monotonic())
        log = new.log("moved")
        return told | {"old": len(before), "new": len(log), "sent": log.sent, "asked": min(log.asked)[0]}


def main() -> None:
    """Run one of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.apart", description=__doc__)
    parser.add_argument("what", choices=["away", "moved"])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--options", type=json.loads, default={})
    parser.add_argument("--hosts", type=Path)
    args = parser.parse_args()
    print(json.dumps(away(args.seconds, args.options) if args.what == "away" else moved(args.hosts)))


if __name__ == "__main__":
    main()
