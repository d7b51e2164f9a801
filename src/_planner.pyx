"""The planner: who fetches which bytes of one target.

Pure. It knows offsets, lanes (one per connection) and smoothed measurements; it
knows no libcurl, no clock and no randomness: times and seeds are arguments.
Everything that decides about parts lives here, so that it can be driven by
hypothesis without a socket.

Laws, which hold after every call:

1. A byte below `size` is in exactly one place: landed, in a busy lane's
   [start, stop), in a gap, or at or beyond `next`.
2. A lane writes only below its claim, and claims of busy lanes never overlap:
   plan_steal takes only bytes at or beyond the victim's claim.
3. Parts are handed out in front order: the lowest gap first, then `next`.
4. No part straddles a cut.

Nothing here locks. The caller holds the Landing's mutex around every call.
"""
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memmove, memset

cdef int64_t FOLLOWED_CAP = 8 << 20    # keeps the front within `connections` of these
cdef int64_t CAP = 64 << 20            # more saves no requests worth counting
cdef double GAPS_PER_PART = 30.0       # a part lasts at least this many request gaps
cdef double BACKOFF_BASE = 0.25        # seconds
cdef double BACKOFF_CAP = 10.0
cdef double SMOOTH = 0.25              # weight of a new measurement


cdef int plan_init(Plan* plan, int64_t size, int64_t block, int64_t fixed, int lanes,
                   const int64_t* cuts, int ncuts) noexcept nogil:
    """Return 0, or -1 when there is no memory. `cuts` is copied."""
    cdef int i
    memset(plan, 0, sizeof(Plan))
    plan.size = size
    plan.block = block
    plan.fixed = fixed
    plan.unissued = size
    plan.room = lanes + 8
    plan.gaps = <Part*>malloc(plan.room * sizeof(Part))
    plan.lanes = <Lane*>malloc(lanes * sizeof(Lane))
    plan.cuts = <int64_t*>malloc((ncuts + 1) * sizeof(int64_t))
    if plan.gaps is NULL or plan.lanes is NULL or plan.cuts is NULL:
        plan_free(plan)
        return -1
    memset(plan.lanes, 0, lanes * sizeof(Lane))
    plan.nlanes = lanes
    for i in range(ncuts):
        plan.cuts[i] = cuts[i]
    plan.ncuts = ncuts
    return 0


cdef void plan_free(Plan* plan) noexcept nogil:
    free(plan.gaps)
    free(plan.lanes)
    free(plan.cuts)
    memset(plan, 0, sizeof(Plan))


cdef void plan_measured(Plan* plan, double gap, double rate) noexcept nogil:
    """Take in what one finished response showed; a value <= 0 is skipped."""
    if gap > 0:
        plan.gap += (gap - plan.gap) * (SMOOTH if plan.gap > 0 else 1.0)
    if rate > 0:
        plan.rate += (rate - plan.rate) * (SMOOTH if plan.rate > 0 else 1.0)


