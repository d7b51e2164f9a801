"""The scorecard's harness, on rivals of a few lines: what is reported, what is not measured twice,
and that nothing is left behind by whoever hangs, lies or forks."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from typing import TYPE_CHECKING

import pytest

from bench import __main__ as command
from bench import compare, harness, report
from bench.measure import Failed, Setting, Usage, adopting, cost, descendants
from bench.rivals import TMPFS, Rival
from bench.scenarios import FULL, SCENARIOS, TINY, Scenario, Target, Variant, named
from bench.store import Cell, Store, forget
from tests.servers.fetch import Unavailable
from tests.servers.real import Nginx

if TYPE_CHECKING:
    from pathlib import Path

SMALL = 1 / 256


def usage(cpu: float, wall: float = 1.0) -> Usage:
    return Usage(wall, cpu, 0.0, 0.0, 0.0, cpu, 10.0)


def shell(text: str) -> list[str]:
    return ["sh", "-c", text]


def cell(rival: str, connections: int | None = 8, variant: str = "plain", scenario: str = "memory") -> Cell:
    return Cell(scenario, variant, rival, connections)


class TestRun:
    def test_cpu_is_that_of_the_whole_tree(self):
        burn = f"{shlex.quote(sys.executable)} -c 'import time\nwhile time.process_time() < 0.3: pass'"
        used, _ = cost(shell(f"{burn} & {burn}; wait"), Setting(limit=20))
        assert 0.55 < used.cpu < 2

    def test_who_hangs_is_ended_within_the_limit(self):
        before, began = set(descendants()), time.monotonic()
        with adopting(), pytest.raises(Failed, match=r"still running after 0.3 s"):
            cost(shell("sleep 60 & setsid sleep 60 & sleep 60"), Setting(limit=0.3))
        assert time.monotonic() - began < 5
        assert set(descendants()) == before

    def test_who_leaves_a_process_is_told_of(self):
        before = set(descendants())
        with adopting():
            used, _ = cost(shell("setsid sleep 60 & exit 0"), Setting(limit=5))
        assert used.left == 1
        assert set(descendants()) == before

    def test_a_failure_says_why(self):
        with pytest.raises(Failed, match="exit status 3: no such thing"):
            cost(shell("echo no such thing >&2; exit 3"), Setting())
        with pytest.raises(Failed, match="No such file"):
            cost(["/nowhere/at/all"], Setting())

    def test_a_pipe_that_hangs_ends_both(self):
        before = set(descendants())
        with pytest.raises(Failed, match="still running"):
            cost(["cat", "/dev/zero"], Setting(limit=0.3, sink=("sleep", "60")))
        assert set(descendants()) == before


class TestStore:
    def test_a_finished_cell_is_known_again(self, tmp_path):
        path = tmp_path / "runs.jsonl"
        store = Store(path)
        store.add(cell("a"), "1", {1.0: usage(0.5)}, "a $URL")
        store.add(cell("a"), "2", {1.0: usage(0.7)}, "a $URL")
        store.fail(cell("b"), "failed in round 1: exit status 1")
        store.fail(cell("c"), "skipped: not here")
        with path.open("a") as file:
            file.write('{"cell": {"scenario": "mem')  # the power went
        again = Store(path)
        assert [again.finished(cell(name), 2) for name in "abcd"] == [True, True, False, False]
        assert not again.finished(cell("a"), 3)
        again.add(cell("d"), "3", {1.0: usage(1.0)}, "d")
        assert Store(path).runs(cell("d"))[0].by_size[1.0].cpu == 1.0
        assert Store(path).commands[cell("a")] == "a $URL"

    def test_again_forgets_what_was_named(self, tmp_path):
        path = tmp_path / "runs.jsonl"
        store = Store(path)
        for name, scenario in (("a", "memory"), ("b", "memory"), ("a", "tmpfs")):
            store.add(cell(name, scenario=scenario), "1", {1.0: usage(1)}, "")
        forget(path, "memory", ["a"])
        assert Store(path).cells() == [cell("b"), cell("a", scenario="tmpfs")]


def card(tmp_path: Path, **runs: list[tuple[str, dict[float, Usage]]]) -> report.Card:
    store = Store(tmp_path / "runs.jsonl")
    for name, turns in runs.items():
        for turn, by_size in turns:
            store.add(cell(name.replace("_", "-")), turn, by_size, "python x")
    return report.Card(store, [], FULL)


class TestReport:
    def test_the_slope_leaves_out_what_starting_costs(self):
        assert report.figure("cpu", {1.0: usage(1.5), 5.0: usage(3.5)}) == pytest.approx(0.5)
        assert report.figure("cpu", {2.0: usage(3.0)}) == pytest.approx(1.5)

    def test_ratios_are_of_one_turn(self, tmp_path):
        """A turn in which the other had no run says nothing, and slow turns weigh on both."""
        found = card(
            tmp_path,
            floor=[("1", {1.0: usage(1)}), ("2", {1.0: usage(10)})],
            parpull=[("1", {1.0: usage(2)}), ("2", {1.0: usage(20)}), ("3", {1.0: usage(900)})],
        )
        assert found.ratios(cell("parpull"), cell("floor"), "cpu") == [2, 2]

    def test_targets_are_held_or_missed_with_their_figure(self, tmp_path):
        found = card(
            tmp_path,
            floor=[("1", {1.0: usage(1.0)})],
            parpull=[("1", {1.0: usage(1.07)})],
            pycurl=[("1", {1.0: usage(0.5)})],
        )
        text = found.markdown("memory")
        assert "CPU s/GiB at most 1.10 x floor: 1.07 (floor x8): held" in text
        assert "at most 1.00 x pycurl: 2.14 (pycurl x8): MISSED by 114%" in text
        assert json.loads(found.json())["targets"][0]["held"] is True

    def test_the_worst_of_all_rivals_counts_and_no_floor(self, tmp_path):
        target = Target("*", "wall", 1.0)
        scenario = Scenario("memory", "", TMPFS, {}, {}, targets=(target,))
        found = card(
            tmp_path,
            floor=[("1", {1.0: usage(1, 0.1)})],
            parpull=[("1", {1.0: usage(1, 1.0)})],
            a=[("1", {1.0: usage(1, 4.0)})],
            b=[("1", {1.0: usage(1, 2.0)})],
        )
        assert found._worst(scenario, target, cell("parpull")) == (0.5, "b x8")

    def test_pacing_allows_so_much(self):
        founding = next(s for s in SCENARIOS if s.name == "founding").variants[0]
        assert founding.paced(1) == 208 << 20
        assert (founding.paced(16) or 0) * 16 == pytest.approx(1.18 * (1 << 30), rel=1e-6)

    def test_an_interval_holds_what_it_is_of(self):
        low, high = compare.interval([0.9, 0.95, 1.0, 0.92, 0.97, 0.93, 0.94])
        assert 0.9 <= low <= 0.94 <= high <= 1.0

    def test_names(self):
        assert [s.name for s in named("tmpfs,many")] == ["tmpfs", "many"]
        with pytest.raises(ValueError, match="no scenario nothing-such"):
            named("nothing-such")


def test_a_busy_machine_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "foreign_share", lambda: 0.4)
    assert command.main(["--scale", TINY, "--scenario", "start-up", "--results", str(tmp_path)]) == 2
    assert "others have 40% of this machine" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def writes(code: str) -> Rival:
    """Python with `url` and `out`, into a file."""
    name, _, body = code.partition(": ")
    script = "import sys, urllib.request, time, os; url, out = sys.argv[1:]; " + body
    return Rival(
        name,
        frozenset({TMPFS}),
        lambda: "1",
        lambda job: [sys.executable, "-c", script, job.url, str(job.out / "object")],
    )


FETCH = "open(out, 'wb').write(urllib.request.urlopen(url).read())"


def will_not(_: object) -> list[str]:
    raise Failed("has one connection")


RIVALS = [
    Rival("single", frozenset({TMPFS}), lambda: "1", will_not),
    writes(f"parpull: {FETCH}"),
    writes(f"right: {FETCH}"),
    writes("hangs: time.sleep(60)"),
    writes("fails: sys.exit('I do not feel like it')"),
    writes("short: open(out, 'wb').write(urllib.request.urlopen(url).read(1000))"),
    writes("wrong: open(out, 'wb').write(bytes(len(urllib.request.urlopen(url).read())))"),
]


@pytest.fixture
def nginx(tmp_path):
    try:
        with Nginx(tmp_path):
            pass
    except Unavailable as reason:
        (pytest.fail if os.environ.get("PARPULL_REQUIRE") == "all" else pytest.skip)(str(reason))


def test_a_field_from_end_to_end(nginx, tmp_path):
    """Everyone gets a verdict; what is known is not measured again; nothing is left."""
    scenario = Scenario("tmpfs", "", TMPFS, {TINY: (SMALL,)}, {TINY: (2,)}, (Variant("plain"),))
    plan = harness.Plan(TINY, 2, limit=3.0, memory=tmp_path, rivals=RIVALS)
    harness.meet(plan)
    store, before = Store(tmp_path / "runs.jsonl"), set(descendants())
    affinity = os.sched_getaffinity(0)
    try:
        with adopting():
            harness.measure(scenario, plan, store)
            known = store.path.read_text()
            harness.measure(scenario, plan, Store(store.path))
    finally:
        os.sched_setaffinity(0, affinity)
    assert store.path.read_text() == known
    troubles = {name: store.trouble(Cell("tmpfs", "plain", name, 2)) for name in plan.versions}
    assert troubles == {
        "single": "cannot: has one connection",
        "parpull": "",
        "right": "",
        "hangs": "failed in round 0: still running after 3 s: ended",
        "fails": "failed in round 0: exit status 1: I do not feel like it",
        "short": f"failed in round 0: fetched 1000 of {int(SMALL * (1 << 30))} bytes",
        "wrong": "failed in round 0: wrong bytes: all of them came, but not those that were served",
    }
    runs = [store.runs(Cell("tmpfs", "plain", name, 2)) for name in ("parpull", "right")]
    assert [run.turn for run in runs[0]] == [run.turn for run in runs[1]]
    assert len(runs[0]) == 2
    assert set(descendants()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["runs.jsonl"]
    assert report.Card(store, RIVALS, TINY).failures("tmpfs")

    late = harness.Plan(TINY, 2, limit=3.0, memory=tmp_path, rivals=[*RIVALS, writes(f"late: {FETCH}")])
    harness.meet(late)
    try:
        harness.measure(scenario, late, store)
    finally:
        os.sched_setaffinity(0, affinity)
    ours, theirs = (Cell("tmpfs", "plain", name, 2) for name in ("parpull", "late"))
    assert len(report.Card(store, late.rivals, TINY).ratios(ours, theirs, "wall")) == 2
    assert len(store.runs(Cell("tmpfs", "plain", "right", 2))) == 2
