"""The verb `get`: URLs to files, or one of them to standard output.

All objects are handed to one Client at once and share its connections. The main
thread then waits on one inbox for whatever the transfers tell, shows it, and is
the only one to do so; signals interrupt it there. One failure does not end the
others: the exit code is that of the first object, in the order given, that failed.
"""

from __future__ import annotations

import os
import signal
import time
from queue import Empty, SimpleQueue

import parpull

from ..errors import SinkError, TransferError, redact
from ..journal import SUFFIX
from .display import choose
from .items import fetch_sums, items_of, prove_by, read_sums
from .outcome import Item, UsageError, exit_code, say, write_out
from .parser import CODES, add_network, add_telling, options_of, seconds
from .stop import Signals, Stopped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from ..blob import Blob
    from ..client import Client
    from ..download import Download
    from ..events import Event
    from ..options import OptionFields, Options
    from ..trace import Trace
    from .display import Display
    from .parser import Arguments, Parser

    Inbox = SimpleQueue[tuple[Item, Event | None]]

__all__ = ["EPILOG", "SUMMARY", "USAGE", "add", "run"]

SUMMARY = "fetch objects over HTTP through many connections at once, and prove them right"
USAGE = "parpull [options] URL..."
EPILOG = f"""\
examples:
  parpull https://host/model.safetensors          a file of that name, here
  parpull -x 32 -o data.tar https://host/d?id=7   another name, 32 connections
  parpull https://host/data.tar.gz -o - | tar xz  through a pipe, once proven
  parpull -d models URL1 URL2 URL3                several share the connections
  parpull -i list.txt --checksum-file SHA256SUMS  all of a list, proven

{CODES}"""
TICK = 0.1  # seconds; also how long a signal may wait where a lock can't be interrupted


def add(parser: Parser) -> None:
    """The arguments of get."""
    what = parser.add_argument_group("what")
    what.add_argument("urls", nargs="*", metavar="URL", help="http:// or https:// address")
    what.add_argument(
        "-i", "--input-file", metavar="FILE", help="URLs, and options of each, as aria2 has them; - is stdin"
    )
    what.add_argument(
        "--mirror", action="append", dest="mirrors", metavar="URL", help="another address of the same object"
    )
    what.add_argument("--checksum", metavar="ALGO=HEX", help="what the bytes must give, e.g. sha256=…")
    what.add_argument("--checksum-file", metavar="FILE", help="checksums by name, as SHA256SUMS has them; or its URL")

    where = parser.add_argument_group("where to")
    where.add_argument("-o", "--output", metavar="FILE", help="write here; - is standard output")
    where.add_argument("-d", "--directory", metavar="DIR", help="folder to write into, made if need be")
    where.add_argument("-O", "--remote-name", action="store_true", help="name files as their URLs do (the default)")
    where.add_argument("--overwrite", action="store_true", default=None, help="replace a file that exists")
    where.add_argument(
        "-c", "--continue", action="store_true", dest="going_on", help="go on where an earlier run ended (always on)"
    )

    add_network(parser)
    parser.add_argument_group("how long").add_argument(
        "--max-time", type=seconds, metavar="S", help="give up what is not done after so many seconds"
    )
    add_telling(parser, json="one event a line on stdout (with -o -: on stderr)", trace=True)


def run(args: Arguments) -> int:
    """Fetch; return the exit code. Raises what is wrong before anything began."""
    _check(args)
    options = options_of(args)
    deadline = Deadline(args.max_time)
    items = items_of(args.urls, args.input_file, args.output, args.directory, options, mirrors=args.mirrors or ())
    sums = None if args.checksum_file is None else read_sums(args.checksum_file)
    trace = None if args.trace is None else _trace(args.trace, items)
    with Signals() as signals:
        try:
            if args.checksum_file is not None:
                if sums is None:
                    sums = fetch_sums(
                        items,
                        args.checksum_file,
                        options,
                        lambda url, chosen: _fetch_whole(url, chosen, signals, deadline),
                    )
                prove_by(items, sums, args.checksum_file)
            display = choose(
                items, quiet=args.quiet, verbose=args.verbose, json=args.json, to_stdout=args.output == "-"
            )
            _fetch(items, options, display, signals, deadline, trace)
        except Stopped as stopped:
            if not args.quiet:
                kept = any(_is_kept(item) for item in items)
                then = "run it again to go on" if kept else "what was unfinished is removed"
                say(f"parpull: stopped by {stopped}; {then}")
            return stopped.code
        except BrokenPipeError:  # who read --json has left
            return exit_code(BrokenPipeError())
        finally:
            if trace is not None:
                trace.close(lambda message: say(f"parpull: warning: {message}"))
    return next((exit_code(item.error) for item in items if item.error is not None), 0)


