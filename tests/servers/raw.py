"""A server of a few lines for the tests that need to say every byte themselves.

`Raw(answer)` calls `answer(send, number, span)` for each request, on a thread a
connection: `send(bytes)`, the number of the connection from 1, the half-open range
asked for or None. The answer returns whether the connection goes on. It runs in the
test's own process: not for measurements.
"""

from __future__ import annotations

import re
import socket
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    Answer = Callable[[Callable[[bytes], None], int, tuple[int, int] | None], bool]


class Raw:
    """A context manager; `url` is where it answers, `requests` counts."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.requests = 0
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/object"
        self._start(self._accept)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            self._start(self._serve, connection, len(self._open))

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection:
            try:
                while head := self._head(connection):
                    self.requests += 1
                    asked = re.search(rb"\r\nRange: bytes=(\d+)-(\d+)", head)
                    span = (int(asked[1]), int(asked[2]) + 1) if asked else None
                    if not self._answer(connection.sendall, number, span):
                        return
            except OSError:
                return

    def _head(self, connection: socket.socket) -> bytes:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = connection.recv(4096)
            if not piece:
                return b""
            head += piece
        return head

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join()


def partial(start: int, stop: int, total: int, *more: str) -> bytes:
    """The head of a 206; `more` are further header lines."""
    lines = ["HTTP/1.1 206 Partial Content", 'ETag: "e"', f"Content-Range: bytes {start}-{stop - 1}/{total}", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
