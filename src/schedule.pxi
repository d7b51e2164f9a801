# Who does what next: requests for idle lanes, stalls, progress, the end of a job.
#
# Included by _reactor.pyx (transfer.pxi says why). What to fetch is the planner's
# decision; here it meets the budget of connections, backoff, and the state of the job.

# --- handing out parts ----------------------------------------------------------------------

cdef void launch(Core* core, Transfer* transfer, int64_t start, int64_t stop_, bint ranged) noexcept nogil:
    cdef Cause cause
    cdef CURLcode code
    code = transfer_start(transfer, core.multi, &core.sockets, core.buffer_size, start, stop_, ranged)
    if code == CURLE_OK:
        core.active += 1
        return
    memset(&cause, 0, sizeof(cause))
    cause.kind = TRANSPORT
    cause.code = code
    end(core, transfer.job, &cause, False, curl_easy_strerror(code))


cdef void begin_job(Core* core, Job* job) noexcept nogil:
    """The first request: already a useful range."""
    cdef Span* span = &job.spans[0]
    cdef int64_t length = job.part_size if job.part_size > 0 else job.first_part
    if span.stop >= 0:
        length = max(min(length, span.stop - span.start), 1)
    launch(core, lane_of(job, 0), 0, length, not job.plain)


cdef bint assign(Core* core, Job* job) noexcept nogil:
    """Give one idle lane of the job something to do. False: nothing was started."""
    cdef int lane
    cdef Transfer* transfer
    cdef Part part
    cdef Steal theft
    cdef bint got
    if job.state == RESOLVING and not job.planned:
        if atomic_get(&job.active) or core.now < job.not_before:
            return False
        begin_job(core, job)
        return True
    if job.state != LANDING and not (job.state == RESOLVING and no_fresh(job)):
        return False
    if atomic_get(&job.active) >= job.seats or core.now < job.not_before:
        return False
    for lane in range(job.limit):
        transfer = lane_of(job, lane)
        if transfer.phase != IDLE or core.now < transfer.not_before:
            continue
        ground_lock(job.ground)
        got = plan_take(&job.plan, lane, job.seats, job.followed, UNBOUNDED, &part)
        if not got and job.steal and not job.stream and job.state == LANDING:
            update_rates(job)
            got = plan_steal(&job.plan, lane, job.handshake, &theft)
            if got:
                part = theft.part
                lane_of(job, theft.victim).stop = part.start
                atomic_add(&job.steals, 1)
        ground_unlock(job.ground)
        if not got:
            return False
        launch(core, transfer, part.start, part.stop, not job.stream)
        return True
    return False


cdef bint no_fresh(Job* job) noexcept nogil:
    """Whether no transfer is asking on behalf of an unproven generation."""
    cdef int lane
    for lane in range(job.limit):
        if lane_of(job, lane).phase != IDLE and lane_of(job, lane).generation == job.generation:
            return False
    return True


cdef void update_rates(Job* job) noexcept nogil:
    cdef int lane
    cdef Transfer* transfer
    cdef double seconds
    for lane in range(job.limit):
        transfer = lane_of(job, lane)
        if transfer.phase == COPYING:
            seconds = monotonic() - transfer.first_byte
            if seconds > 0.05:
                job.plan.lanes[lane].rate = transfer.received / seconds


cdef void look_after(Core* core, Job* job) noexcept nogil:
    """Everything that is due for a job: questions, stalls, progress, its end."""
    cdef int lane
    cdef Transfer* transfer
    cdef int64_t landed, underway = 0
    for lane in range(job.limit):
        transfer = lane_of(job, lane)
        if transfer.phase == IDLE:
            continue
        if transfer.phase == WAITING:
            transfer.marked = core.now
            if job.state == RESOLVING:
                job.state = ASKED
                post_head(core, transfer)
            continue
        prove(transfer)
        if transfer.phase == COPYING:
            underway += transfer.writer.position - transfer.writer.counted
        if transfer.received - transfer.mark >= ALIVE:
            transfer.mark = transfer.received
            transfer.marked = core.now
        elif core.now - transfer.marked > job.stall_timeout:
            memset(&transfer.fault, 0, sizeof(Cause))
            transfer.fault.kind = SILENT
            reap(core, transfer, CURLE_OPERATION_TIMEDOUT)
            if job.state == ENDED:
                return
    atomic_set(&job.underway, underway)
    if not job.planned:
        return
    landed = atomic_get(&job.ground.landed)
    if landed != job.seen:
        job.seen = landed
        job.progressed = core.now
    if atomic_get(&job.ground.waiters):
        publish(job)
    if landed == job.ground.size or job.complete:
        end(core, job, NULL, False, NULL)


cdef void publish(Job* job) noexcept nogil:
    """Somebody waits for the front: count what is in place, not only full blocks."""
    cdef int lane
    cdef Transfer* transfer
    ground_lock(job.ground)
    for lane in range(job.limit):
        transfer = lane_of(job, lane)
        if transfer.phase == COPYING and writer_sync(&transfer.writer):
            transfer.fault.kind = SINK
            transfer.fault.code = job.ground.error
    ground_unlock(job.ground)


cdef void hand_out(Core* core) noexcept nogil:
    """Share the budget evenly: whoever has fewest transfers is served first."""
    cdef Job* job
    cdef Job* following
    cdef int level
    for level in range(core.limit):
        job = core.jobs
        while job is not NULL and core.active < core.limit:
            following = job.next
            if atomic_get(&job.active) == level:
                assign(core, job)
            job = following
        if core.active >= core.limit:
            return


cdef int patience(Core* core) noexcept nogil:
    """Milliseconds to poll at most: until the next backoff ends or the next tick."""
    cdef double wait = TICK if core.jobs is not NULL else 60.0
    cdef Job* job = core.jobs
    cdef int lane
    cdef double due
    while job is not NULL:
        for lane in range(job.limit):
            if lane_of(job, lane).phase == IDLE:
                due = lane_of(job, lane).not_before - core.now
                if due > 0:
                    wait = min(wait, due)
        if job.not_before > core.now:
            wait = min(wait, job.not_before - core.now)
        wait = min(wait, max(job.stall_timeout / 4, 0.05))
        job = job.next
    return <int>(wait * 1000) + 1
