"""The verb `cat`: objects to standard output while they arrive.

Through a window of memory: many connections fetch ahead of what has been written,
never more than the window holds. What is written can't be taken back: a checksum is
known only at the end (`get -o -` writes nothing before all of it is proven).
"""

from __future__ import annotations

from queue import Empty, SimpleQueue

import parpull

from ..checksums import parse_checksum
from .display import choose
from .outcome import Item, UsageError, exit_code, say, write_out
from .parser import add_network, add_telling, options_of, size_of
from .stop import Signals, Stopped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..client import Client
    from ..events import Event
    from ..options import Options
    from ..window import WindowReader
    from .display import Display
    from .parser import Arguments, Parser

__all__ = ["EPILOG", "SUMMARY", "USAGE", "add", "run"]

SUMMARY = "write objects to standard output while they arrive"
USAGE = "parpull cat [options] URL..."
EPILOG = """\
examples:
  parpull cat https://host/data.tar | tar x
  parpull cat https://host/dump.sql.zst | zstd -d | psql
  parpull cat https://host/part-aa https://host/part-ab > whole
"""
PIPE = 1 << 20  # bytes that a pipe should hold
PIECE = 1 << 20
TICK = 0.1  # seconds
WINDOW = 128 << 20  # bytes


def add(parser: Parser) -> None:
    """The arguments of `cat`."""
    what = parser.add_argument_group("what")
    what.add_argument("urls", nargs="*", metavar="URL", help="http:// or https:// address; several follow each other")
    what.add_argument("--checksum", metavar="ALGO=HEX", help="what the bytes must give: else exit 5, at the end")
    what.add_argument(
        "--window", type=size_of("--window"), metavar="SIZE", help="memory to fetch ahead into (default: 128MiB)"
    )
    add_network(parser)
    add_telling(parser)


def run(args: Arguments) -> int:
    """Write; return the exit code."""
    from ..files import default_name
    from ..sources import resolve

    if not args.urls:
        raise UsageError("no URL given", USAGE)
    if args.checksum and len(args.urls) > 1:
        raise UsageError("--checksum is of one object, but there are several URLs", "run it once for each of them")
    options = options_of(args)
    for url in args.urls:
        resolve(url, options)
    items = [Item(number, url, name=default_name(url), path=None) for number, url in enumerate(args.urls, 1)]
    display = choose(items, quiet=args.quiet, verbose=args.verbose, json=False, to_stdout=True)
    _enlarge_pipe()
    with Signals() as signals:
        try:
            _write_all(items, options, args.window or WINDOW, display, signals)
        except Stopped as stopped:
            if not args.quiet:
                say(f"parpull: stopped by {stopped}")
            return stopped.code
    return next((exit_code(item.error) for item in items if item.error is not None), 0)


def _write_all(items: list[Item], options: Options, window: int, display: Display, signals: Signals) -> None:
    """One after the other; what follows an object that failed would be in its place,
    so nothing does."""
    client = parpull.Client(options)
    try:
        for item in items:
            inbox: SimpleQueue[Event] = SimpleQueue()
            try:
                _write(item, client, window, inbox, display, signals)
            except (parpull.ParpullError, OSError) as error:
                if isinstance(error, parpull.errors.ChecksumMismatch):
                    error.hint = "the object is damaged or another version; what was written can't be taken back"
                item.error = error
            _tell(item, inbox, display)
            if item.error is not None or len(items) == 1:
                display.close()
            display.finished(item)
            if item.error is not None:
                return
        display.close()
        display.summary()
    finally:
        display.close()
        client.close()


def _write(
    item: Item, client: Client, window: int, inbox: SimpleQueue[Event], display: Display, signals: Signals
) -> None:
    reader: Any = None
    try:
        with signals.armed():
            reader = client.open(item.url, 0, access="sequential", window=window, on_event=inbox.put)
        item.download = reader
        with signals.armed():
            _pass_on(item, reader, inbox, display)
        checksum = parse_checksum(client.options.checksum) if client.options.checksum else None
        digests = {checksum.algorithm: checksum.expected} if checksum is not None else {}
        item.blob = parpull.Blob(None, size=reader.tell(), validator=reader.target.validator, digests=digests)
    finally:
        if reader is not None:
            reader.close()


def _pass_on(item: Item, reader: WindowReader, inbox: SimpleQueue[Event], display: Display) -> None:
    """Write until the end. That our reader has left is noticed also while nothing
    arrives."""
    while True:
        piece = reader.peek(PIECE, TICK)
        if piece is None:
            if _left():
                raise BrokenPipeError
        else:
            n = len(piece)
            if not n:
                return
            with piece:
                write_out(piece)
            reader.advance(n)
        _tell(item, inbox, display)
        display.tick()


def _tell(item: Item, inbox: SimpleQueue[Event], display: Display) -> None:
    """Show what has happened meanwhile."""
    while True:
        try:
            event = inbox.get_nowait()
        except Empty:
            return
        if event.kind == "finished":
            ended: Any = event
            item.ended = ended
        display.event(item, event)


def _left() -> bool:
    """Whether nobody reads standard output any more."""
    import select

    poll = select.poll()
    poll.register(1, 0)
    return any(happened & (select.POLLERR | select.POLLNVAL) for _, happened in poll.poll(0))


def _enlarge_pipe() -> None:
    """A pipe holds 64 KiB unless told otherwise: sixteen times the switches between
    us and our reader."""
    try:
        import fcntl

        fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, PIPE)
    except (ImportError, AttributeError, OSError):
        pass  # no pipe, no Linux, or the user's limit for all pipes is reached
