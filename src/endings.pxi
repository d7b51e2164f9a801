# The end of a transfer, and what follows from it.
#
# Included by _reactor.pyx (transfer.pxi says why). Every function here may end the job
# and with it free its transfers: a caller returns at once, or looks at job.state first.

# --- failures and retries --------------------------------------------------------------

cdef bint others_copy(Job* job, Transfer* but) noexcept nogil:
    cdef int lane
    for lane in range(job.limit):
        if lane_of(job, lane) != but and lane_of(job, lane).phase == COPYING:
            return True
    return False


cdef bint hopeless(const Cause* cause) noexcept nogil:
    """Whether asking again cannot help."""
    if cause.kind != TRANSPORT:
        return cause.kind in (DIFFERENT, TOO_LARGE)
    return cause.code in (CURLE_UNSUPPORTED_PROTOCOL, CURLE_URL_MALFORMAT, CURLE_PEER_FAILED_VERIFICATION,
                          CURLE_SSL_CERTPROBLEM, CURLE_SSL_CIPHER, CURLE_SSL_CACERT_BADFILE,
                          CURLE_SSL_PINNEDPUBKEYNOTMATCH, CURLE_SSL_ENGINE_NOTFOUND, CURLE_BAD_FUNCTION_ARGUMENT,
                          CURLE_NOT_BUILT_IN, CURLE_UNKNOWN_OPTION, CURLE_INTERFACE_FAILED, CURLE_OUT_OF_MEMORY)


cdef inline bint unreachable(const Cause* cause) noexcept nogil:
    return cause.kind == TRANSPORT and cause.code in (
        CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY, CURLE_COULDNT_CONNECT)


cdef void fail(Core* core, Transfer* transfer, Cause cause, int64_t landed, double wait) noexcept nogil:
    """An attempt failed after landing `landed` bytes: back off, or give up.
    `wait`: seconds that the server asked for, or -1."""
    cdef Job* job = transfer.job
    cdef Event* event
    # Alone: nothing has landed since the failure before this one, on any lane.
    cdef bint alone = not job.planned or not others_copy(job, transfer) and job.progressed < job.stumbled
    cdef bint refused = (landed == 0 and not transfer.judged
                         or cause.kind == STATUS and cause.status in (429, 503)
                         or cause.kind == OTHER_OBJECT)
    cdef bint spent = core.now - job.progressed + (max(wait, 0.0) if alone else 0.0) > job.retry_for
    job.attempts += 1
    job.stumbled = core.now
    atomic_add(&job.failures, 1)
    transfer.attempts += 1
    if landed >= GOOD_ATTEMPT:
        transfer.attempts = 1
        job.fails = 0
    if hopeless(&cause):
        end(core, job, &cause, False, transfer.message)
        return
    if refused and not alone:
        # The server takes no more connections than those that work: keep those.
        job.seats = max(job.seats - 1, 1)
        job.refused = core.now
    elif unreachable(&cause) and job.planned:
        pass                            # the network is away: wait for it, up to retry_for
    elif transfer.began >= job.failed:
        # Attempts that were under way at the last counted failure are part of it.
        job.fails += 1
        job.failed = core.now
        spent = spent or job.fails > job.retries
        if unreachable(&cause) or cause.kind == OTHER_OBJECT:
            spent = spent or job.fails > EARLY_TRIES
    if spent:
        end(core, job, &cause, True, transfer.message)
        return
    core.dice = core.dice * <uint64_t>6364136223846793005 + <uint64_t>1442695040888963407
    wait = plan_backoff(max(transfer.attempts, job.fails) - 1, wait, core.dice)
    transfer.not_before = core.now + wait
    if alone:
        job.not_before = max(job.not_before, transfer.not_before)
    event = <Event*>calloc(1, sizeof(Event))
    if event is not NULL:
        event.job = job.id
        event.kind = NOTE
        event.cause = cause
        event.number = job.attempts
        event.seconds = wait
        event.start = event.stop = event.total = -1
        event.text = strdup(transfer.message) if transfer.message[0] else NULL
        mailbox_post(&core.events, event)


