"""Traces: what each connection did, and when, as a file that trace viewers open.

The form is Chrome's trace events, as a JSON array: a process for each object, a
thread for the object as a whole and for each of its connections. Each event that is
heard becomes one write of whole lines, so that a process that is killed, or one that
hangs, leaves a file that opens: viewers do without the closing bracket. Knows events
only, and holds no more than what is under way. First floor.

    with Trace("trace.json") as trace:
        parpull.fetch(url, on_event=trace.hear, trace=True)
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import stat
import threading
import time
import warnings
from collections import deque

from .errors import InUse, NoSpace, SinkError, redact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Self

    from .events import Event, Traced

__all__ = ["Trace"]

MIB = 1 << 20
# How a trace of ours begins. Only such a file is written over: `--trace NAME` may be a slip.
HEAD = b'[\n{"name": "process_name", "ph": "M", "cat": "parpull"'
EMPTY = (b"", b"[", b"[\n\n]")
SHORT, LONG = 0.02, 1.0  # seconds that one figure of the goodput stands for
PENDING = 1000  # such figures held at most
LANES = 1000  # thread numbers of a process; connections are fewer


class Trace:
    """Writes a trace to a file; a context manager. `hear` is made for `on_event`.

    `error` is what ended the writing too early, None while all is well: that never
    harms a transfer, and close() tells of it. Raises SinkError when the file can't be
    written, or is there and no trace. `clock` counts seconds."""

    def __init__(self, path: str | os.PathLike[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = os.fspath(path)
        self.error: Exception | None = None
        self._lock = threading.Lock()  # events of several Clients come on as many threads
        self._clock = clock
        self._began = clock()
        self._processes: dict[int | str, _Process] = {}
        self._pids = 0
        self._closed = False
        self._comma = ""
        self._fd, self._length = _open(self.path)

    def hear(self, event: Event, number: int | None = None) -> None:
        """Write down what an event tells. Never raises, on whatever thread it is called.

        number: says which object it is of, from 1. Without it that is the event's `url`,
        and two transfers of one address at the same time run into each other."""
        now = self._clock() - self._began
        with self._lock:
            if self._fd < 0:
                return
            try:
                self._put(self._process(event, number, now).entries(event, now))
            except Exception as error:
                self.error = error
                self._end()
            if event.kind == "finished":
                self._processes.pop(event.url if number is None else number, None)

    def close(self, warn: Callable[[str], object] | None = None) -> None:
        """End the file. If it is not complete, say so once: to `warn`, else as a
        RuntimeWarning. Safe to call twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._fd >= 0:
                try:
                    _write(self._fd, b"\n]\n")
                except OSError as error:
                    self.error = error
                self._end()
        if self.error is None:
            return
        why = getattr(self.error, "strerror", None) or f"{type(self.error).__name__}: {self.error}"
        message = f"the trace {self.path} is not complete: {why}"
        if warn is None:
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        else:
            warn(message)

    def _process(self, event: Event, number: int | None, now: float) -> _Process:
        key = event.url if number is None else number
        if key not in self._processes:
            self._pids = self._pids + 1 if number is None else number
            self._processes[key] = _Process(self._pids, redact(event.url), now)
        return self._processes[key]

    def _put(self, entries: Iterator[dict[str, Any]]) -> None:
        """Write entries behind what is there, all of them or nothing."""
        text = ",\n".join(json.dumps(entry, allow_nan=False) for entry in entries)
        if text:
            self._length += _write(self._fd, (self._comma + text).encode())
            self._comma = ",\n"

    def _end(self) -> None:
        """Let go of the file; half a line of a write that failed is taken back."""
        if self.error is not None:
            try:
                os.ftruncate(self._fd, self._length)
            except OSError:
                pass  # no regular file
        os.close(self._fd)
        self._fd = -1
        self._processes.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            os.close(self._fd)
            self._fd = -1
            warnings.warn(f"unclosed trace {self.path}", ResourceWarning, stacklevel=2, source=self)


