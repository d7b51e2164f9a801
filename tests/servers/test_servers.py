"""The servers do what they say: seen by pycurl, urllib and http.client, which know nothing of us.

Rates are compared loosely (a factor of two): what is tested is the behaviour, not this machine.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.parse import urlsplit

import pytest

from tests.servers.bare import SIZE, fetch_barely, measure
from tests.servers.ca import CONDITIONS, Condition
from tests.servers.content import PERIOD, content, first_difference, sha256
from tests.servers.control import ROOT, ServerFailed
from tests.servers.digests import FORMS, crc32c
from tests.servers.faults import FAULTS
from tests.servers.fixtures import real
from tests.servers.origin import Origin
from tests.servers.proxy import Proxy
from tests.servers.real import Caddy, HttpServer, Nginx
from tests.servers.scenarios import load, load_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.servers.real import RealServer

SCENARIOS = load_all()
MIB = 1 << 20


class Reply:
    """One answer, an error status included."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> None:
        request = urllib.request.Request(url, headers=dict(headers or {}), method=method)
        try:
            answer = urllib.request.urlopen(request, timeout=10)
        except HTTPError as error:
            answer = error
        with answer:
            self.status: int = answer.status
            self.headers = answer.headers
            self.body: bytes = answer.read()


def ranged(start: int, stop: int, **others: str) -> dict[str, str]:
    return {"Range": f"bytes={start}-{stop - 1}", **others}


class TestContent:
    def test_the_period_is_prime(self) -> None:
        assert all(PERIOD % n for n in range(2, int(PERIOD**0.5) + 1))

    def test_is_one_function_of_offset_and_version(self) -> None:
        around = content(PERIOD - 5, 10)
        assert around == content(PERIOD - 5, 5) + content(0, 5)
        assert content(0, 1000, 1) != content(0, 1000)
        assert sha256(2000, start=1000) == hashlib.sha256(content(1000, 1000)).hexdigest()

    def test_the_first_difference_is_found(self) -> None:
        buffer = bytearray(content(PERIOD - MIB, 3 * MIB))
        assert first_difference(buffer, PERIOD - MIB) is None
        assert first_difference(buffer, PERIOD - MIB + 4096) is not None
        buffer[2 * MIB + 77] ^= 1
        assert first_difference(buffer, PERIOD - MIB) == 2 * MIB + 77


class TestHonestOrigin:
    def test_ranges_and_conditions(self, origin: Origin, name: str) -> None:
        url = origin.url(name, size=3 * MIB)
        part = Reply(url, ranged(5, 2 * MIB))
        assert part.status == 206
        assert part.body == content(5, 2 * MIB - 5)
        assert part.headers["Content-Range"] == f"bytes 5-{2 * MIB - 1}/{3 * MIB}"
        etag = part.headers["ETag"]
        assert Reply(url, {"Range": "bytes=-7"}).body == content(3 * MIB - 7, 7)
        assert Reply(url, ranged(3 * MIB, 4 * MIB)).status == 416
        assert Reply(url, ranged(0, 5, **{"If-Match": etag})).status == 206
        assert Reply(url, ranged(0, 5, **{"If-Match": f"W/{etag}"})).status == 412
        assert Reply(url, ranged(0, 5, **{"If-Range": '"other"'})).status == 200
        head = Reply(url, method="HEAD")
        assert (head.body, head.headers["Content-Length"]) == (b"", str(3 * MIB))

    @pytest.mark.parametrize("length", ["known", "chunked", "close"])
    def test_framings(self, origin: Origin, name: str, length: str) -> None:
        reply = Reply(origin.url(name, size=MIB + 1, ranges=False, length=length), ranged(0, 9))
        assert (reply.status, reply.body) == (200, content(0, MIB + 1))

    def test_the_empty_object(self, origin: Origin, name: str) -> None:
        assert Reply(origin.url(name, size=0), ranged(0, 9)).status == 200
        refused = Reply(origin.url(name, size=0, empty="416"), ranged(0, 9))
        assert (refused.status, refused.headers["Content-Range"]) == (416, "bytes */0")

    def test_the_stated_digest(self, origin: Origin, name: str) -> None:
        right = Reply(origin.url(name, size=99, digest="right")).headers["Repr-Digest"]
        wrong = Reply(origin.url(name, size=99, digest="wrong")).headers["Repr-Digest"]
        assert right != wrong

    def test_crc32c(self) -> None:
        assert crc32c(b"123456789") == 0xE3069283

    @pytest.mark.parametrize("form", FORMS)
    def test_every_form_of_a_digest(self, origin: Origin, name: str, form: str) -> None:
        reply = Reply(origin.url(name, size=99, digest="right", stated=form))
        assert any(
            "digest" in header or "hash" in header or "checksum" in header for header in map(str.lower, reply.headers)
        )

    def test_credentials(self, origin: Origin, name: str) -> None:
        url = origin.url(name, size=9, bearer="secret", cookie="a=b")
        assert Reply(url).status == 401
        assert Reply(url, {"Authorization": "Bearer secret"}).status == 403
        assert Reply(url, {"Authorization": "Bearer secret", "Cookie": "x=y; a=b"}).status == 200

    def test_unknown_parameters_are_refused(self, origin: Origin, name: str) -> None:
        with pytest.raises(ValueError, match="colour"):
            origin.url(name, size=9, colour="red")
        assert Reply(origin.url(name, size=9) + "&colour=red").status == 400

    def test_a_pace_holds_for_the_connection(self, origin: Origin, name: str) -> None:
        url = urlsplit(origin.url(name, size=8 * MIB, pace=4 * MIB))
        connection = http.client.HTTPConnection(url.netloc)
        began = time.monotonic()
        for start in range(0, 8 * MIB, MIB):
            connection.request("GET", f"{url.path}?{url.query}", headers=ranged(start, start + MIB))
            assert connection.getresponse().read() == content(start, MIB)
        connection.close()
        assert 1 < time.monotonic() - began < 4


