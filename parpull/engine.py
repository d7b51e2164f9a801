"""The engine: a reactor, its notifier thread, and the transfers under way.

One per Client, started with the first transfer, stopped with the Client. The
notifier is the only Python thread that takes part: it turns the reactor's events
into decisions and ends. Second floor; a Client owns an Engine, the notifier only
sees the Engine, so that a forgotten Client can be collected.

This module has the package's one piece of mutable module-level state: the set of
live engines, for fork and exit.
"""

from __future__ import annotations

import atexit
import itertools
import os
import threading
from weakref import WeakSet

from ._reactor import Reactor
from .slots import Gate, Seat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from ._job import JobHandle

    class Transfer(Protocol):
        """What the engine needs of a Download."""

        handle: JobHandle

        @property
        def host(self) -> str: ...
        @property
        def wanted(self) -> int: ...
        def warn(self, message: str) -> None: ...
        def handle_event(self, event: dict[str, Any]) -> None: ...
        def cancel(self) -> bool: ...
        def wait(self) -> None: ...
        def forked(self) -> None: ...


__all__ = ["Engine"]

ORIGINS = 256  # how many are remembered

_live: WeakSet[Engine] = WeakSet()


class Engine:
    """Runs transfers. Every method may be called from any thread."""

    def __init__(self, limit: int, host_connections: int | None = None) -> None:
        self.limit = limit
        self._gate = None if host_connections is None else Gate(host_connections)
        self._seats: dict[int, Seat] = {}
        self._lock = threading.RLock()  # the collector may close a Client inside
        self._ids = itertools.count(1)
        self._transfers: dict[int, Transfer] = {}  # the reactor has them
        self._open: dict[int, Transfer] = {}  # their futures are not resolved yet
        self._reactor: Reactor | None = None
        self._notifier: threading.Thread | None = None
        self._closing = False
        self._learned: dict[tuple[str, str, int], int] = {}  # connections that an origin was good for
        _live.add(self)

    @property
    def running(self) -> bool:
        """Whether its threads run, and nobody has asked them to stop."""
        return self._reactor is not None and not self._closing

    @property
    def notifying(self) -> bool:
        """Whether this is its notifier's thread, which must not wait for a transfer."""
        return threading.current_thread() is self._notifier

    def next_id(self) -> int:
        """A number for a new transfer."""
        return next(self._ids)

    def learn(self, origin: tuple[str, str, int], connections: int) -> None:
        """A transfer has found how many connections to an origin are worth having."""
        with self._lock:
            self._learned.pop(origin, None)
            self._learned[origin] = connections
            if len(self._learned) > ORIGINS:
                del self._learned[next(iter(self._learned))]

    def learned(self, origin: tuple[str, str, int]) -> int:
        """What the last transfer has found; 0: nothing yet."""
        with self._lock:
            return self._learned.get(origin, 0)

    def submit(self, id: int, transfer: Transfer, *, along: bool = False) -> None:
        """Start a transfer. `along`: with another one that is under way. RuntimeError
        after close()."""
        with self._lock:
            if self._closing and not (along and self._transfers and self._reactor is not None):
                raise RuntimeError("this Client was closed")
            reactor = self._reactor or self._start()
            try:
                self._transfers[id] = self._open[id] = transfer
                self.enter(id, transfer)
                reactor.add(transfer.handle)
            except BaseException:
                # Interrupted half-way: close() must not wait for what may never end.
                self._transfers.pop(id, None)
                self._open.pop(id, None)
                self._leave(id)
                reactor.cancel(transfer.handle)
                raise

    def enter(self, id: int, transfer: Transfer) -> None:
        """Let the transfer wait for its turn at its host, where processes share one number
        of connections; anew when a redirect has led to another host."""
        if self._gate is None:
            return
        self._leave(id)
        handle = transfer.handle

        def allow(n: int) -> None:
            handle.allow(n)
            self.poke()

        self._seats[id] = self._gate.add(
            transfer.host,
            transfer.wanted,
            allow=allow,
            active=lambda: handle.counters()["active"],
            warn=transfer.warn,
        )

    def _leave(self, id: int) -> None:
        seat = self._seats.pop(id, None)
        if seat is not None and self._gate is not None:
            self._gate.remove(seat)

    def _start(self) -> Reactor:
        reactor = Reactor(self.limit)
        notifier = threading.Thread(target=self._notify, args=(reactor,), name="parpull-notifier", daemon=True)
        try:
            notifier.start()
        except BaseException:
            reactor.quit()
            reactor.join()
            raise
        self._reactor, self._notifier = reactor, notifier
        return reactor

    def _notify(self, reactor: Reactor) -> None:
        """The notifier: hand each event to its transfer until the reactor is gone."""
        while True:
            for event in reactor.wait():
                if event is None:
                    reactor.join()
                    return
                self._deliver(event)

    def _deliver(self, event: dict[str, Any]) -> None:
        with self._lock:
            finished = event["kind"] == "finished"
            transfer = self._transfers.get(event["job"])
        if transfer is None:
            return
        if finished:
            self._leave(event["job"])
        transfer.handle_event(event)
        if finished:
            with self._lock:
                self._transfers.pop(event["job"], None)
                if self._closing:
                    self._quit_if_idle()

    def answer_request(self, handle: JobHandle) -> None:
        """The handle's new request is set."""
        if self._reactor is not None:
            self._reactor.answer_request(handle)

    def answer_begin(self, handle: JobHandle) -> None:
        """The handle's target is set."""
        if self._reactor is not None:
            self._reactor.answer_begin(handle)

    def poke(self) -> None:
        """A ground has more room, or a transfer may use more connections."""
        with self._lock:
            if self._reactor is not None:
                self._reactor.poke()

    def cancel(self, handle: JobHandle) -> None:
        """Ask for the end of a transfer."""
        with self._lock:
            if self._reactor is not None:
                self._reactor.cancel(handle)

    def close_when_idle(self) -> None:
        """Take no more transfers; stop once those under way have ended."""
        with self._lock:
            self._closing = True
            self._quit_if_idle()

    def _quit_if_idle(self) -> None:
        """Under the lock: let the threads end, unless transfers are under way."""
        if not self._transfers and self._reactor is not None:
            self._reactor.quit()
            self._reactor = None

    def close(self) -> None:
        """End all transfers and both threads; returns when nothing runs any more."""
        with self._lock:
            self._closing = True
            under_way = list(self._open.values())
        for transfer in under_way:
            transfer.cancel()
        self.close_when_idle()
        self._join(self._notifier)
        if threading.current_thread() is not self._notifier:
            for transfer in under_way:
                transfer.wait()  # returns at once on a thread that ends it
        if self._gate is not None:
            self._gate.close()

    def ended(self, id: int) -> None:
        """A transfer's future is resolved."""
        with self._lock:
            self._open.pop(id, None)

    @staticmethod
    def _join(notifier: threading.Thread | None) -> None:
        if notifier is not None and notifier is not threading.current_thread():
            notifier.join()

    def before_fork(self) -> None:
        """An idle engine stops, so that the child inherits no thread's remains; the
        next transfer starts it again, on either side."""
        with self._lock:
            if self._transfers or self._reactor is None:
                return
            self._quit_if_idle()
            notifier = self._notifier  # a submit after the lock starts another one
        self._join(notifier)
        if self._gate is not None:
            self._gate.close()

    def after_fork_in_child(self) -> None:
        """The threads are gone. Close their sockets, forget their memory."""
        self._lock = threading.RLock()
        if self._gate is not None:
            self._gate.abandon()
            self._seats = {}
        transfers, self._open = self._open, {}
        self._transfers = {}
        if self._reactor is not None:
            self._reactor.abandon()
            self._reactor = None
        self._notifier = None
        for transfer in transfers.values():
            transfer.forked()


def _each(method: str) -> None:
    for engine in list(_live):
        getattr(engine, method)()


atexit.register(_each, "close")
os.register_at_fork(
    before=lambda: _each("before_fork"),
    after_in_child=lambda: _each("after_fork_in_child"),
)
