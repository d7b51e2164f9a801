"""The planner under hypothesis: whatever happens to its lanes, its laws hold.

The model knows nothing of how the planner works. It keeps one owner per byte (FREE,
LANDED, or a lane) and is told only what the calls returned; after every step the
planner's own account must agree with it.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from parpull._planner import Planner, backoff

MIB = 1 << 20
BLOCK = 16
FREE, LANDED = -2, -1


class Plan(RuleBasedStateMachine):
    """A small object in blocks of 16 bytes, fetched by a few lanes."""

    @initialize(
        size=st.integers(0, 1500),
        lanes=st.integers(1, 6),
        fixed=st.one_of(st.just(0), st.integers(1, 300)),
        cuts=st.sets(st.integers(1, 1500), max_size=6),
        window=st.sampled_from([0, 0, BLOCK, 4 * BLOCK, 40 * BLOCK]),
        there=st.none() | st.lists(st.booleans(), max_size=100),
    )
    def begin(self, size, lanes, fixed, cuts, window, there):
        self.size, self.lanes, self.fixed = size, lanes, fixed
        self.cuts = sorted(c for c in cuts if c < size)
        self.plan = Planner(size, lanes=lanes, block=BLOCK, part_size=fixed, cuts=self.cuts, window=window)
        self.owner = [FREE] * size
        self.written = {}  # busy lane -> how far it has written
        if there is not None:
            self.resume(there)

    def resume(self, there):
        """Blocks that an earlier transfer left: some are whole, the others are as if nothing were there."""
        count = -(-self.size // BLOCK)
        filled = [min(BLOCK, self.size - i * BLOCK) if i < len(there) and there[i] else 0 for i in range(count)]
        self.plan.resume(filled)
        for i, n in enumerate(filled):
            self.give(LANDED if n else FREE, i * BLOCK, min((i + 1) * BLOCK, self.size))

    # --- the model's view ---------------------------------------------------------

    def free(self):
        return [i for i, who in enumerate(self.owner) if who == FREE]

    def give(self, who, start, stop):
        self.owner[start:stop] = [who] * (stop - start)

    def part(self, lane):
        mine = [i for i, who in enumerate(self.owner) if who == lane]
        return (mine[0], mine[-1] + 1) if mine else None

    def pick(self, data, *, busy):
        lanes = sorted(self.written) if busy else [n for n in range(self.lanes) if n not in self.written]
        return data.draw(st.sampled_from(lanes), label="lane")

    def has_idle(self):
        return len(self.written) < self.lanes

    def hand_out(self, lane, start, stop, *, aligned):
        assert start < stop <= self.size
        assert all(who == FREE for who in self.owner[start:stop]), "handed out twice"
        assert not any(start < cut < stop for cut in self.cuts), "straddles a cut"
        if aligned and not self.fixed:
            ends = {self.size, *self.cuts, *(b for _, b in self.plan_gaps)}
            assert stop % BLOCK == 0 or stop in ends
        self.give(lane, start, stop)
        self.written[lane] = start

    # --- what can happen ------------------------------------------------------------

    @precondition(lambda self: self.has_idle())
    @rule(
        data=st.data(),
        connections=st.integers(0, 8),
        followed=st.booleans(),
        slack=st.none() | st.integers(0, 400),
        waits=st.integers(-50, 400),
    )
    def take(self, data, connections, followed, slack, waits):
        lane = self.pick(data, busy=False)
        self.plan_gaps = self.plan.gaps
        free = self.free()
        credit = None if slack is None or not free else free[0] + slack
        wanted = max(free[0] + waits, 0) if free else 0
        got = self.plan.take(lane, connections, followed=followed, credit=credit, wanted=wanted)
        if got is None:
            assert not free or credit is not None, "a part was there to be had"
            if not free:
                return
            could_be_cut = credit - credit % BLOCK > free[0]
            assert not (could_be_cut and free[0] < wanted), "somebody waits, and a part could be cut to fit"
            got = self.plan.take(lane, connections, followed=followed)
            assert got[1] > credit, "it would have fitted whole"
            credit = None
        start, stop = got
        assert start == free[0], "not the lowest byte that is free"
        assert credit is None or stop <= credit, "beyond the credit"
        if self.fixed:
            assert stop - start <= self.fixed
        self.hand_out(lane, start, stop, aligned=True)

    @precondition(lambda self: self.written)
    @rule(data=st.data())
    def no_part_for_a_busy_lane(self, data):
        lane = self.pick(data, busy=True)
        assert self.plan.take(lane, 2) is None
        assert self.plan.steal(lane) is None
        assert not self.plan.adopt(lane, self.plan.next, self.plan.next)

    @precondition(lambda self: self.has_idle())
    @rule(data=st.data(), length=st.integers(1, 400))
    def adopt(self, data, length):
        lane = self.pick(data, busy=False)
        start = data.draw(st.just(self.plan.next) | st.integers(0, self.size), label="start")
        assert not self.plan.adopt(lane, start, self.size + 1)
        stop = min(start + length, *(cut for cut in self.cuts if cut > start), self.size)
        free = start < stop and self.owner[start] == FREE
        assert self.plan.adopt(lane, start, stop) == free, "what is free, and nothing else"
        if free:
            begin, _, end = self.plan.lane(lane)
            assert begin == start < end <= stop
            self.hand_out(lane, start, end, aligned=False)

    @precondition(lambda self: self.written)
    @rule(data=st.data(), count=st.integers(0, 200))
    def write(self, data, count):
        lane = self.pick(data, busy=True)
        _, claim, stop = self.plan.lane(lane)
        want = min(self.written[lane] + count, stop)
        while claim < want:
            more = self.plan.extend(lane)
            assert claim < more <= min(claim + BLOCK, stop), "more than one block at a time"
            claim = more
        self.written[lane] = want

    @precondition(lambda self: self.written)
    @rule(data=st.data())
    def extend(self, data):
        lane = self.pick(data, busy=True)
        _, claim, stop = self.plan.lane(lane)
        more = self.plan.extend(lane)
        assert claim <= more <= stop
        assert (more == stop) if claim == stop else (more > claim)

    @precondition(lambda self: self.written)
    @rule(data=st.data())
    def shorten(self, data):
        lane = self.pick(data, busy=True)
        start, _, stop = self.plan.lane(lane)
        to = data.draw(st.integers(max(self.written[lane], min(start + 1, stop)), stop + 5), label="stop")
        self.plan.shorten(lane, to)
        if to < stop:
            self.give(FREE, to, stop)

    @precondition(lambda self: self.written)
    @rule(data=st.data())
    def release(self, data):
        lane = self.pick(data, busy=True)
        start, _, stop = self.plan.lane(lane)
        written = self.written.pop(lane)
        self.plan.release(lane, written)
        self.give(LANDED, start, written)
        self.give(FREE, written, stop)
        assert self.plan.lane(lane) is None

    @precondition(lambda self: self.has_idle())
    @rule(data=st.data(), handshake=st.sampled_from([0.0, 0.01, 1.0, 1e6]))
    def steal(self, data, handshake):
        thief = self.pick(data, busy=False)
        before = {n: self.plan.lane(n) for n in range(self.lanes)}
        got = self.plan.steal(thief, handshake)
        if got is None:
            assert all(self.plan.lane(n) == part for n, part in before.items())
            return
        victim, (start, stop) = got
        _, claim, end = before[victim]
        assert claim <= start < stop == end, "claimed bytes were stolen"
        assert start % BLOCK == 0 or start == claim
        assert all(self.owner[i] == victim for i in range(start, stop))
        self.give(thief, start, stop)
        self.written[thief] = start
        assert self.plan.lane(victim)[2] == start

    @rule(data=st.data(), handshake=st.sampled_from([0.0, 0.1, 10.0]))
    def hedge(self, data, handshake):
        landed = [self.written.get(n, 0) for n in range(self.lanes)]
        got = self.plan.hedge(landed, handshake)
        if got is not None:
            lane, (start, stop) = got
            assert self.plan.unissued == 0, "hedged while parts were left to hand out"
            assert start == self.written[lane]
            assert stop == self.plan.lane(lane)[2]
            assert 0 < stop - start <= 3 * BLOCK

    @rule(
        gap=st.floats(-1, 3) | st.just(float("nan")),
        rate=st.floats(-1, 1e6) | st.just(float("nan")),
        lane=st.integers(0, 5),
    )
    def measured(self, gap, rate, lane):
        self.plan.measured(gap, rate)
        if lane < self.lanes and rate >= 0:
            self.plan.rated(lane, rate)

    # --- the laws --------------------------------------------------------------------

    @invariant()
    def laws(self):
        if not hasattr(self, "plan"):
            return
        upto, gaps = self.plan.next, self.plan.gaps
        assert 0 <= upto <= self.size
        seen = [None] * self.size
        for a, b in gaps:
            assert 0 <= a < b <= upto
            for i in range(a, b):
                assert seen[i] is None
                seen[i] = FREE
        assert gaps == sorted(gaps)
        for i in range(upto, self.size):
            seen[i] = FREE
        for lane in range(self.lanes):
            part = self.plan.lane(lane)
            assert (part is not None) == (lane in self.written)
            if part is None:
                continue
            start, claim, stop = part
            assert start <= claim <= stop
            assert start <= self.written[lane] <= claim
            assert not any(start < cut < stop for cut in self.cuts)
            for i in range(start, stop):
                assert seen[i] is None, "a byte in two places"
                seen[i] = lane
        assert [LANDED if who is None else who for who in seen] == self.owner
        assert self.plan.unissued == self.owner.count(FREE)

    def teardown(self):
        """Driven to its end, every plan lands every byte."""
        if not hasattr(self, "plan"):
            return
        for _ in range(3 * self.size + 10):
            for lane in list(self.written):
                start, _, stop = self.plan.lane(lane)
                while self.plan.extend(lane) < stop:
                    pass
                del self.written[lane]
                self.plan.release(lane, stop)
                self.give(LANDED, start, stop)
            self.plan_gaps = self.plan.gaps
            got = self.plan.take(0, 2)
            if got is None:
                break
            self.hand_out(0, *got, aligned=True)
        self.laws()
        assert self.owner == [LANDED] * self.size
        assert self.plan.gaps == []
        assert self.plan.unissued == 0


TestPlan = Plan.TestCase
TestPlan.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


# --- sizes of parts ---------------------------------------------------------------------


def length(plan, connections=1, **more):
    start, stop = plan.take(0, connections, **more)
    return stop - start


def test_a_part_is_a_share_of_what_is_left_so_that_all_finish_together():
    plan = Planner(320 * MIB)
    assert plan.part_size(4) == 40 * MIB
    assert length(plan, 4) == 40 * MIB
    assert plan.part_size(4) == 35 * MIB


@pytest.mark.parametrize(("connections", "expected"), [(1, 8), (2, 4), (3, 3), (8, 1), (256, 1)])
def test_a_share_is_whole_blocks(connections, expected):
    assert Planner(16 * MIB).part_size(connections) == expected * MIB


def test_a_part_lasts_at_least_thirty_request_gaps():
    plan = Planner(1000 * MIB)
    plan.measured(0.1, 10 * MIB)
    assert plan.part_size(256) == 30 * MIB


def test_a_part_is_never_longer_than_64_mib():
    plan = Planner(1 << 40)
    assert plan.part_size(1) == 64 * MIB
    plan.measured(10.0, 1e9)
    assert plan.part_size(1) == 64 * MIB


def test_followed_parts_stop_at_8_mib_so_that_the_front_moves():
    plan = Planner(1 << 40)
    plan.measured(10.0, 1e9)
    assert plan.part_size(1, True) == 8 * MIB
    assert length(plan, followed=True) == 8 * MIB


def test_a_fixed_size_is_kept_to_the_byte():
    plan = Planner(10 * MIB, part_size=1000)
    assert plan.part_size(4) == 1000
    assert plan.take(0) == (0, 1000)
    plan.release(0, 1000)
    assert plan.take(0) == (1000, 2000)


def test_a_crumb_at_the_end_is_no_request_of_its_own():
    plan = Planner(8 * MIB + 5)
    sizes = []
    while got := plan.take(0, 4):
        sizes.append(got[1] - got[0])
        plan.release(0, got[1])
    assert sum(sizes) == 8 * MIB + 5
    assert min(sizes) >= MIB


@given(
    size=st.integers(0, 1 << 40),
    connections=st.integers(-1, 300),
    followed=st.booleans(),
    gap=st.floats(0, 1e3),
    rate=st.floats(0, 1e12),
)
def test_every_size_is_whole_blocks_within_bounds(size, connections, followed, gap, rate):
    plan = Planner(size)
    plan.measured(gap, rate)
    got = plan.part_size(connections, followed)
    assert got % MIB == 0
    assert MIB <= got <= (8 if followed else 64) * MIB


def test_a_huge_fixed_size_does_not_overflow():
    plan = Planner(10 * MIB, part_size=(1 << 63) - 1)
    assert plan.take(0) == (0, 10 * MIB)
    plan.release(0, 3 * MIB)
    assert plan.take(0) == (3 * MIB, 10 * MIB)


def test_a_later_measurement_counts_a_quarter():
    plan = Planner(1 << 40)
    plan.measured(1.0, MIB)
    assert plan.part_size(1 << 20) == 30 * MIB
    plan.measured(1.0, 2 * MIB)
    assert plan.part_size(1 << 20) == 38 * MIB  # 1.25 MiB/s x 30 s, rounded up


def test_measurements_that_say_nothing_are_skipped():
    plan = Planner(1 << 40)
    plan.measured(1.0, MIB)
    plan.measured(0.0, -1.0)
    plan.measured(float("nan"), float("nan"))
    assert plan.part_size(1 << 20) == 30 * MIB


def test_adopt_does_not_straddle_a_cut():
    plan = Planner(100 * MIB, cuts=[10 * MIB])
    assert not plan.adopt(0, 0, 20 * MIB)
    assert plan.unissued == 100 * MIB


def test_a_released_part_goes_first():
    plan = Planner(100 * MIB, lanes=3)
    first, second = plan.take(0, 8), plan.take(1, 8)
    plan.release(1, second[0] + 5)
    plan.release(0, first[0] + MIB)
    assert plan.gaps == [(first[0] + MIB, first[1]), (second[0] + 5, second[1])]
    assert plan.take(2, 8)[0] == first[0] + MIB


def test_what_is_in_place_is_not_handed_out():
    plan = Planner(5 * MIB + 7, lanes=3)
    plan.resume([MIB, 0, 0, MIB, 0, 7])
    assert plan.gaps == [(MIB, 3 * MIB), (4 * MIB, 5 * MIB)]
    assert (plan.unissued, plan.next) == (3 * MIB, 5 * MIB + 7)
    assert plan.take(0, 1) == (MIB, 3 * MIB)
    assert plan.take(1, 1) == (4 * MIB, 5 * MIB)
    assert plan.take(2, 1) is None


def test_the_first_request_of_a_resumed_plan_gets_what_is_free_of_it():
    plan = Planner(8 * MIB, lanes=3)
    plan.resume([MIB, 0, 0, MIB, 0, 0, 0, MIB])
    assert not plan.adopt(0, 0, 4 * MIB), "it is in place"
    assert not plan.adopt(0, 7 * MIB, 8 * MIB)
    assert plan.adopt(0, MIB, 6 * MIB)
    assert plan.lane(0) == (MIB, 2 * MIB, 3 * MIB), "up to what is in place"
    assert plan.adopt(1, 5 * MIB, 6 * MIB)
    assert plan.gaps == [(4 * MIB, 5 * MIB), (6 * MIB, 7 * MIB)]
    assert plan.unissued == 2 * MIB


@pytest.mark.parametrize("there", [0, MIB])
def test_all_or_nothing_in_place(there):
    plan = Planner(3 * MIB)
    plan.resume([there] * 3)
    assert plan.gaps == ([] if there else [(0, 3 * MIB)])
    assert plan.unissued == (0 if there else 3 * MIB)
    assert plan.adopt(0, 0, MIB) is (there == 0)


def test_a_window_that_the_part_does_not_fit_gives_nothing():
    plan = Planner(100 * MIB)
    assert plan.take(0, 1, credit=MIB) is None
    assert plan.unissued == 100 * MIB
    assert plan.take(0, 1, credit=64 * MIB) == (0, 50 * MIB)


def test_a_part_is_cut_only_for_somebody_who_waits():
    plan = Planner(100 * MIB)
    assert plan.take(0, 1, credit=MIB + 5, wanted=0) is None
    assert plan.take(0, 1, credit=MIB - 1, wanted=10) is None, "no block fits"
    assert plan.take(0, 1, credit=MIB + 5, wanted=1) == (0, MIB)
    plan.release(0, MIB)
    assert plan.take(0, 1, credit=9 * MIB, wanted=MIB) is None, "what it waits for is on its way"
    assert plan.take(0, 1, credit=9 * MIB, wanted=MIB + 1) == (MIB, 9 * MIB)


@given(
    size=st.integers(1, 1 << 40),
    connections=st.integers(1, 300),
    window=st.integers(1, 1 << 12),
    gap=st.floats(0, 1e3),
    rate=st.floats(0, 1e12),
)
def test_a_window_is_shared_by_all_connections(size, connections, window, gap, rate):
    """However slow to answer a server is, nobody takes more than a share of the window."""
    plan = Planner(size, window=window * MIB)
    plan.measured(gap, rate)
    got = plan.part_size(connections, True)
    assert got % MIB == 0
    assert MIB <= got < max(window * MIB / (2 * connections), 1) + MIB


# --- steals, hedges, drains ------------------------------------------------------------------


def busy(size=64 * MIB, rate=MIB):
    """One lane holds everything, another is idle."""
    plan = Planner(size, lanes=2)
    plan.measured(0.01, rate)
    assert plan.adopt(0, 0, size)
    plan.rated(0, rate)
    return plan


def test_a_thief_takes_the_far_half():
    assert busy().steal(1) == (0, (32 * MIB, 64 * MIB))


def test_a_steal_must_be_worth_a_handshake():
    assert busy(rate=32 * MIB).steal(1, handshake=1.0) is None
    assert busy(rate=MIB).steal(1, handshake=1.0) is not None


def test_less_than_a_block_beyond_the_claim_is_not_stolen():
    plan = busy(size=2 * MIB - 1)
    assert plan.steal(1) is None
    plan = busy(size=2 * MIB)
    assert plan.steal(1) == (0, (MIB, 2 * MIB))
    plan = busy(size=3 * MIB)
    assert plan.steal(1) == (0, (2 * MIB, 3 * MIB))


def test_the_victim_is_the_one_that_would_finish_last():
    plan = Planner(96 * MIB, lanes=3)
    plan.measured(0.01, MIB)
    assert plan.adopt(0, 0, 64 * MIB)
    assert plan.adopt(1, 64 * MIB, 96 * MIB)
    plan.rated(0, 100 * MIB)
    plan.rated(1, MIB)
    assert plan.steal(2)[0] == 1


def test_nothing_is_stolen_before_a_rate_is_known():
    plan = Planner(96 * MIB, lanes=3)
    assert plan.adopt(0, 0, 32 * MIB)
    assert plan.adopt(1, 32 * MIB, 96 * MIB)
    assert plan.steal(2) is None
    plan.rated(0, MIB)
    assert plan.steal(2)[0] == 0


def test_hedges_only_the_last_blocks_of_a_slow_lane():
    plan = Planner(6 * MIB, lanes=2)
    plan.measured(0.01, 10 * MIB)
    assert plan.adopt(0, 0, 4 * MIB)
    plan.rated(0, 1000.0)
    assert plan.hedge([4 * MIB - 100, 0]) is None  # parts are left
    assert plan.adopt(1, 4 * MIB, 6 * MIB)
    plan.release(1, 6 * MIB)
    assert plan.hedge([0, 0]) is None  # enough to steal from
    assert plan.hedge([MIB, 0], 0.01) == (0, (MIB, 4 * MIB))
    assert plan.hedge([MIB, 0], 1e6) is None  # a fresh connection would take longer
    plan.rated(0, 10 * MIB)
    assert plan.hedge([MIB, 0], 0.01) is None  # fast enough by itself


def test_many_lanes_fit_into_a_hedge():
    code = "from parpull._planner import Planner; Planner(1 << 22, lanes=1000).hedge([0] * 1000)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "ValueError" in done.stderr, f"status {done.returncode}: {done.stderr[-300:]}"


def test_draining_is_for_less_than_a_handshake():
    plan = Planner(MIB)
    assert not plan.drains(1, 1.0)  # no rate is known
    plan.measured(0.0, 1000.0)
    assert plan.drains(999, 1.0)
    assert not plan.drains(1000, 1.0)


# --- backoff ------------------------------------------------------------------------------------


@given(attempt=st.integers(-3, 10**6), seed=st.integers(0, 2**64 - 1))
def test_backoff_is_full_jitter_below_a_ceiling(attempt, seed):
    wait = backoff(attempt, seed=seed)
    assert 0 <= wait <= min(10.0, 0.25 * 2 ** min(max(attempt, 0), 16))
    assert wait == backoff(attempt, seed=seed)


@given(attempt=st.integers(0, 40), asked=st.floats(0, 1e6), seed=st.integers(0, 2**64 - 1))
def test_backoff_waits_what_the_server_asks_and_a_little_more(attempt, asked, seed):
    assert asked <= backoff(attempt, retry_after=asked, seed=seed) <= asked + 1.0


def test_backoff_spreads_over_the_whole_range():
    waits = [backoff(3, seed=n * 0x9E3779B97F4A7C15 % 2**64) for n in range(1, 1001)]
    assert min(waits) < 0.1
    assert max(waits) > 1.9
    assert len(set(waits)) > 990


@pytest.mark.parametrize("wrong", [{"size": -1}, {"lanes": 0}, {"block": 0}, {"cuts": [1] * 1025}])
def test_a_plan_of_nonsense_is_refused(wrong):
    with pytest.raises(ValueError, match="size >= 0"):
        Planner(**{"size": 10, **wrong})


def test_lanes_that_do_not_exist():
    plan = Planner(10)
    for lane in (-1, 1):
        with pytest.raises(IndexError):
            plan.take(lane)
