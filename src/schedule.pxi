# Who does what next: requests for idle lanes, stalls, progress, the end of a job.
#
# Included by _reactor.pyx (transfer.pxi says why). What to fetch is the planner's
# decision; here it meets the budget of connections, backoff, and the state of the job.

# --- handing out parts ----------------------------------------------------------------------

cdef void launch(Core* core, Transfer* transfer, int64_t start, int64_t stop_, bint ranged) noexcept nogil:
    cdef Job* job = transfer.job
    cdef Cause cause
    cdef CURLcode code
    if atomic_get(&job.active) == 0 and (job.attempts == 0 or job.copied > job.copied_stumbled):
        job.progressed = core.now       # waiting for a connection was not its fault
    code = transfer_start(transfer, core.multi, &core.sockets, core.buffer_size, start, stop_, ranged)
    if code == CURLE_OK:
        core.active += 1
        if job.planned:
            ground_lock(job.ground)
            job.plan.lanes[transfer.lane].unproven = True   # until its answer shows a length
            ground_unlock(job.ground)
            part_with_last(job, transfer)
        return
    memset(&cause, 0, sizeof(cause))
    cause.kind = TRANSPORT
    cause.code = code
    end(core, job, &cause, False, curl_easy_strerror(code))


cdef void part_with_last(Job* job, Transfer* transfer) noexcept nogil:
    """Where processes share a host's connections, none stays open when its work is done."""
    if atomic_get(&job.parting) and job.plan.unissued == 0:
        transfer_leave(transfer)


cdef void come_down(Job* job, int64_t excess) noexcept nogil:
    """More transfers run than are allowed: those that would take longest end with the
    block they are in, and their connections with them."""
    cdef int lane
    cdef int64_t rest
    cdef Transfer* transfer
    cdef Transfer* longest
    for lane in range(job.limit):
        excess -= lane_of(job, lane).phase != IDLE and lane_of(job, lane).leaving
    while excess > 0:
        longest, rest = NULL, -1
        for lane in range(job.limit):
            transfer = lane_of(job, lane)
            if transfer.phase == COPYING and transfer.ranged and not transfer.leaving:
                if transfer.stop - transfer.claim > rest:
                    longest, rest = transfer, transfer.stop - transfer.claim
        if longest is NULL:
            return                          # the others have not answered yet
        ground_lock(job.ground)
        plan_shorten(&job.plan, longest.lane, longest.claim)
        longest.stop = job.plan.lanes[longest.lane].stop
        ground_unlock(job.ground)
        transfer_leave(longest)
        longest.leaving = True
        excess -= 1


cdef bint seat(Job* job) noexcept nogil:
    """A transfer for each lane; not before the job's turn, for many may queue."""
    cdef int lane
    job.transfers = calloc(job.limit, sizeof(Transfer))
    if job.transfers is NULL:
        return False
    for lane in range(job.limit):
        lane_of(job, lane).job = job
        lane_of(job, lane).lane = lane
        lane_of(job, lane).writer.spares = job.spares
    return True


cdef void begin_job(Core* core, Job* job) noexcept nogil:
    """The first request: already a useful range."""
    cdef Span* span = &job.spans[0]
    cdef int64_t length = min(job.first_part, job.part_size) if job.part_size > 0 else job.first_part
    if job.transfers is NULL and not seat(job):
        out_of_memory(core, job)
        return
    if span.stop >= 0:
        length = max(min(length, span.stop - span.start - job.first_start), 1)
    launch(core, lane_of(job, 0), job.first_start, job.first_start + length, not job.plain)


cdef bint assign(Core* core, Job* job) noexcept nogil:
    """Give one idle lane of the job something to do. False: nothing was started."""
    cdef int lane
    cdef Transfer* transfer
    cdef Part part
    cdef Steal theft
    cdef bint got, helps
    cdef int64_t allowed = atomic_get(&job.allowed)
    if allowed >= 0 and atomic_get(&job.active) >= allowed:
        return False
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
        got = take_part(job, lane, &part)
        # A lane that has just failed costs others nothing: it waits for a part of its own.
        helps = job.steal and not job.stream and job.state == LANDING and transfer.attempts == 0
        # A reader that wants little at a time gains nothing by a theft.
        helps = helps and not (job.ground.ring and job.plan.rate <= 0)
        if not got and helps:
            update_rates(job)
            got = plan_steal(&job.plan, lane, job.handshake, &theft)
            if got:
                part = theft.part
                lane_of(job, theft.victim).stop = part.start
                atomic_add(&job.steals, 1)
                job_trace(job, theft.victim, STEP_STOLEN, part.start, part.stop)
        ground_unlock(job.ground)
        # With a limited rate they are all slow, and each in its turn.
        if not got and helps and job.hedge and job.bucket is NULL:
            if not replace_slowest(core, job):
                return False
            ground_lock(job.ground)
            got = take_part(job, lane, &part)
            ground_unlock(job.ground)
        if not got:
            continue
        launch(core, transfer, part.start, part.stop, not job.stream)
        return True
    return False


