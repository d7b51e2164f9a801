"""parpull.open(): what it costs on the wire, a consumer that is slow, streams that are
paused, broken and begun again, and its ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import parpull
from parpull import errors
from parpull.window import LEAST, Ahead
from tests.servers.content import content, first_difference, sha256
from tests.servers.raw import Raw, partial

MIB = 1 << 20
SOCKETS = 24 * MIB  # what the kernels on both sides may hold of one connection


def check(reader, n=-1):
    """Read and compare; how many bytes."""
    at = reader.tell()
    got = reader.read(n)
    assert first_difference(got, at) is None
    return len(got)


# --- Ahead ----------------------------------------------------------------------------


def test_ahead():
    auto = Ahead("auto")
    assert [auto.read(at, 10, 1000) for at in (0, 10, 20, 30)] == [0, 0, 30, 40]
    assert auto.read(5, 10, 1000) == 40, "what was asked for before is no new read"
    assert auto.read(40, 5000, 1000) == 1000
    auto.jump(7000)
    assert [auto.read(at, 10, 1000) for at in (7000, 7010, 7020)] == [0, 0, 30]
    assert Ahead("sequential").read(0, 10, 1000) == 1000
    greedless = Ahead("random")
    assert {greedless.read(at, 10, 1000) for at in range(0, 100, 10)} == {0}


# --- the wire ---------------------------------------------------------------------------


@pytest.mark.parametrize("access", ["auto", "random"])
@pytest.mark.parametrize("n", [10, 16 << 10, 100_000, 700_000])
def test_a_read_somewhere_costs_one_request_of_about_its_size(access, n, origin, name):
    url = origin.url(name, size=1 << 30)
    with parpull.open(url, access=access) as reader:
        for at in (500_000_001, 100_000_007):
            reader.seek(at)
            assert check(reader, n) == n
    first, *reads = origin.log(name).asked
    assert first == (0, 64 << 10)
    assert [start for start, _ in reads] == [500_000_001, 100_000_007]
    assert all(n <= stop - start <= n + (32 << 10) for start, stop in reads)


def test_a_read_near_the_end_is_one_request(origin, name):
    with parpull.open(origin.url(name, size=100 * MIB)) as reader:
        reader.seek(-65536, os.SEEK_END)
        assert check(reader) == 65536
    assert origin.log(name).asked[1:] == [(100 * MIB - 65536, 100 * MIB)]


@pytest.mark.parametrize("access", ["auto", "sequential"])
def test_reading_on_and_on_uses_many_connections_and_fetches_each_byte_once(access, origin, name):
    size = 96 * MIB + 11
    with parpull.open(
        origin.url(name, size=size, pace=20_000_000), access=access, connections=8, steal=False
    ) as reader:
        while check(reader, MIB):
            pass
        assert reader.progress().requests == len(origin.log(name))
    log = origin.log(name)
    asked = sorted(log.asked)
    assert asked[0][0] == 0
    assert asked[-1][1] == size
    assert all(a[1] == b[0] for a, b in zip(asked, asked[1:], strict=False))
    assert log.sent == size
    assert log.connections == 8


def test_a_slow_consumer_holds_no_response_open(origin, name):
    """Nothing beyond the window is asked for, no answer is under way while it sleeps,
    and stall_timeout is the server's, not the reader's."""
    window = 4 * MIB
    url = origin.url(name, size=64 * MIB)
    with parpull.open(url, access="sequential", window=window, connections=4, stall_timeout=0.5) as reader:
        for _ in range(2):
            at = reader.tell() + check(reader, MIB + 100)
            time.sleep(2)
            log = origin.log(name)
            assert all(r.ended for r in log.requests)
            assert max(stop for _, stop in log.asked) <= at + window
            assert log.faults == reader.progress().retries == 0
        while check(reader, MIB):
            pass
    assert origin.log(name).sent == 64 * MIB


@pytest.mark.parametrize("access", ["auto", "sequential", "random"])
@pytest.mark.parametrize("length", ["known", "chunked"])
def test_a_server_without_ranges_is_paused(access, length, origin, name):
    size, window = 64 * MIB + 7, 2 * MIB
    url = origin.url(name, size=size, ranges=False, length=length)
    with parpull.open(url, access=access, window=window, stall_timeout=0.5) as reader:
        at = check(reader, 100_000)
        time.sleep(2)
        assert origin.log(name, 0).sent <= at + window + SOCKETS
        assert not reader.seekable()
        while check(reader, 300_000):
            pass
        assert reader.tell() == size == reader.size
    assert len(origin.log(name)) == 1


@pytest.mark.parametrize("step", [100, 9000, 100_000])
@pytest.mark.parametrize("access", ["auto", "random"])
def test_a_paused_stream_of_odd_pieces_goes_on(step, access):
    """Its pieces end on no boundary of ours, in the least of windows."""
    size = 3 * MIB + 5

    def answer(send, number, span):
        send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(0, size, 9973):
            piece = content(at, min(9973, size - at))
            send(b"%x\r\n%b\r\n" % (len(piece), piece))
        send(b"0\r\n\r\n")
        return True

    with Raw(answer) as server, parpull.open(server.url, 0, window=LEAST, access=access) as reader:
        while check(reader, step):
            pass
        assert reader.tell() == size


def test_seeking_back_costs_nothing_while_all_fits_the_window(origin, name):
    with parpull.open(origin.url(name, size=6 * MIB), access="sequential", window=8 * MIB, steal=False) as reader:
        check(reader, 6 * MIB)
        for at in (0, 3 * MIB + 1, 17, 5 * MIB):
            reader.seek(at)
            check(reader, 200_000)
    asked = sorted(origin.log(name).asked)
    assert [start for start, _ in asked] == [0, *(stop for _, stop in asked[:-1])]


@pytest.mark.parametrize("params", [{"redirect": "plain"}, {"redirect": "signed"}, {"hops": 3}])
def test_many_seeks_resolve_once(params, origin, name):
    with parpull.open(origin.url(name, size=512 * MIB, **params), access="random") as reader:
        for i in range(12):
            reader.seek((i * 7919 * 65537) % (512 * MIB))
            check(reader, 1000)
    assert origin.log(name).resolutions == params.get("hops", 1)


def test_an_address_that_expires_between_seeks_is_resolved_again(origin, name):
    events = []
    url = origin.url(name, size=512 * MIB, redirect="signed", uses=4)
    with parpull.open(url, access="random", on_event=events.append) as reader:
        for i in range(12):
            reader.seek((i * 7919 * 65537) % (512 * MIB))
            check(reader, 1000)
    assert 2 <= origin.log(name).resolutions <= 13
    assert "refreshed" in [event.kind for event in events]


def test_a_seek_is_guarded_by_the_validator(origin, name):
    with parpull.open(origin.url(name, size=256 * MIB)) as reader:
        reader.seek(100 * MIB)
        check(reader, 1000)
    assert "if-match" in origin.log(name).requests[-1].headers


@pytest.mark.parametrize("scenario", ["object-changes", "object-changes-weak", "object-changes-dated"])
def test_an_object_that_changes_between_seeks(scenario, origin, name):
    with parpull.open(origin.url(name, size=256 * MIB, scenario=scenario)) as reader:
        with pytest.raises(errors.ObjectChanged):
            for i in range(8):
                reader.seek(i * 30 * MIB)
                check(reader, 1000)
        with pytest.raises(errors.ObjectChanged):
            reader.seek(250 * MIB)
            reader.read(1)


# --- broken streams ------------------------------------------------------------------------


def breaking(size, cut, *, etag=True, version=0):
    """One stream, of which the first connection gives `cut` bytes only."""

    def answer(send, number, span):
        tag = b'ETag: "e"\r\n' if etag else b""
        send(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n" % (tag, size))
        send(content(0, cut if number == 1 else size, 0 if number == 1 else version))
        return number > 1

    return Raw(answer)


@pytest.mark.parametrize("etag", [True, False])
def test_a_stream_that_breaks_while_all_is_in_the_window(etag):
    with breaking(3 * MIB, 2 * MIB, etag=etag) as server, parpull.open(server.url) as reader:
        assert check(reader) == 3 * MIB


def test_a_stream_without_validator_that_breaks_when_the_window_has_moved_on():
    with breaking(9 * MIB, 6 * MIB, etag=False) as server, parpull.open(server.url, window=LEAST) as reader:
        with pytest.raises(errors.TransferError):
            while check(reader, 100_000):
                pass
        assert reader.tell() >= 5 * MIB
        assert reader.size == 9 * MIB


@pytest.mark.parametrize("etag", [True, False])
def test_a_stream_that_is_another_when_it_begins_again(etag):
    with breaking(3 * MIB, 2 * MIB, etag=etag, version=1) as server, parpull.open(server.url) as reader:
        with pytest.raises(errors.ObjectChanged):
            while check(reader, 100_000):
                pass


@pytest.mark.parametrize("cut", [MIB - 1000, MIB - 10_000, 3 * MIB + 17])
def test_a_stream_with_a_validator_goes_on_in_the_smallest_window(cut):
    with breaking(5 * MIB, cut) as server, parpull.open(server.url, window=LEAST) as reader:
        while check(reader, 100_000):
            pass
        assert reader.tell() == 5 * MIB


# --- ends ---------------------------------------------------------------------------------------


def test_events_are_those_of_one_transfer(origin, name):
    events = []
    with parpull.open(origin.url(name, size=256 * MIB), on_event=events.append) as reader:
        for at in (200 * MIB, 0, 100 * MIB):
            reader.seek(at)
            check(reader, 100_000)
        time.sleep(0.5)  # what the last read has asked for comes in
        now = reader.progress()
        assert now.size == 256 * MIB
        assert now.front >= 100 * MIB + 100_000
    assert [event.kind for event in events] == ["started", "finished"]
    last = events[-1]
    log = origin.log(name)
    assert last.requests == len(log) == now.requests
    assert last.landed == log.sent == now.landed
    assert last.error is None


def test_the_end_of_a_reader_that_failed_is_told(origin, name):
    events = []
    url = origin.url(name, size=MIB)
    with parpull.open(url, checksum="sha256=" + "0" * 64, on_event=events.append) as reader:
        for _ in range(2):
            with pytest.raises(errors.ChecksumMismatch):
                reader.read()
        assert not reader.seekable()
    assert isinstance(events[-1].error, errors.ChecksumMismatch)
    events.clear()
    with pytest.raises(errors.NotFound):
        parpull.open(origin.url(name, size=MIB, scenario="not-found"), on_event=events.append)
    assert [event.kind for event in events] == ["finished"]


@pytest.mark.parametrize("params", [{}, {"ranges": False}, {"ranges": False, "length": "chunked"}])
def test_a_checksum_over_a_window_that_wraps(params, origin, name):
    size = 9 * MIB + 1
    with parpull.open(origin.url(name, size=size, **params), checksum="sha256=" + sha256(size), window=MIB) as reader:
        while check(reader, 70_001):
            pass


@pytest.mark.parametrize("wrong", [{"window": LEAST - 1}, {"access": "backwards"}, {"buffering": 1}, {"buffering": -1}])
def test_what_can_not_be_opened(wrong, origin, name):
    with pytest.raises(errors.BadOption):
        parpull.open(origin.url(name, size=10), **wrong)
    assert len(origin.log(name)) == 0


def test_less_memory_than_the_window(origin, name):
    url = origin.url(name, size=8 * MIB)
    with parpull.open(url, access="sequential", max_memory=2 * MIB) as reader:
        time.sleep(0.3)
        assert max(stop for _, stop in origin.log(name).asked) <= 2 * MIB
        assert check(reader) == 8 * MIB
    with pytest.raises(errors.MemoryBudget):
        parpull.open(url, max_memory=LEAST - 1)


def test_close_with_transfers_under_way(origin, name):
    reader = parpull.open(origin.url(name, size=64 * MIB, pace=500_000), access="sequential", connections=8)
    while reader.progress().connections < 8:
        check(reader, 1000)
    reader.close()
    deadline = time.monotonic() + 5
    while not all(r.ended for r in origin.log(name, 1).requests):
        assert time.monotonic() < deadline


def test_a_client_that_is_closed_under_its_reader(origin, name):
    from concurrent.futures import CancelledError

    with parpull.Client() as client:
        reader = client.open(origin.url(name, size=256 * MIB))
    with pytest.raises((CancelledError, RuntimeError)):
        reader.seek(100 * MIB)
        reader.read(1)
    reader.close()


@pytest.mark.parametrize("size", [256 * MIB, 40_000])
def test_a_fork_under_a_window(size, origin, name):
    """The child of a transfer under way is told at once; what is all there can be read."""
    with parpull.open(origin.url(name, size=size), 0) as reader:
        check(reader, 10_000)
        threading.Event().wait(0.5)  # the small one has ended by now
        child = os.fork()
        if not child:
            signal.alarm(10)
            status = 1
            try:
                reader.seek(1000)
                status = 0 if reader.read(5) == content(1000, 5) and size < MIB else 3
            except errors.TransferError as error:
                status = 0 if "forked" in str(error) and size > MIB else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        reader.seek(0)
        assert check(reader, 20_000)


def test_no_move_from_an_event(origin, name):
    """The notifier can't wait for the run under way to end; two would write into one ring."""
    raised = []
    opened, tried = threading.Event(), threading.Event()

    def told(event):
        if event.kind == "retrying" and opened.is_set() and not tried.is_set():
            try:
                reader.seek(150 * MIB)
                reader.read(1)
            except RuntimeError as error:
                raised.append(error)
            finally:
                reader.seek(0)
                tried.set()

    url = origin.url(name, size=200 * MIB, scenario="rst-mid-body", pace=20 * MIB)
    with parpull.open(url, 0, access="sequential", window=8 * MIB, on_event=told) as reader:
        opened.set()  # and nobody else touches the reader, which is one thread's at a time
        assert tried.wait(20)
        assert check(reader, 1000)
    assert "from within on_event" in str(raised[0])