# --- the end of a transfer ----------------------------------------------------------------

cdef void measure(Transfer* transfer) noexcept nogil:
    """Feed the planner: request gap, rate of one connection, handshake."""
    cdef Job* job = transfer.job
    cdef curl_off_t before = 0, first = 0, looked = 0
    cdef long opened = 0
    cdef double seconds = monotonic() - transfer.first_byte
    curl_easy_getinfo(transfer.easy, CURLINFO_PRETRANSFER_TIME_T, &before)
    curl_easy_getinfo(transfer.easy, CURLINFO_STARTTRANSFER_TIME_T, &first)
    curl_easy_getinfo(transfer.easy, CURLINFO_NAMELOOKUP_TIME_T, &looked)
    curl_easy_getinfo(transfer.easy, CURLINFO_NUM_CONNECTS, &opened)
    plan_measured(&job.plan, (first - before) * 1e-6,
                  transfer.received / seconds if transfer.received >= GOOD_ATTEMPT and seconds > 0 else 0.0)
    if opened > 0:
        seconds = (before - looked) * 1e-6 + (first - before) * 1e-6
        job.handshake += (seconds - job.handshake) * (0.25 if job.handshake > 0 else 1.0)


cdef void prove(Transfer* transfer) noexcept nogil:
    """A response with bytes shows that its generation's address works."""
    cdef Job* job = transfer.job
    if (transfer.judged and transfer.verdict.kind in (LAND, STREAM) and job.planned
            and transfer.generation == job.generation and not job.proven):
        job.proven = True
        if job.state == RESOLVING:
            job.state = LANDING


cdef void settle_copy(Core* core, Transfer* transfer, CURLcode code) noexcept nogil:
    """A transfer that was landing bytes has ended: count what is in place, give
    the rest of its part back."""
    cdef Job* job = transfer.job
    cdef Writer* writer = &transfer.writer
    cdef Cause cause = transfer.fault
    cdef int64_t landed
    cdef int error = 0
    cdef bint whole = writer.position == transfer.stop or (job.ground.size < 0 and code == CURLE_OK)
    if cause.kind == NONE and not transfer.full:
        if code != CURLE_OK:
            cause.kind = TRANSPORT
            cause.code = code
        elif not whole:
            cause.kind = SURPLUS            # it ended early and called that the end
    ground_lock(job.ground)
    if writer.deferred and cause.kind == NONE and whole and not transfer.full:
        error = writer_finish(writer)
    elif writer.deferred:
        atomic_add(&job.wasted, writer.position - transfer.body_start)
    else:
        error = writer_sync(writer)
    landed = writer.counted - transfer.body_start
    if landed > 0:
        job.progressed = core.now
    plan_release(&job.plan, transfer.lane, writer.counted)
    ground_unlock(job.ground)
    if error:
        cause.kind = SINK
        cause.code = error
    if cause.kind == SINK:
        end(core, job, &cause, False, NULL)
    elif cause.kind == NONE:
        transfer.attempts = job.fails = 0
        if job.seats < job.limit and core.now - job.refused > REOPEN:
            job.seats += 1              # see whether the server has more room by now
            job.refused = core.now
        if job.stream:
            job.complete = True
    else:
        cause.status = transfer.status
        fail(core, transfer, cause, landed, -1.0)


cdef void give_back_part(Transfer* transfer) noexcept nogil:
    cdef Job* job = transfer.job
    if job.planned:
        ground_lock(job.ground)
        plan_release(&job.plan, transfer.lane, transfer.start)
        ground_unlock(job.ground)


