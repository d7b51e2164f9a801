"""Traces: their form, what they tell of a run, and that they never harm one."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
import warnings
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parpull import events
from parpull.errors import InUse, NoSpace, SinkError, TransferError
from parpull.events import Adapted, Redirected, Refreshed, Retrying, Started, Warned
from parpull.trace import EMPTY, HEAD, PENDING, Trace, _Goodput
from tests.traced import SIZE, URL, Clock, check, finished, instants, play, record, run, spread, traced

ROOT = Path(__file__).resolve().parents[1]
MIB = 1 << 20


@pytest.fixture
def path(tmp_path):
    return tmp_path / "trace.json"


def at_once(*told):
    """Steps are told when they happen, all else when it is its turn."""
    now = 0.0
    for event in told:
        now = getattr(event, "at", now)
        yield now, event


def states(entries, lane=0):
    """(name, from, to) of a lane's states, in seconds."""
    tid = 1000 + lane + 1
    return [
        (e["name"], e["ts"] / 1e6, (e["ts"] + e["dur"]) / 1e6) for e in entries if e["ph"] == "X" and e["tid"] == tid
    ]


def ends(entries):
    return [e["args"] for e in entries if e["ph"] == "E" and "args" in e]


# --- form -----------------------------------------------------------------------------------


def test_a_whole_run(path):
    entries = record(path, run())
    slices, left = check(entries)
    assert not left
    told = Counter(event.what for _, event in run() if event.kind == "traced")
    requests = [e for e in slices if e.get("cat") == "request"]
    assert len(requests) == told["sent"]
    assert sum(e["args"]["landed"] for e in requests) <= SIZE
    assert Counter(e["args"]["outcome"] for e in requests) == {what: told[what] for what in (
        "ended", "failed", "refused", "stalled", "hedged")}  # fmt: skip
    waits = [e for e in slices if e["name"].startswith("wait")]
    assert len(waits) == told["sent"]
    assert sum(e["name"].startswith("body") for e in slices) == told["first"]
    names = {e["args"]["name"] for e in entries if e["name"] == "thread_name"}
    assert names == {"object", *(f"connection {lane}" for lane in range(8))}
    whole = next(e for e in slices if e["name"] == "transfer")
    assert whole["dur"] == max(e["ts"] for e in entries if "ts" in e)


def test_the_file_is_a_line_an_entry(path):
    record(path, run())
    lines = path.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("[", "]")
    assert all(json.loads(line.rstrip(",")) for line in lines[1:-1])
    assert path.read_bytes().startswith(HEAD)


def test_without_events(path):
    Trace(path).close()
    assert json.loads(path.read_text()) == []
    assert path.read_bytes().strip() in EMPTY


steps = st.builds(
    traced,
    what=st.sampled_from(["sent", "first", "ended", "stolen", "hedged", "stalled", "failed", "refused"]),
    lane=st.integers(-1, 3),
    at=st.floats(0, 5),
    start=st.integers(0, 1 << 40),
    stop=st.integers(-1, 1 << 63),
    connections=st.integers(0, 4),
)
others = st.one_of(
    st.builds(Warned, st.just(URL), message=st.text()),
    st.builds(
        Adapted, st.just(URL), before=st.integers(0, 256), after=st.integers(0, 256), rate=st.floats(), why=st.text()
    ),
    st.builds(finished, cancelled=st.booleans()),
)


@given(told=st.lists(st.tuples(st.floats(0, 10), steps | others), max_size=40))
def test_whatever_comes_the_form_holds(told, tmp_path_factory):
    """Events in no order, of lanes that did not begin, that end twice …"""
    path = tmp_path_factory.mktemp("trace") / "t"
    clock = Clock()
    trace = Trace(path, clock=clock)
    for at, event in told:
        clock.now += at
        trace.hear(event, 1)
    trace.close(pytest.fail)
    check(json.loads(path.read_text()))


# --- what it tells --------------------------------------------------------------------------


def test_a_request(path):
    told = [traced("sent", at=1.0), traced("first", at=1.25), traced("ended", at=2.0)]
    entries = record(path, at_once(*told, finished()))
    assert states(entries) == [("wait", 1.0, 1.25), ("body", 1.25, 2.0)]
    assert ends(entries) == [{"outcome": "ended", "landed": MIB}]
    begun = [e for e in entries if e["ph"] == "B" and e["name"] != "transfer"]
    assert [(e["name"], e["args"]["bytes"]) for e in begun] == [("0-1 MiB", MIB)]


