"""One proxied connection: bytes both ways until an order ends it.

A thread a link, non-blocking sockets, one buffer each way: so an order or an outage is obeyed
within a few milliseconds even when a paced client takes nothing. Knows TCP only: TLS passes through
unseen, and byte counts include heads and handshakes.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from dataclasses import dataclass
from typing import Literal

from tests.servers.wire import SO_MAX_PACING_RATE

Then = Literal["close", "rst", "stall"]
_BUFFER = 256 << 10
_GLANCE = 10  # milliseconds between looks at the orders


@dataclass(frozen=True)
class Order:
    """What to do to one connection; nothing by default."""

    after: int | None = None
    """So many bytes towards the client, then `then`."""
    then: Then = "close"
    pace: int | None = None
    """Bytes a second towards the client."""
    delay: float = 0.0
    """Seconds before the server is connected to."""
    refuse: bool = False
    """Reset as soon as it is accepted."""


@dataclass
class Count:
    """What one connection did, in the order of arrival from 1."""

    index: int
    up: int = 0
    down: int = 0
    open: bool = True


class _Flow:
    """One direction."""

    def __init__(self, source: socket.socket, sink: socket.socket, most: int | None) -> None:
        self.source, self.sink = source, sink
        self.left = most
        self.ended = False
        self._buffer = memoryview(bytearray(_BUFFER))
        self._pending = self._buffer[:0]

    @property
    def dry(self) -> bool:
        """Its share is used up."""
        return self.left == 0

    def wants(self) -> tuple[socket.socket, int] | None:
        """The socket and event it waits for."""
        if self._pending:
            return self.sink, select.POLLOUT
        return None if self.ended or self.dry else (self.source, select.POLLIN)

    def move(self) -> int:
        """Forward what can be forwarded now; how much it was."""
        if self.wants() is None:
            return 0
        if not self._pending:
            most = _BUFFER if self.left is None else min(_BUFFER, self.left)
            got = self.source.recv_into(self._buffer, most)
            self._pending = self._buffer[:got]
            if not got:
                self.ended = True
                self.sink.shutdown(socket.SHUT_WR)
                return 0
        sent = self.sink.send(self._pending)
        self._pending = self._pending[sent:]
        if self.left is not None:
            self.left -= sent
        return sent


class Link:
    """One client, one server between which bytes go."""

    def __init__(self, client: socket.socket, server: tuple[str, int], order: Order, count: Count) -> None:
        self.count = count
        self.frozen = False
        """Set by the controller: forward nothing, keep everything open."""
        self.ending: Then | None = None
        """Set by the controller: end now, so."""
        self._client, self._address, self._order = client, server, order

    def run(self) -> None:
        """Carry out the order, to the end of both sockets."""
        try:
            then = "rst" if self._order.refuse else self._between()
        except OSError:
            then = "rst"  # what happened on one side happens on the other
        if then == "rst":
            linger = struct.pack("ii", 1, 0)
            with contextlib.suppress(OSError):
                self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._client.close()
        self.count.open = False

    def _between(self) -> Then:
        time.sleep(self._order.delay)
        with socket.create_connection(self._address) as server:
            for sock in (self._client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setblocking(False)
            if self._order.pace is not None:
                self._client.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, self._order.pace)
            return self._pump(_Flow(self._client, server, None), _Flow(server, self._client, self._order.after))

    def _pump(self, up: _Flow, down: _Flow) -> Then:
        while self.ending is None and not (up.ended and (down.ended or down.dry)):
            if down.dry and down.wants() is None and self._order.then != "stall":
                return self._order.then
            self._wait(() if self.frozen else (up, down))
            if self.frozen:
                continue
            with contextlib.suppress(BlockingIOError):
                self.count.up += up.move()
            with contextlib.suppress(BlockingIOError):
                self.count.down += down.move()
        return self.ending or "close"

    def _wait(self, flows: tuple[_Flow, ...]) -> None:
        poll = select.poll()
        wanted = [want for flow in flows if (want := flow.wants()) is not None]
        for sock in {sock for sock, _ in wanted}:
            poll.register(sock, sum(event for other, event in wanted if other is sock))
        if wanted:
            poll.poll(_GLANCE)
        else:
            time.sleep(_GLANCE / 1000)
