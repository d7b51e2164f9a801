"""The scripted hostile origin, as a test holds it: start, make URLs, read the log, stop.

The server itself runs in a process of its own (server.py) and is ordered over a pipe (control.py).
By hand: `python -m tests.servers.origin --port 8080`, then `curl -r 0-9 http://127.0.0.1:8080/…`;
`--list` names the scenarios. Knows URLs and the log; the faults are decided on the other side.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, urlencode

from tests.servers.ca import Condition, certify
from tests.servers.control import ServerProcess, obey
from tests.servers.manner import as_text, explain, parse_manner
from tests.servers.scenarios import load_all
from tests.servers.server import Server
from tests.servers.state import Record

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Log:
    """What the origin saw for one name, in the order of arrival."""

    requests: tuple[Record, ...]

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def connections(self) -> int:
        """How many distinct connections asked."""
        return len({r.connection for r in self.requests})

    @property
    def sent(self) -> int:
        """Body bytes over all answers, whether the client wanted them or not."""
        return sum(r.sent for r in self.requests)

    @property
    def resolutions(self) -> int:
        """How many requests were answered by a redirect."""
        return sum(300 <= r.status < 400 for r in self.requests)

    @property
    def faults(self) -> int:
        """How often the scenario's fault struck."""
        return sum(r.fault for r in self.requests)

    @property
    def asked(self) -> list[tuple[int, int | None]]:
        """The ranges asked for, half-open."""
        return [r.asked for r in self.requests if r.asked is not None]

    def with_status(self, *statuses: int) -> list[Record]:
        """The requests that got one of these."""
        return [r for r in self.requests if r.status in statuses]

    def with_header(self, name: str) -> list[Record]:
        """The requests that carried this header: credentials that should have stayed home."""
        return [r for r in self.requests if name.lower() in r.headers]


class Origin:
    """One running origin: a context manager."""

    ca_file: str | None = None
    """What a client must trust when `tls` is on."""

    def __init__(
        self, *, tls: bool | Condition = False, host: str = "127.0.0.1", port: int = 0, client_ca: str | None = None
    ) -> None:
        """`client_ca`: ask clients for a certificate, which this authority should have signed."""
        self.tls = bool(tls)
        self.host = host
        args = ["--control", f"--host={host}", f"--port={port}"]
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if tls:
            self._folder = tempfile.TemporaryDirectory(prefix="origin-")
            made = certify(Path(self._folder.name), "valid" if tls is True else tls)
            self.ca_file = str(made.ca_file)
            args += ["--cert", str(made.cert_file), "--key", str(made.key_file)]
            args += ["--client-ca", client_ca] if client_ca else []
        self._process = ServerProcess("tests.servers.origin", args)
        self.port: int = self._process.hello["port"]

    def url(
        self,
        name: str,
        *,
        size: int,
        version: int = 0,
        scenario: str | None = None,
        host: str | None = None,
        **params: object,
    ) -> str:
        """The URL of an object; `params` are the fields of manner.Manner.

        Choose a `name` of its own for each test. It may go on after a slash (`"mine/file.bin"`):
        the log is kept under the part before it.
        """
        given = {key: as_text(value) for key, value in params.items()}
        parse_manner(given)
        query = urlencode({"size": size, "version": version, **given})
        scheme = "https" if self.tls else "http"
        where = f"{host or self.host}:{self.port}"
        return f"{scheme}://{where}/{scenario or 'plain'}/{quote(name)}?{query}"

    def log(self, name: str, settle: float = 2.0) -> Log:
        """What was asked under this name, once every answer is over or `settle` seconds passed."""
        records = self._process.order("log", name=name.partition("/")[0], settle=settle)
        for record in records:
            record["asked"] = record["asked"] and tuple(record["asked"])
        return Log(tuple(Record(**record) for record in records))

    def connections(self, name: str) -> int:
        """How many distinct connections asked for this name."""
        return self.log(name, 0).connections

    @property
    def most_open(self) -> int:
        """The most connections that were open at once since the last reset, over all names."""
        return int(self._process.order("most_open"))

    @property
    def open_now(self) -> int:
        """How many connections are open: none once the client has let go of everything."""
        return int(self._process.order("open_now"))

    def reset(self) -> None:
        """Forget every name and count connections anew."""
        self._process.order("reset")

    def stop(self) -> None:
        """End the process; safe to call twice."""
        self._process.stop()
        if self._folder is not None:
            self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def main(argv: Sequence[str] | None = None) -> None:
    """Run the origin by hand, or under control."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.servers.origin",
        description="A scripted hostile origin. URLs: /SCENARIO/NAME?size=N&version=N&PARAMETER=…",
        epilog=f"parameters:\n{explain()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="default: one that is free")
    parser.add_argument("--cert", help="PEM file: speak TLS")
    parser.add_argument("--key", help="PEM file of the certificate's key")
    parser.add_argument("--client-ca", help="PEM file: ask clients for a certificate of this authority")
    parser.add_argument("--list", action="store_true", help="list the scenarios and exit")
    parser.add_argument("--control", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.list:
        for name, scenario in load_all().items():
            print(f"{name:28} {scenario.outcome:18} {scenario.title}")
        return
    server = Server(args.host, args.port, (args.cert, args.key) if args.cert else None, args.client_ca)
    if not args.control:
        scheme = "https" if args.cert else "http"
        print(f"{scheme}://{server.host}:{server.port}/plain/object?size=1000000")
        print("End of input (Ctrl-D) stops it.")
    orders = {f.__name__: f for f in (server.log, server.most_open, server.open_now, server.reset)}
    obey({"port": server.port}, orders)


if __name__ == "__main__":
    main()
