"""Outcomes: one object of a run, how it ended, and what that is as an exit code.

The one place that prints errors: `parpull: error: …`, then `hint: …`, both on
stderr, on one line each, never a traceback (with -v for a bug of ours) and never
a secret: the errors have redacted their URLs. Also owns writing to the standard
streams, past Python's buffers, so that a reader that leaves is noticed here and
not when the interpreter ends.
"""

from __future__ import annotations

import os
import re
import sys

from ..checks import FROM_TEXT
from ..errors import (
    AccessDenied,
    BadOption,
    BadURL,
    IntegrityError,
    MemoryBudget,
    NotFound,
    ObjectChanged,
    ParpullError,
    RetriesExhausted,
    SinkError,
    TargetExists,
    UnknownScheme,
    redact,
)
from ..oci.errors import BadLayer, BadManifest, BadReference, UnknownPlatform, UnsafeLayer
from .text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..blob import Blob
    from ..download import Download
    from ..events import Finished

__all__ = ["Item", "UsageError", "complain", "exit_code", "guard_descriptors", "hint_of", "say", "write_out"]

OK, FAILED, USAGE, NOT_FOUND, DENIED, WRONG_BYTES, CANNOT_WRITE = range(7)
PIECE = 1 << 20


class UsageError(Exception):
    """The command line makes no sense; `hint` says what would."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class Item:
    """One object of a run. `url` may hold secrets and is never shown; `name` is.

    number: its place on the command line, from 1. path: where it goes, None for
    stdout. folder: what is made if it does not exist. checksum, headers: its own, None
    for those of the run. mirrors: its other addresses. At the end `error` is set, or `blob`; `ended` is the event
    that told."""

    def __init__(
        self,
        number: int,
        url: str,
        *,
        name: str,
        path: str | None,
        folder: str | None = None,
        checksum: str | None = None,
        headers: Sequence[str] | None = None,
        mirrors: Sequence[str] = (),
    ) -> None:
        self.number = number
        self.url = url
        self.name = clean(name)
        self.path = path
        self.folder = folder
        self.checksum = checksum
        self.headers = headers
        self.mirrors = mirrors
        self.download: Download | None = None
        self.ended: Finished | None = None
        self.blob: Blob | None = None
        self.error: BaseException | None = None

    @property
    def shown(self) -> str:
        """The URL, fit to be shown."""
        return redact(self.url)

    @property
    def connections(self) -> int:
        """How many it had at once."""
        return self.ended.connections if self.ended is not None else 0

    @property
    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self.error is not None or self.blob is not None


CODES: tuple[tuple[tuple[type[BaseException], ...], int], ...] = (
    ((UsageError, BadOption, BadURL, UnknownScheme, BadReference), USAGE),
    ((NotFound, UnknownPlatform), NOT_FOUND),
    ((AccessDenied,), DENIED),
    ((IntegrityError, ObjectChanged, BadLayer, BadManifest, UnsafeLayer), WRONG_BYTES),
    ((SinkError, MemoryBudget, MemoryError, BrokenPipeError), CANNOT_WRITE),
)


def exit_code(error: BaseException | None) -> int:
    """The code of one object's end. That retries ran out is as good as the last
    failure where that says more."""
    if error is None:
        return OK
    if isinstance(error, RetriesExhausted):
        last = exit_code(error.last)
        return last if last in (NOT_FOUND, DENIED, WRONG_BYTES) else FAILED
    for kinds, code in CODES:
        if isinstance(error, kinds):
            return code
    return FAILED


def hint_of(error: BaseException) -> str | None:
    """What the user of a command line can do about it."""
    if isinstance(error, TargetExists) and "--overwrite" in (error.hint or ""):
        return "--overwrite replaces it; -c goes on from parpull's own NAME.parpull-part only"
    if isinstance(error, MemoryBudget):
        return "-o FILE lands it on the disk"
    hint: str | None = getattr(error, "hint", None)
    if hint is None or not isinstance(error, ParpullError):
        return hint
    # Errors speak of the library's options: "ca_file= (--cacert)", "proxy=http://…".
    return re.sub(r"\b([a-z_]+)=(?: \(-[^)]*\))?(?=(\S?))", _as_flag, hint)


def _as_flag(found: re.Match[str]) -> str:
    name, behind = found.groups()
    flag = FLAGS.get(name) or (f"PARPULL_{name.upper()}=" if name in FROM_TEXT else None)
    if flag is None:
        return found[0]
    return flag + (" " if behind.isalnum() and flag.startswith("-") else "")


# What Options calls it, and what it is called here.
FLAGS = {
    "connections": "-x",
    "part_size": "--part-size",
    "limit_rate": "--limit-rate",
    "mirrors": "--mirror",
    "checksum": "--checksum",
    "retries": "--retry",
    "headers": "-H",
    "auth": "-u",
    "netrc": "--netrc",
    "cookies": "--cookie",
    "proxy": "--proxy",
    "noproxy": "--noproxy",
    "ca_file": "--cacert",
    "cert": "--cert",
    "key": "--key",
}


def message_of(error: BaseException) -> str:
    """The error in one line. What is none of parpull's errors is a bug, or the
    system's refusal; both read better with their type."""
    if isinstance(error, BadOption) and error.name in FLAGS:
        return f"{FLAGS[error.name]} {error.value} is not possible"
    if isinstance(error, (ParpullError, UsageError, ImportError)):
        return str(error)
    if isinstance(error, MemoryError):
        return "out of memory"
    return f"{type(error).__name__}: {error}"


def say(line: str) -> None:
    """One line on stderr, now. That nobody reads it must not end a transfer."""
    try:
        encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        write_out((clean(line) + "\n").encode(encoding, "backslashreplace"), fd=2)
    except OSError:
        pass


def complain(
    error: BaseException, name: str | None = None, *, trace: bool = False, write: Callable[[str], None] = say
) -> None:
    """Print an error and its hint on stderr; `name` when there are several objects."""
    if isinstance(error, BrokenPipeError):
        return  # who reads our output has left, and knows
    if trace:
        import traceback

        for line in "".join(traceback.format_exception(error)).splitlines():
            write(line)
    write(f"parpull: error: {name}: {message_of(error)}" if name else f"parpull: error: {message_of(error)}")
    hint = hint_of(error)
    if hint:
        write(f"hint: {hint}")


def write_out(data: bytes | memoryview | Blob, fd: int = 1) -> None:
    """Write all of it to a standard stream, in pieces that a signal can come between.
    BrokenPipeError when the reader has left; SinkError when it is otherwise refused."""
    with memoryview(data) as whole, whole.cast("B") as view:
        at = 0
        while at < len(view):
            try:
                at += os.write(fd, view[at : at + PIECE])
            except BlockingIOError:  # somebody who shares the pipe made it non-blocking
                import select

                select.select([], [fd], [], 1.0)
            except BrokenPipeError:
                raise
            except OSError as error:
                where = "standard output" if fd == 1 else "standard error"
                raise SinkError(f"cannot write to {where}: {error.strerror}", path=None, errno=error.errno) from None


def guard_descriptors() -> None:
    """Fill the places of standard streams that were closed by our parent (`>&-`).
    Else the next file that is opened gets number 1 or 2, and messages go into it.
    For reading only, so that writing there still fails."""
    for fd, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
        if stream is None:
            try:
                os.fstat(fd)
            except OSError:
                os.open(os.devnull, os.O_RDONLY)
