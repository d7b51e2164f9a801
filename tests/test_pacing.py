"""How much at once: a limited rate, and connections="auto" on servers that differ."""

from __future__ import annotations

import time

import pytest

import parpull
from tests.servers.content import first_difference
from tests.servers.origin import Origin

MIB = 1 << 20


def timed(url, **options):
    """Seconds of a fetch whose bytes are right, and its events."""
    events = []
    began = time.monotonic()
    with parpull.fetch(url, on_event=events.append, **options) as blob:
        took = time.monotonic() - began
        assert first_difference(memoryview(blob), 0) is None
    return took, events


# --- limit_rate -------------------------------------------------------------------------


@pytest.mark.parametrize("connections", [1, 8])
def test_a_limit_holds_over_all_connections(connections, origin, name):
    took, events = timed(origin.url(name, size=12 * MIB), limit_rate=8_000_000, connections=connections)
    assert 1.4 <= took <= 2.2  # 12.6 MB
    assert events[-1].retries == 0


def test_a_limit_holds_over_all_transfers(origin, name):
    began = time.monotonic()
    with parpull.Client(limit_rate=8_000_000, connections=6) as client:
        downloads = [client.submit(origin.url(f"{name}/{i}", size=4 * MIB)) for i in range(3)]
        for download in downloads:
            download.result().close()
    assert 1.4 <= time.monotonic() - began <= 2.2


def test_a_limit_shares_evenly(origin, name):
    """None of the connections starves, so none falls silent."""
    url = origin.url(name, size=6 * MIB)
    with parpull.submit(url, limit_rate=3_000_000, connections=6, part_size=MIB, stall_timeout=1.0) as download:
        download.result().close()
        assert download.progress().retries == 0
    asked = origin.log(name).requests
    assert max(r.ended for r in asked[1:]) - min(r.ended for r in asked[1:]) < 1.0


def test_a_very_low_limit_is_slow_and_no_stall(origin, name):
    took, events = timed(origin.url(name, size=40_000), limit_rate=20_000, stall_timeout=0.5, connections=2)
    assert 0.8 <= took <= 3.0
    assert events[-1].retries == 0


def test_a_limit_and_a_reader(origin, name):
    began = time.monotonic()
    with parpull.open(origin.url(name, size=8 * MIB), limit_rate=8_000_000, access="sequential") as reader:
        assert first_difference(reader.read(), 0) is None
    assert 0.9 <= time.monotonic() - began <= 1.8


def test_a_limited_transfer_is_cancelled_at_once(origin, name):
    with parpull.submit(origin.url(name, size=64 * MIB), limit_rate=1_000_000) as download:
        assert download.begun(10)
        time.sleep(0.2)
        began = time.monotonic()
    assert time.monotonic() - began < 1
    assert download.cancelled()


# --- connections="auto" -----------------------------------------------------------------


def numbers(events):
    return [event.after for event in events if event.kind == "adapted"]


def test_auto_grows_where_it_pays(origin, name):
    _, events = timed(origin.url(name, size=384 * MIB, pace=8_000_000))
    assert numbers(events)[:2] == [16, 32]
    first = next(event for event in events if event.kind == "adapted")
    assert (first.before, first.why) == (8, "grow")
    assert first.rate > 30e6


def test_a_client_remembers_what_a_host_was_good_for(origin, name):
    with parpull.Client() as client:
        for i in range(2):
            events = []
            client.fetch(origin.url(f"{name}/{i}", size=192 * MIB, pace=8_000_000), on_event=events.append).close()
            peak = events[-1].connections
    steps = [event.before for event in events if event.kind == "adapted"]
    assert steps[:1] in ([], [32]), "it begins where the one before has ended"
    assert peak == 32


def test_a_given_number_is_kept(origin, name):
    _, events = timed(origin.url(name, size=64 * MIB, pace=8_000_000), connections=4)
    assert numbers(events) == []
    assert events[-1].connections == 4


@pytest.mark.parametrize("scenario", ["limit-429", "limit-503", "limit-refused", "limit-rst"])
def test_auto_keeps_to_what_a_server_takes(scenario, name):
    with Origin() as origin:  # its listening socket closes, for all that use it
        _, events = timed(origin.url(name, size=64 * MIB, scenario=scenario, pace=10_000_000))
    refused = [event for event in events if event.kind == "retrying"]
    assert len(refused) <= 10
    assert events[-1].size == 64 * MIB
