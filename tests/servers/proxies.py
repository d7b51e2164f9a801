"""Real proxies: squid and mitmproxy, as context managers like the servers of real.py.

Each has a port of its own and a log of what was asked of it. What is not here raises
`Unavailable` (fetch.py).
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers.fetch import debian, wheel
from tests.servers.real import RealServer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Mitmproxy", "Passed", "Squid"]

_HELPER = """#!/bin/sh
while read -r given; do
    if [ "$given" = "{user} {password}" ]; then echo OK; else echo ERR; fi
done
"""


@dataclass(frozen=True)
class Passed:
    """One request that a proxy has answered, or a tunnel that has ended."""

    client_port: int
    method: str
    target: str
    status: int
    user: str
    bytes: int


class Squid(RealServer):
    """squid from Debian's package, without a cache. Like a company's proxy it may want a password,
    allow a client only so many connections, and drop the header that asks for a range."""

    INHERITS = False

    def __init__(
        self,
        *,
        user: tuple[str, str] | None = None,
        most: int | None = None,
        schemes: Sequence[str] = ("basic",),
        config: str = "",
    ) -> None:
        """`user`: (name, password) that it wants. `most`: connections from one client, beyond which it
        answers 403. `schemes`: how it lets one show who one is. `config`: more lines of squid.conf."""
        self._user, self._most, self._schemes, self._more = user, most, schemes, config
        self._program, self._environment = debian("squid", "usr/sbin/squid")
        super().__init__(".")

    def proxy(self, user: tuple[str, str] | None = None) -> str:
        """The value of the option `proxy`."""
        who = ":".join(user) + "@" if user else ""
        return f"http://{who}{self.HOST}:{self.port}"

    def passed(self) -> list[Passed]:
        """Its access log. A tunnel is told when it has ended."""
        path = self.folder / "logs" / "access.log"
        rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        rows = [row for row in rows if row[2] != "/"]  # how we asked whether it is up
        return [
            Passed(int(port), how, what, int(status), who, int(size)) for port, how, what, status, who, size in rows
        ]

    def command(self, fd: int) -> tuple[Sequence[str], Mapping[str, str]]:
        """In the foreground; nothing is written outside the folder."""
        logs = self.folder / "logs"
        logs.mkdir()
        (self.folder / "mime.conf").touch()
        conf = self.folder / "squid.conf"
        conf.write_text(self._configuration())
        if self._user:
            helper = self.folder / "helper"
            helper.write_text(_HELPER.format(user=self._user[0], password=self._user[1]))
            helper.chmod(0o755)
        if os.geteuid() == 0:  # it becomes nobody
            self.folder.chmod(0o755)
            logs.chmod(0o777)
        # The name keeps its shared memory apart from another squid's.
        name = f"parpull{os.getpid()}p{self.port}"
        return [str(self._program), "-N", "-n", name, "-d1", "-f", str(conf)], self._environment

    def _configuration(self) -> str:
        logs = self.folder / "logs"
        lines = [
            f"http_port {self.HOST}:{self.port}",
            "pid_filename none",
            "coredump_dir none",
            "cache_effective_user nobody",
            f"cache_log {logs}/cache.log",
            "logformat seen %>p %rm %ru %>Hs %un %<st",
            f"access_log stdio:{logs}/access.log seen",
            f"mime_table {self.folder}/mime.conf",
            f"icon_directory {self.folder}",
            f"error_directory {self.folder}",
            "err_page_stylesheet none",
            "unlinkd_program /bin/true",  # only looked for
            "pinger_enable off",
            "netdb_filename none",
            "cache deny all",
            "cache_mem 0",
            "memory_cache_shared off",
            "buffered_logs off",
            "visible_hostname squid.invalid",
            "shutdown_lifetime 0 seconds",
        ]
        if self._user:
            for scheme in self._schemes:
                program = f"{self.folder}/helper" if scheme == "basic" else "/bin/cat"
                lines += [f"auth_param {scheme} program {program}", f"auth_param {scheme} children 1 startup=1"]
            lines += ["acl known proxy_auth REQUIRED"]
        if self._most is not None:
            lines += [f"acl many maxconn {self._most}", "http_access deny many"]
        lines += [self._more, "http_access allow known" if self._user else "http_access allow all"]
        return "\n".join([*lines, "http_access deny all\n"])


class Mitmproxy(RealServer):
    """mitmproxy from its wheel: opens TLS with an authority of its own, and collects whole bodies."""

    INHERITS = False

    def __init__(self, *, trusts: str | None = None, options: Sequence[str] = ()) -> None:
        """`trusts`: PEM file of authorities that servers behind it may have. `options`: `NAME=VALUE`."""
        self._trusts, self._options = trusts, options
        self._program = wheel("mitmproxy", "bin/mitmdump", alone=False)
        super().__init__(".")
        self.ca_file = str(self.folder / "mitmproxy-ca-cert.pem")

    def proxy(self, scheme: str = "http") -> str:
        """The value of the option `proxy`; "https": TLS to the proxy as well."""
        return f"{scheme}://{self.HOST}:{self.port}"

    def command(self, fd: int) -> tuple[Sequence[str], Mapping[str, str]]:
        """Its configuration, and with it its authority, lie in the folder."""
        given = [f"confdir={self.folder}", f"listen_host={self.HOST}", f"listen_port={self.port}", *self._options]
        if self._trusts:
            given.append(f"ssl_verify_upstream_trusted_ca={self._trusts}")
        sets = [word for each in given for word in ("--set", each)]
        packages = str(Path(self._program).parents[1])
        return [sys.executable, str(self._program), *sets], {"PYTHONPATH": packages, "HOME": str(self.folder)}

    def asked(self) -> list[str]:
        """The requests that it has seen, as it tells them: `CLIENT: GET URL`."""
        return [line for line in self.log().splitlines() if ": GET " in line]
