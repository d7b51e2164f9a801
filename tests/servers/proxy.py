"""A TCP proxy that cuts, stalls, slows and refuses connections, in a process of its own.

Orders are given by the index of a connection (from 1, in the order of arrival) or for all others;
an outage takes the whole network away. By hand: `python -m tests.servers.proxy HOST:PORT --order
'1:after=100000,then=rst' --order '*:pace=1000000'`. Knows TCP only; what passes is not its
business.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit, urlunsplit

from tests.servers.control import ServerProcess, obey
from tests.servers.link import Count, Link, Order, Then

if TYPE_CHECKING:
    from collections.abc import Sequence


class Server:
    """The proxy's own process."""

    def __init__(self, target: tuple[str, int], host: str, port: int) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._orders: dict[int, Order] = {}
        self._others = Order()
        self._links: list[Link] = []
        self._up = threading.Event()
        self._up.set()
        self._listening = threading.Event()
        self._listening.set()
        self._listener = socket.create_server((host, port), backlog=1024)
        self.host, self.port = self._listener.getsockname()[:2]
        threading.Thread(target=self._accept, daemon=True).start()

    def give(self, index: int | None, order: dict[str, Any]) -> None:
        """An order for the connection of this index, or for all that have none."""
        with self._lock:
            if index is None:
                self._others = Order(**order)
            else:
                self._orders[index] = Order(**order)

    def end_all(self, then: Then) -> int:
        """End all open connections; how many there were."""
        with self._lock:
            links = [link for link in self._links if link.count.open]
            for link in links:
                link.ending = then
            return len(links)

    def freeze(self, on: bool) -> None:
        """Forward nothing on any open connection, or again."""
        with self._lock:
            for link in self._links:
                link.frozen = on

    def shut(self, on: bool) -> None:
        """Close the listening socket, so that connections are refused; or open it again."""
        if not on:
            self._up.set()
            self._listening.wait(5)
        elif self._up.is_set():
            self._up.clear()
            self._listening.clear()
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accept

    def counts(self) -> list[dict[str, object]]:
        """What each connection did."""
        with self._lock:
            return [asdict(link.count) for link in self._links]

    def reset(self) -> None:
        """Forget orders and ended connections; the next one is the first."""
        with self._lock:
            self._orders.clear()
            self._others = Order()
            for link in self._links:
                link.ending = "rst"
            self._links = []

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                self._listener.close()
                self._up.wait()
                self._listener = socket.create_server((self.host, self.port), backlog=1024)
                self._listening.set()
                continue
            with self._lock:
                index = len(self._links) + 1
                order = self._orders.get(index, self._others)
                link = Link(client, self._target, order, Count(index))
                self._links.append(link)
            threading.Thread(target=link.run, daemon=True).start()


class Proxy:
    """One running proxy before a port of this machine: a context manager."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", **others: Any) -> None:
        """`others`: the fields of an Order that holds for every connection without its own."""
        self._process = ServerProcess("tests.servers.proxy", [f"{host}:{port}", "--control"])
        self.port: int = self._process.hello["port"]
        if others:
            self.order(None, **others)

    def url(self, url: str) -> str:
        """The URL led through the proxy."""
        parts = urlsplit(url)
        return urlunsplit(parts._replace(netloc=f"{parts.hostname}:{self.port}"))

    def order(self, index: int | None, **fields: Any) -> None:
        """Give the index-th connection or, with None, all others an Order of these fields."""
        self._process.order("give", index=index, order=asdict(Order(**fields)))

    def end_all(self, then: Then = "rst") -> int:
        """Cut all open connections; how many there were."""
        return int(self._process.order("end_all", then=then))

    def freeze(self) -> None:
        """Open connections fall silent."""
        self._process.order("freeze", on=True)

    def thaw(self) -> None:
        """They go on."""
        self._process.order("freeze", on=False)

    def outage(self) -> None:
        """The network is gone: connections are reset and new ones refused."""
        self._process.order("shut", on=True)
        self._process.order("end_all", then="rst")

    def restore(self) -> None:
        """The network is back."""
        self._process.order("shut", on=False)

    def counts(self) -> list[Count]:
        """What each connection did, in the order of arrival."""
        return [Count(**count) for count in self._process.order("counts")]

    @property
    def connections(self) -> int:
        """How many came."""
        return len(self.counts())

    def reset(self) -> None:
        """Drop orders and connections; the next one has index 1."""
        self._process.order("reset")

    def stop(self) -> None:
        """End the process; safe to call twice."""
        self._process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def parse_order(text: str) -> tuple[int | None, dict[str, Any]]:
    """`INDEX:FIELD=VALUE,…` (INDEX may be `*`) as on the command line."""
    index, _, given = text.partition(":")
    kinds = {"after": int, "then": str, "pace": int, "delay": float, "refuse": bool}
    pairs = (pair.partition("=") for pair in given.split(",") if pair)
    return None if index == "*" else int(index), {k: kinds[k](value) for k, _, value in pairs}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the proxy by hand, or under control."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers.proxy", description=__doc__)
    parser.add_argument("target", metavar="HOST:PORT", help="where connections are led to")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="default: one that is free")
    parser.add_argument(
        "--order",
        action="append",
        default=[],
        type=parse_order,
        metavar="INDEX:FIELD=VALUE,…",
        help="after=BYTES then=close|rst|stall pace=BYTES delay=SECONDS refuse=1; INDEX: 1…, or *",
    )
    parser.add_argument("--control", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    host, _, port = args.target.rpartition(":")
    server = Server((host, int(port)), args.host, args.port)
    for index, order in args.order:
        server.give(index, order)
    orders = (server.give, server.end_all, server.freeze, server.shut, server.counts, server.reset)
    obey({"port": server.port}, {f.__name__: f for f in orders})


if __name__ == "__main__":
    main()
