"""The verb `bench`: what more connections bring, measured on the user's own URL.

For each destination the object is fetched with each number of connections in turn,
round after round, each round beginning with another number: what changes over time
does not always meet the same one. Every fetch has connections of its own, so that
their set-up counts, as it does for a single fetch; a file on a disk is fsynced, or the
page cache would be measured. Nothing is kept.

Before the clock starts, one byte is fetched: that tells the size and whether there are
ranges, and resolves the host's name. It does not fill a cache in between (a CDN's),
which only a whole fetch could: that is left to the first round, and said.

CPU is that of this process without its main thread, which only waits and draws.
"""

from __future__ import annotations

import argparse
import os
import time
from queue import SimpleQueue

import parpull

from ..errors import MemoryBudget, SinkError
from ..memory import IN_MEMORY
from ..options import MAX_CONNECTIONS
from ..sources import resolve
from .display import choose
from .outcome import Item, UsageError, complain, exit_code, say, write_out
from .parser import add_network, add_telling, options_of
from .stop import Signals, Stopped
from .text import clean, human_rate, human_size, plural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from ..events import Event
    from ..options import Options
    from .parser import Arguments, Parser

__all__ = ["Place", "Run", "Summary", "add", "run", "summaries", "table", "verdict"]

SUMMARY = "measure what more connections bring, on your own URL"
USAGE = "parpull bench [options] URL"
EPILOG = """\
examples:
  parpull bench https://host/big                      1, 8 and 16, into memory
  parpull bench -x 1,4,32 --runs 3 https://host/big   medians of three runs
  parpull bench -o memory -o /dev/shm -o . https://host/big

The whole object is transferred for each number, run and destination. CPU is
seconds of all cores for one GiB. Files are removed; on a disk they are fsynced
first. A second table is printed for a second destination.
"""
TRIED = (1, 8, 16)
TICK = 0.1  # seconds
GAIN = 1.15  # a rate this much higher is no accident
NEARLY = 0.95  # of the best rate is as good
SHORT = 0.5  # seconds in which connections are hardly up to speed
COLUMNS = ("connections", "seconds", "rate", "CPU s/GiB", "open at once", "requests", "retries")


class Run:
    """One fetch that was timed: how many connections it might have, and what it took."""

    def __init__(
        self, connections: int, *, size: int, seconds: float, cpu: float, peak: int, requests: int, retries: int
    ) -> None:
        self.connections = connections
        self.size = size
        self.seconds = seconds
        self.cpu = cpu
        self.peak = peak
        self.requests = requests
        self.retries = retries


class Summary:
    """The runs with one number of connections: medians, and the fastest and slowest."""

    def __init__(self, runs: Sequence[Run]) -> None:
        from statistics import median

        self.connections = runs[0].connections
        self.runs = len(runs)
        self.size = runs[0].size
        self.seconds = median(run.seconds for run in runs)
        self.fastest = min(run.seconds for run in runs)
        self.slowest = max(run.seconds for run in runs)
        self.rate = self.size / max(self.seconds, 1e-6)
        self.cpu_per_gib = median(run.cpu for run in runs) / self.size * (1 << 30) if self.size else None
        self.open = max(run.peak for run in runs)
        self.requests = round(median(run.requests for run in runs))
        self.retries = sum(run.retries for run in runs)

    def cells(self) -> tuple[str, ...]:
        """As one line of the table."""
        seconds = f"{self.seconds:.2f}"
        if self.runs > 1:
            seconds += f" ({self.fastest:.2f}-{self.slowest:.2f})"
        cpu = "" if self.cpu_per_gib is None else f"{self.cpu_per_gib:.2f}"
        numbers = (self.open, self.requests, self.retries)
        return (str(self.connections), seconds, human_rate(self.rate), cpu, *map(str, numbers))


