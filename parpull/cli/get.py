"""The verb `get`: URLs to files, or one of them to standard output.

All objects are handed to one Client at once and share its connections. The main
thread then waits on one inbox for whatever the transfers tell, shows it, and is
the only one to do so; signals interrupt it there. One failure does not end the
others: the exit code is that of the first object, in the order given, that failed.
"""

from __future__ import annotations

import os
from queue import Empty, SimpleQueue

import parpull

from .display import choose
from .outcome import Item, UsageError, exit_code, say, write_out
from .stop import Signals, Stopped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..client import Client
    from ..download import Download
    from ..events import Event
    from ..options import Options
    from .display import Display
    from .parser import Arguments

    Inbox = SimpleQueue[tuple[Item, Event | None]]

__all__ = ["get"]

FIELDS = (
    "connections", "part_size", "checksum", "retries", "headers", "auth",
    "proxy", "noproxy", "ca_file", "cert", "key",
)  # fmt: skip
TICK = 0.1  # seconds; also how long a signal may wait where a lock can't be interrupted


def get(args: Arguments) -> int:
    """Fetch; return the exit code. Raises what is wrong before anything began."""
    options = options_of(args)
    items = items_of(args, options)
    display = choose(items, quiet=args.quiet, verbose=args.verbose, json=args.json, to_stdout=args.output == "-")
    with Signals() as signals:
        try:
            _fetch(items, options, display, signals)
        except Stopped as stopped:
            if not args.quiet:
                say(f"parpull: stopped by {stopped}; what was unfinished is removed")
            return stopped.code
        except BrokenPipeError:  # who read --json has left
            return exit_code(BrokenPipeError())
    return next((exit_code(item.error) for item in items if item.error is not None), 0)


def options_of(args: Arguments) -> Options:
    """Arguments over environment over defaults. BadOption for what can't be."""
    fields: dict[str, Any] = {name: getattr(args, name) for name in FIELDS if getattr(args, name) is not None}
    return parpull.Options.from_env().replace(overwrite=args.overwrite, **fields)


def items_of(args: Arguments, options: Options) -> list[Item]:
    """What to fetch and where to put it, checked as far as it goes without touching
    anything: a mistake in the last URL is told before the first is fetched."""
    from ..checksums import parse_checksum
    from ..errors import BadURL
    from ..files import default_name
    from ..sources import resolve

    if options.checksum:
        parse_checksum(options.checksum)
    items: list[Item] = []
    taken: dict[str, str] = {}
    for number, url in enumerate(args.urls, 1):
        try:
            resolve(url, options)
        except BadURL as error:
            if not any(c in url for c in ":./"):
                raise UsageError(
                    f"{url} is neither a URL nor a command", "a URL begins with https:// or http://"
                ) from error
            raise
        name = default_name(url)
        path: str | None = None
        if args.output != "-":
            path = os.path.join(args.directory or "", args.output or name)
            name = os.path.basename(path)
            place = os.path.realpath(path)
            if place in taken:
                raise UsageError(
                    f"{taken[place]} and another URL would both become {path}", "fetch them one by one, with -o FILE"
                )
            taken[place] = parpull.errors.redact(url)
        items.append(Item(number, url, name=name, path=path))
    return items


def _fetch(items: list[Item], options: Options, display: Display, signals: Signals) -> None:
    """Fetch all; afterwards each item has its end, or an exception is under way and
    nothing runs any more."""
    inbox: Inbox = SimpleQueue()
    client = parpull.Client(options)
    try:
        under_way = 0
        for item in items:
            _submit(client, item, inbox)
            if item.download is None:
                display.finished(item)
            else:
                under_way += 1
        with signals.armed():
            while under_way:
                under_way -= _step(inbox, display)
        display.close()
        display.summary()
    finally:
        display.close()
        client.close()  # cancels what still runs, removes what is unfinished


def _submit(client: Client, item: Item, inbox: Inbox) -> None:
    def tell(event: Event) -> None:
        inbox.put((item, event))

    def ended(_: Download) -> None:
        inbox.put((item, None))

    try:
        item.download = client.submit(item.url, item.path, on_event=tell)
        item.download.add_done_callback(ended)
    except (parpull.ParpullError, OSError) as error:
        item.error = error


def _step(inbox: Inbox, display: Display) -> bool:
    """Wait for one thing to happen, or for a while; whether an object has ended."""
    try:
        item, event = inbox.get(timeout=TICK)
    except Empty:
        display.tick()
        return False
    if event is None:
        _settle(item, display)
        display.finished(item)
    else:
        if event.kind == "finished":
            ended: Any = event
            item.ended = ended
        display.event(item, event)
    display.tick()
    return event is None


def _settle(item: Item, display: Display) -> None:
    """Take the end of a transfer that is over; an object for stdout goes there now,
    when all of it is proven."""
    assert item.download is not None
    try:
        blob = item.download.result(0)
        if item.path is None:
            display.close()  # the terminal may be the same one
            write_out(blob)
        item.blob = blob
    except Exception as error:
        item.error = error
