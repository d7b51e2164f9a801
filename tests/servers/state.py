"""What the origin remembers: requests for each name, who is connected, which signatures it gave.

A test chooses a name of its own, so that its counters are its own. Everything mutable is reached
under the lock of its owner; records are filled in place by the one thread that serves the request.
"""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.servers.wire import all_gone

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers.wire import Connection

Asked = tuple[int, int | None]


@dataclass
class Record:
    """One request as the server saw it. `sent` counts body bytes that the kernel took."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    asked: Asked | None
    """The Range header, half-open: (start, stop); stop None for `N-`, start negative for `-N`."""
    connection: int
    tls: bool
    certificate: bool
    """The client showed a certificate of its own."""
    address: str
    """Ours, which the client connected to."""
    time: float
    """Monotonic seconds at which the request's head was complete."""
    status: int = 0
    """0: no response was begun."""
    sent: int = 0
    fault: bool = False
    """The scenario's fault was applied to this request."""
    ended: float | None = None
    """Monotonic seconds at which the response was over; None while it goes on."""


@dataclass
class Signature:
    """One token that was shown to us: how often, and since when."""

    uses: int = 0
    born: float = field(default_factory=time.monotonic)


class NameState:
    """All that is known about one name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._changed = threading.Condition()
        self._records: list[Record] = []
        self._ordinals: dict[int, int] = {}
        self._hits: dict[str, int] = {}
        self._generation = 0
        self._signatures: dict[str, Signature] = {}

    def begin(self, record: Record) -> None:
        """Note a request that has just come in."""
        with self._changed:
            self._records.append(record)
            self._ordinals.setdefault(record.connection, len(self._ordinals) + 1)

    def end(self, record: Record) -> None:
        """Note that its response is over."""
        with self._changed:
            record.ended = time.monotonic()
            self._changed.notify_all()

    def settled(self, seconds: float) -> list[Record]:
        """The records, once no response is under way, or when the seconds have passed."""
        with self._changed:
            self._changed.wait_for(lambda: all(r.ended for r in self._records), seconds)
            return list(self._records)

    def ordinal(self, connection: int) -> int:
        """1 for the first connection that asked for this name, 2 for the second."""
        with self._changed:
            return self._ordinals[connection]

    def count(self, kind: str) -> int:
        """Count one more of a kind and return how many there were, this one included."""
        with self._changed:
            self._hits[kind] = self._hits.get(kind, 0) + 1
            return self._hits[kind]

    def rank(self, connection: int, alive: set[int]) -> int:
        """1 for the connection among those alive that asked first for this name, 2 for the next.

        By the first request, not by the number: of two that arrive together the later may ask
        first, and a rank once given must not fall.
        """
        with self._changed:
            mine = self._ordinals[connection]
            return 1 + sum(ordinal < mine for n, ordinal in self._ordinals.items() if n in alive)

    def sign(self) -> tuple[str, int]:
        """A new token and its generation."""
        with self._changed:
            self._generation += 1
            return _token(self.name, self._generation), self._generation

    def admits(self, token: str, generation: str, uses: int | None, ttl: float | None) -> bool:
        """Whether a token is genuine and neither used up nor too old.

        Tokens are checked by computing them, so that a second origin can admit what a first signed.
        """
        if token != _token(self.name, generation):
            return False
        with self._changed:
            shown = self._signatures.setdefault(token, Signature())
            shown.uses += 1
            old = ttl is not None and time.monotonic() - shown.born > ttl
            return not old and (uses is None or shown.uses <= uses)


class Census:
    """Who is connected to the whole origin, and how many ever were at once."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open: dict[int, Connection] = {}
        self._most = 0

    def arrived(self, connection: Connection) -> None:
        """Count a new connection.

        Those that the client has closed, but whose thread does not know it yet, do not count: a
        client that closes one and then opens another never holds two.
        """
        with self._changed:
            self._open[connection.number] = connection
            self._most = max(self._most, len(self._alive()))

    def left(self, connection: Connection, close: Callable[[], None]) -> None:
        """Close under the lock, so that no poll sees a descriptor that already means another."""
        with self._changed:
            del self._open[connection.number]
            close()
            self._changed.notify_all()

    def wait_below(self, limit: int) -> None:
        """Wait until fewer than `limit` connections are open."""
        with self._changed:
            while len(self._alive()) >= limit:
                self._changed.wait(0.01)

    def alive(self) -> set[int]:
        """The numbers of the connections that are open on both sides."""
        with self._changed:
            return self._alive()

    def most(self) -> int:
        """How many were open at once since the last reset."""
        with self._changed:
            return self._most

    def reset(self) -> None:
        """Start counting from those that are open now."""
        with self._changed:
            self._most = len(self._alive())

    def _alive(self) -> set[int]:
        return self._open.keys() - all_gone(self._open.values())


def _token(name: str, generation: int | str) -> str:
    return hashlib.sha256(f"{name} {generation}".encode()).hexdigest()[:32]