def test_names_of_requests(path):
    spans = [(0, 1 << 16), (24 * MIB, 40 * MIB), (5 << 40, (5 << 40) + MIB), (0, 1 << 62), (MIB, -1)]
    told = [traced("sent", lane=lane, start=start, stop=stop) for lane, (start, stop) in enumerate(spans)]
    names = [e["name"] for e in record(path, at_once(*told)) if e["ph"] == "B"]
    assert names[1:] == ["0-0.06 MiB", "24-40 MiB", "5242880-5242881 MiB", "from 0 MiB", "from 1 MiB"]


@pytest.mark.parametrize("what", ["failed", "refused"])
def test_a_bad_end(path, what):
    rest = MIB // 4
    body = [traced("sent"), traced("first", at=0.25), traced(what, at=0.5, start=rest)]
    before = [traced("sent", at=1.0), traced(what, at=1.5)]
    entries = record(path, at_once(*body, *before, finished()))
    assert states(entries) == [("wait", 0, 0.25), (f"body: {what}", 0.25, 0.5), (f"wait: {what}", 1.0, 1.5)]
    assert ends(entries) == [{"outcome": what, "landed": rest}, {"outcome": what, "landed": 0}]
    assert [(name, lane, args["bytes"]) for name, lane, args in instants(entries)[:2]] == [
        (what, 0, MIB - rest), (what, 0, MIB),
    ]  # fmt: skip


@pytest.mark.parametrize("mark", ["stalled", "hedged"])
@pytest.mark.parametrize("then", ["ended", "failed", None])
def test_a_mark_comes_before_the_end(path, mark, then):
    """Whether the end of what was given up is told too, or the next request is: both read alike."""
    rest = MIB // 2
    told = [traced("sent"), traced("first", at=0.5), traced(mark, at=1.0, start=rest)]
    told += [
        traced(then, at=1.0, start=rest if then == "failed" else 0, stop=MIB if then == "failed" else rest)
    ] * bool(then)
    entries = record(path, at_once(*told, traced("sent", at=3.0), finished()))
    assert states(entries)[:2] == [("wait", 0, 0.5), (f"body: {mark}", 0.5, 1.0)]
    assert ends(entries)[0] == {"outcome": mark, "landed": rest}
    assert instants(entries)[0][:2] == (mark, 0)


def test_an_answer_that_is_no_part(path):
    """A redirect ends a request, and nobody tells: the next one does."""
    told = [traced("sent"), traced("sent", at=1.0), traced("first", at=1.5), traced("ended", at=2.0)]
    entries = record(path, at_once(*told))
    assert states(entries) == [("wait: answered", 0, 1.0), ("wait", 1.0, 1.5), ("body", 1.5, 2.0)]
    assert [args["outcome"] for args in ends(entries)] == ["answered", "ended"]


def test_a_steal(path):
    half = MIB // 2
    told = [traced("sent"), traced("first", at=0.5), traced("stolen", at=1.0, start=half),
            traced("sent", lane=1, at=1.0, start=half), traced("ended", at=2.0, stop=half)]  # fmt: skip
    entries = record(path, at_once(*told))
    name, lane, args = instants(entries)[0]
    assert (name, lane, args["start"], args["stop"], args["bytes"]) == ("stolen", 0, half, MIB, half)
    assert ends(entries) == [{"outcome": "ended", "landed": half, "stolen": half}]
    assert states(entries)[1] == ("body", 0.5, 2.0)


@pytest.mark.parametrize(
    ("how", "outcome", "name"),
    [({"cancelled": True, "size": None}, "cancelled", "cancelled"),
     ({"error": TransferError("it broke off"), "size": None}, "failed", "failed"), ({}, "dropped", "finished")],
)  # fmt: skip
def test_the_end_ends_all(path, how, outcome, name):
    entries = record(path, at_once(traced("sent"), traced("sent", lane=1), traced("first", at=1.0), finished(**how)))
    _, left = check(entries)
    assert not left
    assert [args["outcome"] for args in ends(entries)] == [outcome] * 2
    assert instants(entries)[-1][0] == name
    assert [e["args"]["at work"] for e in entries if e["name"] == "connections"][-1] == 0


