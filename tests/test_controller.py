"""The controller: what it holds to whatever it is told, and how well it does on simulated servers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parpull._controller import Climber
from tests.simulated import Regime, judge, servers, simulate, steady

WHYS = {"start", "grow", "gain", "no gain", "fell", "probe", "refused"}
SERVERS = servers()


def drive(climber, path, seconds, *, begin=0.0, received=0, step=0.1, settle=0.0, eager=True):
    """Tick with a path that gives `path(n)` bytes per second at once; the targets, in order, and the bytes."""
    targets = [climber.target]
    for i in range(1, round(seconds / step) + 1):
        received += int(path(climber.target) * step)
        target = climber.tick(begin + i * step, received, climber.target, eager, settle)
        if target != targets[-1]:
            targets.append(target)
    return targets, received


# --- laws -------------------------------------------------------------------------

odd = st.sampled_from([0.0, -1.0, 1e-9, 60.0, 1e12, math.nan, math.inf, -math.inf])
ticks = st.tuples(
    st.just("tick"),
    st.floats(0.0, 0.4) | odd,  # seconds since the tick before
    st.integers(0, 1 << 30) | st.sampled_from([0, -1, 1 << 62]),  # bytes since
    st.integers(-1, 40),
    st.booleans() | st.just(True),
    st.floats(0.0, 0.5) | odd,
)
refusals = st.tuples(st.just("refused"), st.integers(-1, 40))


@settings(max_examples=300, deadline=None)
@given(st.integers(-3, 80), st.integers(-3, 64), st.lists(ticks | ticks | ticks | refusals, max_size=300))
def test_whatever_it_is_told_its_laws_hold(start, cap, told):
    climber = Climber(start, cap)
    cap = max(cap, 1)
    now, received = 100.0, 0
    for what, *given_ in told:
        before = climber.target
        if what == "tick":
            passed, more, active, eager, settle = given_
            now += passed
            received = max(min(received + more, 1 << 62), 0)
            assert climber.tick(now, received, active, eager, settle) == climber.target
            if not math.isfinite(now):
                now = 100.0
            if not eager:
                assert climber.target == before
        else:
            assert climber.refused(now, given_[0]) == climber.target
            assert climber.target <= before
            assert climber.target >= min(before, max(given_[0], before - 1, 1))
        assert 1 <= climber.target <= cap
        assert math.isfinite(climber.rate)
        assert climber.rate >= 0
        assert climber.why in WHYS


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 32),
    st.integers(1, 32),
    st.sampled_from([1e5, 1e7, 1e9]),
    st.lists(st.floats(0.05, 0.18), min_size=300, max_size=300),
)
def test_on_a_quiet_path_it_finds_what_fills_it(start, limit, rate, steps):
    """Whatever the start, the rate and the rhythm of the ticks; then it stays near."""
    climber = Climber(start, 32)
    now = received = 0.0
    settled = False
    for step in steps:
        now += step
        received += min(climber.target, limit) * rate * step
        climber.tick(now, int(received), climber.target, True, 0.02)
        if climber.holding:
            settled = True
            assert 0.89 * limit <= climber.target <= 1.5 * limit + 1
    assert settled


# --- one thing at a time ----------------------------------------------------------


def test_the_first_doublings_come_early():
    climber = Climber(8, 32)
    moves = []
    received = 0
    for i in range(1, 31):
        before = climber.target
        received += before * 1_000_000
        if climber.tick(i * 0.1, received, before, True, 0.05) != before:
            moves.append((round(i * 0.1, 1), climber.target, climber.why))
    assert [move[1:] for move in moves] == [(16, "grow"), (32, "gain")]
    assert moves[0][0] <= 0.7
    assert moves[1][0] <= 1.4


def test_among_equals_the_smaller_stays():
    targets, _ = drive(Climber(8, 32), lambda n: 1e8, 10)
    assert targets == [8, 16, 4, 2, 3, 2]


def test_fewer_than_two_only_where_two_hurt():
    targets, _ = drive(Climber(8, 32), lambda n: 1e8 / n, 10)
    assert targets[-1] == 1


def test_a_settled_number_is_probed_with_growing_pauses():
    climber = Climber(8, 32)
    moved, received = [], 0.0
    for i in range(1, 1500):
        before = climber.target
        received += min(before, 6) * 1e6
        climber.tick(i * 0.1, int(received), before)
        if climber.target != before and climber.why == "probe" and i > 80:
            moved.append((i / 10, climber.target))
    assert [n for _, n in moved] == [9, 5, 9]
    assert moved[1][0] - moved[0][0] > 18
    assert moved[2][0] - moved[1][0] > 36


def test_goodput_that_falls_makes_fewer_of_them():
    climber = Climber(8, 32)
    _, received = drive(climber, lambda n: min(n, 8) * 1e7, 8)
    held = climber.target
    targets, received = drive(climber, lambda n: 1e7 * min(n, 2 * (2 / n) ** 1.5), 9, begin=8, received=received)
    assert targets[1] < held
    assert climber.target in (2, 3)


def test_a_dip_of_one_second_changes_nothing_that_is_held():
    climber = Climber(8, 32)
    _, received = drive(climber, lambda n: min(n, 8) * 1e7, 7)
    targets, received = drive(climber, lambda n: min(n, 8) * 2e6, 1, begin=7, received=received)
    after, _ = drive(climber, lambda n: min(n, 8) * 1e7, 3, begin=8, received=received)
    assert targets == after == [8]


def test_refusals_cost_their_place_and_no_more_than_is_working():
    climber = Climber(8, 32)
    assert [climber.refused(0.1, 0) for _ in range(5)] == [7, 6, 5, 4, 3]
    assert climber.why == "refused"
    assert climber.refused(0.2, 3) == 3
    assert climber.refused(0.2, 20) == 3
    assert Climber(1, 32).refused(0.0, 0) == 1


def test_what_was_refused_is_not_tried_again_for_ten_seconds():
    climber = Climber(8, 32)
    for _ in range(4):
        climber.refused(0.05, 4)
    targets, _ = drive(climber, lambda n: n * 1e7, 9.5)
    assert max(targets) == 4


@pytest.mark.parametrize("seconds", [20.0, 60.0])
def test_a_limit_per_address_costs_few_refusals(seconds):
    for seed in range(4):
        run = simulate(steady("3 per address", Regime(), per_ip=3, seconds=seconds), seed)
        assert run.refused <= 10
        assert run.end in (2, 3, 4)  # 2 and 4: within a probe


@pytest.mark.parametrize("cap", [1, 2, 3])
def test_a_small_cap_is_kept(cap):
    targets, _ = drive(Climber(8, cap), lambda n: n * 1e7, 20)
    assert max(targets) <= cap


def test_no_work_for_all_makes_no_measurement():
    climber = Climber(8, 32)
    targets, _ = drive(climber, lambda n: 1e7, 30, eager=False)
    assert targets == [8]
    assert climber.rate == 0


def test_a_stall_teaches_nothing():
    climber = Climber(8, 32)
    _, received = drive(climber, lambda n: min(n, 8) * 1e7, 7)
    targets, _ = drive(climber, lambda n: 0, 60, begin=7, received=received)
    assert targets == [8]


def test_a_suspended_machine_goes_on_where_it_was():
    climber = Climber(8, 32)
    _, received = drive(climber, lambda n: min(n, 8) * 1e7, 7)
    targets, received = drive(climber, lambda n: min(n, 8) * 1e7, 3, begin=3600, received=received + 10)
    assert targets == [8]
    targets, _ = drive(climber, lambda n: min(n, 8) * 1e7, 3, begin=100, received=received)  # and a clock set back
    assert targets == [8]


# --- simulated servers ------------------------------------------------------------


def short(server):
    return server.name.replace(" ", "-")


def shortfall(server, seed):
    """What is missing from what is asked of it; empty: nothing."""
    late, whole, run = judge(server, seed)
    assert len(run.steps) <= 30, run.steps
    if late >= server.asked[0] and whole >= server.asked[1]:
        return ""
    return f"{seed}: {late:.0%} after 5 s, {whole:.0%} over the whole: {run.steps}"


@pytest.mark.parametrize("server", [s for s in SERVERS if not s.noise], ids=short)
def test_it_comes_near_to_the_best_fixed_number(server):
    assert not shortfall(server, 1)


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS, ids=short)
def test_it_comes_near_with_any_luck(server):
    """On a noisy server the noise of a whole search may lie: then the next probe mends it, later than asked."""
    missed = list(filter(None, (shortfall(server, seed) for seed in range(3))))
    assert len(missed) <= (1 if server.noise else 0), missed
