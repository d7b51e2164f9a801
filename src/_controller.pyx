"""The controller: how many connections one transfer should have.

Pure. It is told the bytes received and returns a number; it knows no libcurl, no
clock and no randomness. All connections share one path, so it asks one question only:
does the goodput of the *whole* transfer grow with their number?

1. **Search.** Measure the number we start with (BASE), then TRY others: double while
   it gains, then halve while nothing is lost, then bisect between what is known to be
   too few (`low`) and too many (`high`): goodput first, thrift last. Fewer than two
   only where two bring less than one.
2. **Hold.** Keep the best. After 10, 20, 40 s one probe, by turns for half as many more
   and for a quarter fewer: the pause doubles as long as nothing changes. When goodput
   falls and stays low, search again, downwards first; when it rises, probe at once.
3. **Refused.** Every refused connection costs its place, down to what is working; one
   more is tried after 10 s, 20 s, 40 s.

A gain has to be a quarter of what the added connections would bring if nothing were in
their way; a loss is one when more than a fifth of what the missing ones would bring is
lost. So among numbers of equal goodput the smaller stays.

How it measures: not before the connections have come or gone, and the new ones have
had their handshake and slow start (as long as it took at the beginning); then over
pieces of 0.2 s, two at least, more while the answer is in doubt. While one piece differs
much from the one before, something is still ramping up or down: the window slides on.
That there is less than before is believed after 1.2 s, when a dip would be over.

Nothing here locks. The reactor thread alone calls it.
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

cdef int CAP_MAX = 1024
cdef double JUMP = 2.0           # a longer gap between ticks was no tick: stopped, suspended
cdef double PIECE = 0.2          # seconds; the unit of measurement
cdef int PIECES = 2              # in a window, at least: growth is quick,
cdef int PIECES_NEAR = 4         # what comes near to the answer is exact
cdef double DOUBT = 1.2          # seconds that are taken when it is near, or less than before
cdef int PIECES_HELD = 5         # in a window of HOLD
cdef double STEADY = 1.25        # pieces that differ by more are a ramp, or a dip
cdef double PATIENCE = 3.0       # seconds that a ramp is waited for
cdef int FALLS = 2               # dips in one window that are waited for
cdef double DRAIN = 3.0          # seconds that connections are waited for to come or go
cdef double SETTLE_MAX = 3.0
cdef double GAIN_SHARE = 0.25    # of the ideal gain: enough to keep more
cdef double LOSS_SHARE = 0.2     # of the ideal loss: enough not to keep fewer
cdef double DOUBT_SHARE = 0.15   # this near to either, look longer
cdef double PROPORTIONAL = 0.7   # of the ideal: below that number there is nothing to save
cdef double NOISE = 0.1          # relative; what may differ between two windows of the same
cdef double COLLAPSED = 0.7      # of what fewer gave
cdef double FALLEN = 0.8         # of what is expected, WINDOWS times in a row: longer than a dip
cdef int WINDOWS = 3
cdef double RISEN = 1.1
cdef int WINDOWS_RISEN = 2
cdef double SMOOTH = 0.2         # weight of a new window while held
cdef double FIRST_PAUSE = 10.0   # seconds
cdef double LONGEST_PAUSE = 80.0


cdef void control_init(Controller* c, int start, int cap) noexcept nogil:
    memset(c, 0, sizeof(Controller))
    c.cap = min(max(cap, 1), CAP_MAX)
    c.target = min(max(start, 1), c.cap)
    c.why = START
    c.searching = c.grew = True
    c.interval = FIRST_PAUSE
    c.retry_after = FIRST_PAUSE
    c.last = -1.0
    c.ramp = -1.0
    base(c)


cdef inline void want(Controller* c, int target, Why why) noexcept nogil:
    """Change the number, and forget what was being measured."""
    if target != c.target:
        c.grew = target > c.target
        c.target = target
        c.why = why
        c.changed = c.clock
    c.open = False
    c.opened = -1.0
    c.falls = 0


cdef inline void base(Controller* c) noexcept nogil:
    c.phase = BASE
    c.best = c.target
    c.low = c.high = 0
    c.hurt = False
    c.looks = 0
    want(c, c.target, c.why)


cdef inline void hold(Controller* c, Why why) noexcept nogil:
    c.phase = HOLD
    c.fresh = 2 if c.searching else 0
    c.searching = c.downwards = False
    c.below = c.above = 0
    c.probe_at = c.clock + c.interval
    want(c, c.best, why)


cdef inline int top(const Controller* c) noexcept nogil:
    return min(c.ceiling, c.cap) if c.ceiling > 0 else c.cap


cdef int candidate(const Controller* c) noexcept nogil:
    """The next number that a search tries; 0: nothing is left to try."""
    if c.downwards and c.low == 0 and c.best > 1:
        return (c.best + 1) // 2 if c.best > 2 else 1
    if c.high == 0 and c.best < top(c):
        return min(2 * c.best, top(c))
    if c.low == 0 and c.best > (1 if c.hurt else 2):
        return (c.best + 1) // 2
    if c.high - c.best > 1 and 3 * c.high > 4 * c.best:
        return (c.best + c.high) // 2
    if c.low > 0 and c.best - c.low > 1 and (3 * c.best > 4 * c.low if c.hurt else 2 * c.best > 3 * c.low):
        return (c.best + c.low + 1) // 2
    return 0


cdef void go_on(Controller* c, bint gained) noexcept nogil:
    """After BASE or a TRY: the next try, or hold what is best."""
    cdef Why why = GAIN if gained else NO_GAIN
    cdef int n = candidate(c) if c.searching else 0
    if n == 0 and c.searching and c.looks == 1:
        c.looks = 2                      # a small loss may have been noise: by now we know better
        c.low = 0
        n = candidate(c)
    if n == 0:
        hold(c, why)
        return
    if c.phase == BASE:
        why = FELL if c.downwards else GROW if n > c.best else PROBE
    c.phase = TRY
    want(c, n, why)


cdef bint verdict(Controller* c, double rate, double seconds, bint patient) noexcept nogil:
    """Compare `target` with `best`. False: in doubt, and there is time to look longer.

    That goodput has gone down is always doubted at first: perhaps the path has a dip."""
    cdef int n = c.target, before = c.best
    cdef double x = <double>n / before - 1, y = rate / c.best_rate - 1 if c.best_rate > 0 else 0.0, needed
    cdef bint good
    if n > before:
        needed = GAIN_SHARE * x
        if patient and (abs(y - needed) < DOUBT_SHARE * x or y < -NOISE):
            return False
        good = y > needed
    else:
        needed = LOSS_SHARE * x
        if patient and (abs(y - needed) < -DOUBT_SHARE * x or y < needed):
            return False
        good = y > needed
    if good:
        c.best = n
        if n > before:
            # More than the ideal: what it was compared with was measured in a dip.
            c.low = 0 if y > 1.5 * x + NOISE else n if y > PROPORTIONAL * x else before
        else:
            c.high = before
            c.hurt = c.hurt or y > NOISE
    elif n > before:
        c.high = n
        c.hurt = c.hurt or y < -NOISE
    else:
        # In proportion: there is nothing to save. Much less: they share a limit, so more bring nothing.
        c.low = before if y < PROPORTIONAL * x else n
        if c.high > 0 and y > 0.5 * x:
            c.high = before + 1
            c.looks += 1
    if abs(y) <= NOISE and n != before:
        # Two numbers that give the same: two measurements of one thing.
        c.best_rate += (rate - c.best_rate) * seconds / (seconds + c.best_seconds)
        c.best_seconds += seconds
    elif good:
        c.best_rate = rate
        c.best_seconds = seconds
    if good:
        c.searching = True               # a probe that pays begins a search
        c.interval = FIRST_PAUSE
        if n > before and c.ceiling > 0 and n > c.ceiling:
            c.ceiling = 0                # it takes more now
    elif not c.searching:
        c.interval = min(2 * c.interval, LONGEST_PAUSE)
    go_on(c, good)
    return True


cdef void probe(Controller* c) noexcept nogil:
    """Half as many more, or a quarter fewer, by turns. What can't be tried is left out."""
    cdef int more = min(c.best + max(c.best // 2, 1), c.cap)
    if c.ceiling > 0:
        more = min(more, c.ceiling if c.clock < c.retry_at else c.ceiling + 1)
    c.probed_more = not c.probed_more
    c.hurt = False
    c.looks = 0
    if c.probed_more and more > c.best:
        c.low, c.high = c.best, 0
        c.phase = TRY
        want(c, more, PROBE)
    elif not c.probed_more and c.best > 2:
        c.low, c.high = 0, c.best
        c.phase = TRY
        want(c, c.best - max(c.best // 4, 1), PROBE)
    else:
        c.probe_at = c.clock + c.interval
        c.interval = min(2 * c.interval, LONGEST_PAUSE)


cdef void watch(Controller* c, double rate, double seconds) noexcept nogil:
    """One window of HOLD."""
    cdef bint more = False
    if c.best_rate <= 0:
        c.best_rate = rate
    c.below = c.below + 1 if rate < FALLEN * c.best_rate else 0
    c.above = c.above + 1 if rate > RISEN * c.best_rate else 0
    if c.fresh > 0:
        # Less than the search has measured, twice: what it has rejected was judged unfairly.
        c.fresh = c.fresh - 1 if rate < (1 - NOISE) * c.best_rate else 0
        more = c.fresh == 0 and rate < (1 - NOISE) * c.best_rate
    more = more or c.above >= WINDOWS_RISEN
    if c.below >= WINDOWS or more:
        c.best_rate = rate
        c.best_seconds = seconds
        c.interval = FIRST_PAUSE
        if more:
            c.probed_more = False
            c.below = c.above = 0
            probe(c)
            return
        c.searching = c.downwards = True
        base(c)
        go_on(c, False)
        return
    if c.below == 0 and c.above == 0:
        c.best_rate += (rate - c.best_rate) * SMOOTH
        c.best_seconds = WINDOWS * seconds
    if c.clock >= c.probe_at and c.below == 0 and c.above == 0:
        probe(c)


cdef inline int enough(const Controller* c) noexcept nogil:
    """The least pieces of a window."""
    if c.phase == HOLD:
        return PIECES_HELD
    return PIECES if c.phase == BASE or (c.high == 0 and c.target > c.best) else PIECES_NEAR


cdef inline void begin(Controller* c, int64_t received) noexcept nogil:
    c.open = True
    c.since = c.piece = c.clock
    c.seen_since = c.seen_piece = received
    c.piece_rate = -1.0
    c.pieces = 0


cdef int control_tick(Controller* c, double now, int64_t received, int active, bint eager,
                      double settle) noexcept nogil:
    """Take in one look at the transfer; return the connections wanted.

    A tick that says nothing (no work for all, a clock that stands or leaps) closes the
    window and does not advance our own clock."""
    cdef double passed = now - c.last, waited, one, rate, seconds
    cdef bint sane = passed > 0 and passed < JUMP and received >= c.seen and eager
    cdef bint patient, ramping
    c.last = now
    c.seen = received
    if not sane:
        c.open = False
        return c.target
    c.clock += passed

    settle = min(settle, SETTLE_MAX) if settle > 0 and c.grew else 0.0
    waited = c.clock - c.changed - settle
    ramping = c.grew and c.phase != BASE and waited < max(c.ramp, 2 * settle)
    if not c.open:
        if waited < 0 or (active != c.target and waited < DRAIN):
            return c.target
        begin(c, received)
        c.ramping = ramping
        if c.opened < 0:
            c.opened = c.clock
        return c.target

    if c.clock - c.piece < PIECE - 0.01:
        return c.target
    if c.ramping and not ramping:
        c.ramping = False
        if not c.pieces or (c.seen_piece - c.seen_since) >= COLLAPSED * c.best_rate * (c.piece - c.since):
            begin(c, received)
            c.opened = c.clock
            return c.target
    one = (received - c.seen_piece) / (c.clock - c.piece)
    patient = c.clock - c.opened < PATIENCE
    if one <= 0 and (c.phase != TRY or patient):
        c.open = False                                 # a stall teaches nothing
        return c.target
    if c.phase != HOLD and patient and c.piece_rate >= 0 and (
            one > STEADY * c.piece_rate or c.piece_rate > STEADY * one):
        if one < c.piece_rate and c.falls < FALLS:
            c.opened = c.piece                         # a dip is doubted from where it begins
            c.falls += 1
        c.since = c.piece
        c.seen_since = c.seen_piece
        c.pieces = 0
    c.pieces += 1
    c.piece = c.clock
    c.seen_piece = received
    c.piece_rate = one
    if c.pieces < enough(c):
        return c.target

    seconds = c.clock - c.since
    rate = (received - c.seen_since) / seconds
    if ramping:
        # Too early to say what is gained; not, that most is lost.
        if c.phase == TRY and c.clock - c.opened >= DOUBT and rate < COLLAPSED * c.best_rate:
            c.rate = rate
            verdict(c, rate, seconds, False)
        return c.target
    if c.phase == TRY:
        if verdict(c, rate, seconds, c.clock - c.opened < DOUBT):
            c.rate = rate
        return c.target
    c.rate = rate
    if c.phase == HOLD:
        begin(c, received)
        watch(c, rate, seconds)
        return c.target
    if c.ramp < 0:
        c.ramp = min(c.since - c.opened, PATIENCE)
    c.best_rate = rate
    c.best_seconds = seconds
    go_on(c, False)
    return c.target


cdef int control_refused(Controller* c, double now, int working) noexcept nogil:
    """A new connection was refused while `working` others deliver: it loses its place."""
    cdef int left = min(max(working, c.target - 1, 1), c.target)
    cdef bint retried = c.phase == TRY and not c.searching and c.ceiling > 0 and c.target > c.ceiling
    if retried:
        c.retry_after = min(2 * c.retry_after, LONGEST_PAUSE)
        c.interval = min(2 * c.interval, LONGEST_PAUSE)
    c.ceiling = left
    c.retry_at = c.clock + c.retry_after
    if c.searching:
        want(c, left, REFUSED_)
        base(c)
    else:
        c.best = min(c.best, left)
        hold(c, REFUSED_)
    return c.target


WHYS = ("start", "grow", "gain", "no gain", "fell", "probe", "refused")


cdef class Climber:
    """One Controller, for tests: each method is the C function of that name."""
    cdef Controller c

    def __cinit__(self, int start=8, int cap=32):
        control_init(&self.c, start, cap)

    def tick(self, double now, int64_t received, int active, bint eager=True, double settle=0.0):
        return control_tick(&self.c, now, received, active, eager, settle)

    def refused(self, double now, int working):
        return control_refused(&self.c, now, working)

    @property
    def target(self):
        return self.c.target

    @property
    def why(self):
        return WHYS[<int>self.c.why]

    @property
    def rate(self):
        return self.c.rate

    @property
    def best_rate(self):
        return self.c.best_rate

    @property
    def holding(self):
        return self.c.phase == HOLD
