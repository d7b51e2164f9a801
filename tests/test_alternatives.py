"""Mirrors and other addresses: who is asked, who is not, what is told."""

from __future__ import annotations

import pycurl
import pytest

import parpull
from parpull import alternatives
from parpull.alternatives import addresses_of, same_object
from parpull.options import Options
from parpull.sources import Target
from tests.servers.content import first_difference, sha256
from tests.servers.origin import Origin

MIB = 1 << 20
SIZE = 48 * MIB
PACE = 10_000_000  # of each connection: so that a mirror has time to answer
DATE = "Tue, 24 Nov 2026 10:00:00 GMT"


def target(size=10, etag='"a"', date=DATE, ranges=True):
    return Target("http://h/x", size=size, etag=etag, last_modified=date, ranges=ranges, headers={})


@pytest.mark.parametrize(
    ("theirs", "proven", "why"),
    [
        (target(), False, None),
        (target(date=None), False, None),
        (target(etag='"b"'), False, None),
        (target(etag=None, date=None), True, None),
        (target(etag='"b"', date=None), False, "checksum"),
        (target(etag=None, date=None), False, "checksum"),
        (target(size=11), True, "11 bytes"),
        (target(size=None), True, "unknown size"),
        (target(ranges=False), True, "no ranges"),
    ],
)
def test_same_object(theirs, proven, why):
    found = same_object(target(), theirs, proven=proven)
    assert found is None if why is None else why in found


def test_a_weak_etag_proves_nothing():
    assert same_object(target(etag='W/"a"', date=None), target(etag='W/"a"', date=None), proven=False) is not None


def test_addresses():
    number = pycurl.RESOLVE
    options = Options(curl={number: ["+many.test:80:127.0.0.1,127.0.0.2,[::1]", "other.test:80:10.0.0.1"]})
    assert addresses_of("many.test", 80, options, like="127.0.0.1") == ["127.0.0.1", "127.0.0.2"]
    assert addresses_of("many.test", 80, options, like="::1") == ["::1"]
    assert "127.0.0.1" in addresses_of("localhost", 80, Options(), like="127.0.0.9")


# --- mirrors ----------------------------------------------------------------------------


@pytest.fixture
def second():
    with Origin() as origin:
        yield origin


def fetched(url, **options):
    """All bytes right? What was warned of."""
    events = []
    with parpull.fetch(url, on_event=events.append, **options) as blob:
        assert first_difference(memoryview(blob), 0) is None
    return [event.message for event in events if event.kind == "warned"]


def test_a_mirror_brings_its_share(origin, second, name):
    told = fetched(
        origin.url(name, size=SIZE, pace=PACE), mirrors=[second.url(name, size=SIZE, pace=PACE)], connections=8
    )
    assert not told
    ours, theirs = origin.log(name), second.log(name)
    assert theirs.sent > 2 * MIB
    assert ours.sent + theirs.sent <= SIZE + 8 * 2 * MIB  # what was on its way when a part was stolen
    assert ours.connections + theirs.connections <= 8 + 12  # lanes that move, and victims of a theft
    assert theirs.with_header("if-match")


def test_a_redirected_mirror(origin, second, name):
    mirror = second.url(name, size=SIZE, pace=PACE, redirect="signed")
    assert not fetched(origin.url(name, size=SIZE, pace=PACE), mirrors=[mirror], connections=8)
    assert second.log(name).sent > 2 * MIB


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"size": SIZE - 1}, "bytes"),
        ({"size": SIZE, "scenario": "range-ignored"}, "no ranges"),
        ({"size": SIZE, "scenario": "not-found"}, "404"),
        ({"size": SIZE, "version": 2}, "checksum"),
    ],
)
def test_a_mirror_of_something_else_is_not_used(params, why, origin, second, name):
    (told,) = fetched(origin.url(name, size=SIZE, pace=PACE), mirrors=[second.url(name, **params)], connections=4)
    assert "is not used" in told
    assert why in told
    assert len(second.log(name)) <= 2


def test_a_mirror_that_nobody_answers_at(origin, name):
    mirrors = ["http://127.0.0.1:9/x", "ftp://host/x"]
    told = fetched(origin.url(name, size=SIZE, pace=PACE), mirrors=mirrors, connections=4)
    assert len(told) == 2
    assert all("is not used" in each for each in told)


