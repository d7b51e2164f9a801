# How much at once: the number of connections that a job aims at, and a limited rate.
#
# Included by _reactor.pyx (transfer.pxi says why).

cdef double LOOK = 0.1                  # seconds between two looks of the controller
cdef double DROPS = 0.05                # seconds of a limited rate that may come at once


# --- connections="auto" -------------------------------------------------------------------

cdef void aim_at(Core* core, Job* job, int seats) noexcept nogil:
    """The controller wants another number: say so."""
    cdef Event* event
    cdef int before = job.seats
    seats = max(min(seats, job.limit), 1)
    if seats == before:
        return
    job.seats = seats
    event = new_event(job, ADAPTED)
    if event is NULL:
        return
    event.start, event.stop = before, seats
    event.number = <int>job.control.why
    event.seconds = job.control.rate
    mailbox_post(&core.events, event)


cdef void adapt(Core* core, Job* job) noexcept nogil:
    """Let the controller look at what has arrived."""
    cdef int active = <int>atomic_get(&job.active)
    cdef bint eager
    if not job.auto_ or not job.planned or job.stream or core.now - job.ticked < LOOK:
        return
    job.ticked = core.now
    # Fewer than wanted, because there is no more to do, or no room, or others have their turn?
    eager = active >= job.seats and (job.plan.unissued > 0 or not job.ground.hungry)
    eager = eager and atomic_get(&job.allowed) < 0 and job.bucket is NULL
    aim_at(core, job, control_tick(&job.control, core.now, job.copied, active, eager,
                                   job.handshake + job.plan.gap))


cdef void turned_away(Core* core, Job* job) noexcept nogil:
    """A server that takes no more connections than those that work: keep those."""
    cdef int lane, working = 0
    if not job.auto_:
        job.seats = max(job.seats - 1, 1)
        return
    for lane in range(job.limit):
        working += lane_of(job, lane).phase == COPYING
    aim_at(core, job, control_refused(&job.control, core.now, max(working, 1)))


# --- limit_rate ------------------------------------------------------------------------------

cdef void pour(Core* core) noexcept nogil:
    """Fill the bucket for the time that has passed, and let those go on that wait for it.
    It is the Client's: its rate is the lowest that any of the jobs has."""
    cdef Bucket* bucket = &core.bucket
    cdef Job* job = core.jobs
    cdef int lane, first
    cdef Transfer* transfer
    cdef double rate = 0.0
    if bucket.jobs == 0:
        return
    while job is not NULL:
        if job.limit_rate > 0:
            rate = min(rate, job.limit_rate) if rate > 0 else job.limit_rate
        job = job.next
    bucket.rate = rate
    bucket.tokens = min(bucket.tokens + (core.now - bucket.filled) * rate, max(rate * DROPS, 1.0))
    bucket.filled = core.now
    if bucket.tokens <= 0:
        return
    core.poured += 1                        # whose turn it is first, so that nobody starves
    job = core.jobs
    while job is not NULL:
        first = core.poured % job.limit
        for lane in range(job.limit if job.transfers is not NULL else 0):
            transfer = lane_of(job, (first + lane) % job.limit)
            if transfer.held and transfer.phase != IDLE and bucket.tokens > 0:
                transfer.held = False
                curl_easy_pause(transfer.easy, CURLPAUSE_CONT)
        job = job.next


cdef double until_poured(Core* core) noexcept nogil:
    """Seconds until the bucket has something again, if somebody waits for that."""
    if core.bucket.jobs == 0 or core.bucket.tokens > 0:
        return 60.0
    return max(-core.bucket.tokens / core.bucket.rate, 0.002)
