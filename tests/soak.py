"""Many downloads under many faults, every result compared byte by byte: `make soak`.

    python -m tests.soak [--faults N] [--seed S] [--at-once N] [--verbose]

Rounds of downloads in one Client, several at once; each takes a size, a destination
(memory, a file that is resumed, a reader, ranges), connections and a server's fault by
chance: scenarios of the origin, or orders of the cutting proxy. The faults are bounded,
so each download has to end well. Round R of seed S is the same whenever it is begun, so
`--seed S --round R` shows it again. A difference, a hang, an error or a leak is told with
its seed and round, and makes the status 1.
"""

from __future__ import annotations

import argparse
import collections
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import parpull
from parpull.errors import ParpullError
from tests.conftest import leaked, living
from tests.servers import content
from tests.servers.origin import Origin
from tests.servers.proxy import Proxy

MIB = 1 << 20
HANG = 120.0  # seconds: far beyond what any of these may take
# Faults that a right downloader gets over, whatever it was asked for.
SCENARIOS = (
    "plain", "busy-429", "busy-503-date", "empty-reply", "error-500-once", "no-content-length", "no-framing",
    "range-ignored-once", "rst-mid-body", "rst-no-reply", "short-206", "silent", "stalls-mid-body", "truncated",
    "truncated-chunked", "unframed-206", "unframed-short", "wrong-offset-once",
)  # fmt: skip
NO_RANGES = ("no-content-length", "no-framing")
PLACES = ("memory", "file", "resumed", "reader", "ranges")


