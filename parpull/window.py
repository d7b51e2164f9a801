"""Windows: reading an object through a ring of memory that is used again and again.

A `WindowReader` reads by runs. A run is one transfer from some offset on, which may
land only as far as it has credit: what the reader wants now, and what it is likely
to want next (`Ahead`), as far as the ring has room behind what was read. A part is
asked for only when all of it fits, so a slow reader holds no response open; a server
without ranges sends one response, which then has to be paused. A seek beyond the run
ends it and begins another, which knows the object already. Second floor.
"""

from __future__ import annotations

import threading
import weakref

from ._landing import Landing
from ._mapping import Mapping
from .checksums import parse_checksum, stated
from .download import FIRST_PART, Download
from .errors import BadOption, MemoryBudget, ParpullError, redact
from .events import Finished
from .memory import MemorySink, too_much
from .reader import RawReader
from .sink import Sink
from .sources import resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal

    from .client import Client
    from .engine import Engine
    from .events import Event
    from .future import Progress
    from .options import Options
    from .sources import Request, Target

    Access = Literal["auto", "sequential", "random"]

__all__ = ["Ahead", "WindowReader", "WindowSink"]

LEAST = 1 << 20  # bytes; below, ranges get too short
FIRST = 64 << 10  # bytes of the first request, before anything is known of the reader
NEAR = 64 << 10  # bytes that are read through rather than jumped over
BLOCKS = ((1 << 30, 16 << 10), (64 << 30, 64 << 10))  # objects below that size: their block
LARGE = 256 << 10  # a quarter of LEAST: beside the block that is read there is room for more


class Ahead:
    """How far to fetch beyond what is asked for. Pure.

    "auto": nothing for the first two reads at a place, then as much as was read there
    in one go: a wrong guess costs at most what was of use. "sequential": all that fits;
    "random": nothing."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self.jump(0)

    def jump(self, at: int) -> None:
        """The reader has gone elsewhere."""
        self.asked = at  # up to here it has asked for bytes
        self._reads = 0
        self._begin = at

    def read(self, at: int, n: int, window: int) -> int:
        """Bytes to fetch beyond at + n. What is left of an earlier read is none of its own."""
        if at + n > self.asked:
            self.asked = at + n
            self._reads += 1
        if self._access == "sequential":
            return window
        if self._access == "random" or self._reads < 3:
            return 0
        return min(self.asked - self._begin, window)


class WindowSink(Sink):
    """The ring as destination of one run. The memory is the reader's, and outlives the run."""

    def __init__(self, mapping: Mapping, credit: int) -> None:
        self._mapping = mapping
        self._credit = credit
        self.size: int | None = None  # bytes that have come, once all have

    def open(self, size: int | None, *, followed: bool, **_: object) -> Landing:
        """The ring, with small blocks for small objects: a block is the least that is
        fetched and told."""
        block = next((block for most, block in BLOCKS if size is not None and size <= most), LARGE)
        try:
            landing = Landing(-1 if size is None else size, block)
        except MemoryError:  # the count of its blocks alone: no honest object is as long as that
            raise MemoryBudget(
                f"the object would have {size:,} bytes",
                needed=size or 0,
                available=0,
                hint="nothing is as long as that: the server errs",
            ) from None
        landing.into_ring(self._mapping, self._credit)
        return landing

    def overflow(self, landed: int) -> MemoryBudget:
        """A ring has no end."""
        raise AssertionError("a ring overflowed")

    def read(self, start: int, stop: int) -> memoryview:
        """Bytes in place, as far as they lie in one piece."""
        at = start % len(self._mapping)
        return memoryview(self._mapping)[at : min(at + stop - start, len(self._mapping))]

    def commit(self, size: int, **_: object) -> memoryview:
        """All has landed; the last window of it is still there."""
        self.size = size
        self.discard()
        return memoryview(b"")

    def discard(self) -> None:
        """Nothing writes any more: what is there may be read in a forked child, too."""
        if len(self._mapping):
            self._mapping.settle(len(self._mapping))

    def abandon(self) -> None:
        """In a forked child, which has not inherited the memory."""
        self._mapping.abandon()