cdef bint take_part(Job* job, int lane, Part* part) noexcept nogil:
    """The next part, as far as the ground has room for it; under the ground's lock."""
    cdef Ground* ground = job.ground
    # A stream is one part: it is paused where there is no room.
    cdef int64_t credit = UNBOUNDED if job.stream else atomic_get(&ground.credit)
    cdef bint got = plan_take(&job.plan, lane, job.seats, atomic_get(&job.following) != 0,
                              credit, ground.wanted, part)
    if not got and job.plan.unissued > 0:
        ground.hungry = True
    return got


cdef bint no_fresh(Job* job) noexcept nogil:
    """Whether no transfer is asking on behalf of an unproven generation."""
    cdef int lane
    for lane in range(job.limit):
        if lane_of(job, lane).phase != IDLE and lane_of(job, lane).generation == job.generation:
            return False
    return True


cdef void look_after(Core* core, Job* job) noexcept nogil:
    """Everything that is due for a job: questions, stalls, progress, its end."""
    cdef int lane
    cdef Transfer* transfer
    cdef int64_t landed, underway = 0
    cdef int64_t allowed = atomic_get(&job.allowed)
    if allowed == 0 and atomic_get(&job.active) == 0:
        job.progressed = core.now       # it waits for its turn, and for nothing else
    if job.transfers is NULL:
        return                          # its turn has not come
    adapt(core, job)
    if job.planned:
        if job.auto_:
            allowed = min(allowed, job.seats) if allowed >= 0 else job.seats
        if 0 <= allowed < atomic_get(&job.active):
            come_down(job, atomic_get(&job.active) - allowed)
    for lane in range(job.limit):
        transfer = lane_of(job, lane)
        if transfer.phase == IDLE:
            continue
        if transfer.phase == WAITING:
            transfer.marked = core.now
            if job.state == RESOLVING:
                job.state = ASKED
                if not post_head(core, transfer):
                    return
            continue
        prove(transfer)
        if transfer.held:
            transfer.marked = job.progressed = core.now
        if transfer.paused:
            transfer.marked = job.progressed = core.now     # its server is not to blame
            landed = transfer.writer.position if transfer.phase == COPYING else transfer.compared
            if ground_room(job.ground, landed + PAUSE_FOR):
                transfer.paused = False
                curl_easy_pause(transfer.easy, CURLPAUSE_CONT)
        if transfer.phase == COPYING:
            underway += transfer.writer.position - transfer.writer.counted
        if transfer.received - transfer.mark >= ALIVE:
            transfer.mark = transfer.received
            transfer.marked = core.now
        elif core.now - transfer.marked > job.stall_timeout:
            memset(&transfer.fault, 0, sizeof(Cause))
            transfer.fault.kind = SILENT
            if not reap(core, transfer, CURLE_OPERATION_TIMEDOUT):
                return
        elif lags(core, transfer):
            if not ask_anew(core, transfer):
                return
    atomic_set(&job.underway, underway)
    if not job.planned:
        return
    landed = atomic_get(&job.ground.landed)
    if landed != job.seen:
        job.seen = landed
        job.progressed = core.now
    if read_along(job) and core.now - job.published > PUBLISH:
        job.published = core.now
        publish(job)
        landed = atomic_get(&job.ground.landed)
    if landed == job.ground.size or job.complete:
        end(core, job, NULL, False, NULL)


cdef bint read_along(Job* job) noexcept nogil:
    """Whether somebody waits for bytes where telling of less than a block is cheap: not
    where it would be a small write to a file."""
    return (job.planned and atomic_get(&job.ground.waiters) > 0
            and (job.ground.size < 0 or job.ground.ring
                 or job.ground.base is not NULL and atomic_get(&job.following) != 0))


cdef void publish(Job* job) noexcept nogil:
    """Somebody waits for the next bytes, not for the next block."""
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
    """Milliseconds to poll at most: until the next backoff ends or the next tick; 0 if
    there are commands. Their wakeup may be gone: curl_multi_perform of 8.21 takes one
    that came since obey()."""
    cdef double wait = min(TICK, until_poured(core)) if core.jobs is not NULL else 60.0
    cdef Job* job = core.jobs
    cdef int lane
    cdef double due
    cdef bint told
    pthread_mutex_lock(&core.lock)
    told = core.head is not NULL
    pthread_mutex_unlock(&core.lock)
    if told:
        return 0
    while job is not NULL:
        for lane in range(job.limit if job.transfers is not NULL else 0):
            if lane_of(job, lane).phase == IDLE:
                due = lane_of(job, lane).not_before - core.now
                if due > 0:
                    wait = min(wait, due)
        if read_along(job) and atomic_get(&job.underway) > 0:
            wait = min(wait, PUBLISH)
        if job.not_before > core.now:
            wait = min(wait, job.not_before - core.now)
        wait = min(wait, max(job.stall_timeout / 4, 0.05))
        job = job.next
    return <int>(wait * 1000) + 1
