"""Clients: the verbs, and what their transfers share. Second floor.

A Client owns one engine: its connections, and the budget of them, serve all of its
transfers. The module-level verbs open a Client for one call.
"""

from __future__ import annotations

import os
import warnings

from .blob import Blob
from .download import Download
from .engine import Engine
from .errors import BadOption, BufferTooSmall
from .files import FileSink
from .memory import BufferSink, DescriptorSink, MemorySink, buffer_of
from .options import Options
from .reader import BUFFER, WINDOW, Reader
from .sources import Source, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Any, Literal, Self, Unpack, overload

    from .options import OptionFields
    from .sink import Sink
    from .sources import Target
    from .window import Access, WindowReader

    Into = str | os.PathLike[str] | int | Callable[[int], Any] | Any

__all__ = ["Client", "fetch", "fetch_ranges", "open", "probe", "submit"]

MERGE_GAP = 64 << 10  # a gap this small costs less than a request of its own


class Client:
    """Fetches objects; a context manager.

    `options` are the defaults of its transfers, `fields` change some of them. Its
    `connections` are also the budget over all of its transfers."""

    def __init__(self, options: Options | None = None, **fields: Unpack[OptionFields]) -> None:
        self.options = (options or Options()).replace(**fields)
        self._engine = Engine(self.options.limit, self.options.host_connections)

    def submit(
        self,
        url: str | Source,
        into: Into = None,
        *,
        start: int = 0,
        stop: int | None = None,
        **options: Unpack[OptionFields],
    ) -> Download:
        """Begin to fetch bytes [start, stop) of an object; return at once, or when the
        source given as `url` has made its request.

        into: None (memory), a path, a writable C-contiguous buffer, anything with
        `__array_interface__`, a CPU torch tensor, `allocate(size) -> buffer`, or the
        descriptor of a file that is open for reading and writing (a memfd).
        Raises at once what can be known before any request: BadOption, BadURL,
        UnknownScheme, TargetExists, SinkError, BufferError, TypeError."""
        chosen = self._chosen(options)
        span = _span(start, stop)
        name = url.url if isinstance(url, Source) else url
        return self._submit(url, _sink(into, chosen, name if span == (0, None) else None), chosen, [span])

    def _chosen(self, options: OptionFields) -> Options:
        """The Client's options with these changes."""
        chosen = self.options.replace(**options)
        if chosen.host_connections != self.options.host_connections:
            raise BadOption(
                "host_connections is of a whole Client",
                name="host_connections",
                value=chosen.host_connections,
                hint="Client(host_connections=N)",
            )
        return chosen

    def _submit(self, url: str | Source, sink: Sink, options: Options, spans: list[tuple[int, int | None]]) -> Download:
        if isinstance(url, Source):
            return Download(self._engine, url.url, url.resolve(options), sink, options, spans, source=url).start()
        return Download(self._engine, url, resolve(url, options), sink, options, spans).start()

    def allow(self, download: Download, connections: int) -> None:
        """Let a transfer of this Client use so many connections from now on, of those that it was
        submitted with. Not together with `host_connections`, which does the same."""
        download.handle.allow(connections, parting=False)
        self._engine.poke()

    def fetch(
        self,
        url: str | Source,
        into: Into = None,
        *,
        start: int = 0,
        stop: int | None = None,
        **options: Unpack[OptionFields],
    ) -> Blob:
        """Fetch bytes [start, stop) of an object and wait; see submit()."""
        with self.submit(url, into, start=start, stop=stop, **options) as download:
            return download.result()

    def fetch_ranges(
        self, url: str, ranges: Iterable[tuple[int, int]], into: Any = None, **options: Unpack[OptionFields]
    ) -> list[Blob]:
        """Fetch half-open ranges of one object: one resolution, one validator, one
        budget of connections. A Blob each, in the order given.

        into: None, or a writable buffer in which the ranges lie one after another.
        Without it, ranges that overlap or nearly touch are fetched as one, and then
        share memory. BadOption when a range is empty or ends beyond the object."""
        chosen = self._chosen(options)
        wanted = [(_span(a, b), b) for a, b in ranges]
        pairs = [(span[0], b) for span, b in wanted]
        if not pairs:
            return []
        if any(a == b for a, b in pairs):
            raise BadOption("a range is empty", name="ranges", value=next(p for p in pairs if p[0] == p[1]))
        if into is None:
            spans = _merge(pairs, MERGE_GAP)
            sink: Sink = MemorySink(chosen.max_memory)
        else:
            spans = _merge_touching(pairs)
            needed, given = sum(b - a for a, b in spans), buffer_of(into).nbytes
            if needed > given:
                raise BufferTooSmall(
                    f"the ranges need {needed:,} bytes, the buffer holds {given:,}", needed=needed, given=given
                )
            sink = BufferSink(into)
        with self._submit(url, sink, chosen, list(spans)) as download:
            whole = download.result()
        if len(spans) == 1 and whole.size < spans[0][1] - spans[0][0]:
            raise BadOption(f"a range ends at {spans[0][1]:,}, beyond the object", name="ranges", value=spans[0][1])
        view = memoryview(whole)
        places = _places(pairs, spans) if into is None else _packed(pairs)
        return [
            Blob(view[at : at + b - a], size=b - a, validator=whole.validator)
            for (a, b), at in zip(pairs, places, strict=True)
        ]

    if TYPE_CHECKING:

        @overload
        def open(  # type: ignore[overload-overlap]
            self, url: str, buffering: Literal[0], *, access: Access = ..., window: int = ..., **o: Unpack[OptionFields]
        ) -> WindowReader: ...
        @overload
        def open(
            self, url: str, buffering: int = ..., *, access: Access = ..., window: int = ..., **o: Unpack[OptionFields]
        ) -> Reader: ...

    def open(
        self,
        url: str,
        buffering: int = BUFFER,
        *,
        access: Access = "auto",
        window: int = WINDOW,
        **options: Unpack[OptionFields],
    ) -> Reader | WindowReader:
        """Open an object as a binary file to read while it arrives.

        Returns a Reader (an io.BufferedReader); with buffering=0 the WindowReader under
        it. `window`: bytes of memory at most. `access`: "auto" fetches little until the
        reader goes on and on, "sequential" all that fits at once, "random" only what is
        asked for. It can seek where the server gives ranges; with a `checksum` it is
        read from beginning to end, and the end raises ChecksumMismatch. Raises what
        submit() raises, and what the first response says: NotFound, AccessDenied …"""
        return self._open(url, buffering, access, window, options, owned=False)

    def _open(
        self, url: str, buffering: int, access: Access, window: int, options: OptionFields, *, owned: bool
    ) -> Reader | WindowReader:
        if not isinstance(buffering, int) or buffering < 0 or buffering == 1:
            hint = "give bytes, or 0 for the raw reader"
            if isinstance(buffering, str):
                hint = "there is no mode to choose: it reads bytes"
            raise BadOption(f"buffering={buffering!r} is not possible", name="buffering", value=buffering, hint=hint)
        from .window import WindowReader

        raw = WindowReader(self, self._engine, url, self._chosen(options), access=access, window=window, owned=owned)
        return Reader(raw, buffering) if buffering else raw

    def probe(self, url: str, **options: Unpack[OptionFields]) -> Target:
        """What the server says of an object, by one request for its first byte."""
        with self.submit(url, None, stop=1, **options | {"checksum": None}) as download:
            download.result().close()
            assert download.target is not None
            return download.target

    def close(self) -> None:
        """Cancel what is under way, close all connections; returns when it is so."""
        self._engine.close()

    def close_when_idle(self) -> None:
        """Close as soon as the transfers under way have ended; returns at once."""
        self._engine.close_when_idle()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self, _warn: Any = warnings.warn) -> None:
        engine = getattr(self, "_engine", None)
        if engine is not None and engine.running:
            engine.close_when_idle()  # first: a warning may be an error here
            _warn(f"unclosed {self!r}", ResourceWarning, source=self)


