"""What a second, hostile reading of mirrors, the tail and the limited rate has found."""

from __future__ import annotations

import threading
import time

import pytest

import parpull
from parpull.alternatives import Alternatives
from parpull.options import Options
from parpull.sources import Target
from tests.servers.content import content, first_difference, sha256
from tests.servers.origin import Origin
from tests.servers.raw import Raw

MIB = 1 << 20
SIZE = 48 * MIB
PACE = 10_000_000


@pytest.fixture
def second():
    with Origin() as origin:
        yield origin


# --- a signed address that runs out, and a mirror ---------------------------------------


def test_a_signed_address_is_resolved_anew_beside_a_mirror(origin, second, name):
    """Only the home's own answer shows that its new address works, not a mirror's."""
    events = []
    url = origin.url(name, size=SIZE, pace=PACE, redirect="signed", uses=5)
    mirror = second.url(name, size=SIZE, pace=PACE)
    with parpull.fetch(url, mirrors=[mirror], connections=6, part_size=MIB, on_event=events.append) as blob:
        assert first_difference(memoryview(blob), 0) is None
    refreshed = [event for event in events if event.kind == "refreshed"]
    redirected = [event for event in events if event.kind == "redirected"]
    assert refreshed
    assert len(redirected) == len(refreshed) + 1
    assert second.log(name).sent > SIZE // 5


# --- a mirror that falls silent ------------------------------------------------------------


def test_a_mirror_that_falls_silent_is_dropped(origin, name):
    release = threading.Event()

    def answer(send, number, span):
        if span == (0, 1):
            send(
                b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\n"
                b"Content-Range: bytes 0-0/%d\r\n\r\n%s" % (SIZE, content(0, 1))
            )
            return True
        release.wait(20)
        return False

    events = []
    with Raw(answer) as mirror:
        try:
            with parpull.fetch(
                origin.url(name, size=SIZE, pace=1_500_000), mirrors=[mirror.url], connections=6, part_size=MIB,
                checksum=f"sha256={sha256(SIZE)}", on_event=events.append,
            ) as blob:  # fmt: skip
                assert first_difference(memoryview(blob), 0) is None
        finally:
            release.set()
        told = [event.message for event in events if event.kind == "warned"]
        assert len(told) == 1
        assert "is used no more" in told[0]
        assert mirror.requests <= 1 + 6


# --- what a closed Alternatives does -------------------------------------------------------


class Handle:
    """Notes sources down."""

    def __init__(self, during=lambda: None):
        self.sources = 0
        self._during = during

    def add_source(self, *_, **__):
        self.sources += 1
        self._during()
        return True


def nothing(*_):
    pass


def of(handle, options=None, ask=nothing):
    return Alternatives(
        handle, options or Options(), "http://many.test/x", ask=ask, poke=nothing, warn=nothing, doubt=nothing
    )


def target(size=SIZE):
    return Target(
        "http://localhost/x", size=size, etag='"a"', last_modified=None, ranges=True, headers={}, address="127.0.0.9"
    )


def test_nobody_is_asked_after_the_end():
    asked = []
    alternatives = of(Handle(), Options(mirrors=("http://mirror.test/x",)), ask=lambda *a: asked.append(a))
    alternatives.close()
    alternatives.look(target(), 64 << 20, proven=False)
    assert not asked


