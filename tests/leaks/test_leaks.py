"""The leak gate itself: it sees what is left on purpose."""

from __future__ import annotations

import os

import pytest

import parpull
from parpull._mapping import Mapping
from parpull._reactor import Reactor
from tests.conftest import leaked, living


@pytest.mark.leaks
def test_the_gate_sees_a_forgotten_mapping_and_descriptor():
    before = living()
    kept = Mapping(1 << 20)
    fd = os.open("/dev/null", os.O_RDONLY)
    assert leaked(before) == {"mappings": 1, "fds": 1}
    kept.close()
    os.close(fd)
    assert leaked(before) == {}


@pytest.mark.leaks
def test_the_gate_sees_a_running_engine(origin, name):
    before = living()
    client = parpull.Client()
    download = client.submit(origin.url(name, size=100 << 20, pace=1_000_000))
    more = leaked(before)
    assert more["reactors"] == more["jobs"] == 1
    assert more["threads"] >= 1
    client.close()
    del client, download
    assert leaked(before) == {}


def test_a_reactor_gives_everything_back():
    before = living()
    for _ in range(20):
        reactor = Reactor(4)
        reactor.quit()
        assert reactor.wait(5.0) == [None]
        reactor.join()
    assert leaked(before) == {}


def test_a_thousand_transfers_keep_memory_flat(origin, name):
    def rss():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    url = origin.url(name, size=10_000)
    with parpull.Client(connections=4) as client:
        for _ in range(200):
            client.fetch(url).close()
        before = rss()
        for _ in range(1000):
            client.fetch(url).close()
        assert rss() - before < 4 << 20