def _open(path: str) -> tuple[int, int]:
    """The file, locked and begun, and its length."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise _refused(path, error) from None
    try:
        kind = os.fstat(fd).st_mode
        if stat.S_ISCHR(kind):
            return fd, _write(fd, b"[\n")
        if not stat.S_ISREG(kind):
            raise SinkError(
                f"cannot write the trace {path}: it is not a regular file", path=path, errno=errno.EINVAL,
                hint="name a file that is not there yet",
            )  # fmt: skip
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(
                f"another run writes the trace {path}", path=path, owner=None, hint="name another file"
            ) from None
        head = os.pread(fd, len(HEAD), 0)
        if head != HEAD and head.strip() not in EMPTY:
            raise SinkError(
                f"{path} exists, and is no trace", path=path, errno=errno.EEXIST,
                hint="only a trace is written over: name another file",
            )  # fmt: skip
        os.ftruncate(fd, 0)
        return fd, _write(fd, b"[\n")
    except OSError as error:
        os.close(fd)
        if isinstance(error, SinkError):
            raise
        raise _refused(path, error) from None


def _refused(path: str, error: OSError) -> SinkError:
    code = error.errno or errno.EIO
    if code in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(
            f"cannot write the trace {path}: {error.strerror}", path=path, errno=code, hint="name a file elsewhere"
        )
    hints = {errno.EISDIR: "name a file in it", errno.ENOENT: "make the folder first"}
    return SinkError(
        f"cannot write the trace {path}: {error.strerror}", path=path, errno=code,
        hint=hints.get(code, "name a file elsewhere"),
    )  # fmt: skip


def _write(fd: int, data: bytes) -> int:
    """Write all of it; its length."""
    at = 0
    while at < len(data):
        at += os.write(fd, data[at:])
    return at


class _Lane:
    """A connection with a request under way: bytes [start, stop), asked for at `sent`,
    its first byte at `first`. `mark`: what has been told of it that is no end yet."""

    def __init__(self, name: str, start: int, sent: float) -> None:
        self.name = name
        self.start = start
        self.sent = sent
        self.first: float | None = None
        self.stolen = 0
        self.mark: Traced | None = None
        self.marked = 0.0


class _Process:
    """One object of the trace: turns its events into entries. Times are seconds since
    the trace began, and microseconds in entries."""

    def __init__(self, pid: int, url: str, now: float) -> None:
        self.pid = pid
        self.url = url
        self.born = now
        self.lanes: dict[int, _Lane] = {}
        self.known: set[int] = set()  # lanes that have a name
        self.connections = 0
        self.goodput = _Goodput(now)
        self._zero: float | None = None  # when the transfer began, whose `at` counts from there
        self._at = 0.0
        self._last: dict[int, float] = {}  # by lane: begins and ends must not go back in time

    def entries(self, event: Event, now: float) -> Iterator[dict[str, Any]]:
        """What is to be written for an event that is heard now."""
        data: Any = event
        if not self.known:
            yield self._meta("process_name", -1, name=self.url, cat="parpull")
            yield self._meta("process_sort_index", -1, sort_index=self.pid)
            yield from self._introduce(-1, "object")
            yield self._entry("B", "transfer", -1, self._stamp(-1, now))
        if event.kind == "traced":
            yield from self._traced(data, now)
            return
        now, name = self._stamp(-1, now), event.kind
        if event.kind == "finished":
            name = "cancelled" if data.cancelled else "failed" if data.error else name
            for number in list(self.lanes):
                yield from self._close(number, now, "dropped" if name == "finished" else name)
            yield from self._measured(math.inf)
            yield from self._counted(now, 0)
        yield self._entry("i", name, -1, now, s="t", args=_args(event))
        if event.kind == "finished":
            yield self._entry("E", "transfer", -1, now)

    def _traced(self, event: Traced, now: float) -> Iterator[dict[str, Any]]:
        # A reader's jobs follow one another under one name, and each begins at 0.
        if self._zero is None or event.at < self._at:
            self._zero = max(now - event.at, 0.0)
        self._at = event.at
        number, what = event.lane, event.what
        if number not in self.known:
            yield from self._introduce(number, f"connection {number}")
        at = self._stamp(number, self._zero + event.at)
        lane = self.lanes.get(number)
        if what == "sent" and number >= 0:
            if lane is not None:  # what is no part of the object ends untold: a redirect, a refusal of ranges
                yield from self._close(number, at, "answered" if lane.first is None else "dropped")
            self.lanes[number] = lane = _Lane(_span(event), event.start, at)
            yield self._entry("B", lane.name, number, at, cat="request", args=_args(event))
        elif what == "first" and lane is not None and lane.first is None:
            lane.first = at
            yield self._slice("wait", number, lane.sent, at)
        elif what in ("ended", "failed", "refused") and lane is not None:
            if what != "ended":
                yield self._entry("i", what, number, at, s="t", args=_args(event))
            landed = event.stop - event.start if what == "ended" else event.start - lane.start
            yield from self._close(number, at, what, landed)
        else:
            if lane is not None and what in ("stalled", "hedged"):
                lane.mark, lane.marked = event, at
            elif lane is not None and what == "stolen":
                lane.stolen += event.stop - event.start
            yield self._entry("i", what, number, at, s="t", args=_args(event))
        yield from self._counted(at, event.connections)
        # A body that is on its way may add to what it has brought since its first byte.
        yield from self._measured(min((r.first for r in self.lanes.values() if r.first is not None), default=at))

    def _close(self, number: int, at: float, outcome: str, landed: int = 0) -> Iterator[dict[str, Any]]:
        """A request's end. What was told of it before counts more: a stall that fails is
        a stall, and it ended then if nothing more was told."""
        lane = self.lanes.pop(number)
        at = max(at, self._last[number])
        if lane.mark is not None:
            landed = max(landed, lane.mark.start - lane.start)
            at = lane.marked if outcome in ("answered", "dropped") else at
            outcome = lane.mark.what
        landed = max(landed, 0)
        state, since = ("wait", lane.sent) if lane.first is None else ("body", lane.first)
        yield self._slice(state if outcome == "ended" else f"{state}: {outcome}", number, since, at)
        args = {"outcome": outcome, "landed": landed} | ({"stolen": lane.stolen} if lane.stolen else {})
        yield self._entry("E", lane.name, number, at, cat="request", args=args)
        if lane.first is not None:
            self.goodput.add(lane.first, at, landed)

    def _counted(self, at: float, connections: int) -> Iterator[dict[str, Any]]:
        if connections != self.connections:
            self.connections = connections
            yield self._entry("C", "connections", -1, at, args={"at work": connections})

    def _measured(self, before: float) -> Iterator[dict[str, Any]]:
        for at, rate in self.goodput.settled(before):
            yield self._entry("C", "goodput", -1, at, args={"MB/s": round(rate / 1e6, 3)})

    def _introduce(self, number: int, name: str) -> Iterator[dict[str, Any]]:
        self.known.add(number)
        yield self._meta("thread_name", number, name=name)
        yield self._meta("thread_sort_index", number, sort_index=number + 1)

    def _stamp(self, number: int, at: float) -> float:
        self._last[number] = at = max(at, self._last.get(number, 0.0))
        return at

    def _slice(self, name: str, number: int, since: float, at: float) -> dict[str, Any]:
        return self._entry("X", name, number, since, cat="state", dur=_micro(at) - _micro(since))

    def _meta(self, name: str, number: int, /, cat: str | None = None, **args: Any) -> dict[str, Any]:
        head = {"name": name, "ph": "M"} | ({"cat": cat} if cat else {})
        return head | {"pid": self.pid, "tid": self._tid(number), "args": args}

    def _entry(self, ph: str, name: str, number: int, at: float, **more: Any) -> dict[str, Any]:
        return {"name": name, "ph": ph, "ts": _micro(at), "pid": self.pid, "tid": self._tid(number)} | more

    def _tid(self, number: int) -> int:
        # Unlike any other process's: some viewers take thread numbers for the system's.
        return self.pid * LANES + number + 1


class _Goodput:
    """Bytes that have come to stay, over time. What a request brought is spread over its
    body's time; a figure is settled when no request can add to it any more. Figures get
    wider as the transfer gets longer, so that short ones are fine and long ones few."""

    def __init__(self, now: float) -> None:
        self._born = self._edge = now
        self._pending: deque[tuple[float, float]] = deque()  # (since, until)
        self._bytes: deque[float] = deque()
        self._told = 0.0

    def add(self, first: float, last: float, landed: int) -> None:
        """`landed` bytes came between two moments."""
        first = max(first, self._pending[0][0] if self._pending else self._edge)  # the rest is told already
        last = max(last, first + 1e-6)
        while self._edge < last:
            since = self._edge
            self._edge += min(max(SHORT, (since - self._born) / 100), LONG)
            self._pending.append((since, self._edge))
            self._bytes.append(0.0)
        for i in range(len(self._pending) - 1, -1, -1):
            since, until = self._pending[i]
            if until <= first:
                break
            self._bytes[i] += landed * max(min(until, last) - max(since, first), 0) / (last - first)

    def settled(self, before: float) -> Iterator[tuple[float, float]]:
        """(when, bytes per second from then on) of figures that end by then, without those
        that repeat the last; at infinity, also the end."""
        while self._pending and (self._pending[0][1] <= before or len(self._pending) > PENDING):
            since, until = self._pending.popleft()
            rate = self._bytes.popleft() / (until - since)
            if rate != self._told:
                self._told = rate
                yield since, rate
        if before == math.inf and self._told:
            self._told = 0.0
            yield self._edge, 0.0


def _micro(seconds: float) -> int:
    return round(seconds * 1e6)


def _span(event: Traced) -> str:
    """Its bytes as a slice is called: "8-24 MiB", "from 0 MiB" where the end is unknown."""
    start, stop = (format(round(n / MIB, 2), ".12g") for n in (event.start, event.stop))
    return f"{start}-{stop} MiB" if event.start <= event.stop < 1 << 60 else f"from {start} MiB"


def _args(event: Event) -> dict[str, Any]:
    """What an event holds, as a viewer shows it beside the slice."""
    args = {
        name: value for name, value in event.as_dict().items() if name not in ("event", "url", "what", "lane", "at")
    }
    if event.kind == "traced":
        args["bytes"] = max(args["stop"] - args["start"], 0)
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in args.items()}