def _is_kept(item: Item) -> bool:
    """Whether the next run can go on from what this one left of it."""
    if item.download is None or item.path is None or item.done:
        return False
    return os.path.exists(os.path.realpath(item.path) + SUFFIX)


def _check(args: Arguments) -> None:
    """What the arguments say of each other."""
    if args.trace == "-":
        raise UsageError("--trace has no standard output: that is for data only", "--trace FILE")
    if args.trace is not None and (not args.trace or "://" in args.trace):
        raise UsageError("--trace names no file", "--trace FILE, and the URL behind it")
    if not args.urls and args.input_file is None:
        say(f"usage: {USAGE}")
        raise UsageError("no URL given", "parpull -h lists the options")
    if args.input_file is not None:
        if args.output is not None:
            raise UsageError(
                "-o names one file, but -i brings a list", "-d DIR takes them all; out=NAME in the list names one"
            )
        if args.checksum is not None:
            raise UsageError(
                "--checksum is of one object, but -i brings a list", "checksum=ALGO=HEX in the list, below each URL"
            )
    if len(args.urls) > 1:
        if args.output is not None:
            raise UsageError("-o names one file, but there are several URLs", "-d DIR takes them all")
        if args.checksum is not None:
            raise UsageError(
                "--checksum is of one object, but there are several URLs", "--checksum-file FILE is of all of them"
            )
    if args.checksum is not None and args.checksum_file is not None:
        raise UsageError("--checksum and --checksum-file contradict each other", "give one of them")
    if args.remote_name and any("://" not in url for url in args.urls):
        raise UsageError("-O takes no name: it names files as their URLs do", "write -o FILE, or -o -")
    if args.going_on and any("://" not in url for url in args.urls):
        raise UsageError(
            "-c takes no file: it goes on where an earlier run ended, and is always on",
            "for curl's -c: --cookie FILE sends cookies",
        )
    if args.output is not None and args.output.endswith("/"):
        raise UsageError(f"-o {args.output} names a folder", f"write -d {args.output}")
    if args.output == "":
        raise UsageError("-o names no file", "-o FILE, or -o - for standard output")
    if args.directory == "":
        raise UsageError("-d names no folder", "-d DIR; leave it out for the current one")
    if args.quiet and args.verbose:
        raise UsageError("-q and -v contradict each other", "give one of them")


def _trace(path: str, items: list[Item]) -> Trace:
    """The file of --trace, open before any request."""
    from ..trace import Trace

    real = os.path.realpath(path)
    for item in items:
        if item.path is not None and real in (
            os.path.realpath(item.path) + end for end in ("", SUFFIX, SUFFIX + "-part")
        ):
            raise UsageError(f"--trace {path} is where the object goes", "name another file")
    return Trace(path)