class Run:
    """One transfer into the ring: from `start` of the object on, one range after
    another. Offsets are the object's."""

    def __init__(self, start: int, download: Download, sink: WindowSink, capacity: int) -> None:
        self.start = start
        self.download = download
        self._sink = sink
        self._capacity = capacity

    @property
    def end(self) -> int | None:
        """Where the object ended; None while it has not been seen."""
        return None if self._sink.size is None else self.start + self._sink.size

    def holds(self, at: int) -> bool:
        """Whether `at` is in the ring, on its way there, or next."""
        credit = self.download.ground().credit
        return max(credit - self._capacity, 0) <= at - self.start <= credit + NEAR

    def allow(self, at: int, n: int, ahead: int) -> bool:
        """The reader is at `at` and wants n bytes, perhaps `ahead` more. True when the
        reactor has to be told."""
        landing = self.download.ground()
        at -= self.start
        most = self._capacity + at - at % landing.block  # keeps what is at `at`
        credit = at + n + ahead
        if landing.size >= 0:
            credit = min(credit, landing.size + NEAR)  # what fits stays whole; a paused stream waits for so much room
        credit = min(credit + landing.block - 1, most)
        credit -= credit % landing.block
        return landing.allow(max(credit, 1), min(at + n, most))

    def view(self, at: int, n: int, timeout: float | None) -> memoryview | None:
        """As RawReader._view."""
        landing = self.download.ground()
        at -= self.start
        front = landing.wait(at + 1, timeout)
        if front > at:
            return self._sink.read(at, min(at + n, front))
        if not landing.closed:
            return None
        self.download.result()  # raises what went wrong
        return memoryview(b"")


