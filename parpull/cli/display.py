"""How a run shows: nothing, lines, JSON, or the bar, behind one small interface.

The verb tells a Display what happened and lets it `tick`; all of it on the main
thread, so nothing here needs a lock and the transfers never wait for a terminal.
stdout stays data only: a Display writes on stderr, except for `--json`, whose
lines are the data (on stderr too when the object itself goes to stdout).
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque

from .outcome import complain, hint_of, say, write_out
from .text import duration, eta, human_rate, human_size, pair, plural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..events import Event
    from ..future import Progress
    from .outcome import Item

__all__ = ["Display", "Json", "Lines", "Meter", "Totals", "choose", "ending"]

# What moved the controller, for somebody who has not read it.
WHY = {
    "grow": "do more bring more?",
    "gain": "that paid",
    "no gain": "that did not pay",
    "fell": "it has become slower",
    "probe": "would another number do by now?",
    "refused": "the server takes no more",
}


class Display:
    """Shows nothing but errors (-q); the others build on it."""

    period = 10.0  # seconds between two ticks that do something

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self._began = self._ticked = time.monotonic()

    def event(self, item: Item, event: Event) -> None:
        """Something happened to an object."""

    def finished(self, item: Item) -> None:
        """An object has ended: `item.error` or `item.blob` is set."""
        if item.error is not None:
            complain(item.error, item.name if len(self.items) > 1 else None, write=self.line)

    def tick(self) -> None:
        """Time has passed; call it as often as you like."""
        now = time.monotonic()
        if now - self._ticked >= self.period:
            self._ticked = now
            self._tick(now)

    def _tick(self, now: float) -> None:
        pass

    def line(self, text: str) -> None:
        """Print one line of log."""
        say(text)

    def summary(self) -> None:
        """All objects have ended."""

    def close(self) -> None:
        """Show no more, and leave the terminal as it was; safe to call twice."""


class Meter:
    """The speed of late: bytes per second over a window that moves along."""

    def __init__(self, window: float) -> None:
        self._window = window
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, now: float, landed: int) -> float:
        """Note how far it is; return the speed."""
        samples = self._samples
        samples.append((now, landed))
        while len(samples) > 2 and now - samples[1][0] >= self._window:
            samples.popleft()
        (t0, n0), (t1, n1) = samples[0], samples[-1]
        return max(n1 - n0, 0) / (t1 - t0) if t1 > t0 else 0.0


class Totals:
    """A run's objects as one: sums of their progress. `size` is None until that of
    every object is known; `fetched` is without what earlier runs left; `speed` is of
    that, over all."""

    def __init__(self, items: Sequence[Item], window: float) -> None:
        self._items = items
        self._meter = Meter(window)
        self._meter.add(time.monotonic(), 0)
        self.done = self.landed = self.fetched = self.connections = self.retries = 0
        self.size: int | None = None
        self.speed = 0.0

    def update(self, now: float) -> list[tuple[Item, Progress]]:
        """Sum up anew; return the objects under way."""
        self.done = self.landed = self.fetched = self.connections = self.retries = 0
        self.size = 0
        under_way = []
        for item in self._items:
            self.done += item.done
            if item.download is None or (item.done and item.blob is None):
                continue  # what failed counts for nothing
            progress = item.download.progress()
            landed = progress.received if item.blob is None else item.blob.size
            self.landed += landed
            self.fetched += landed - there(item, progress)
            self.retries += progress.retries
            size = progress.size if item.blob is None else item.blob.size
            self.size = None if self.size is None or size is None else self.size + size
            if not item.done:
                self.connections += progress.connections
                under_way.append((item, progress))
        self.speed = self._meter.add(now, self.fetched)
        return under_way

    def left(self) -> str:
        """The time to go as text, "" while unknown."""
        return time_left(self.landed, self.size, self.speed)


def there(item: Item, progress: Progress) -> int:
    """Bytes of the object that this run had not to fetch."""
    up_to_date = item.ended is not None and item.ended.up_to_date
    return item.blob.size if item.blob is not None and up_to_date else progress.resumed


def time_left(landed: int, size: int | None, speed: float) -> str:
    """The time to go as text, "" while unknown."""
    return eta((size - landed) / speed) if size is not None and speed > 0 else ""


def ending(item: Item) -> str:
    """The line that says how well an object came."""
    assert item.blob is not None
    size = item.blob.size
    if item.ended is not None and item.ended.up_to_date:
        return f"{item.name}: up to date ({human_size(size)})"
    text = f"{item.name}: {human_size(size)}"
    if item.ended is not None:
        seconds = item.ended.seconds
        resumed = item.download.progress().resumed if item.download is not None else 0
        text += f" in {duration(seconds)} ({human_rate((size - resumed) / max(seconds, 1e-6))})"
        if resumed:
            text += f", {human_size(resumed)} were there"
        text += ", " + plural(item.connections, "connection")
        if item.ended.retries:
            text += ", " + plural(item.ended.retries, "retry", "retries")
    for algorithm in item.blob.digests:
        text += f", {algorithm} ok"
    return text


def readable(event: Event) -> str | None:
    """An event as -v shows it; None for what is shown in another way."""
    data: Any = event
    match event.kind:
        case "started":
            size = "unknown size" if data.size is None else human_size(data.size)
            text = f"{size} from {data.address or 'an unknown address'}"
            text += f", validator {data.validator}" if data.validator else ", no validator"
            text += ", in ranges" if data.ranges else ", no ranges: one connection"
            return text + (f", {human_size(data.resumed)} are there" if data.resumed else "")
        case "redirected":
            return f"redirected ({data.status}) to {data.location}"
        case "refreshed":
            return f"the address no longer works ({data.status}), resolved anew"
        case "retrying":
            return f"attempt {data.attempt} failed: {data.error}; again in {data.delay:.1f} s"
        case "warned":
            return f"warning: {data.message}"
        case "adapted":
            why = WHY.get(data.why, data.why)
            rate = f"{human_rate(data.rate)}, " if data.rate else ""
            return f"connections {data.before} -> {data.after}: {rate}{why}"
        case "finished" | "traced":
            return None
    return event.kind


class Lines(Display):
    """Off a terminal: a quiet line now and then, and one for each object that has
    ended. `verbose` adds what happens in between."""

    def __init__(self, items: Sequence[Item], *, verbose: bool) -> None:
        super().__init__(items)
        self._verbose = verbose
        self._totals = Totals(items, self.period)

    def event(self, item: Item, event: Event) -> None:
        """Print it if it is to be seen: warnings always, the rest with -v."""
        if self._verbose or event.kind == "warned":
            text = readable(event)
            if text is not None:
                self.line(f"{item.name}: {text}")

    def finished(self, item: Item) -> None:
        """Print how it ended."""
        if item.blob is not None:
            self.line(ending(item))
        else:
            super().finished(item)

    def summary(self) -> None:
        """Of several objects, say how they came together."""
        came = [item for item in self.items if item.blob is not None]
        if len(self.items) < 2 or not came:
            return
        self._totals.update(time.monotonic())
        seconds = time.monotonic() - self._began
        text = f"{len(came)} of {len(self.items)} objects: {human_size(self._totals.landed)}"
        self.line(text + f" in {duration(seconds)} ({human_rate(self._totals.fetched / max(seconds, 1e-6))})")

    def _tick(self, now: float) -> None:
        totals = self._totals
        under_way = totals.update(now)
        if not under_way:
            return
        several = len(self.items) > 1
        text = f"{totals.done} of {len(self.items)} done" if several else under_way[0][0].name
        if totals.size:
            text += f": {totals.landed * 100 // totals.size}%, {pair(totals.landed, totals.size)}"
        else:
            text += f": {human_size(totals.landed)}"
        text += f", {human_rate(totals.speed)}"
        left = totals.left()
        self.line(text + (f", {left} to go" if left else ""))


class Json(Display):
    """One event a line, for programs. `object` is the number of its URL, from 1: the
    redacted `url` may be that of several."""

    period = 0.5

    def __init__(self, items: Sequence[Item], *, fd: int) -> None:
        super().__init__(items)
        self._fd = fd

    def event(self, item: Item, event: Event) -> None:
        """Print it; the end is for finished() to tell, and the steps for a trace."""
        if event.kind not in ("finished", "traced"):
            self._write(item, event.as_dict())

    def finished(self, item: Item) -> None:
        """Print the end: one line an object, also for what never began."""
        if item.ended is not None:
            data = item.ended.as_dict()
        else:
            data = {"event": "finished", "url": item.shown, "size": None, "landed": 0, "seconds": 0.0}
            data |= {"requests": 0, "connections": 0, "retries": 0}
        error = item.error
        data["error"] = None if error is None else f"{type(error).__name__}: {error}"
        data["hint"] = None if error is None else hint_of(error)
        data["path"] = item.blob.path if item.blob is not None else None
        data["digests"] = item.blob.digests if item.blob is not None else {}
        self._write(item, data)
        if self._fd != 2:  # else it would stand between the lines
            super().finished(item)

    def _tick(self, now: float) -> None:
        for item in self.items:
            if item.download is None or item.done:
                continue
            progress = item.download.progress()
            if progress.requests:
                data: dict[str, Any] = {"event": "progress", "url": item.shown}
                self._write(item, data | {name: getattr(progress, name) for name in progress.__slots__})

    def _write(self, item: Item, data: dict[str, Any]) -> None:
        import json

        line = {"event": data.pop("event"), "object": item.number, **data}
        line |= {name: round(value, 3) for name, value in line.items() if isinstance(value, float)}
        write_out((json.dumps(line) + "\n").encode(), fd=self._fd)


def choose(items: Sequence[Item], *, quiet: bool, verbose: bool, json: bool, to_stdout: bool) -> Display:
    """The Display for what was asked and for where stderr leads."""
    if json:
        return Json(items, fd=2 if to_stdout else 1)
    if quiet:
        return Display(items)
    if sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown"):
        from .bar import Bar

        return Bar(items, verbose=verbose)
    return Lines(items, verbose=verbose)
