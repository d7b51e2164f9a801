"""Readers: files that are read while their bytes still arrive.

`RawReader` is the common ground: a position, `readinto` that waits for its own bytes
only, seeking. `FrontReader` reads along a download that lands somewhere else anyway;
window.py reads through a ring of memory. Both are wrapped in a `Reader`, which is an
io.BufferedReader. Reads run on the caller's thread, one at a time; close() may come
from any thread and ends a read that waits. Second floor.
"""

from __future__ import annotations

import io
import operator
import os
import threading
import time
from abc import abstractmethod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType
    from typing import Self

    from typing_extensions import Buffer

    from ._landing import Landing
    from .download import Download
    from .future import Progress
    from .sink import Sink

__all__ = ["FrontReader", "RawReader", "Reader"]

BUFFER = 16 << 10  # bytes; what is read beyond the bytes asked for is fetched for nothing
STEP = 0.25  # seconds after which a read that waits looks whether the reader was closed
WINDOW = 64 << 20  # bytes of memory that open() reads through
PIECE = 1 << 20  # bytes, of readall() and of asynchronous iteration


class RawReader(io.RawIOBase):
    """A read-only file over bytes in flight. Subclasses say how long it is and bring
    the bytes."""

    name: str  # the redacted URL, as open files have one

    def __init__(self, url: str) -> None:
        super().__init__()
        self.name = url
        self.mode = "rb"
        self.buffering = 0  # bytes of the buffer above it
        self._at = 0
        self._turn = threading.RLock()

    # --- what a subclass knows ---------------------------------------------------------

    @property
    @abstractmethod
    def size(self) -> int | None:
        """Bytes in all; None until the server, or the end, has told."""

    @abstractmethod
    def progress(self) -> Progress:
        """How the transfer behind it goes."""

    @abstractmethod
    def _view(self, at: int, n: int, timeout: float | None) -> memoryview | None:
        """Bytes in place from `at` on: at least one, at most `n`; empty at the end,
        None when `timeout` seconds are over."""

    # --- reading -----------------------------------------------------------------------

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Buffer) -> int:
        """Fill `buffer` with what is next, or with as much of it as is in place; wait
        for the first byte. 0 at the end. Raises what ended the transfer early."""
        with self._turn, memoryview(buffer) as given:
            self._check()
            if not given.nbytes:
                return 0  # what is empty can't be cast
            with given.cast("B") as target:
                source = self._view(self._at, len(target), None)
                assert source is not None
                with source:
                    target[: len(source)] = source
                    n = len(source)
            self._advance(n)
            return n

    def readall(self) -> bytes:
        """Everything from here to the end."""
        pieces = []
        while piece := self.read(PIECE):
            pieces.append(piece)
        return b"".join(pieces)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Up to and with the next line feed, `size` bytes at most. (That of io.RawIOBase
        wants a peek() that copies.)"""
        left = -1 if size is None else size
        line = bytearray()
        while left and not line.endswith(b"\n"):
            view = self.peek(min(left, BUFFER) if left > 0 else BUFFER)
            assert view is not None
            with view:
                text, feed, _ = bytes(view).partition(b"\n")
            piece = text + feed
            if not piece:
                break
            self.advance(len(piece))
            line += piece
            left -= len(piece) if left > 0 else 0
        return bytes(line)

    def peek(self, n: int = PIECE, timeout: float | None = None) -> memoryview | None:
        """At most `n` bytes that are in place, without copying or taking them: empty at
        the end, None when `timeout` seconds are over. Release the view, then advance()."""
        with self._turn:
            self._check()
            return self._view(self._at, n, timeout)

    def advance(self, n: int) -> None:
        """Take `n` bytes that peek() has shown."""
        with self._turn:
            self._advance(n)

    def _advance(self, n: int) -> None:
        self._at += n

    def _check(self) -> None:
        if self.closed:
            raise ValueError("read of a closed reader")

    # --- seeking -----------------------------------------------------------------------

    def seekable(self) -> bool:
        """Whether every position can be read."""
        return True

    def tell(self) -> int:
        """The position, bytes."""
        self._check()
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; nothing is fetched before the next read. io.UnsupportedOperation where
        the server gives no ranges, or the size is not known."""
        with self._turn:
            self._check()
            offset = operator.index(offset)
            if whence == os.SEEK_END and self.size is None:
                raise io.UnsupportedOperation("the server does not say how long the object is")
            base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size or 0}
            if whence not in base:
                raise ValueError(f"whence={whence} is not possible")
            at = base[whence] + offset
            if at < 0:
                raise ValueError(f"negative position {at}")
            if at != self._at and not self.seekable():
                raise io.UnsupportedOperation("this object can only be read from its beginning to its end")
            self._at = at
            return at