def test_an_object_that_nothing_can_be_as_long_as():
    total = 1 << 60

    def answer(send, number, span):
        send(partial(span[0], span[1], total, f"Content-Length: {span[1] - span[0]}") + bytes(span[1] - span[0]))
        return True

    with Raw(answer) as server, pytest.raises(errors.MemoryBudget) as caught:
        parpull.open(server.url)
    assert caught.value.needed == total
    assert caught.value.hint


def test_close_from_an_event(origin, name):
    code = """if 1:
        import sys, parpull
        box = []
        def told(event):
            if event.kind == "retrying":
                box[0].raw.close()
        box.append(parpull.open(sys.argv[1], on_event=told))
        try:
            box[0].read()
        except ValueError as error:
            print(error)
    """
    url = origin.url(name, size=8 * MIB, scenario="truncated")
    process = subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True)
    try:
        told, _ = process.communicate(timeout=8)
    except subprocess.TimeoutExpired:
        told = "hangs"
    finally:
        process.kill()
        process.communicate()
    assert "closed" in told


# --- probe ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [{}, {"redirect": "plain"}, {"etag": "weak"}, {"etag": "none"}, {"ranges": False}])
def test_probe(params, origin, name):
    target = parpull.probe(origin.url(name, size=5 * MIB, **params))
    assert target.size == 5 * MIB
    assert target.ranges == params.get("ranges", True)
    etag = params.get("etag", "strong")
    assert (target.etag or "").startswith({"weak": 'W/"', "strong": '"', "none": ""}[etag])
    log = origin.log(name)
    assert len(log) == 1 + log.resolutions
    assert set(log.asked) == {(0, 1)}


@pytest.mark.parametrize("empty", ["200", "416"])
def test_probe_of_nothing(empty, origin, name):
    assert parpull.probe(origin.url(name, size=0, empty=empty)).size == 0
    with pytest.raises(errors.NotFound):
        parpull.probe(origin.url(name, size=5, scenario="not-found"))
    assert parpull.probe(origin.url(name, size=5, ranges=False, length="chunked")).size is None