class Tally:
    """What came of it all."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: collections.Counter[str] = collections.Counter()
        self.findings: list[str] = []

    def add(self, **counts: int) -> None:
        with self.lock:
            self.counts.update(counts)

    def finding(self, kind: str, text: str) -> None:
        with self.lock:
            self.counts[kind] += 1
            self.findings.append(text)
        print(f"FOUND {kind}: {text}", flush=True)


class One:
    """One download, made by chance."""

    def __init__(self, dice: random.Random, label: str, folder: Path) -> None:
        self.label = label
        self.folder = folder
        self.seconds = 0.0
        self.place = dice.choice(PLACES)
        self.scenario = dice.choice(SCENARIOS)
        if self.place == "ranges" and self.scenario in NO_RANGES:
            self.scenario = "plain"
        self.size = dice.choice([1, 4095, 65537, MIB, dice.randrange(1, 3 * MIB), dice.randrange(1, 24 * MIB)])
        # A body without any length is as long as it is: a cut can't be seen by anybody.
        self.through = self.scenario != "no-framing" and (self.scenario == "plain" or dice.random() < 0.3)
        self.orders = [self._order(dice) for _ in range(dice.randrange(1, 12))]
        self.options = {
            "connections": dice.choice([1, 2, 3, 4, 8]),
            "part_size": dice.choice([None, 64 << 10, 256 << 10, MIB, 300_001]),
            "retries": 20, "retry_for": 60.0, "stall_timeout": 0.5, "steal": dice.random() < 0.8,
        }  # fmt: skip
        self.window = dice.choice([MIB, 4 * MIB, 16 * MIB])
        edges = sorted(dice.sample(range(self.size + 1), 2 * min(3, (self.size + 1) // 2)))
        self.ranges = list(zip(edges[::2], edges[1::2], strict=True))
        self.read = dice.randrange(1, MIB)
        self.stop_at = dice.random()

    @staticmethod
    def _order(dice: random.Random) -> dict[str, object]:
        kind = dice.randrange(5)
        after = dice.randrange(2 * MIB)
        return (
            {"after": after, "then": "rst"}, {"after": after, "then": "close"}, {"after": after, "then": "stall"},
            {"refuse": True}, {"delay": dice.random() / 4, "pace": dice.randrange(2 * MIB, 50 * MIB)},
        )[kind]  # fmt: skip

    def __str__(self) -> str:
        orders = f" {self.orders}" if self.through else ""
        return f"{self.label}: {self.scenario} {self.place} size={self.size} {self.options}{orders}"

    def run(self, client: parpull.Client, origin: Origin, tally: Tally) -> None:
        """Fetch, compare, count."""
        began = time.monotonic()
        url = origin.url(self.label, size=self.size, scenario=self.scenario)
        proxy = Proxy(origin.port) if self.through else None
        try:
            if proxy is not None:
                for index, order in enumerate(self.orders, 1):
                    proxy.order(index, **order)
                url = proxy.url(url)
            wrong = getattr(self, "_" + self.place)(client, url, tally)
            if wrong is not None:
                tally.finding("wrong", f"{self}: differs at {wrong}")
        except ParpullError as error:
            tally.finding("failed", f"{self}: {type(error).__name__}: {error}")
        except BaseException as error:
            tally.finding("broken", f"{self}: {type(error).__name__}: {error}")
        finally:
            if proxy is not None:
                came = proxy.connections
                struck = sum("pace" not in order for order in self.orders[:came])
                tally.add(faults=struck, proxied=struck)
                proxy.stop()
        self.seconds = time.monotonic() - began
        log = origin.log(self.label)
        tally.add(downloads=1, bytes=self.size, faults=log.faults, requests=len(log), sent=log.sent)
        tally.add(**{self.place: 1})

    def _done(self, download: parpull.Download, tally: Tally) -> parpull.Blob:
        try:
            blob = download.result(HANG)
        except TimeoutError as error:
            if isinstance(error, ParpullError):
                raise
            tally.finding("hangs", f"{self}: {download.progress()}")
            raise
        tally.add(retries=download.progress().retries, steals=download.progress().steals)
        return blob

    def _memory(self, client: parpull.Client, url: str, tally: Tally) -> int | None:
        with client.submit(url, **self.options) as download, self._done(download, tally) as blob:
            return self._differs(blob)

    def _file(self, client: parpull.Client, url: str, tally: Tally) -> int | None:
        path = self.folder / self.label
        with client.submit(url, path, **self.options) as download:
            self._done(download, tally)
        data = path.read_bytes()
        path.unlink()
        return self._differs(data)

    def _resumed(self, client: parpull.Client, url: str, tally: Tally) -> int | None:
        """Cancelled somewhere on its way, then again into the same file."""
        path = self.folder / self.label
        with client.submit(url, path, **self.options) as download:
            deadline = time.monotonic() + 5
            while not download.done() and download.progress().landed < self.stop_at * self.size:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.002)
        if path.exists():
            path.unlink()
        with client.submit(url, path, **self.options) as download:
            self._done(download, tally)
            tally.add(resumed_bytes=download.progress().resumed)
        data = path.read_bytes()
        path.unlink()
        return self._differs(data)

    def _reader(self, client: parpull.Client, url: str, tally: Tally) -> int | None:
        at = 0
        options = self.options | {"part_size": None}
        with client.open(url, window=self.window, **options) as reader:
            while piece := reader.read(self.read):
                wrong = content.first_difference(piece, at)
                if wrong is not None:
                    return at + wrong
                at += len(piece)
            tally.add(retries=reader.progress().retries)
        return None if at == self.size else at

    def _ranges(self, client: parpull.Client, url: str, tally: Tally) -> int | None:
        for (a, b), blob in zip(self.ranges, client.fetch_ranges(url, self.ranges, **self.options), strict=True):
            with memoryview(blob) as view:
                wrong = len(view) if len(view) != b - a else content.first_difference(view, a)
            if wrong is not None:
                return a + wrong
        return None

    def _differs(self, got: object) -> int | None:
        with memoryview(got) as view:  # type: ignore[arg-type]
            return len(view) if len(view) != self.size else content.first_difference(view)


def play(seed: int, number: int, at_once: int, origin: Origin, tally: Tally, *, verbose: bool) -> None:
    """One round: several downloads at once in one Client, then nothing may be left."""
    before = living()
    dice = random.Random(f"{seed} {number}")
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        ones = [One(dice, f"s{seed}-r{number}-{i}", Path(folder)) for i in range(at_once)]
        with parpull.Client(connections=16) as client:
            threads = [threading.Thread(target=one.run, args=(client, origin, tally), daemon=True) for one in ones]
            for thread in threads:
                thread.start()
            deadline = time.monotonic() + 2 * HANG
            for thread, one in zip(threads, ones, strict=True):
                thread.join(max(0.0, deadline - time.monotonic()))
                if thread.is_alive():
                    tally.finding("hangs", f"{one}: its thread is still there")
                elif verbose:
                    print(f"{one.seconds:6.1f} s  {one}", flush=True)
        left = [path.name for path in Path(folder).iterdir()]
        if left and not tally.findings:
            tally.finding("leaks", f"seed {seed} round {number}: files {left}")
    del ones, threads, client
    more = leaked(before)
    if more:
        tally.finding("leaks", f"seed {seed} round {number}: {more}")
    origin.reset()


def main() -> int:
    """Play rounds until so many faults have struck; 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Downloads under random faults.")
    parser.add_argument("--faults", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--round", type=int, help="this one only")
    parser.add_argument("--minutes", type=float, default=600.0, help="begin no round later than this")
    parser.add_argument("--at-once", type=int, default=20)
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    tally, began, number = Tally(), time.monotonic(), args.round or 0
    with Origin() as origin:
        while tally.counts["faults"] < args.faults and time.monotonic() - began < args.minutes * 60:
            play(args.seed, number, args.at_once, origin, tally, verbose=args.verbose)
            number += 1
            if args.round is not None or tally.counts["hangs"]:
                break
            if number % 20 == 0:
                c = tally.counts
                print(f"round {number}: {c['faults']} faults, {c['downloads']} downloads", file=sys.stderr, flush=True)
    print(f"seed {args.seed}, {number} rounds, {time.monotonic() - began:.0f} s")
    for name in ("downloads", *PLACES, "faults", "proxied", "requests", "retries", "steals", "bytes", "sent",
                 "resumed_bytes", "wrong", "failed", "broken", "hangs", "leaks"):  # fmt: skip
        print(f"  {name:14}{tally.counts[name]:>16,}")
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