class Place:
    """A destination: memory, or a folder. `kind`: its file system; `disk`: whether a
    file there has to be fsynced to be anywhere but in memory."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = None if name == "memory" else name
        self.kind: str | None = None
        self.disk = False
        if self.folder is not None:
            self._look(self.folder)

    def _look(self, folder: str) -> None:
        from .._landing import file_system
        from .doctor import file_system_name

        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(
                f"-o {folder} is no folder: {error.strerror}", "-o memory, or the path of a folder"
            ) from None
        try:
            number = file_system(fd)
        finally:
            os.close(fd)
        self.kind = file_system_name(number)
        self.disk = number not in IN_MEMORY

    def new_path(self) -> str | None:
        """Where the next file goes; None is memory. Nobody can guess the name, and lay
        a link there; should we be killed, `parpull clean` knows what is left."""
        import secrets

        return None if self.folder is None else os.path.join(self.folder, f".parpull-bench-{secrets.token_hex(8)}")

    def __str__(self) -> str:
        if self.kind is None:
            return self.name
        return f"{self.name} ({self.kind}, {'with fsync' if self.disk else 'in memory: no fsync'})"


class Results:
    """What is measured, place by place, and printed at the end whatever that is."""

    def __init__(self, places: Sequence[Place], *, json: bool) -> None:
        self.runs: dict[Place, list[Run]] = {place: [] for place in places}
        self.ranges = True
        self._json = json

    def add(self, place: Place, run: Run, number: int) -> None:
        """Note a run; with --json it is told at once."""
        self.runs[place].append(run)
        if self._json:
            rate = run.size / max(run.seconds, 1e-6)
            cpu = run.cpu / run.size * (1 << 30) if run.size else None
            self._write(
                "run", place, run=number, connections=run.connections, size=run.size, seconds=run.seconds, rate=rate,
                cpu_per_gib=cpu, open=run.peak, requests=run.requests, retries=run.retries,
            )  # fmt: skip

    def print(self) -> None:
        """The tables, each with what it means."""
        several = False
        for place, runs in self.runs.items():
            rows = summaries(runs)
            if not rows:
                continue
            text = verdict(rows, ranges=self.ranges, disk=place.disk)
            if self._json:
                for row in rows:
                    self._write("result", place, **row.__dict__)
                self._write("verdict", place, text=text)
            else:
                lines = ["", clean(str(place))] if several else [clean(str(place))]
                write_out("\n".join([*lines, *table(rows), text, ""]).encode("utf-8", "backslashreplace"))
            several = True

    def _write(self, event: str, place: Place, **data: Any) -> None:
        import json

        line = {"event": event, "destination": place.name, "file_system": place.kind, "fsync": place.disk, **data}
        line = {name: round(value, 4) if isinstance(value, float) else value for name, value in line.items()}
        write_out((json.dumps(line) + "\n").encode())


def add(parser: Parser) -> None:
    """The arguments of `bench`."""
    what = parser.add_argument_group("what")
    what.add_argument("url", metavar="URL", help="http:// or https:// address")
    what.add_argument(
        "-o", "--output", action="append", dest="places", metavar="DIR",
        help="into a file in this folder, or into memory (the default); may be given several times",
    )  # fmt: skip
    what.add_argument("--runs", type=_runs, default=1, metavar="N", help="so often for each number (default: 1)")
    parser.conflict_handler = "resolve"  # -x is a list here
    add_network(parser)
    how = parser.add_argument_group("numbers of connections")
    tried = ",".join(map(str, TRIED))
    for names, text in (
        (("-x", "--connections"), f"the numbers to try (default: {tried})"),
        (("-s",), argparse.SUPPRESS),
    ):
        how.add_argument(*names, type=_numbers, dest="tried", default=TRIED, metavar="N,N", help=text)
    add_telling(parser, json="one line a run on stdout, then the results")


def _runs(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise UsageError(f"--runs {text} is no number of runs", "1 to 1000")
    return int(text)


def _numbers(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= MAX_CONNECTIONS for part in parts):
        hint = f"numbers from 1 to {MAX_CONNECTIONS} with commas between: -x 1,8,16"
        raise UsageError(f"-x {clean(text) if '@' not in text else '…'} is no list of numbers of connections", hint)
    return tuple(dict.fromkeys(int(part) for part in parts))


def run(args: Arguments) -> int:
    """Measure and print; the code is that of the first failure."""
    options = options_of(args).replace(overwrite=False)
    resolve(args.url, options)
    places = [Place(name) for name in dict.fromkeys(args.places or ["memory"])]
    results = Results(places, json=args.json)
    code = 0
    with Signals() as signals:
        try:
            bench = _Bench(args, options, signals)
            tried = bench.look(args.tried, places, results)
            code = bench.measure(tried, places, results)
        except Stopped as stopped:
            if not args.quiet:
                say(f"parpull: stopped by {stopped}; nothing is left behind")
            code = stopped.code
        except parpull.ParpullError as error:
            complain(error)
            code = exit_code(error)
    results.print()
    return code


class _Bench:
    """The fetches of one call."""

    def __init__(self, args: Arguments, options: Options, signals: Signals) -> None:
        self._args = args
        self._options = options
        self._signals = signals

    def look(self, tried: tuple[int, ...], places: Sequence[Place], results: Results) -> tuple[int, ...]:
        """Fetch one byte, and say what will be done; return the numbers worth trying."""
        seen: list[Any] = []
        with parpull.Client(self._options.replace(connections=1)) as client:
            download = client.submit(self._args.url, stop=1, checksum=None, size=None, on_event=seen.append)
            self._wait(download)
            download.result(0).close()
        target = download.target
        size = target.size if target is not None else None
        results.ranges = target is not None and target.ranges
        if not results.ranges and size != 0:
            tried = (1,)
        if self._args.quiet:
            return tried
        count = len(tried) * len(places) * self._args.runs
        text = f"{plural(count, 'fetch', 'fetches')} of "
        text += (
            "an object of unknown size" if size is None else f"{human_size(size)}: {human_size(count * size)} in all"
        )
        if not results.ranges and size != 0:
            text += "; the server gives no ranges, so one connection is all there is"
        say(text)
        if count > 1 and self._args.runs == 1:
            say("a cache on the way may be cold for the first fetch; --runs 3 takes medians")
        return tried

    def measure(self, tried: tuple[int, ...], places: Sequence[Place], results: Results) -> int:
        """All runs. A place that can't take the object is given up, the others go on."""
        code = 0
        left = list(places)
        for number in range(self._args.runs):
            at = number % len(tried)
            for connections in tried[at:] + tried[:at]:
                for place in tuple(left):
                    try:
                        results.add(place, self._run(place, connections), number + 1)
                    except (SinkError, MemoryBudget) as error:
                        complain(error, place.name)
                        code = code or exit_code(error)
                        left.remove(place)
        return code

    def _run(self, place: Place, connections: int) -> Run:
        """One timed fetch, of which nothing stays."""
        path = place.new_path()
        item = Item(1, self._args.url, name=f"{plural(connections, 'connection')}, {place.name}", path=path)
        quiet = self._args.quiet or self._args.json
        display = choose([item], quiet=quiet, verbose=self._args.verbose, json=False, to_stdout=True)
        inbox: SimpleQueue[Event] = SimpleQueue()

        def tick() -> None:
            while not inbox.empty():
                display.event(item, inbox.get())
            display.tick()

        client = parpull.Client(self._options.replace(connections=connections, durable=place.disk, resume=False))
        try:
            cpu = _cpu()
            item.download = download = client.submit(self._args.url, path, on_event=inbox.put)
            self._wait(download, tick)
            cpu = _cpu() - cpu
            with download.result(0) as blob:
                size = blob.size
            progress = download.progress()
            display.close()
            if not quiet:
                rate = human_rate(size / max(progress.seconds, 1e-6))
                display.line(f"{item.name}: {human_size(size)} in {progress.seconds:.2f} s ({rate})")
        finally:
            display.close()
            client.close()
            if path is not None:
                try:
                    os.unlink(path)
                except FileNotFoundError:
                    pass
        return Run(
            connections, size=size, seconds=progress.seconds, cpu=cpu, peak=progress.peak, requests=progress.requests,
            retries=progress.retries,
        )  # fmt: skip

    def _wait(self, download: parpull.Download, tick: Callable[[], None] | None = None) -> None:
        """Until it has ended, or a signal comes."""
        import threading

        ended = threading.Event()
        download.add_done_callback(lambda _: ended.set())
        with self._signals.armed():
            while not ended.wait(TICK):
                if tick is not None:
                    tick()
            if tick is not None:
                tick()