class FrontReader(RawReader):
    """Reads along the front of a download into memory or a file. Any position can be
    read; the end is told only when the download is done, and proven."""

    def __init__(self, download: Download, sink: Sink) -> None:
        super().__init__(download.url)
        self._download = download
        self._sink = sink
        self._source: Sink | FileSource | None = None  # once there is one
        self._shut = threading.Event()

    @property
    def size(self) -> int | None:
        """Bytes of the target; waits until the server has told. Where only the end
        tells, raises what ended the transfer early."""
        landing = self._landing()
        if landing.size >= 0:
            return landing.size
        return self._download.result().size if self._download.done() else None

    def progress(self) -> Progress:
        """The download's."""
        return self._download.progress()

    def _landing(self) -> Landing:
        while not self._download.begun(STEP):
            if self._shut.is_set():
                raise ValueError("the reader was closed while it waited")
        landing = self._download.ground()
        if self._source is None:
            try:
                fd = self._sink.tap()
            except OSError:
                self._download.result()  # raises: the file is gone, since the transfer failed
                raise
            self._source = self._sink if fd is None else FileSource(fd)
        return landing

    def _view(self, at: int, n: int, timeout: float | None) -> memoryview | None:
        landing = self._landing()
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._shut.is_set():
            left = STEP if deadline is None else min(max(deadline - time.monotonic(), 0.0), STEP)
            over = self._download.done()  # asked first: what landed last is in front then
            front = landing.wait(at + 1, 0.0 if over else left)
            if front > at:
                return self._read(at, min(at + n, front))
            if over:
                self._download.result()  # raises what went wrong
                return memoryview(b"")
            if landing.closed:
                time.sleep(min(left, 0.01))  # it is being proven
            if deadline is not None and time.monotonic() >= deadline:
                return None
        raise ValueError("the reader was closed while it waited")

    def _read(self, start: int, stop: int) -> memoryview:
        assert self._source is not None
        try:
            view = self._source.read(start, stop)
        except BufferError as error:  # the memory is gone: the transfer failed, or its Blob was closed
            self._download.result()
            raise ValueError(f"{self.name}: the blob was closed before its reader") from error
        if not len(view):
            raise OSError(f"{self.name}: the file was cut while it was read")
        return view

    def close(self) -> None:
        """Stop reading; the download goes on."""
        self._shut.set()
        super().close()
        with self._turn:  # else a read would go on with a descriptor that is another file's by now
            if isinstance(self._source, FileSource):
                self._source.close()


class FileSource:
    """Bytes of a file that is still being written, through a descriptor of our own,
    which is closed here: the download's is gone when the file gets its name."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._scratch = bytearray(PIECE)

    def read(self, start: int, stop: int) -> memoryview:
        """Bytes in place; the view is good until the next call."""
        view = memoryview(self._scratch)[: min(stop - start, PIECE)]
        return view[: os.preadv(self._fd, [view], start)]

    def close(self) -> None:
        """Close the descriptor."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close


class Reader(io.BufferedReader):
    """What parpull.open() and Download.reader() give: a binary file, buffered.

    Also iterates asynchronously (`async for piece in reader`: bytes, at most 1 MiB
    each), and closes at the end of `async with`."""

    raw: RawReader

    def __init__(self, raw: RawReader, buffering: int = BUFFER) -> None:
        super().__init__(raw, buffering)
        raw.buffering = buffering

    @property
    def size(self) -> int | None:
        """Bytes in all, None while unknown."""
        return self.raw.size

    def progress(self) -> Progress:
        """How the transfer behind it goes."""
        return self.raw.progress()

    def close(self) -> None:
        """Close; also ends a read that waits on another thread."""
        self.raw.close()  # first: such a read has the buffer's lock
        super().close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        import asyncio

        while piece := await asyncio.to_thread(self.read1, PIECE):
            yield piece