cdef void act(Core* core, Transfer* transfer) noexcept nogil:
    """A response without bytes to land: do what its verdict asks for."""
    cdef Job* job = transfer.job
    cdef Verdict* verdict = &transfer.verdict
    cdef bint stale = job.proven or transfer.generation != job.generation
    cdef Cause cause
    cdef char* location = NULL
    cdef double wait = verdict.retry_after
    memset(&cause, 0, sizeof(cause))
    cause.kind = STATUS
    cause.code = cause.status = transfer.status
    if verdict.kind == EMPTY and not job.planned:
        job.state = ASKED
        post_head(core, transfer)
    elif verdict.kind == MOVED and not stale:
        curl_easy_getinfo(transfer.easy, CURLINFO_REDIRECT_URL, &location)
        job.state = ASKED
        post(core, job, REDIRECTED, &cause, strdup(location) if location is not NULL else NULL)
    elif verdict.kind in (MOVED, EXPIRED, MISSING) and stale:
        # Signed addresses run out: only the first to notice has it resolved anew.
        if transfer.generation == job.generation and job.state == LANDING:
            job.state = ASKED
            post(core, job, STALE, &cause, NULL)
    elif verdict.kind == PLAIN:
        job.plain = True
    elif (verdict.kind == REFUSED and transfer.status == 416 and not job.planned
            and verdict.total < 0 and job.part_size != SMALL_PART):
        # Neither a range nor the whole: some servers refuse what is long.
        job.plain = False
        job.part_size = SMALL_PART
    elif verdict.kind == MATCH_FAILED and transfer.matched:
        job.unmatched = True            # an unconditional range will show whether it changed
    elif verdict.kind == EDGE and not transfer.pinned:
        job.pinned = True
        transfer.not_before = core.now + plan_backoff(0, -1.0, core.dice)
    elif verdict.kind == EDGE:
        # Its connection dies with the unread body; those that match go on.
        cause.kind = OTHER_OBJECT
        fail(core, transfer, cause, 0, -1.0)
    elif verdict.kind in (CHANGED, EMPTY):
        cause.kind = OTHER_OBJECT
        end(core, job, &cause, False, header(transfer.easy, b"ETag"))
    elif verdict.kind == AGAIN:
        if verdict.retry_at >= 0:
            wait = max(0.0, verdict.retry_at - wall_clock())
        fail(core, transfer, cause, 0, wait)
    elif verdict.kind == IGNORED:
        cause.kind = RANGE_IGNORED
        fail(core, transfer, cause, 0, -1.0)
    elif verdict.kind == BROKEN:
        cause.kind = FLAWED
        cause.code = <int>verdict.flaw
        if not job.planned:
            end(core, job, &cause, False, NULL)
        else:
            fail(core, transfer, cause, 0, -1.0)
    else:
        end(core, job, &cause, False, NULL)


cdef void reap(Core* core, Transfer* transfer, CURLcode code) noexcept nogil:
    """libcurl is done with the transfer's request."""
    cdef Job* job = transfer.job
    cdef Phase phase
    cdef Cause cause
    if not transfer.judged and code == CURLE_OK:
        head(transfer)                  # a response without a body
    phase = transfer.phase
    if transfer.judged:
        measure(transfer)
        prove(transfer)
    if phase == WAITING and job.state == RESOLVING:
        transfer.verdict.kind = EMPTY   # a stream that ended before its first byte
        transfer.verdict.total = 0
        phase = SKIPPING
    stop(core, transfer)
    if transfer.judged and transfer.verdict.kind in (LAND, STREAM) and transfer.writer.ground is not NULL:
        if phase != COMPARING:
            settle_copy(core, transfer, code)
            return
    give_back_part(transfer)
    memset(&cause, 0, sizeof(cause))
    if transfer.judged and transfer.verdict.kind not in (LAND, STREAM):
        act(core, transfer)             # even when its body was cut or aborted
        return
    cause = transfer.fault
    if cause.kind == NONE:
        cause.kind = TRANSPORT
        cause.code = code
    cause.status = transfer.status
    if cause.kind == SINK:
        end(core, job, &cause, False, NULL)
    else:
        fail(core, transfer, cause, 0, -1.0)