class Deadline:
    """When the run must be over (--max-time), if ever."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._at = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float | None:
        """Seconds to go, at least none; None for ever."""
        return None if self._at is None else max(self._at - time.monotonic(), 0.0)

    def error(self, url: str) -> TransferError:
        """What is told of an object that was not done in time."""
        return TransferError(
            f"not done after {self._seconds:g} s",
            url=redact(url),
            hint="a larger --max-time gives it more; -v tells what takes long",
        )

    def write(self, blob: Blob, url: str) -> None:
        """Write to standard output until then. A write that blocks ends only by a signal."""
        left = self.left()
        if left is None:
            write_out(blob)
            return
        before = signal.signal(signal.SIGALRM, _late)
        signal.setitimer(signal.ITIMER_REAL, left or 1e-6)
        try:
            write_out(blob)
        except _Late:
            raise self.error(url) from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


class _Late(Exception):
    """The time is over; no OSError, which write_out() would take for its own."""


def _late(number: int, frame: object) -> NoReturn:
    raise _Late


def _fetch_whole(url: str, options: Options, signals: Signals, deadline: Deadline) -> bytes:
    """A small object, whole and in memory."""
    client = parpull.Client(options)
    try:
        download = client.submit(url)
        with signals.armed():
            return bytes(download.result(deadline.left()))
    except parpull.ParpullError:
        raise
    except TimeoutError:
        raise deadline.error(url) from None
    finally:
        client.close()


def _fetch(
    items: list[Item],
    options: Options,
    display: Display,
    signals: Signals,
    deadline: Deadline,
    trace: Trace | None,
) -> None:
    """Fetch all; afterwards each item has its end, or an exception is under way and
    nothing runs any more."""
    inbox: Inbox = SimpleQueue()
    client = parpull.Client(options)
    try:
        under_way = 0
        for item in items:
            _submit(client, item, inbox, trace)
            if item.download is None:
                display.finished(item)
            else:
                under_way += 1
        late = False
        with signals.armed():
            while under_way:
                under_way -= _step(inbox, display, deadline)
                if not late and deadline.left() == 0:
                    late = True
                    for item in items:
                        if item.download is not None:
                            item.download.cancel()
        display.close()
        display.summary()
    finally:
        display.close()
        client.close()  # cancels what still runs, removes what can't be gone on from


def _submit(client: Client, item: Item, inbox: Inbox, trace: Trace | None) -> None:
    def tell(event: Event) -> None:
        if trace is not None:
            trace.hear(event, item.number)  # at once: it is told by the time it is heard
        if event.kind != "traced":
            inbox.put((item, event))

    def ended(_: Download) -> None:
        inbox.put((item, None))

    own: OptionFields = {"on_event": tell}
    if trace is not None:
        own["trace"] = True
    if item.checksum is not None:
        own["checksum"] = item.checksum
    if item.headers is not None:
        own["headers"] = item.headers
    if item.mirrors:
        own["mirrors"] = item.mirrors
    try:
        _make_folder(item)
        item.download = client.submit(item.url, item.path, **own)
        item.download.add_done_callback(ended)
    except (parpull.ParpullError, OSError) as error:
        item.error = error


def _make_folder(item: Item) -> None:
    if item.folder is None or os.path.isdir(item.folder):
        return
    try:
        os.makedirs(item.folder, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise SinkError(
            f"cannot make the folder {item.folder}: a file is in the way", path=item.folder, errno=error.errno,
            hint="choose another folder with -d",
        ) from None  # fmt: skip
    except OSError as error:
        raise SinkError(
            f"cannot make the folder {item.folder}: {error.strerror}", path=item.folder, errno=error.errno,
            hint="choose another folder with -d",
        ) from None  # fmt: skip


def _step(inbox: Inbox, display: Display, deadline: Deadline) -> bool:
    """Wait for one thing to happen, or for a while; whether an object has ended."""
    left = deadline.left()
    try:
        item, event = inbox.get(timeout=TICK if not left else min(TICK, left))
    except Empty:
        display.tick()
        return False
    if event is None:
        _settle(item, display, deadline)
        display.finished(item)
    else:
        if event.kind == "finished":
            ended: Any = event
            item.ended = ended
        display.event(item, event)
    display.tick()
    return event is None


def _settle(item: Item, display: Display, deadline: Deadline) -> None:
    """Take the end of a transfer that is over; an object for stdout goes there now,
    when all of it is proven."""
    assert item.download is not None
    try:
        blob = item.download.result(0)
        if item.path is None:
            display.close()  # the terminal may be the same one
            deadline.write(blob, item.url)
        item.blob = blob
    except Exception as error:
        item.error = deadline.error(item.url) if item.download.cancelled() else error