def submit(
    url: str, into: Into = None, *, start: int = 0, stop: int | None = None, **options: Unpack[OptionFields]
) -> Download:
    """Begin to fetch bytes [start, stop) of an object; see Client.submit()."""
    client = Client(Options(**options))
    try:
        return client.submit(url, into, start=start, stop=stop)
    finally:
        client.close_when_idle()


def fetch(
    url: str, into: Into = None, *, start: int = 0, stop: int | None = None, **options: Unpack[OptionFields]
) -> Blob:
    """Fetch bytes [start, stop) of an object and wait; see Client.submit()."""
    with Client(Options(**options)) as client:
        return client.fetch(url, into, start=start, stop=stop)


def fetch_ranges(
    url: str, ranges: Iterable[tuple[int, int]], into: Any = None, **options: Unpack[OptionFields]
) -> list[Blob]:
    """Fetch half-open ranges of one object; see Client.fetch_ranges()."""
    with Client(Options(**options)) as client:
        return client.fetch_ranges(url, ranges, into)


if TYPE_CHECKING:

    @overload
    def open(  # type: ignore[overload-overlap]
        url: str, buffering: Literal[0], *, access: Access = ..., window: int = ..., **o: Unpack[OptionFields]
    ) -> WindowReader: ...
    @overload
    def open(
        url: str, buffering: int = ..., *, access: Access = ..., window: int = ..., **o: Unpack[OptionFields]
    ) -> Reader: ...


