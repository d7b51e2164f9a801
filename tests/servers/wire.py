"""HTTP/1.1 on one accepted socket: read a request head, send bytes at speed, end well or badly.

Blocking sockets and one thread a connection: `send` of a long memoryview releases the interpreter
lock for the whole copy, so one thread fills a loopback. Knows sockets and the grammar of a request
head; must not know what is served, nor decide anything.
"""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import ssl
import struct
import termios
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SO_MAX_PACING_RATE = getattr(socket, "SO_MAX_PACING_RATE", 47)  # Linux; not named before Python 3.14
UNPACED = (1 << 32) - 1
_HEAD_LIMIT = 64 << 10
SEND_AT_ONCE = 4 << 20  # the granularity in which sent bytes are counted while they go
_GONE = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)


class BadRequest(Exception):
    """The client sent something that is no request head."""


@dataclass(frozen=True)
class Request:
    """One request head. Header names are in lower case."""

    method: str
    target: str
    protocol: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


def parse_request(head: bytes) -> Request:
    """Parse a request head (without the empty line that ends it)."""
    first, *lines = head.decode("latin-1").split("\r\n")
    try:
        method, target, protocol = first.split(" ")
        headers = {k.strip().lower(): v.strip() for k, v in (line.split(":", 1) for line in lines)}
        url = urlsplit(target)
    except ValueError:
        raise BadRequest(first[:200]) from None
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    return Request(method, target, protocol, unquote(url.path), query, headers)


class Connection:
    """One accepted socket: owned by its thread, which alone reads, writes and closes it."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.number = number
        self.tls = False
        self.address: str = sock.getsockname()[0]
        self._sock = sock
        self._received = b""
        self._paced = False
        self._torn = False
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def secure(self, context: ssl.SSLContext) -> None:
        """Do the TLS handshake; OSError when the client does not go along."""
        self._sock = context.wrap_socket(self._sock, server_side=True, suppress_ragged_eofs=True)
        self.tls = True

    @property
    def certificate(self) -> bool:
        """Whether the client has shown one of its own."""
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.getpeercert(True) is not None

    def fileno(self) -> int:
        """The descriptor, for poll; -1 once closed."""
        return self._sock.fileno()

    def read_request(self) -> Request | None:
        """The next request, or None when the client has closed."""
        while b"\r\n\r\n" not in self._received:
            if len(self._received) > _HEAD_LIMIT:
                raise BadRequest("head too long")
            more = self._sock.recv(64 << 10)
            if not more:
                return None
            self._received += more
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        return parse_request(head)

    def send(self, data: Iterable[memoryview | bytes], most: int = SEND_AT_ONCE) -> Iterable[int]:
        """Send the buffers, yielding how many bytes the kernel took after each step."""
        for buffer in data:
            view = memoryview(buffer)
            while view:
                sent = self._sock.send(view[:most])
                yield sent
                view = view[sent:]

    def send_all(self, data: bytes) -> None:
        """Send a small buffer."""
        self._sock.sendall(data)

    def pace(self, rate: int | None) -> None:
        """Have the kernel send at most `rate` bytes a second from here on (None: unlimited)."""
        if rate is not None or self._paced:
            value = UNPACED if rate is None else rate
            self._sock.setsockopt(
                socket.SOL_SOCKET, SO_MAX_PACING_RATE, struct.pack("=I", value)
            )  # as an int it would be signed
            self._paced = rate is not None

    def wait_gone(self, seconds: float) -> bool:
        """Wait until the client has closed or reset the connection; False if it has not in time."""
        poll = select.poll()
        poll.register(self.fileno(), _GONE)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        """Close in order: over TLS with a close_notify, so a close-delimited body is complete."""
        if isinstance(self._sock, ssl.SSLSocket) and not self._torn:
            self._sock.settimeout(0.2)
            with contextlib.suppress(OSError, ValueError):
                self._sock.unwrap()
        self._sock.close()

    def tear(self) -> None:
        """Have the close say nothing over TLS, as if the wire had been cut."""
        self._torn = True

    def reset(self) -> None:
        """Close with an RST, after the client's kernel has what was sent so far."""
        self._drain(2.0)
        # Python's SSLSocket sends nothing on close, so the RST is the last word over TLS too.
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def _drain(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while unsent(self._sock) and time.monotonic() < until:
            time.sleep(0.001)


def unsent(sock: socket.socket) -> int:
    """How many bytes wait in the socket's send queue, not yet acknowledged by the peer."""
    return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0])


def all_gone(connections: Iterable[Connection]) -> set[int]:
    """The numbers of those connections that the client has already closed or reset."""
    poll = select.poll()
    numbers = {}
    for connection in connections:
        fd = connection.fileno()
        if fd >= 0:
            poll.register(fd, _GONE)
            numbers[fd] = connection.number
    return {numbers[fd] for fd, _ in poll.poll(0)}