def test_without_a_thread_the_addresses_are_not_looked_up(monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    of(Handle()).look(target(), 64 << 20, proven=False)


def test_a_source_has_its_name_before_it_can_be_dropped():
    """The reactor may drop it before the thread that found it goes on."""
    found, asked = [], []

    def dropped():
        try:
            found.append(alternatives.name(1))
        except IndexError as error:
            found.append(error)

    def during():
        if not asked:
            asked.append(threading.Thread(target=dropped))
            asked[0].start()
            time.sleep(0.05)

    alternatives = of(Handle(during))
    alternatives._look_up("http://localhost/x", "127.0.0.9")
    asked[0].join(5)
    assert found == ["address 127.0.0.1 of localhost"]


# --- where a mirror is of no use ------------------------------------------------------------


def test_a_probe_asks_no_mirror(origin, second, name):
    with parpull.Client(mirrors=[second.url(name, size=SIZE)]) as client:
        assert client.probe(origin.url(name, size=SIZE)).size == SIZE
    assert len(second.log(name)) == 0


def test_a_reader_asks_its_mirrors_once(origin, second, name):
    size = 300 * MIB
    with parpull.open(
        origin.url(name, size=size), mirrors=[second.url(name, size=size)], window=8 * MIB, buffering=0
    ) as reader:
        for at in range(0, size, 30 * MIB):
            reader.seek(at)
            assert first_difference(reader.read(100), at) is None
    assert len(second.log(name).with_header("range")) <= 1 + 4


# --- a limited rate -------------------------------------------------------------------------


@pytest.mark.parametrize("connections", [3, 8, "auto"])
def test_a_limited_rate_hedges_nothing(connections, origin, name):
    """A connection that waits for the rate is not slow: its bytes are not thrown away."""
    size = 12 * MIB
    with parpull.submit(origin.url(name, size=size), limit_rate=3_000_000, connections=connections) as download:
        with download.result() as blob:
            assert first_difference(memoryview(blob), 0) is None
        progress = download.progress()
    assert progress.hedges == 0
    assert progress.retries == 0


# --- what a resumed file holds ---------------------------------------------------------------


def test_bytes_that_only_a_digest_would_prove_are_not_left_for_the_next(origin, second, name, tmp_path):
    """A mirror may hold another object of that size: the digest of the whole finds out.
    The next transfer may have none."""
    path = tmp_path / "file"
    url = origin.url(name, size=SIZE, pace=4_000_000)
    mirror = second.url(name, size=SIZE, version=2, pace=PACE)
    checksum = f"sha256={sha256(SIZE)}"
    with parpull.submit(url, path, mirrors=[mirror], connections=4, part_size=2 * MIB, checksum=checksum) as download:
        until = time.monotonic() + 10
        while second.log(name).sent < 12 * MIB and time.monotonic() < until:
            time.sleep(0.05)
    assert download.cancelled()
    parpull.fetch(url, path, connections=16).close()
    assert first_difference(path.read_bytes(), 0) is None


# --- the end ---------------------------------------------------------------------------------


def test_a_client_is_closed_while_mirrors_are_asked(origin, second, name):
    began = time.monotonic()
    for _ in range(5):
        with parpull.Client(mirrors=[second.url(name, size=SIZE, latency=30)] * 4) as client:
            download = client.submit(origin.url(name, size=SIZE, pace=PACE))
            assert download.begun(10)
    assert download.cancelled()
    assert time.monotonic() - began < 5


def test_only_the_home_shows_that_its_new_address_works(second, name):
    """A mirror's answer in between does not make the next hop look like the end of that
    address: one refresh for each time that it ran out."""
    state = {"left": 4, "hops": 0, "ends": 0}
    lock = threading.Lock()

    def answer(send, number, span):
        with lock:
            cut = number == 1 and span[0] > 0
            hop = state["hops"] > 0
            if hop:
                state["hops"] -= 1
                state["left"] = 4
            else:
                state["left"] -= 1
            gone = not hop and state["left"] < 0 and not cut
            if gone:
                state["hops"], state["ends"] = 2, state["ends"] + 1
        if hop:
            time.sleep(0.2)
            send(b"HTTP/1.1 302 Found\r\nLocation: /object\r\nContent-Length: 0\r\n\r\n")
        elif gone:
            send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        else:
            body = content(span[0], min(span[1], SIZE) - span[0])
            about = f"HTTP/1.1 206 Partial Content\r\nContent-Length: {len(body)}\r\n"
            send(f"{about}Content-Range: bytes {span[0]}-{span[0] + len(body) - 1}/{SIZE}\r\n\r\n".encode())
            send(body[: 20_000 if cut else None])
        return not cut  # the first lane turns to the mirror

    events = []
    with (
        Raw(answer) as home,
        parpull.fetch(
            home.url, mirrors=[second.url(name, size=SIZE)], connections=3, part_size=MIB,
            checksum=f"sha256={sha256(SIZE)}", on_event=events.append,
        ) as blob,
    ):  # fmt: skip
        assert first_difference(memoryview(blob), 0) is None
    refreshed = [event for event in events if event.kind == "refreshed"]
    assert 1 <= len(refreshed) <= state["ends"]


@pytest.mark.parametrize("length", [10, 1_000_000])
def test_a_redirect_whose_body_does_not_come_whole(length):
    def answer(send, number, span):
        if number == 1:
            send(b"HTTP/1.1 302 Found\r\nLocation: /other?u=a://b\r\nContent-Length: %d\r\n\r\nx" % length)
            if length > MIB // 2:
                send(bytes(length - 1))
            return False
        send(b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes 0-4/5\r\n\r\nhello")
        return True

    with Raw(answer) as server, parpull.fetch(server.url) as blob:
        assert bytes(memoryview(blob)) == b"hello"
