"""Futures: what the caller of a transfer holds on to, on threads or in asyncio.

One object for both: `result()` waits on a lock, `await` on the loop. Knows nothing
of transfers but that they can be cancelled. Second floor.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod

from .errors import ParpullError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType
    from typing import Any, Self

    from .blob import Blob

__all__ = ["Future", "Progress"]


class Progress:
    """A moment of a download. landed: bytes in place and counted, block by block;
    received: those and what is under way to them; size: of the target, None while
    unknown; front: contiguous bytes; connections: at work now; peak: the most at
    once; seconds: since the start; requests, retries, steals, hedges: counts so far; resumed:
    bytes of `landed` that an earlier transfer left; wasted: bytes received in vain."""

    __slots__ = (
        "connections",
        "front",
        "hedges",
        "landed",
        "peak",
        "received",
        "requests",
        "resumed",
        "retries",
        "seconds",
        "size",
        "steals",
        "wasted",
    )

    def __init__(self, **fields: Any) -> None:
        for name in self.__slots__:
            setattr(self, name, fields[name])

    landed: int
    received: int
    size: int | None
    front: int
    connections: int
    peak: int
    seconds: float
    requests: int
    resumed: int
    retries: int
    steals: int
    hedges: int
    wasted: int

    def __repr__(self) -> str:
        return f"Progress({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"


class Future(ABC):
    """A Blob to come. As concurrent.futures has it, and `await`, `with`, `async with`:
    a block's end cancels what is not done, and waits for that."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._outcome: Blob | None = None
        self._error: BaseException | None = None
        self._cancelled = False
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._callbacks: list[Callable[[Self], object]] = []

    def done(self) -> bool:
        """Whether the transfer has ended, well or not."""
        return self._done.is_set()

    def result(self, timeout: float | None = None) -> Blob:
        """Wait and return the Blob, or raise what went wrong. TimeoutError after
        `timeout` seconds; the transfer then goes on."""
        if not self._done.wait(timeout):
            raise TimeoutError(f"{self.url} is not done after {timeout} s")
        if self._cancelled:
            from concurrent.futures import CancelledError

            raise CancelledError(f"the fetch of {self.url} was cancelled")
        if self._error is not None:
            error = self._error
            raise error.again() if isinstance(error, ParpullError) else error
        assert self._outcome is not None
        return self._outcome

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait and return the error, None if all went well. For a cancelled
        transfer the standard CancelledError is raised, as futures do."""
        try:
            self.result(timeout)
        except ParpullError as error:
            return error
        return None

    @abstractmethod
    def cancel(self) -> bool:
        """Ask for the end; False if it is over already."""

    def cancelled(self) -> bool:
        """Whether it ended by cancel()."""
        return self._cancelled and self._done.is_set()

    def add_done_callback(self, callback: Callable[[Self], object]) -> None:
        """Call `callback(self)` at the end, on the thread that ends the transfer;
        at once if that is over."""
        with self._lock:
            if not self._done.is_set():
                self._callbacks.append(callback)
                return
        self._call(callback)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._done.is_set():
            self.cancel()
            self._done.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import asyncio

        if not self._done.is_set():
            self.cancel()
            try:
                await self
            except (ParpullError, asyncio.CancelledError):
                pass  # it is over: that is all the block's end wants

    def __await__(self) -> Generator[Any, None, Blob]:
        import asyncio

        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def resolve() -> None:
            if not ended.done():
                ended.set_result(None)

        def wake(_: Future) -> None:
            try:
                loop.call_soon_threadsafe(resolve)
            except RuntimeError:  # the loop is closed: nobody awaits any more
                pass

        self.add_done_callback(wake)
        while not self._done.is_set():
            try:
                yield from ended
            except asyncio.CancelledError:
                # Two steps: ask, then wait until nothing writes any more.
                self.cancel()
                while not self._done.is_set():
                    ended = loop.create_future()
                    self.add_done_callback(wake)
                    try:
                        yield from ended
                    except asyncio.CancelledError:
                        pass  # asked twice: it still has to be over first
                raise
        if self._cancelled:
            raise asyncio.CancelledError
        return self.result(0)

    def _wake(self) -> list[Callable[[Self], object]]:
        """Outcome or error are set: wake everybody. Returns what is to be called then."""
        with self._lock:
            callbacks: list[Callable[[Self], object]]
            callbacks, self._callbacks = self._callbacks, []
            self._done.set()
        return callbacks

    def _call(self, callback: Callable[[Any], object]) -> None:
        """A callback's error is its author's: told as an unhandled one of this thread."""
        try:
            callback(self)
        except BaseException as error:
            kind, trace = type(error), error.__traceback__
            threading.excepthook(threading.ExceptHookArgs((kind, error, trace, threading.current_thread())))