class WindowReader(RawReader):
    """Reads an object through at most `window` bytes of memory; what parpull.open()
    wraps. With a checksum it can only be read from beginning to end, and the end is
    told only if the digest is right. A digest that the server states is checked if the
    reader happens to do so."""

    def __init__(
        self, client: Client, engine: Engine, url: str, options: Options, *, access: Access, window: int, owned: bool
    ) -> None:
        super().__init__(redact(url))
        self._client = client if owned else None  # closed with us
        self._closing = threading.Lock()
        self._run: Run | None = None
        self._mapping = Mapping(0)
        self._told = options.on_event
        self._started = False
        self._last: Finished | None = None  # of the run under way
        self._past: list[Finished] = []  # of those before it
        self._failed: ParpullError | None = None
        if access not in ("auto", "sequential", "random"):
            raise BadOption(
                f"access={access!r} is not possible", name="access", value=access, hint="auto, sequential or random"
            )
        if window < LEAST:
            raise BadOption(f"window={window} is too small", name="window", value=window, hint=f"at least {LEAST:,}")
        self._engine = engine
        self._url = url
        self._checksum = parse_checksum(options.checksum) if options.checksum else None
        self._ordered = self._checksum is not None  # every byte is wanted, in order
        self._hash: Any = self._checksum.hasher() if self._checksum is not None else None
        self._hashed = 0  # bytes that the hash has seen, all from the beginning
        self._first = resolve(url, options)
        self._ahead = Ahead(access)
        self._capacity = capacity = _capacity(options, window)
        part = min(options.part_size, capacity // 2) if options.part_size else None
        self._options = options.replace(checksum=None, verify="none", part_size=part, on_event=_relay(self))
        self._mapping = Mapping(capacity)
        try:
            first = FIRST if access != "sequential" else min(FIRST_PART, capacity // 2)
            self._run = self._begin(0, part or first, None)
            self._run.download.ground()
        except BaseException as error:
            self._failed = error if isinstance(error, ParpullError) else None
            self.close()
            raise
        target = self._run.download.target
        assert target is not None
        self._known: tuple[Request, Target] = (self._run.download.resolved, target)
        if self._checksum is None and options.verify == "stated":
            self._checksum = stated(target.headers)
            self._hash = self._checksum.hasher() if self._checksum is not None else None

    @property
    def target(self) -> Target:
        """What the server says of the object."""
        return self._known[1]

    @property
    def size(self) -> int | None:
        """Bytes of the object; None until its end is seen, where the server does not say."""
        size = self._known[1].size
        return self._run.end if size is None and self._run is not None else size

    def seekable(self) -> bool:
        """Whether the server gives ranges, and no checksum wants every byte in order."""
        return (self._known[1].ranges or self.size == 0) and not self._ordered

    # --- runs ---------------------------------------------------------------------------

    def _begin(self, at: int, credit: int, known: tuple[Request, Target] | None) -> Run:
        sink = WindowSink(self._mapping, credit)
        download = Download(
            self._engine,
            self._url,
            self._first,
            sink,
            self._options,
            [(at, None)],
            first_part=credit,
            known=known,
        )
        return Run(at, download.start(), sink, self._capacity)

    def _run_at(self, at: int) -> Run:
        """The run that brings `at`: the one under way, or a new one."""
        with self._closing:
            self._check()
            run = self._run
            assert run is not None
            if not len(self._mapping):
                run.download.result()  # raises: in a forked child, all this is the parent's
            if run.holds(at) or not self.seekable():
                return run
            if self._engine.notifying and not run.download.done():
                # Its end would be told on this very thread, and until then it writes.
                raise RuntimeError("a reader can't be moved elsewhere from within on_event")
            run.download.cancel()
            run.download.wait()  # before its memory is used again
            if self._last is not None:
                self._past.append(self._last)
                self._last = None
            self._known = (run.download.resolved, self._known[1])
            self._ahead.jump(at)
            self._run = self._begin(at, 1, self._known)
            return self._run

    def _view(self, at: int, n: int, timeout: float | None) -> memoryview | None:
        try:
            return self._look(at, n, timeout)
        except Exception as error:
            if self.closed:
                raise ValueError("the reader was closed while it waited") from None
            if isinstance(error, ParpullError):
                self._failed = error
            raise

    def _look(self, at: int, n: int, timeout: float | None) -> memoryview | None:
        size = self._known[1].size
        if size is not None:
            n = min(n, size - at)
        if n <= 0:
            return self._end()
        run = self._run_at(at)
        wanted = n
        if n > self.buffering and at + n > self._ahead.asked:
            wanted += 2 * self.buffering  # the rest of a read, less than one, and then the buffer is filled
        # What can't be jumped over will be read, or comes anyway.
        ahead = self._ahead.read(at, wanted, self._capacity) if self.seekable() else self._capacity
        if run.allow(at, wanted, ahead):
            self._engine.poke()
        view = run.view(at, n, timeout)
        return self._end() if view is not None and not len(view) else view

    def readall(self) -> bytes:
        """Everything from here to the end."""
        ahead, self._ahead = self._ahead, Ahead("sequential")
        try:
            return super().readall()
        finally:
            self._ahead = ahead

    def _advance(self, n: int) -> None:
        if self._hash is not None and n and self._at == self._hashed:
            assert self._run is not None
            with self._run.view(self._at, n, 0) or memoryview(b"") as taken:
                self._hash.update(taken)
            self._hashed += n
        super()._advance(n)

    def _end(self) -> memoryview:
        """The end is told if the digest is right, or if not every byte has gone by."""
        if self._checksum is not None and self._hashed == self._at:
            self._checksum.compare(self._hash.hexdigest())
        return memoryview(b"")

    # --- telling ------------------------------------------------------------------------

    def hear(self, event: Event) -> None:
        """Tell events of the runs as those of one transfer."""
        if isinstance(event, Finished):
            self._last = event
        elif self._told is not None and not (event.kind == "started" and self._started):
            self._started = self._started or event.kind == "started"
            self._told(event)

    def progress(self) -> Progress:
        """Sums over all runs; `size` is the object's, `front` what has been read."""
        assert self._run is not None
        now = self._run.download.progress()
        now.size = self.size
        now.front = self._at
        for event in self._past:
            now.seconds += event.seconds
            now.landed += event.landed
            now.received += event.landed
            now.requests += event.requests
            now.retries += event.retries
        return now

    def close(self) -> None:
        """End the transfer and give the memory back; also ends a read that waits."""
        if self.closed:
            return
        super().close()
        # From an event it is the notifier that closes: a read may wait for it to go on.
        patient = not self._engine.notifying
        if self._closing.acquire(blocking=patient):  # a move under way has set its run; no other begins
            self._closing.release()
        run = self._run
        if run is not None:
            run.download.cancel()
            run.download.wait()
        if self._client is not None:
            self._client.close()
        if self._turn.acquire(blocking=patient):
            try:
                self._mapping.close()
            except BufferError:
                pass  # a view from peek() lives on, and keeps it
            finally:
                self._turn.release()
        if self._told is not None and run is not None:
            self._told(self._finished())

    def _finished(self) -> Finished:
        ended = [*self._past, self._last] if self._last is not None else self._past
        return Finished(
            self.name,
            size=self._at if self._failed is None else None,
            landed=sum(event.landed for event in ended),
            seconds=sum(event.seconds for event in ended),
            requests=sum(event.requests for event in ended),
            connections=max((event.connections for event in ended), default=0),
            retries=sum(event.retries for event in ended),
            cancelled=False,
            up_to_date=False,
            error=self._failed,
        )


def _relay(reader: WindowReader) -> Callable[[Event], None]:
    """What the runs tell goes to the reader. They must not keep it: the engine has them,
    and a reader that was forgotten has to be found."""
    known = weakref.ref(reader)

    def tell(event: Event) -> None:
        reader = known()
        if reader is not None:
            reader.hear(event)

    return tell


def _capacity(options: Options, window: int) -> int:
    """Bytes of the ring: what was asked for, less where memory is short. MemoryBudget
    when there is too little for any."""
    budget = MemorySink(options.max_memory).budget()
    room = window if budget is None else min(window, budget)
    if room < LEAST:
        raise too_much(LEAST, room)
    return room - room % LEAST
