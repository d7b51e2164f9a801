"""Answers on the wire: the head, the framing, the body at speed or by drips, and the ending.

Puts an `Answer` on a `Connection` as it stands and judges nothing: an answer that contradicts
itself is what the scenarios are for.
"""

from __future__ import annotations

import time
from http.client import responses
from typing import TYPE_CHECKING

from tests.servers.content import views
from tests.servers.wire import SEND_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers.answers import Answer, Piece
    from tests.servers.state import Record
    from tests.servers.wire import Connection, Request

_CHUNK = 1 << 20
_HANG = 600.0  # longer than any test's patience


def deliver(answer: Answer, connection: Connection, record: Record) -> None:
    """Put the answer on the wire; `record.sent` follows the body as the kernel takes it."""
    record.status = answer.status
    if answer.mute:
        record.status = 0
        return
    for status in answer.informs:
        connection.send_all(_status_line("HTTP/1.1", status) + b"\r\n")
    head = _head(answer) if answer.raw is None else answer.raw
    if answer.drip is not None and answer.drip_head:
        for sent in connection.send((head,), 1):
            time.sleep(sent / answer.drip)
    else:
        connection.send_all(head)
    while answer.endless:
        connection.send_all(answer.endless)  # an OSError once the client has gone
    if record.method == "HEAD":
        return
    for buffer, counts in _framed(answer):
        most = SEND_AT_ONCE if answer.drip is None else max(1, answer.drip // 20)
        for sent in connection.send((buffer,), most):
            record.sent += sent * counts
            if answer.drip is not None:
                time.sleep(sent / answer.drip)


def conclude(answer: Answer, connection: Connection, request: Request) -> bool:
    """Do the answer's ending, up to the close; True when the connection goes on."""
    if answer.ending == "hang":
        connection.wait_gone(_HANG)
    if answer.ending == "rst":
        connection.reset()
    if answer.ending == "torn":
        connection.tear()
    asked = request.headers.get("connection", "").lower()
    stays = asked != "close" and (request.protocol == "HTTP/1.1" or asked == "keep-alive")
    return stays and answer.ending == "keep" and answer.framing != "close"


def _framed(answer: Answer) -> Iterator[tuple[memoryview | bytes, bool]]:
    """The buffers to send, each with whether it counts as body."""
    for buffer in _buffers(answer.body):
        if answer.framing != "chunked":
            yield buffer, True
            continue
        for at in range(0, len(buffer), _CHUNK):
            data = buffer[at : at + _CHUNK]
            yield b"%x\r\n" % len(data), False
            yield data, True
            yield b"\r\n", False
    if answer.framing == "chunked" and answer.last_chunk:
        yield b"0\r\n\r\n", False


def _buffers(body: tuple[Piece, ...]) -> Iterator[memoryview]:
    for piece in body:
        if isinstance(piece, bytes):
            yield memoryview(piece)
        else:
            yield from views(piece.start, len(piece), piece.version)


def _head(answer: Answer) -> bytes:
    headers = list(answer.headers)
    if answer.framing == "known":
        length = answer.length if answer.declared is None else answer.declared
        headers.append(("Content-Length", str(length)))
    elif answer.framing == "chunked":
        headers.append(("Transfer-Encoding", "chunked"))
    if answer.framing == "close" or answer.ending == "close":
        headers.append(("Connection", "close"))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return _status_line(answer.protocol, answer.status) + lines.encode("latin-1") + b"\r\n"


def _status_line(protocol: str, status: int) -> bytes:
    phrase = responses.get(status, "Unknown")
    return f"{protocol} {status} {phrase}\r\n".encode()