class TestLog:
    def test_requests_and_connections(self, origin: Origin, name: str) -> None:
        url = origin.url(name + "/file.bin", size=SIZE)
        assert fetch_barely(url).bytes == "right"
        log = origin.log(name)
        assert len(log) == 4
        assert sorted(log.asked)[1] == (MIB, 2 * MIB)
        assert log.sent == SIZE
        assert {r.status for r in log.requests} == {206}
        assert origin.connections(name) == log.connections == 3

    def test_most_open_is_exact(self, name: str) -> None:
        with Origin() as own:
            for _ in range(20):  # one after the other is never two
                Reply(own.url(name, size=9))
            assert own.most_open == 1
            url = own.url(name, size=MIB, latency=0.3)
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda _: Reply(url), range(8)))
            assert own.most_open == 8
            own.reset()
            assert (own.most_open, len(own.log(name))) == (0, 0)


class TestRedirects:
    def test_a_signature_runs_out(self, origin: Origin, name: str) -> None:
        url = urlsplit(origin.url(name, size=9, redirect="signed", uses=2))
        connection = http.client.HTTPConnection(url.netloc)

        def ask(target: str) -> http.client.HTTPResponse:
            connection.request("GET", target)
            reply = connection.getresponse()
            reply.read()
            return reply

        first = ask(f"{url.path}?{url.query}").headers["Location"]
        assert [ask(first).status for _ in range(3)] == [200, 200, 403]
        second = ask(f"{url.path}?{url.query}").headers["Location"]
        assert second != first
        assert "gen=2" in second
        assert ask(second).status == 200
        connection.close()
        assert origin.log(name).resolutions == 2

    def test_a_second_origin_admits_what_the_first_signed(self, origin: Origin, name: str) -> None:
        with Origin() as other:
            target = other.url(name, size=99, signed=True)
            assert Reply(target).status == 403
            reply = Reply(origin.url(name, size=9, redirect="signed", to=target), {"Authorization": "x"})
            assert reply.body == content(0, 99)
            # urllib carries it along, which is the very thing the log is there to show
            assert len(other.log(name).with_header("authorization")) == 1

    def test_it_goes_to_localhost(self, origin: Origin, name: str) -> None:
        assert Reply(origin.url(name, size=9, scenario="redirect-other-host")).body == content(0, 9)
        hosts = [r.headers["host"].split(":")[0] for r in origin.log(name).requests]
        assert hosts == ["127.0.0.1", "localhost"]


class TestScenarios:
    def test_every_fault_has_a_scenario(self) -> None:
        assert {s.server.does for s in SCENARIOS.values()} - {None} == FAULTS.keys()

    @pytest.mark.parametrize("scenario", SCENARIOS)
    def test_bites_as_noted(self, scenario: str, origin: Origin, tls_origin: Origin, name: str) -> None:
        noted = SCENARIOS[scenario]
        alone = Origin(tls=noted.tls or False) if noted.alone else None
        server = alone or (tls_origin if noted.tls else origin)
        bare = measure(noted, server, name)
        log = server.log(name)
        if alone is not None:
            alone.stop()
        assert bare.bytes == noted.bare.bytes
        assert set(bare.code) <= set(noted.bare.code)
        assert bool(log.faults) == (noted.server.does is not None)

    @pytest.mark.parametrize(
        ("wrong", "complaint"),
        [
            ('does = "full"', "expect"),
            (
                'does = "ful"\n[expect]\noutcome = "recovers"\n[bare]\ncode = 0\nbytes = "right"',
                "ful",
            ),
            (
                'does = "shift"\n[expect]\noutcome = "recovers"\n[bare]\ncode = 0\nbytes = "right"',
                "by",
            ),
            (
                'does = "full"\n[expect]\noutcome = "Explodes"\n[bare]\ncode = 0\nbytes = "right"',
                "Explodes",
            ),
        ],
    )
    def test_a_wrong_file_is_refused(self, tmp_path: Path, wrong: str, complaint: str) -> None:
        path = tmp_path / "bad.toml"
        path.write_text(f'title = "bad"\n[server]\n{wrong}\n')
        with pytest.raises(ValueError, match=rf"bad\.toml: .*{complaint}"):
            load(path)


