"""The reactor, judged by what its server sees: requests, connections, bytes."""

from __future__ import annotations

import ctypes
import mmap
import threading

import pytest

import parpull
from tests.servers import content
from tests.servers.origin import Origin
from tests.servers.proxy import Proxy

BLOCK = 1 << 20
FIRST = 4 << 20


def right(blob, start=0):
    with memoryview(blob) as view:
        return content.first_difference(view, start) is None


def covers(ranges, size):
    """Whether half-open ranges make [0, size), each byte once."""
    at = 0
    for start, stop in sorted(ranges):
        if start != at:
            return False
        at = stop
    return at == size


@pytest.mark.parametrize("size", [1, 1000, FIRST - 1, FIRST])
def test_small_object_is_one_request(size, origin, name):
    parpull.fetch(origin.url(name, size=size), connections=16).close()
    assert len(origin.log(name)) == 1


@pytest.mark.parametrize("connections", [1, 2, 8, 16])
def test_without_stealing_parts_are_requests(connections, name):
    size, part = 64 * BLOCK + 77, 2 * BLOCK
    with Origin() as server:
        with parpull.fetch(server.url(name, size=size), connections=connections, part_size=part, steal=False) as blob:
            assert right(blob)
        log = server.log(name)
        assert len(log) == -(-size // part)
        assert covers(log.asked, size)
        assert log.connections <= connections
        assert server.most_open <= connections
        assert log.sent == size


@pytest.mark.parametrize("connections", [1, 3, 16])
def test_chosen_parts_cover_the_object_once(connections, origin, name):
    size = 200 * BLOCK + 5
    with parpull.fetch(origin.url(name, size=size), connections=connections, steal=False) as blob:
        assert right(blob)
    log = origin.log(name)
    assert covers(log.asked, size)
    assert log.connections <= connections
    assert len(log) <= 1 + 8 * connections


def test_strong_etag_is_sent_weak_never(origin, name):
    for etag, expected in (("strong", 3), ("weak", 0), ("none", 0)):
        key = f"{name}-{etag}"
        parpull.fetch(origin.url(key, size=8 * BLOCK, etag=etag), part_size=2 * BLOCK, steal=False).close()
        log = origin.log(key)
        assert len(log) == 4
        assert len(log.with_header("if-match")) == expected
        assert not log.with_header("if-range")


def test_every_range_is_closed_and_unencoded(origin, name):
    parpull.fetch(origin.url(name, size=20 * BLOCK)).close()
    for record in origin.log(name).requests:
        assert record.asked[1] is not None
        assert record.headers["accept-encoding"] == "identity"


def test_idle_connections_steal_from_a_slow_one(origin, name):
    """One part of 60 MiB, paced; the others are done in no time and help."""
    size = 64 * BLOCK
    url = origin.url(name, size=size, pace=20_000_000)
    done = parpull.submit(url, connections=8, part_size=60 * BLOCK)
    with done.result() as blob:
        assert right(blob)
    assert done.progress().steals > 0
    assert origin.log(name).connections > 2


def test_bytes_land_while_python_holds_the_gil(name):
    # Memory that has been touched: how fast the kernel gives new pages is not the question here.
    with mmap.mmap(-1, 3 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as target:
        for at in range(0, len(target), mmap.PAGESIZE):
            target[at] = 1
        with Origin() as server, parpull.submit(server.url(name, size=3 << 30), target, connections=8) as download:
            while not download.progress().landed:
                pass
            before = download.progress().landed
            ctypes.PyDLL(None).usleep(2_000_000)
            landed = download.progress().landed - before
            download.result().close()
        del download
    assert landed >= 1 << 30 or landed >= (3 << 30) - before - 64 * BLOCK


def test_a_cut_connection_goes_on_where_it_was(origin, name):
    size = 24 * BLOCK
    with Proxy(origin.port) as proxy:
        proxy.order(1, after=3 * BLOCK, then="rst")
        proxy.order(2, after=2 * BLOCK, then="close")
        url = proxy.url(origin.url(name, size=size))
        download = parpull.submit(url, connections=4, part_size=6 * BLOCK, steal=False)
        with download.result() as blob:
            assert right(blob)
    assert download.progress().retries == 2
    assert origin.log(name).sent <= size + 12 * BLOCK  # at most the two parts that were in flight come twice


def test_a_silent_connection_is_replaced(origin, name):
    size = 24 * BLOCK
    with Proxy(origin.port) as proxy:
        proxy.order(2, after=BLOCK, then="stall")
        url = proxy.url(origin.url(name, size=size))
        with parpull.fetch(url, connections=4, part_size=6 * BLOCK, steal=False, stall_timeout=1.0) as blob:
            assert right(blob)


def test_an_outage_is_waited_for(origin, name):
    size = 48 * BLOCK
    with Proxy(origin.port, pace=10_000_000) as proxy:
        url = proxy.url(origin.url(name, size=size))
        download = parpull.submit(url, connections=4, retries=2)
        while download.progress().landed < 8 * BLOCK:
            threading.Event().wait(0.01)
        proxy.outage()
        threading.Event().wait(1.5)
        proxy.restore()
        with download.result(60) as blob:
            assert right(blob)
    assert download.progress().retries > 0


def test_signed_address_is_resolved_once_and_refreshed_once(origin, name):
    size = 40 * BLOCK
    url = origin.url(name, size=size, redirect="signed", uses=12)
    with parpull.fetch(url, connections=4, part_size=2 * BLOCK, steal=False) as blob:
        assert right(blob)
    log = origin.log(name)
    assert log.resolutions == 2
    assert len(log.with_status(403)) <= 4


@pytest.mark.slow
def test_beyond_four_gib(origin, name, tmp_path):
    size = (4 << 30) + 3 * BLOCK + 1
    with parpull.fetch(origin.url(name, size=size), connections=16) as blob:
        assert right(blob)