cdef int64_t plan_part_size(const Plan* plan, int connections, bint followed) noexcept nogil:
    """How long the next part should be, in bytes, before cuts and the end.

    A 2 * connections-th of what is left, so that all connections finish
    together; not so short that request gaps show; not so long that the front
    waits for one connection while somebody follows it."""
    cdef int64_t share, floor_
    if plan.fixed > 0:
        return plan.fixed
    share = plan.unissued // (2 * connections if connections > 0 else 2)
    floor_ = <int64_t>(GAPS_PER_PART * plan.gap * plan.rate)
    share = min(max(share, floor_, plan.block), FOLLOWED_CAP if followed else CAP)
    if plan.window > 0:                     # a share of what there is room for, to the very end
        share = max(min(plan.window // (2 * connections if connections > 0 else 2), FOLLOWED_CAP), plan.block)
    return (share + plan.block - 1) // plan.block * plan.block


cdef inline int64_t next_cut(Plan* plan, int64_t start) noexcept nogil:
    cdef int low = 0, high = plan.ncuts, middle
    while low < high:                       # first cut > start
        middle = (low + high) // 2
        if plan.cuts[middle] > start:
            high = middle
        else:
            low = middle + 1
    return plan.cuts[low] if low < plan.ncuts else plan.size


cdef inline int64_t fit(Plan* plan, int64_t start, int64_t want, int64_t limit) noexcept nogil:
    """End of a part of about `want` bytes from `start`: on a block boundary where
    the size is ours to choose, never beyond `limit` or a cut."""
    cdef int64_t stop = start + min(want, limit - start)
    if plan.fixed <= 0 and stop < limit:
        stop -= stop % plan.block
        if stop <= start:
            stop += plan.block
    # A crumb at the end would cost a request of its own.
    if plan.fixed <= 0 and limit - stop < plan.block:
        stop = limit
    return min(stop, limit, next_cut(plan, start))


cdef inline void occupy(Plan* plan, int lane, int64_t start, int64_t stop) noexcept nogil:
    cdef Lane* seat = &plan.lanes[lane]
    seat.start = start
    seat.stop = stop
    seat.busy = True
    seat.unproven = False
    seat.rate = 0.0
    seat.claim = min((start // plan.block + 1) * plan.block, stop)


cdef bint plan_adopt(Plan* plan, int lane, int64_t start, int64_t stop) noexcept nogil:
    """Give `lane` the part of the first request, which was sent before there was a
    plan: of [start, stop) what nobody has, from `start` on. False when that is nothing."""
    cdef Part gap
    cdef int i
    if not start < stop <= next_cut(plan, start) or plan.lanes[lane].busy:
        return False
    if start >= plan.next:
        gap.start, gap.stop = plan.next, start
        plan.unissued -= stop - plan.next
        plan.next = stop
        if give_back(plan, gap.start, gap.stop) < 0:
            return False
        occupy(plan, lane, start, stop)
        return True
    for i in range(plan.ngaps):
        gap = plan.gaps[i]
        if gap.start <= start < gap.stop:
            stop = min(stop, gap.stop)
            plan.ngaps -= 1
            memmove(plan.gaps + i, plan.gaps + i + 1, (plan.ngaps - i) * sizeof(Part))
            plan.unissued -= gap.stop - gap.start
            if give_back(plan, gap.start, start) < 0 or give_back(plan, stop, gap.stop) < 0:
                return False
            occupy(plan, lane, start, stop)
            return True
    return False


cdef int plan_resume(Plan* plan, const uint32_t* filled, int64_t nblocks) noexcept nogil:
    """A plan that is new: blocks that are filled are in place, the others are gaps.
    -1 when there is no memory."""
    cdef int64_t index, start = -1
    plan.unissued = 0
    plan.next = plan.size
    for index in range(nblocks + 1):
        if index < nblocks and filled[index] == 0:
            if start < 0:
                start = index * plan.block
        elif start >= 0:
            if give_back(plan, start, min(index * plan.block, plan.size)) < 0:
                return -1
            start = -1
    return 0


cdef bint plan_take(Plan* plan, int lane, int connections, bint followed,
                    int64_t credit, int64_t wanted, Part* out) noexcept nogil:
    """Hand the next part in front order to an idle lane. False when nothing is left
    to hand out, or when it would not fit below `credit`. A part that begins below
    `wanted` is cut to fit: somebody waits for it."""
    cdef int64_t want = plan_part_size(plan, connections, followed)
    cdef int64_t start, stop
    cdef Part* gap
    if plan.lanes[lane].busy:
        return False
    if plan.ngaps:
        gap = &plan.gaps[0]
        start = gap.start
        stop = fit(plan, start, want, gap.stop)
    elif plan.next < plan.size:
        gap = NULL
        start = plan.next
        stop = fit(plan, start, want, plan.size)
    else:
        return False
    if stop > credit:
        if start >= min(wanted, credit):
            return False
        stop = credit - credit % plan.block     # a block has one owner at a time
        if stop <= start:
            return False
    if gap is NULL:
        plan.next = stop
    elif stop == gap.stop:
        plan.ngaps -= 1
        memmove(plan.gaps, plan.gaps + 1, plan.ngaps * sizeof(Part))
    else:
        gap.start = stop
    plan.unissued -= stop - start
    occupy(plan, lane, start, stop)
    out.start = start
    out.stop = stop
    return True


cdef int64_t plan_extend(Plan* plan, int lane) noexcept nogil:
    """Let `lane` claim one more block of its part; return the new claim, which
    equals the lane's stop when there is nothing more to claim."""
    cdef Lane* seat = &plan.lanes[lane]
    seat.claim = min((seat.claim // plan.block + 1) * plan.block, seat.stop)
    return seat.claim


cdef int give_back(Plan* plan, int64_t start, int64_t stop) noexcept nogil:
    """Put [start, stop) among the gaps, ascending. -1 when there is no memory."""
    cdef int at = plan.ngaps
    cdef Part* more
    if start >= stop:
        return 0
    if plan.ngaps == plan.room:
        more = <Part*>realloc(plan.gaps, plan.room * 2 * sizeof(Part))
        if more is NULL:
            return -1
        plan.gaps = more
        plan.room *= 2
    while at > 0 and plan.gaps[at - 1].start > start:     # from behind: plan_resume brings them in order
        at -= 1
    memmove(plan.gaps + at + 1, plan.gaps + at, (plan.ngaps - at) * sizeof(Part))
    plan.gaps[at].start = start
    plan.gaps[at].stop = stop
    plan.ngaps += 1
    plan.unissued += stop - start
    return 0


cdef void plan_shorten(Plan* plan, int lane, int64_t stop) noexcept nogil:
    """A legal shorter 206: the lane ends at `stop`, the rest becomes a gap."""
    cdef Lane* seat = &plan.lanes[lane]
    if stop < seat.stop:
        give_back(plan, stop, seat.stop)
        seat.stop = stop
        seat.claim = min(seat.claim, stop)


cdef int plan_release(Plan* plan, int lane, int64_t landed) noexcept nogil:
    """The lane's transfer has ended with everything below `landed` in place; the
    rest of its part, if any, becomes a gap. -1 when there is no memory."""
    cdef Lane* seat = &plan.lanes[lane]
    if not seat.busy:
        return 0
    seat.busy = False
    return give_back(plan, landed, seat.stop)


cdef bint plan_steal(Plan* plan, int thief, double handshake, Steal* out) noexcept nogil:
    """Let an idle lane take the far half of what the slowest-to-finish lane has
    not claimed. False when no theft would pay: the victim's connection dies by it,
    so the time saved must exceed a handshake. Before anything has been measured
    none pays: what comes sooner than a rate is known is one request."""
    cdef int lane, victim = -1
    cdef int64_t rest, most = 0, middle
    cdef double rate, seconds, longest = 0.0
    if plan.lanes[thief].busy:
        return False
    for lane in range(plan.nlanes):
        if not plan.lanes[lane].busy or plan.lanes[lane].unproven:
            continue
        rest = plan.lanes[lane].stop - plan.lanes[lane].claim
        if rest < plan.block:
            continue
        rate = plan.lanes[lane].rate if plan.lanes[lane].rate > 0 else plan.rate
        seconds = rest / rate if rate > 0 else 0.0
        if seconds > longest:
            victim, most, longest = lane, rest, seconds
    if victim < 0 or longest / 2 < 2 * handshake:
        return False
    middle = plan.lanes[victim].claim + most // 2
    middle -= middle % plan.block
    out.victim = victim
    out.part.start = max(middle, plan.lanes[victim].claim)
    out.part.stop = plan.lanes[victim].stop
    plan.lanes[victim].stop = out.part.start
    occupy(plan, thief, out.part.start, out.part.stop)
    return True


cdef int plan_hedge(Plan* plan, const int64_t* landed, double handshake, Part* out) noexcept nogil:
    """Which lane's last bytes are worth asking for again, or -1.

    Only at the very end (nothing to hand out), only a rest too short to steal from,
    and only when the lane, at its own rate, would need more than twice what a
    fresh connection needs. `landed[lane]` is how far that lane has written."""
    cdef int lane, slowest = -1
    cdef double rate, seconds, fresh, longest = 0.0
    cdef int64_t rest
    if plan.unissued > 0 or plan.rate <= 0:
        return -1
    for lane in range(plan.nlanes):
        if not plan.lanes[lane].busy:
            continue
        rest = plan.lanes[lane].stop - landed[lane]
        if rest <= 0 or rest > 3 * plan.block or plan.lanes[lane].unproven:
            continue
        rate = plan.lanes[lane].rate if plan.lanes[lane].rate > 0 else plan.rate
        seconds = rest / rate
        fresh = handshake + rest / plan.rate
        if seconds > 2 * fresh and seconds > longest:
            slowest, longest = lane, seconds
    if slowest >= 0:
        out.start = landed[slowest]
        out.stop = plan.lanes[slowest].stop
    return slowest


cdef bint plan_drains(const Plan* plan, int64_t leftover, double handshake) noexcept nogil:
    """Whether reading `leftover` bytes away is cheaper than a new connection."""
    return plan.rate > 0 and leftover / plan.rate < handshake


cdef double plan_backoff(int attempt, double retry_after, uint64_t seed) noexcept nogil:
    """Seconds to wait before attempt number `attempt` (0 = first retry): full
    jitter, or what the server asked for plus a little of it."""
    cdef double ceiling = BACKOFF_BASE * <double>(1 << min(max(attempt, 0), 16))
    cdef double dice
    seed = (seed ^ (seed >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    seed = (seed ^ (seed >> 27)) * <uint64_t>0x94D049BB133111EB
    seed ^= seed >> 31
    dice = <double>(seed >> 11) / 9007199254740992.0
    ceiling = min(ceiling, BACKOFF_CAP)
    if retry_after >= 0:
        return retry_after + dice * min(ceiling, 1.0)
    return dice * ceiling


cdef class Planner:
    """The plan of one target, for tests and for `probe`: each method is the C
    function of that name. Offsets are half-open; a lane is an index."""
    cdef Plan plan

    def __cinit__(self, int64_t size, *, int lanes=1, int64_t block=1 << 20,
                  int64_t part_size=0, cuts=(), int64_t window=0):
        cdef int64_t[1024] copy
        cdef int i
        if size < 0 or not 1 <= lanes <= 256 or block < 1 or len(cuts) > 1024:
            raise ValueError("size >= 0, 1 to 256 lanes, block >= 1, at most 1024 cuts")
        for i, cut in enumerate(cuts):
            copy[i] = cut
        if plan_init(&self.plan, size, block, part_size, lanes, copy, len(cuts)) < 0:
            raise MemoryError
        self.plan.window = window

    def __dealloc__(self):
        plan_free(&self.plan)

    cdef int check(self, int lane) except -1:
        if not 0 <= lane < self.plan.nlanes:
            raise IndexError(lane)
        return lane

    def measured(self, double gap, double rate):
        plan_measured(&self.plan, gap, rate)

    def part_size(self, int connections, bint followed=False):
        return plan_part_size(&self.plan, connections, followed)

    def adopt(self, int lane, int64_t start, int64_t stop):
        return bool(plan_adopt(&self.plan, self.check(lane), start, stop))

    def take(self, int lane, int connections=1, *, bint followed=False, credit=None, int64_t wanted=0):
        cdef Part part
        cdef int64_t most = self.plan.size if credit is None else credit
        if plan_take(&self.plan, self.check(lane), connections, followed, most, wanted, &part):
            return part.start, part.stop
        return None

    def resume(self, filled):
        cdef uint32_t* copy = <uint32_t*>malloc((len(filled) + 1) * sizeof(uint32_t))
        cdef int done
        if copy is NULL:
            raise MemoryError
        for i, n in enumerate(filled):
            copy[i] = n
        done = plan_resume(&self.plan, copy, len(filled))
        free(copy)
        if done < 0:
            raise MemoryError

    def extend(self, int lane):
        return plan_extend(&self.plan, self.check(lane))

    def shorten(self, int lane, int64_t stop):
        plan_shorten(&self.plan, self.check(lane), stop)

    def release(self, int lane, int64_t landed):
        if plan_release(&self.plan, self.check(lane), landed) < 0:
            raise MemoryError

    def rated(self, int lane, double rate):
        self.plan.lanes[self.check(lane)].rate = rate

    def steal(self, int thief, double handshake=0.0):
        cdef Steal theft
        if plan_steal(&self.plan, self.check(thief), handshake, &theft):
            return theft.victim, (theft.part.start, theft.part.stop)
        return None

    def hedge(self, landed, double handshake=0.0):
        cdef Part part
        cdef int64_t[256] copy
        cdef int i, lane
        for i in range(self.plan.nlanes):
            copy[i] = landed[i]
        lane = plan_hedge(&self.plan, copy, handshake, &part)
        return None if lane < 0 else (lane, (part.start, part.stop))

    def drains(self, int64_t leftover, double handshake):
        return bool(plan_drains(&self.plan, leftover, handshake))

    def lane(self, int lane):
        """(start, claim, stop) of a busy lane, or None."""
        cdef Lane* seat = &self.plan.lanes[self.check(lane)]
        return (seat.start, seat.claim, seat.stop) if seat.busy else None

    @property
    def gaps(self):
        return [(self.plan.gaps[i].start, self.plan.gaps[i].stop) for i in range(self.plan.ngaps)]

    @property
    def next(self):
        return self.plan.next

    @property
    def unissued(self):
        return self.plan.unissued


def backoff(int attempt, *, retry_after=None, uint64_t seed=0):
    """Seconds before retry number `attempt`; see plan_backoff."""
    return plan_backoff(attempt, -1.0 if retry_after is None else retry_after, seed)