def test_another_version_with_a_checksum_never_gets_through(origin, second, name):
    """Size and digest are all that is known: the digest is what catches it."""
    mirror = second.url(name, size=SIZE, version=2, etag="none", pace=PACE)
    with pytest.raises(parpull.errors.ChecksumMismatch):
        parpull.fetch(
            origin.url(name, size=SIZE, etag="none", pace=PACE),
            mirrors=[mirror], connections=8, checksum=f"sha256={sha256(SIZE)}",
        )  # fmt: skip
    assert second.log(name).sent > MIB


def test_a_mirror_that_fails_later_is_dropped(origin, second, name):
    mirror = second.url(name, size=SIZE, pace=PACE, scenario="not-found-later")
    (told,) = fetched(origin.url(name, size=SIZE, pace=PACE), mirrors=[mirror], connections=4)
    assert "is used no more" in told
    assert len(second.log(name)) <= 1 + 4


def test_a_slow_mirror_is_dropped(origin, second, name):
    size = 4 * SIZE
    mirror = second.url(name, size=size, pace=PACE // 10)
    told = fetched(origin.url(name, size=size, pace=PACE * 2), mirrors=[mirror], connections=8, part_size=MIB)
    assert any("it is slow" in each for each in told)
    assert second.log(name).sent < size // 8


def test_no_secret_reaches_a_mirror(origin, second, name):
    secrets = {"headers": ["X-Secret: s"], "auth": ("me", "geheim"), "cookies": "a=b"}
    fetched(origin.url(name, size=SIZE, pace=PACE), mirrors=[second.url(name, size=SIZE)], connections=8, **secrets)
    assert len(origin.log(name).with_header("authorization")) == len(origin.log(name))
    theirs = second.log(name)
    assert len(theirs) > 1
    assert not any(theirs.with_header(header) for header in ("authorization", "cookie", "x-secret"))


def test_a_mirror_at_the_same_origin_gets_them(origin, name):
    mirror = f"{name}-mirror"
    fetched(
        origin.url(name, size=SIZE, pace=PACE), mirrors=[origin.url(mirror, size=SIZE)], connections=8, auth=("me", "x")
    )
    assert len(origin.log(mirror)) > 1
    assert len(origin.log(mirror).with_header("authorization")) == len(origin.log(mirror))


def test_a_short_transfer_does_not_wait_for_mirrors(origin, second, name):
    fetched(origin.url(name, size=1000), mirrors=[second.url(name, size=1000, latency=30)], max_memory=2000)


def test_a_reader_asks_its_mirrors_once(origin, second, name):
    url = origin.url(name, size=SIZE)
    with parpull.open(url, mirrors=[second.url(name, size=SIZE)], access="random") as reader:
        for at in (40 * MIB, 3 * MIB, 20 * MIB):
            reader.seek(at)
            assert first_difference(reader.read(100), at) is None
    assert [asked for asked in second.log(name).asked if asked == (0, 1)] in ([], [(0, 1)])


def test_a_probe_asks_no_mirror(origin, second, name):
    assert parpull.probe(origin.url(name, size=SIZE), mirrors=[second.url(name, size=SIZE)]).size == SIZE
    assert len(second.log(name)) == 0


# --- addresses --------------------------------------------------------------------------


def many(origin, addresses):
    """Options by which many.test has these addresses."""
    return {"curl": {pycurl.RESOLVE: [f"many.test:{origin.port}:{','.join(addresses)}"]}}


def test_connections_are_spread_over_the_addresses(name, monkeypatch):
    monkeypatch.setattr(alternatives, "SPREAD_FROM", MIB)
    with Origin(host="0.0.0.0") as origin:
        url = origin.url(name, size=SIZE, pace=PACE).replace(origin.host, "many.test", 1)
        assert not fetched(url, connections=8, **many(origin, ["127.0.0.1", "127.0.0.2", "127.0.0.3"]))
        reached = {record.address for record in origin.log(name).requests}
    assert reached == {"127.0.0.1", "127.0.0.2", "127.0.0.3"}


def test_a_dead_address_is_dropped(origin, name):
    url = origin.url(name, size=SIZE, pace=PACE).replace("127.0.0.1", "many.test", 1)
    told = fetched(url, connections=8, **many(origin, ["127.0.0.1", "127.0.0.2"]))
    assert len(told) == 1
    assert "address 127.0.0.2 of many.test is used no more" in told[0]
    assert origin.log(name).sent <= SIZE + 8 * 2 * MIB  # what was on its way when a part was stolen
