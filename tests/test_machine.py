"""Planner and landing together, driven as the reactor drives them, under hypothesis.

Each of the two has tests of its own; what they promise together is that every byte gets
to its place once and that the front never lies. The model is the reactor without libcurl:
a transfer takes a part, writes below its claim, is counted block by block, is cut, robbed,
shortened, ended early or found to be unproven; a reader gives credit. It calls only what
transfer.pxi, endings.pxi and schedule.pxi call, in their order.
"""

from __future__ import annotations

import os
import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from parpull._landing import Landing
from parpull._planner import Planner

BLOCK = 4096
LANES = 4
LARGEST = 12 * BLOCK
SOURCE = random.Random(4).randbytes(LARGEST)
JUNK = bytes(255 - byte for byte in SOURCE)  # differs from the source in every byte


class Transfer:
    """One lane's transfer: where it writes next, what was counted, where it began."""

    def __init__(self, start, *, deferred):
        self.body_start = self.position = self.counted = start
        self.deferred = deferred
        self.wrong = False  # an unproven body that turns out to be another one


class Reactor(RuleBasedStateMachine):
    """A small object in blocks of 4 KiB, a few lanes, memory or a ring."""

    @initialize(
        size=st.integers(0, LARGEST),
        lanes=st.integers(1, LANES),
        fixed=st.sampled_from([0, 0, 0, BLOCK, 3 * BLOCK, 1000, 5001]),
        ring=st.sampled_from([0, 0, 1, 2, 4]),
        there=st.binary(max_size=12),
        first=st.none() | st.tuples(st.integers(0, LARGEST), st.integers(1, LARGEST)),
        rate=st.sampled_from([0.0, 1e5]),
    )
    def begin(self, size, lanes, fixed, ring, there, first, rate):
        self.size, self.lanes, self.ring = size, lanes, ring * BLOCK
        if ring:
            # A part of a size that is no multiple of the block could not wait for credit.
            fixed, there = fixed // BLOCK * BLOCK, b""
        self.landing = Landing(size, BLOCK)
        self.target = bytearray(self.ring or size)
        self.plan = Planner(size, lanes=lanes, block=BLOCK, part_size=fixed, window=self.ring)
        self.owner = [None] * size  # of each byte: None, a lane, or "landed"
        self.transfers = {}
        self.read = self.front = 0
        if ring:
            self.landing.into_ring(self.target, self.ring)
        else:
            self.landing.into_memory(self.target)
        blocks = -(-size // BLOCK)
        filled = [0] * blocks
        for index, flag in enumerate(there[:blocks]):
            if flag & 1:
                start, stop = index * BLOCK, min((index + 1) * BLOCK, size)
                self.target[start:stop] = SOURCE[start:stop]
                self.owner[start:stop] = ["landed"] * (stop - start)
                filled[index] = stop - start
        if any(filled):  # as begin() in _reactor.pyx does
            self.landing.restore(bytes(n > 0 for n in filled))
            self.plan.resume(filled)
        self.plan.measured(0.0, rate)
        if first is not None and not ring:
            start, stop = first[0], min(sum(first), size)
            if start < stop and self.plan.adopt(0, start, stop):
                begin, _, end = self.plan.lane(0)
                assert begin == start < end <= stop
                self.assign(0, begin, end, deferred=False)

    # --- what the model does for the reactor -------------------------------------------

    def credit(self):
        return self.landing.credit if self.ring else self.size

    def assign(self, lane, start, stop, *, deferred, victim=None):
        assert 0 <= start < stop <= self.credit()
        assert all(who == victim for who in self.owner[start:stop]), "a byte with two writers"
        self.owner[start:stop] = [lane] * (stop - start)
        self.transfers[lane] = Transfer(start, deferred=deferred)

    def take_part(self, lane, *, wanted=0, deferred=False):
        got = self.plan.take(lane, self.lanes, followed=bool(self.ring), credit=self.credit(), wanted=wanted)
        if got is not None:
            self.assign(lane, *got, deferred=deferred)
        return got

    def place(self, start, stop):
        """Pieces of [start, stop) that don't wrap in the ring."""
        while start < stop:
            upto = min(stop, (start // self.ring + 1) * self.ring) if self.ring else stop
            yield start, upto
            start = upto

    def put(self, lane, count):
        """A body callback, as copy() does it."""
        transfer = self.transfers[lane]
        source = JUNK if transfer.wrong else SOURCE
        while count > 0:
            _, claim, _ = self.plan.lane(lane)
            if transfer.position == claim:
                self.sync(lane)
                more = self.plan.extend(lane)
                assert claim <= more <= claim // BLOCK * BLOCK + BLOCK, "more than one block at a time"
                if more == transfer.position:
                    return
                claim = more
            step = min(count, claim - transfer.position)
            start, stop = transfer.position, transfer.position + step
            assert all(self.owner[i] == lane for i in range(start, stop)), "beyond what it owns"
            assert start >= self.landing.front, "behind the front"
            for a, b in self.place(start, stop):
                self.landing.land(a, source[a:b], deferred=True, finish=False)
            transfer.position = stop
            count -= step

    def sync(self, lane):
        """writer_sync: count what is written, unless it is unproven."""
        transfer = self.transfers[lane]
        if not transfer.deferred:
            for a, b in self.place(transfer.counted, transfer.position):
                at = a % self.ring if self.ring else a
                assert self.target[at : at + b - a] == SOURCE[a:b], "somebody else wrote here"
                self.landing.land(a, SOURCE[a:b])
            transfer.counted = transfer.position

    def settle(self, lane, *, proven):
        """settle_copy: the transfer is over; what is not in place becomes a gap."""
        transfer = self.transfers[lane]
        start, _, stop = self.plan.lane(lane)
        whole = transfer.position == stop
        if proven and whole and not transfer.wrong:
            transfer.deferred = False
        self.sync(lane)
        self.plan.release(lane, transfer.counted)
        del self.transfers[lane]
        assert transfer.counted in (start, transfer.position)
        self.owner[start : transfer.counted] = ["landed"] * (transfer.counted - start)
        self.owner[transfer.counted : stop] = [None] * (stop - transfer.counted)

    def counted(self):
        """Which bytes the ground has to know of."""
        there = [who == "landed" for who in self.owner]
        for lane, transfer in self.transfers.items():
            start = self.plan.lane(lane)[0]
            there[start : transfer.counted] = [True] * (transfer.counted - start)
        return there

    # --- what can happen -----------------------------------------------------------------

    def lane(self, data, *, busy):
        return data.draw(st.sampled_from([n for n in range(self.lanes) if (n in self.transfers) == busy]), label="lane")

    def any_idle(self):
        return hasattr(self, "plan") and len(self.transfers) < self.lanes

    def any_busy(self):
        return hasattr(self, "plan") and bool(self.transfers)

    @precondition(any_idle)
    @rule(data=st.data(), deferred=st.sampled_from([False, False, True]), wrong=st.booleans(), waits=st.booleans())
    def take(self, data, deferred, wrong, waits):
        lane = self.lane(data, busy=False)
        if self.take_part(lane, wanted=self.read + 1 if waits else 0, deferred=deferred):
            self.transfers[lane].wrong = deferred and wrong

    @precondition(any_busy)
    @rule(data=st.data(), count=st.integers(1, 3 * BLOCK))
    def write(self, data, count):
        self.put(self.lane(data, busy=True), count)

    @precondition(any_busy)
    @rule(data=st.data())
    def publish(self, data):
        self.sync(self.lane(data, busy=True))

    @precondition(any_busy)
    @rule(data=st.data())
    def end_well(self, data):
        lane = self.lane(data, busy=True)
        self.put(lane, self.size)
        self.settle(lane, proven=True)

    @precondition(any_busy)
    @rule(data=st.data())
    def cut(self, data):
        self.settle(self.lane(data, busy=True), proven=False)

    @precondition(any_busy)
    @rule(data=st.data(), keep=st.integers(1, 3 * BLOCK))
    def shorten(self, data, keep):
        """A legal shorter 206: known before its first byte is written."""
        lane = self.lane(data, busy=True)
        start, _, stop = self.plan.lane(lane)
        if self.transfers[lane].position == start and start + keep < stop:
            self.plan.shorten(lane, start + keep)
            self.owner[start + keep : stop] = [None] * (stop - start - keep)

    @precondition(any_idle)
    @rule(data=st.data(), handshake=st.sampled_from([0.0, 0.001, 10.0]), rate=st.sampled_from([0.0, 1.0, 1e6]))
    def steal(self, data, handshake, rate):
        thief = self.lane(data, busy=False)
        for lane in self.transfers:
            self.plan.rated(lane, rate)
        got = self.plan.steal(thief, handshake)
        if got is not None:
            victim, (start, stop) = got
            assert start >= self.transfers[victim].position
            self.assign(thief, start, stop, deferred=False, victim=victim)

    @precondition(any_busy)
    @rule(handshake=st.sampled_from([0.0, 0.001]))
    def replace_slowest(self, handshake):
        """The tail: the slowest transfer is ended and its rest asked for again."""
        for lane in self.transfers:
            self.plan.rated(lane, 1.0)
        landed = [self.transfers[n].position if n in self.transfers else 0 for n in range(self.lanes)]
        got = self.plan.hedge(landed, handshake)
        if got is not None:
            lane, (start, stop) = got
            assert self.plan.unissued == 0
            assert (start, stop) == (landed[lane], self.plan.lane(lane)[2])
            if not self.transfers[lane].deferred:
                self.settle(lane, proven=False)

    @precondition(lambda self: hasattr(self, "plan") and self.ring)
    @rule(count=st.integers(0, 3 * BLOCK))
    def consume(self, count):
        """The reader takes what is in front, and gives room for as many blocks."""
        stop = min(self.read + count, self.landing.front)
        for a, b in self.place(self.read, stop):
            at = a % self.ring
            assert self.target[at : at + b - a] == SOURCE[a:b], "the reader got other bytes"
        self.read = stop
        self.landing.allow(stop // BLOCK * BLOCK + self.ring, stop + 1)

    # --- the laws --------------------------------------------------------------------------

    @invariant()
    def laws(self):
        if not hasattr(self, "plan"):
            return
        there, front = self.counted(), self.landing.front
        assert self.landing.landed == sum(there), "bytes were lost, or counted twice"
        prefix = there.index(False) if False in there else self.size
        assert (self.size if prefix == self.size else prefix // BLOCK * BLOCK) <= front <= prefix
        assert front >= self.front, "the front went back"
        self.front = front
        assert self.plan.unissued == self.owner.count(None)
        for lane, transfer in self.transfers.items():
            start, claim, stop = self.plan.lane(lane)
            assert start <= transfer.counted <= transfer.position <= claim <= stop <= self.credit()
            assert self.owner[start:stop] == [lane] * (stop - start)
        if not self.ring:
            assert self.target[:front] == SOURCE[:front], "the front tells of bytes that are not there"
            assert all(self.target[i] == SOURCE[i] for i in range(self.size) if there[i]), "a landed byte was changed"

    def teardown(self):
        """When failures end, the rest arrives: every run comes to its end."""
        if not hasattr(self, "plan"):
            return
        for _ in range(4 * LARGEST // 1000 + 40):
            for lane in list(self.transfers):
                if not self.transfers[lane].wrong:
                    self.put(lane, self.size)
                self.settle(lane, proven=True)
            if self.ring:
                self.consume(self.size)
            if (
                not any(self.take_part(lane, wanted=self.read + 1) for lane in range(self.lanes))
                and not self.plan.unissued
            ):
                break
        self.laws()
        assert not self.transfers, "it does not end"
        assert self.landing.landed == self.landing.front == self.size
        if self.ring:
            self.consume(self.size)
            assert self.read == self.size
        else:
            assert self.target == SOURCE[: self.size]
        self.landing.release()


TestReactor = Reactor.TestCase
EXAMPLES = 20_000 if os.environ.get("HYPOTHESIS_PROFILE") == "expensive" else 2000
TestReactor.settings = settings(max_examples=EXAMPLES, stateful_step_count=25, deadline=None)
