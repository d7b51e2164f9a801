"""A scripted proxy, in a process of its own: SOCKS5 and HTTP on one port, by a client's first byte.

It wants a password or not, refuses or not, leads names to this machine, and tells what it was asked.
A tunnel passes bytes unseen; requests that are no CONNECT get `refuse`, or 501. By hand:
`python -m tests.servers.door --status 502`.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import threading
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

from tests.servers.control import ServerProcess, obey

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Asked", "Door"]

_NAME, _IPV4, _IPV6 = 3, 1, 4


@dataclass(frozen=True)
class Asked:
    """What one connection asked for: "socks" or "http"; `named`: by name, not by address."""

    protocol: str
    host: str
    port: int
    named: bool
    user: str | None


class Refused(Exception):
    """The client does not get through; `answer` is what it is told."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self.answer = answer


class Server:
    """The proxy's own process: an event loop on a thread."""

    def __init__(self, user: str | None, status: int | None, headers: Sequence[str], reply: int) -> None:
        self._user, self._status, self._headers, self._reply = user, status, headers, reply
        self._asked: list[Asked] = []
        self.port = 0
        up = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._run(up)), daemon=True).start()
        up.wait(5)

    def asked(self) -> list[dict[str, object]]:
        """What came so far."""
        return [asdict(each) for each in self._asked]

    async def _run(self, up: threading.Event) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        up.set()
        await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            first = await reader.readexactly(1)
            try:
                wanted, welcome = await (self._socks(reader, writer) if first == b"\x05" else self._http(first, reader))
                there = await asyncio.open_connection(wanted.host if not wanted.named else "127.0.0.1", wanted.port)
                writer.write(welcome)
                await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))
            except Refused as refusal:
                writer.write(refusal.answer)
                await writer.drain()
        writer.close()

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[Asked, bytes]:
        """RFC 1928, with the password of RFC 1929."""
        methods = await reader.readexactly((await reader.readexactly(1))[0])
        method = 2 if self._user else 0
        if method not in methods:
            raise Refused(b"\x05\xff")
        writer.write(bytes([5, method]))
        shown = None
        if self._user:
            await reader.readexactly(1)
            pair = [(await reader.readexactly((await reader.readexactly(1))[0])).decode() for _ in range(2)]
            shown = ":".join(pair)
            if shown != self._user:
                raise Refused(b"\x01\x01")
            writer.write(b"\x01\x00")
        kind = (await reader.readexactly(4))[3]
        size = (await reader.readexactly(1))[0] if kind == _NAME else {_IPV4: 4, _IPV6: 16}[kind]
        raw = await reader.readexactly(size)
        port = int.from_bytes(await reader.readexactly(2), "big")
        host = raw.decode() if kind == _NAME else ".".join(map(str, raw)) if kind == _IPV4 else "::1"
        wanted = Asked("socks", host, port, kind == _NAME, shown)
        self._asked.append(wanted)
        if self._reply:
            raise Refused(bytes([5, self._reply, 0, 1, 0, 0, 0, 0, 0, 0]))
        return wanted, b"\x05\x00\x00\x01" + bytes(6)

    async def _http(self, first: bytes, reader: asyncio.StreamReader) -> tuple[Asked, bytes]:
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        host, _, port = (target if method == "CONNECT" else headers["host"]).rpartition(":")
        kind, _, given = headers.get("proxy-authorization", "").partition(" ")
        shown = base64.b64decode(given).decode() if kind == "Basic" else None
        named = not host.replace(".", "").isdecimal()
        self._asked.append(Asked("http", host, int(port), named, shown))
        status = self._status or (407 if self._user and shown != self._user else 0 if method == "CONNECT" else 501)
        if status:
            lines = [f"HTTP/1.1 {status} So It Is", "Content-Length: 0", *self._headers]
            raise Refused("\r\n".join([*lines, "", ""]).encode())
        return self._asked[-1], b"HTTP/1.1 200 Go Ahead\r\n\r\n"


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    sink.close()


class Door:
    """One running proxy: a context manager."""

    def __init__(
        self, *, user: str | None = None, status: int | None = None, headers: Sequence[str] = (), reply: int = 0
    ) -> None:
        """`user`: "name:password" that it wants. `status`, `headers`: the answer to every CONNECT.
        `reply`: to every SOCKS request, of RFC 1928 (5: refused)."""
        args = [f"--user={user}"] if user else []
        args += [f"--status={status}"] if status else []
        args += [f"--header={each}" for each in headers]
        self._process = ServerProcess("tests.servers.door", [*args, f"--reply={reply}", "--control"])
        self.port: int = self._process.hello["port"]

    def proxy(self, scheme: str, user: str | None = None) -> str:
        """The value of the option `proxy`."""
        return f"{scheme}://{user + '@' if user else ''}127.0.0.1:{self.port}"

    def asked(self) -> list[Asked]:
        """What was asked of it, in the order of arrival."""
        return [Asked(**each) for each in self._process.order("asked")]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()


def main(argv: Sequence[str] | None = None) -> None:
    """Run it by hand, or under control."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers.door", description=__doc__)
    parser.add_argument("--user", metavar="NAME:PASSWORD")
    parser.add_argument("--status", type=int)
    parser.add_argument("--header", action="append", default=[])
    parser.add_argument("--reply", type=int, default=0)
    parser.add_argument("--control", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    server = Server(args.user, args.status, args.header, args.reply)
    obey({"port": server.port}, {"asked": server.asked})


if __name__ == "__main__":
    main()