def test_the_object_has_a_lane(path):
    error = TransferError("the connection broke off")
    told = [
        Redirected(URL, status=302, location="https://edge.example/x"),
        Started(URL, size=MIB, validator='"a"', ranges=True, address="192.0.2.7", resumed=0),
        Refreshed(URL, status=403, generation=1),
        Retrying(URL, attempt=1, delay=0.5, error=error),
        Warned(URL, message="no validator"),
        Adapted(URL, before=8, after=16, rate=4e8, why="grow"),
        traced("failed", lane=-1),
        finished(),
    ]
    entries = record(path, enumerate(told))
    names = [name for name, lane, _ in instants(entries) if lane == -1]
    assert names == ["redirected", "started", "refreshed", "retrying", "warned", "adapted", "failed", "finished"]
    args = {name: args for name, _, args in instants(entries)}
    assert args["adapted"] == {"before": 8, "after": 16, "rate": 4e8, "why": "grow"}
    assert args["retrying"]["error"] == "TransferError: the connection broke off"
    assert {kind.kind for name in events.__all__ if (kind := getattr(events, name)) is not events.Event} == {
        "traced", *names} - {"failed"}  # fmt: skip


def test_times_are_those_of_the_steps(path):
    """A step that is told late is drawn when it was; the first one sets the clock."""
    late = [(10.0, traced("sent", at=0.5)), (11.0, traced("first", at=0.75)), (15.0, traced("ended", at=1.0))]
    assert states(record(path, late)) == [("wait", 10.0, 10.25), ("body", 10.25, 10.5)]


def test_a_reader_begins_again_and_again(path):
    """Its jobs have one name, and each counts its seconds from 0."""
    one = [traced("sent"), traced("first", at=1.0), traced("ended", at=2.0)]
    told = [(at + begun, event) for begun in (0, 10) for at, event in at_once(*one)]
    entries = record(path, told)
    check(entries)
    assert [state[1:] for state in states(entries)] == [(0, 1), (1, 2), (10, 11), (11, 12)]


def test_several_objects(path):
    """Each is a process, also where two have one address."""
    clock, urls = Clock(), [URL, "https://files.example/other", URL]
    with Trace(path, clock=clock) as trace:
        for event in (traced("sent"), traced("first", at=0.5), traced("ended", at=1.0), finished()):
            clock.now = 100 + getattr(event, "at", 1.0)
            for number, url in enumerate(urls, 1):
                trace.hear(type(event)(url, **{k: v for k, v in vars(event).items() if k != "url"}), number)
    entries = json.loads(path.read_text())
    check(entries)
    names = {e["pid"]: e["args"]["name"] for e in entries if e["name"] == "process_name"}
    assert names == dict(enumerate(urls, 1))
    assert len({e["tid"] for e in entries}) == 6
    assert Counter(e["pid"] for e in entries if e["ph"] == "X") == {1: 2, 2: 2, 3: 2}


def test_one_address_again_is_another_process(path):
    told = [traced("sent"), finished(), traced("sent"), finished()]
    entries = record(path, at_once(*told))
    assert [e["pid"] for e in entries if e["name"] == "process_name"] == [1, 2]


# --- goodput --------------------------------------------------------------------------------


def test_goodput_is_what_landed(path):
    entries = record(path, run())
    landed = sum(args["landed"] for args in ends(entries))
    assert landed > SIZE * 0.97
    assert spread(entries, 10) == pytest.approx(landed, rel=1e-3)
    assert {"at work"} == {key for e in entries if e["name"] == "connections" for key in e["args"]}


def test_goodput_of_one_slow_request_is_even(path):
    told = [traced("sent"), traced("first", at=1.0), traced("ended", at=3.0, stop=20 * MIB), finished()]
    rates = [e["args"]["MB/s"] for e in record(path, at_once(*told)) if e["name"] == "goodput"]
    assert max(rates) == pytest.approx(10 * MIB / 1e6, rel=0.01)
    assert len(rates) < 6  # what repeats is not written


@given(
    bodies=st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 100), st.integers(1, 1 << 40)), min_size=1, max_size=30),
    settle=st.lists(st.floats(0, 1e4), max_size=30),
)
def test_no_byte_is_lost(bodies, settle):
    """In whatever order bodies end, and whatever has been told already."""
    goodput, points = _Goodput(0.0), []
    for i, (first, took, landed) in enumerate(bodies):
        goodput.add(first, first + took, landed)
        points += goodput.settled(settle[i] if i < len(settle) else 0)
        assert len(goodput._pending) <= PENDING
    points += goodput.settled(float("inf"))
    assert [at for at, _ in points] == sorted(at for at, _ in points)
    total = sum(rate * (after - at) for (at, rate), (after, _) in zip(points, points[1:], strict=False))
    assert total == pytest.approx(sum(landed for *_, landed in bodies), rel=1e-6)
    assert points[-1][1] == 0


# --- what it may not do ---------------------------------------------------------------------


