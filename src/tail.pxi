# The tail: connections that are slower than the others, so that the end does not wait for
# the last of them.
#
# Included by _reactor.pyx (transfer.pxi says why). Three means, by what they cost: an idle
# lane steals what a slow one has not claimed (plan_steal); at the very end a slow one's
# last bytes are asked for anew (plan_hedge); and one that lags far behind while the others
# copy is replaced at any time. Nobody ever writes where another may: the slow transfer is
# out of the multi handle before its rest is handed out.

cdef double LAG = 2.0                   # seconds that one may be silent while the others copy
cdef double FAR_BEHIND = 0.125          # of the usual rate


cdef void update_rates(Job* job) noexcept nogil:
    """Tell the planner how fast each lane is. One that has not answered in eight
    handshakes, a second at least, counts as standing still."""
    cdef int lane
    cdef Transfer* transfer
    cdef double seconds, now = monotonic()
    for lane in range(job.limit):
        transfer = lane_of(job, lane)
        if transfer.phase == COPYING:
            seconds = now - transfer.first_byte
            if seconds > 0.05:
                job.plan.lanes[lane].rate = max(transfer.received / seconds, 1.0)
        elif transfer.phase == SENT and now - transfer.began > max(8 * job.handshake, 1.0):
            job.plan.lanes[lane].rate = 1.0
            job.plan.lanes[lane].unproven = False


cdef bint replace_slowest(Core* core, Job* job) noexcept nogil:
    """The tail: nothing is left to hand out or to steal, and one lane's last bytes
    would take far longer than a fresh request for them. End its transfer; its rest
    becomes a gap. False: there is none like that."""
    cdef int64_t[256] landed
    cdef int lane
    cdef Part part
    cdef Transfer* slow
    for lane in range(job.limit):
        slow = lane_of(job, lane)
        landed[lane] = slow.writer.position if slow.phase == COPYING else slow.start if slow.phase == SENT else slow.stop
    ground_lock(job.ground)
    lane = plan_hedge(&job.plan, landed, job.handshake, &part)
    ground_unlock(job.ground)
    if lane < 0:
        return False
    return ask_anew(core, lane_of(job, lane))


cdef inline bint slow_is_suspect(Transfer* transfer) noexcept nogil:
    """Whether its bytes count only when all of them are there."""
    return transfer.writer.ground is not NULL and transfer.writer.deferred


cdef bint lags(Core* core, Transfer* transfer) noexcept nogil:
    """Whether one connection is far behind the others: silent, or a fraction as fast, so
    that its bytes come sooner when they are asked for anew. Each time the job is asked to
    have twice the patience, so that a server that is just slow is not asked for ever."""
    cdef Job* job = transfer.job
    cdef double quiet = core.now - transfer.marked, seconds, rate, rest
    cdef double usual = max(LAG, 8 * (job.handshake + job.plan.gap)) * job.patience
    if not job.hedge or not transfer.ranged or job.bucket is not NULL or not job.planned:
        return False
    if transfer.phase not in (SENT, COPYING) or job.plan.rate <= 0 or not others_copy(job, transfer):
        return False
    if slow_is_suspect(transfer):
        return False
    if quiet > usual and core.now - job.progressed < quiet / 2:
        return True
    if transfer.phase != COPYING:
        return False
    seconds = core.now - transfer.first_byte
    rest = transfer.stop - transfer.writer.position
    if seconds < usual or transfer.received >= seconds * job.plan.rate * FAR_BEHIND:
        return False
    rate = max(transfer.received / seconds, 1.0)
    return rest / rate > 4 * (job.handshake + rest / job.plan.rate)


cdef bint ask_anew(Core* core, Transfer* slow) noexcept nogil:
    """End a transfer that is too slow: what it has is kept, its rest becomes a gap, and its
    next request takes another connection. False: the job has ended, or nothing was done."""
    cdef Job* job = slow.job
    if slow.phase not in (COPYING, SENT) or slow_is_suspect(slow):
        return False
    job_trace(job, slow.lane, STEP_HEDGED, slow.start, slow.stop)
    atomic_add(&job.hedges, 1)
    job.patience *= 2
    source_lagged(core, slow)
    if slow.phase == SENT:
        stop(core, slow)
        return give_back_part(core, slow)
    slow.full = True                    # that it is cut short is our wish, not a failure
    stop(core, slow)
    return settle_copy(core, slow, CURLE_OK)