def _cpu() -> float:
    """Seconds of CPU of the other threads: the reactor's and the notifier's."""
    return time.process_time() - time.thread_time()


def summaries(runs: Iterable[Run]) -> list[Summary]:
    """The runs by number of connections, ascending."""
    by_number: dict[int, list[Run]] = {}
    for run in runs:
        by_number.setdefault(run.connections, []).append(run)
    return [Summary(by_number[number]) for number in sorted(by_number)]


def table(rows: Sequence[Summary]) -> list[str]:
    """The lines of the table, its head first."""
    lines = [COLUMNS, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]


def verdict(rows: Sequence[Summary], *, ranges: bool = True, disk: bool = False) -> str:
    """What the numbers mean, in a sentence or two. `rows` ascend, and there is one."""
    if not rows[0].size:
        return "The object is empty: there is nothing to measure."
    if not ranges:
        return "More connections do not help here: the server gives no ranges."
    if len(rows) == 1:
        return "Only one number of connections was measured: -x 1,8,16 compares."
    least, best = rows[0], max(rows, key=lambda row: row.rate)
    if best.rate >= least.rate * GAIN:
        enough = next(row for row in rows if row.rate >= best.rate * NEARLY)
        text = f"{enough.connections} connections are {enough.rate / least.rate:.1f} x as fast as {least.connections}"
        text += f"; {rows[-1].connections} bring nothing more." if enough is not rows[-1] else "."
        if enough.open < enough.connections:
            text += f" Never more than {enough.open} were open at once."
    else:
        are = f"{least.connections} {'is' if least.connections == 1 else 'are'}"
        text = f"More connections do not help here: {are} "
        if rows[-1].rate * GAIN < least.rate:
            text += f"faster than {rows[-1].connections}."
        else:
            full = "the line, the server or the disk" if disk else "the line or the server"
            text += f"as fast as {rows[-1].connections}, so {full} has no more to give."
    if any(row.retries for row in rows):
        text += " There were retries: the server may not like so many."
    if best.seconds < SHORT:
        text += " The object is small: a larger one tells more."
    elif all(row.runs == 1 for row in rows):
        text += " One run each: --runs 3 tells more."
    return text
