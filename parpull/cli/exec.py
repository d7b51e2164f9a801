"""The verb `exec`: the object in RAM, handed to another program as a path.

It is fetched into a memfd, which no disk knows; then this process becomes the
command, with `{}` replaced by /proc/PID/fd/N. The number of a process stays the same
across exec, so the path is good for the command and all that it starts, for as long
as the command itself lives; the kernel frees the memory with the last that has it
open. stdin, stdout and stderr are the command's: until it runs, nothing is read
there, and nothing written but messages on stderr.
"""

from __future__ import annotations

import errno
import os
import signal

import parpull

from ..errors import MemoryBudget, SinkError
from ..files import default_name
from ..sources import resolve
from .display import choose
from .outcome import Item, UsageError, complain, exit_code, say
from .parser import add_network, add_telling, options_of
from .stop import Signals, Stopped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..client import Client
    from ..events import Event
    from ..options import Options
    from .display import Display
    from .parser import Arguments, Parser

__all__ = ["add", "filled", "lookup", "run"]

SUMMARY = "run a command on an object that is held in memory"
USAGE = "parpull exec [options] URL -- CMD ARG {} ..."
EPILOG = """\
The object is fetched into memory, no disk is touched; then CMD runs in place of
parpull, with {} replaced by the path of that memory. CMD and what it starts may
open it as often as they like.

examples:
  parpull exec https://host/x.parquet -- duckdb -c "select count(*) from '{}'"
  parpull exec -x 32 https://host/x.iso -- 7z l {}
  parpull exec https://host/w.safetensors -- python load.py --weights={}

exit codes: those of CMD; 126 when it can't be run, 127 when there is none, both
before anything is fetched; else those of parpull get
"""
CANNOT_RUN, NO_COMMAND = 126, 127  # as shells say it
PLACE = "{}"
TICK = 0.1  # seconds
# Python ignores these, and what is ignored stays so across exec.
RESTORED = ("SIGPIPE", "SIGXFSZ")


def add(parser: Parser) -> None:
    """The arguments of `exec`."""
    parser.takes_command = True
    what = parser.add_argument_group("what")
    what.add_argument("url", metavar="URL", help="http:// or https:// address")
    what.add_argument("--checksum", metavar="ALGO=HEX", help="what the bytes must give, e.g. sha256=…")
    add_network(parser)
    add_telling(parser)


def run(args: Arguments) -> int:
    """Fetch, and become the command; returns only if that can't be."""
    command = args.command
    if not command:
        raise UsageError("no command given", f"write it behind --, with {PLACE} for the object: {USAGE}")
    if not any(PLACE in argument for argument in command[1:]):
        raise UsageError(
            f"{PLACE} is not among the arguments of {command[0]}",
            f"write {PLACE} where the path of the object belongs: -- {command[0]} {PLACE}",
        )
    options = options_of(args)
    resolve(args.url, options)
    program, refusal = lookup(command[0])
    if program is None:
        missing = refusal == NO_COMMAND
        complain(UsageError(f"{command[0]}: " + ("there is no such command" if missing else "can't be executed")))
        return refusal
    with Signals() as signals:
        fd = -1
        try:
            fd = _memory(default_name(args.url))
            path = _path_of(fd)
            item = Item(1, args.url, name=default_name(args.url), path=None)
            _fetch(
                item,
                fd,
                options,
                choose([item], quiet=args.quiet, verbose=args.verbose, json=False, to_stdout=True),
                signals,
            )
            if item.error is not None:
                return exit_code(item.error)
            os.set_inheritable(fd, True)
            with signals.armed():  # one that came while the client closed
                pass
            return _become(program, filled(command, path))
        except Stopped as stopped:
            if not args.quiet:
                say(f"parpull: stopped by {stopped}; {command[0]} was not run")
            return stopped.code
        finally:
            if fd >= 0:
                os.close(fd)


def lookup(command: str) -> tuple[str | None, int]:
    """The file that a command means, as shells find it; or None, and their exit code
    for why not."""
    import shutil

    found = shutil.which(command)
    if found is not None:
        return found, 0
    folders = [""] if os.path.dirname(command) else os.get_exec_path()
    there = command and any(os.path.exists(os.path.join(folder, command)) for folder in folders)
    return None, CANNOT_RUN if there else NO_COMMAND


def filled(command: list[str], path: str) -> list[str]:
    """The command with the path in place of each {} among its arguments."""
    return [command[0], *(argument.replace(PLACE, path) for argument in command[1:])]


def _memory(name: str) -> int:
    """A file that is memory, and goes with its last descriptor."""
    if not hasattr(os, "memfd_create"):
        raise SinkError("only Linux has memory that a path leads to", path=None, hint="parpull URL -o FILE")
    return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def _path_of(fd: int) -> str:
    """Where other processes find a descriptor of ours."""
    path = f"/proc/{os.getpid()}/fd/{fd}"
    try:
        same = os.path.samestat(os.stat(path), os.fstat(fd))
    except OSError:
        same = False
    if not same:
        raise SinkError(
            "there is no /proc, or it is another container's, so no path leads to memory",
            path=None,
            hint="parpull URL -d /dev/shm lands it in memory that has a name",
        )
    return path


def _fetch(item: Item, fd: int, options: Options, display: Display, signals: Signals) -> None:
    """Fetch into the descriptor; afterwards the item has its end, and nothing runs."""
    from queue import Empty, SimpleQueue

    inbox: SimpleQueue[Event | None] = SimpleQueue()
    client: Client = parpull.Client(options.replace(on_event=inbox.put))
    try:
        item.download = client.submit(item.url, fd)
        item.download.add_done_callback(lambda _: inbox.put(None))
        with signals.armed():
            while True:
                try:
                    event = inbox.get(timeout=TICK)
                except Empty:
                    pass
                else:
                    if event is None:
                        break
                    if event.kind == "finished":
                        ended: Any = event
                        item.ended = ended
                    display.event(item, event)
                display.tick()
        try:
            item.blob = item.download.result(0)
        except Exception as error:
            item.error = _explained(error)
        display.finished(item)
    finally:
        display.close()
        client.close()


def _explained(error: Exception) -> Exception:
    """What there is to do about it, where get's advice would be another verb's."""
    if isinstance(error, MemoryBudget):
        hint = "parpull URL -o FILE lands it on the disk, for the command to read there"
        return SinkError(str(error), path=None, hint=hint)
    return error


def _become(program: str, command: list[str]) -> int:
    """Run the command in place of this process; returns if the system refuses."""
    for name in RESTORED:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execv(program, command)  # noqa: S606 - it is what was asked for
    except OSError as error:
        hint = "a script begins with #! and its interpreter" if error.errno == errno.ENOEXEC else None
        complain(UsageError(f"{command[0]}: {error.strerror}", hint))
    return CANNOT_RUN