class TestTls:
    @pytest.mark.parametrize("condition", CONDITIONS)
    def test_only_a_valid_certificate_is_trusted(self, condition: Condition, name: str) -> None:
        with Origin(tls=condition) as own:
            bare = fetch_barely(own.url(name, size=SIZE), own.ca_file)
        assert bare.code == ((0,) if condition == "valid" else (60,))

    def test_a_close_delimited_body_is_complete(self, tls_origin: Origin, name: str) -> None:
        context = ssl.create_default_context(cafile=tls_origin.ca_file)
        url = tls_origin.url(name, size=MIB, length="close")
        with urllib.request.urlopen(url, context=context) as reply:
            assert reply.read() == content(0, MIB)


class TestProxy:
    @pytest.fixture
    def proxy(self, origin: Origin) -> Iterator[Proxy]:
        with Proxy(origin.port) as running:
            yield running

    def test_passes_and_counts(self, origin: Origin, proxy: Proxy, name: str) -> None:
        assert fetch_barely(proxy.url(origin.url(name, size=SIZE))).bytes == "right"
        assert proxy.connections == 3
        assert SIZE < sum(c.down for c in proxy.counts()) < SIZE + 4000

    @pytest.mark.parametrize(
        ("order", "code"),
        [
            ({"after": 300_000, "then": "rst"}, 56),
            ({"after": 300_000, "then": "close"}, 18),
            ({"after": 300_000, "then": "stall"}, 28),
            ({"refuse": True}, 56),
        ],
    )
    def test_orders(self, origin: Origin, proxy: Proxy, name: str, order: dict[str, object], code: int) -> None:
        proxy.order(1, **order)
        assert fetch_barely(proxy.url(origin.url(name, size=SIZE))).code == (code,)
        assert proxy.counts()[0].down == order.get("after", 0)
        proxy.reset()
        assert fetch_barely(proxy.url(origin.url(name, size=SIZE))).code == (0,)

    def test_pace_and_delay(self, origin: Origin, proxy: Proxy, name: str) -> None:
        proxy.order(None, pace=2 * MIB, delay=0.2)
        began = time.monotonic()
        assert Reply(proxy.url(origin.url(name, size=2 * MIB))).body == content(0, 2 * MIB)
        assert 0.7 < time.monotonic() - began < 2.4

    def test_an_outage_ends(self, origin: Origin, proxy: Proxy, name: str) -> None:
        url = proxy.url(origin.url(name, size=SIZE))
        proxy.outage()
        assert fetch_barely(url).code == (7,)
        proxy.restore()
        assert fetch_barely(url).code == (0,)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "object").write_bytes(content(0, SIZE))
    return tmp_path


class TestRealServers:
    @pytest.mark.parametrize("kind", [Nginx, Caddy])
    @pytest.mark.parametrize("tls", [False, True])
    def test_ranges(self, kind: type[Nginx | Caddy], tls: bool, folder: Path) -> None:
        with real(lambda: kind(folder, tls=tls)) as server:
            assert fetch_barely(server.url("object"), server.ca_file).bytes == "right"
            port = server.port
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))

    @pytest.mark.parametrize("kind", [Nginx, Caddy])
    def test_pace(self, kind: type[Nginx | Caddy], folder: Path) -> None:
        with real(lambda: kind(folder, pace=4 * MIB)) as server:
            began = time.monotonic()
            assert Reply(server.url("object")).body == content(0, SIZE)
            assert 0.5 < time.monotonic() - began < 2

    def test_http_server_ignores_ranges(self, folder: Path) -> None:
        with real(lambda: HttpServer(folder)) as server:
            reply = Reply(server.url("object"), ranged(0, 10))
        assert (reply.status, reply.body) == (200, content(0, SIZE))

    @pytest.mark.parametrize("kind", [Nginx, HttpServer])
    def test_stops_twice(self, kind: type[RealServer], folder: Path) -> None:
        with real(lambda: kind(folder)) as server:
            server.stop()


class TestNothingOutlives:
    @pytest.mark.parametrize(
        "start",
        [
            "from tests.servers.origin import Origin; s = Origin()",
            "from tests.servers.proxy import Proxy; s = Proxy(9)",
            "from tests.servers.real import HttpServer; s = HttpServer('.')",
        ],
    )
    def test_a_parent_killed_takes_its_server_along(self, start: str) -> None:
        code = f"{start}; print(s.port, flush=True); input()"
        parent = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        assert parent.stdin is not None
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        socket.create_connection(("127.0.0.1", port)).close()
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        parent.stdin.close()
        parent.stdout.close()
        until = time.monotonic() + 10
        with pytest.raises(ConnectionRefusedError):
            while time.monotonic() < until:
                socket.create_connection(("127.0.0.1", port)).close()
                time.sleep(0.05)

    def test_a_stopped_server_says_so(self) -> None:
        own = Origin()
        own.stop()
        own.stop()
        with pytest.raises(ServerFailed):
            own.reset()