def open(
    url: str,
    buffering: int = BUFFER,
    *,
    access: Access = "auto",
    window: int = WINDOW,
    **options: Unpack[OptionFields],
) -> Reader | WindowReader:
    """Open an object as a binary file to read while it arrives; see Client.open()."""
    client = Client(Options(**options))
    try:
        return client._open(url, buffering, access, window, {}, owned=True)
    except BaseException:
        client.close()
        raise


def probe(url: str, **options: Unpack[OptionFields]) -> Target:
    """What the server says of an object, by one request for its first byte."""
    with Client(Options(**options)) as client:
        return client.probe(url)


def _span(start: int, stop: int | None) -> tuple[int, int | None]:
    if start < 0:
        raise BadOption(f"start={start} is negative", name="start", value=start, hint="give offsets from the beginning")
    if stop is not None and stop < start:
        raise BadOption(f"stop={stop} lies before start={start}", name="stop", value=stop)
    return start, stop


def _sink(into: Into, options: Options, url: str | None) -> Sink:
    """The destination for what the caller gave as `into`. `url`: None for a part of an object."""
    if into is None:
        return MemorySink(options.max_memory)
    if isinstance(into, (str, os.PathLike)):
        return FileSink(
            into,
            overwrite=options.overwrite,
            durable=options.durable,
            url=url,
            checksum=options.checksum,
            resume=options.resume,
        )
    if isinstance(into, int) and not isinstance(into, bool):
        return DescriptorSink(into, options.max_memory)
    if callable(into) and not hasattr(into, "__array_interface__"):
        return BufferSink(allocate=into)
    return BufferSink(into)


def _merge(pairs: list[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    """Ascending disjoint spans that cover all pairs, joined over gaps up to `gap`."""
    spans: list[tuple[int, int]] = []
    for a, b in sorted(pairs):
        if spans and a <= spans[-1][1] + gap:
            spans[-1] = (spans[-1][0], max(spans[-1][1], b))
        else:
            spans.append((a, b))
    return spans


def _merge_touching(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pairs in their order, neighbours that continue each other as one."""
    spans: list[tuple[int, int]] = []
    for a, b in pairs:
        if spans and spans[-1][1] == a:
            spans[-1] = (spans[-1][0], b)
        else:
            spans.append((a, b))
    return spans


def _places(pairs: list[tuple[int, int]], spans: list[tuple[int, int]]) -> list[int]:
    """Where each pair begins in the concatenation of the spans."""
    from bisect import bisect_right

    starts = [a for a, _ in spans]
    offsets = [0]
    for a, b in spans:
        offsets.append(offsets[-1] + b - a)
    places = []
    for a, _ in pairs:
        i = bisect_right(starts, a) - 1
        places.append(offsets[i] + a - starts[i])
    return places


def _packed(pairs: list[tuple[int, int]]) -> list[int]:
    places, at = [], 0
    for a, b in pairs:
        places.append(at)
        at += b - a
    return places