def test_no_secret_is_named(path):
    url = "https://me:geheim@h/x?token=geheim"
    told = [(0, traced("sent", url=url)), (1, finished(url=url))]
    entries = record(path, told)
    assert "geheim" not in path.read_text()
    assert next(e["args"]["name"] for e in entries if e["name"] == "process_name") == "https://h/x?…"


def test_a_killed_run_leaves_what_opens(path):
    """At any moment: all that was heard is there, but for the bracket."""
    clock = Clock()
    trace = Trace(path, clock=clock)
    for at, event in run()[:60]:
        clock.now = 100 + at
        trace.hear(event)
        text = path.read_text()
        assert not text.endswith((",", "\n"))
        entries = json.loads(text + "]")
    _, left = check(entries)
    assert len(left) > 2  # requests under way, and the transfer
    trace.close()
    check(json.loads(path.read_text()))


def test_it_forgets_what_is_over(path):
    trace = Trace(path)
    for number in range(50):
        for event in (traced("sent"), traced("first"), traced("ended"), finished()):
            trace.hear(event, number + 1)
    assert not trace._processes
    for _ in range(3000):
        for what in ("sent", "first", "ended"):
            trace.hear(traced(what, lane=0), 1)
    process = trace._processes[1]
    assert not process.lanes
    assert len(process.goodput._pending) < 5
    trace.close()


def test_many_threads(path):
    trace = Trace(path)
    told = [event for _, event in run()]

    def tell(number):
        for event in told:
            trace.hear(event, number)

    threads = [threading.Thread(target=tell, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trace.close(pytest.fail)
    entries = json.loads(path.read_text())
    check(entries)
    assert set(Counter(e["pid"] for e in entries if e["ph"] == "B").values()) == {
        1 + sum(event.kind == "traced" and event.what == "sent" for event in told)
    }


class Full:
    """os.write that takes so many bytes, then half of what comes, then nothing."""

    def __init__(self, room):
        self.room = room
        self.plain = os.write

    def __call__(self, fd, data):
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = self.plain(fd, data[: self.room])
        self.room -= done
        return done


def test_a_full_disk_ends_the_trace_only(path, monkeypatch):
    clock = Clock()
    trace = Trace(path, clock=clock)
    monkeypatch.setattr(os, "write", Full(5000))
    play(trace, clock, run())
    monkeypatch.undo()
    assert trace.error.errno == errno.ENOSPC
    entries = json.loads(path.read_text() + "]")  # half a line was taken back
    check(entries)
    told = []
    trace.close(told.append)
    trace.close(told.append)
    assert told == [f"the trace {path} is not complete: No space left on device"]


def test_in_python_it_is_a_warning(path):
    trace = Trace(path)
    trace.hear(Warned(URL, message=object()))  # json takes no such thing
    trace.hear(finished())
    assert isinstance(trace.error, TypeError)
    with pytest.warns(RuntimeWarning, match="is not complete: TypeError"):
        trace.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trace.close()
        trace.hear(finished())  # after the end: nothing


def test_it_is_to_be_closed(path):
    trace = Trace(path)
    with pytest.warns(ResourceWarning, match="unclosed trace"):
        trace.__del__()
    del trace


# --- the file -------------------------------------------------------------------------------


def test_a_trace_is_written_over(path):
    record(path, run())
    entries = record(path, at_once(traced("sent")))
    assert len(entries) < 10
    path.write_bytes(b"")
    record(path, at_once(traced("sent")))
    Trace(path).close()
    Trace(path).close()


@pytest.mark.parametrize("content", [b"mine", b"[1, 2]", b"{}", b'[\n{"name": "mine"}]'])
def test_another_file_is_not(path, content):
    path.write_bytes(content)
    with pytest.raises(SinkError, match="is no trace") as caught:
        Trace(path)
    assert caught.value.hint
    assert path.read_bytes() == content


def test_bad_places(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, said in ((".", "directory"), ("nowhere/t", "No such file"), ("pipe", "not a regular file")):
        with pytest.raises(SinkError, match=said) as caught:
            Trace(tmp_path / name)
        assert caught.value.hint
        assert caught.value.path == str(tmp_path / name)
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_at_once():
    with pytest.raises(NoSpace) as caught:
        Trace("/dev/full")
    assert caught.value.errno == errno.ENOSPC


def test_one_run_writes_it(path):
    with Trace(path):
        with pytest.raises(InUse):
            Trace(path)
    with open(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_devices_are_files():
    with Trace("/dev/null") as trace:
        trace.hear(finished())
    assert trace.error is None
