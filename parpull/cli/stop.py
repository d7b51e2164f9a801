"""Signals as an orderly end: cancel, leave what can be gone on from, exit with 128 + n.

A signal raises `Stopped` in the main thread, but only where the verb says that it
may: while it waits or writes, never between the halves of handing a transfer to
the engine. Knows nothing of transfers.
"""

from __future__ import annotations

import os
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Self

__all__ = ["Signals", "Stopped"]

# A closed terminal (SIGHUP) leaves part files behind just as SIGTERM would.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 1.0  # seconds from the first signal after which a second one kills


class Stopped(BaseException):
    """Asked to end by a signal. No Exception: nothing may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def code(self) -> int:
        """The exit code that shells expect: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.number


class Signals:
    """Holds the handlers while it is entered; a signal that comes outside of
    `with signals.armed():` waits for the next one."""

    def __init__(self) -> None:
        self._armed = False
        self._came: int | None = None
        self._since = 0.0
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            before = signal.getsignal(number)
            if before != signal.SIG_IGN:  # nohup, or a shell's background job: they meant it
                self._before[number] = before
                signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._came is not None:
            # timeout(1) signals the process and then its group: two at once are one.
            if time.monotonic() - self._since > PATIENCE:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        self._came = number
        self._since = time.monotonic()
        if self._armed:
            raise Stopped(number)

    def armed(self) -> _Armed:
        """A with-block in which a signal raises Stopped."""
        return _Armed(self)

    def _arm(self, on: bool) -> None:
        self._armed = on
        if on and self._came is not None:
            raise Stopped(self._came)


class _Armed:
    def __init__(self, signals: Signals) -> None:
        self._signals = signals

    def __enter__(self) -> None:
        self._signals._arm(True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._signals._arm(False)
