# The end of a transfer, and what follows from it.
#
# Included by _reactor.pyx (transfer.pxi says why). What returns `bint` here says whether
# the job lives on: if not, its transfers are freed, Python may have freed the job itself,
# and the caller must touch neither.

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


cdef void heed_proxy(Transfer* transfer, Cause* cause) noexcept nogil:
    """What a proxy answered to CONNECT, and how it lets one show who one is."""
    cdef long status = 0, offered = 0
    curl_easy_getinfo(transfer.easy, CURLINFO_HTTP_CONNECTCODE, &status)
    if cause.kind == TRANSPORT and status >= 300:
        cause.status = <int>status
    if cause.status == 407:
        curl_easy_getinfo(transfer.easy, CURLINFO_PROXYAUTH_AVAIL, &offered)
        cause.offered = <int>offered


cdef bint barred(Transfer* transfer, const Cause* cause) noexcept nogil:
    """Whether nobody gets through so, as long as nothing has: a proxy that refuses the user
    or the host, a server that refuses the client's certificate."""
    cdef long said = 0
    if transfer.job.planned or cause.kind != TRANSPORT:
        return False
    curl_easy_getinfo(transfer.easy, CURLINFO_PROXY_ERROR, &said)
    return (300 <= cause.status < 500 and cause.status not in (408, 429)
            or said in (CURLPX_NO_AUTH, CURLPX_USER_REJECTED)
            or strstr(transfer.message, b" alert ") is not NULL)


cdef bint unprovable(Job* job) noexcept nogil:
    """Whether a stream that broke can't go on: begun again it would have to be compared
    with bytes that are gone, and no validator says that it is the same object."""
    return (job.planned and job.stream and job.ground.ring and job.etag is NULL and job.last_modified is NULL
            and atomic_get(&job.ground.credit) > job.ground.capacity)


cdef inline bint unreachable(const Cause* cause) noexcept nogil:
    return cause.kind == TRANSPORT and cause.code in (
        CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY, CURLE_COULDNT_CONNECT)


cdef bint fail(Core* core, Transfer* transfer, Cause cause, double wait) noexcept nogil:
    """An attempt failed: back off, or give up. `wait`: seconds that the server asked
    for, or -1."""
    cdef Job* job = transfer.job
    cdef bint others = others_copy(job, transfer)
    # Alone: nothing has arrived since the failure before this one, on any lane.
    cdef bint alone = not job.planned or not others and job.copied - job.copied_stumbled < MOVED_ON
    cdef bint refused = (transfer.received == 0 and not transfer.judged
                         or cause.kind == STATUS and cause.status in (403, 429, 503)
                         or cause.kind == OTHER_OBJECT)
    cdef bint spent = core.now - job.progressed + (0.0 if others else max(wait, 0.0)) > job.retry_for
    # What was under way when the one before failed has the same reason.
    cdef bint echo = transfer.began < job.stumbled
    job_trace(job, transfer.lane, STEP_STALLED if cause.kind == SILENT else STEP_REFUSED if refused else STEP_FAILED,
              transfer.start if transfer.writer.ground is NULL else transfer.writer.counted, transfer.stop)
    if source_failed(core, transfer, &cause):
        return True
    job.stumbled = core.now
    job.attempts += 1
    job.copied_stumbled = job.copied
    atomic_add(&job.failures, 1)
    transfer.attempts = 1 if transfer.received >= MOVED_ON else transfer.attempts + 1
    if hopeless(&cause) or unprovable(job) or barred(transfer, &cause):
        end(core, job, &cause, False, transfer.message)
        return False
    if refused and not alone:
        turned_away(core, job)
        job.refused = core.now
    elif unreachable(&cause) and job.planned:
        pass                            # the network is away: wait for it, up to retry_for
    elif transfer.began >= job.failed:
        # Attempts that were under way at the last counted failure are part of it.
        job.fails = 1 if job.copied - job.copied_failed >= MOVED_ON else job.fails + 1
        job.failed = core.now
        job.copied_failed = job.copied
        spent = spent or job.fails > job.retries
        if unreachable(&cause) or cause.kind == OTHER_OBJECT:
            job.early += 1
            spent = spent or job.early > EARLY_TRIES
        else:
            job.early = 0
    if spent:
        end(core, job, &cause, True, transfer.message)
        return False
    core.dice = core.dice * <uint64_t>6364136223846793005 + <uint64_t>1442695040888963407
    wait = plan_backoff(max(transfer.attempts, job.fails) - 1, wait, core.dice)
    transfer.not_before = core.now + wait
    if alone and not echo:
        job.not_before = max(job.not_before, transfer.not_before)
    note(core, transfer, &cause, wait)
    return True


cdef void note(Core* core, Transfer* transfer, const Cause* cause, double wait) noexcept nogil:
    """Tell Python of a retry; without memory it is not told."""
    cdef Event* event = new_event(transfer.job, NOTE)
    if event is NULL:
        return
    event.cause = cause[0]
    event.seconds = wait
    event.text = strdup(transfer.message) if transfer.message[0] else NULL
    mailbox_post(&core.events, event)


# --- the end of a transfer ----------------------------------------------------------------

cdef void measure(Core* core, Transfer* transfer) noexcept nogil:
    """Feed the planner: request gap, rate of one connection, handshake."""
    cdef Job* job = transfer.job
    cdef curl_off_t before = 0, first = 0, looked = 0
    cdef long opened = 0
    cdef double seconds = monotonic() - transfer.first_byte, rate = 0.0
    curl_easy_getinfo(transfer.easy, CURLINFO_PRETRANSFER_TIME_T, &before)
    curl_easy_getinfo(transfer.easy, CURLINFO_STARTTRANSFER_TIME_T, &first)
    curl_easy_getinfo(transfer.easy, CURLINFO_NAMELOOKUP_TIME_T, &looked)
    curl_easy_getinfo(transfer.easy, CURLINFO_NUM_CONNECTS, &opened)
    if transfer.received >= GOOD_ATTEMPT and seconds > 0:
        rate = transfer.received / seconds
        source_measured(core, transfer, rate)
    plan_measured(&job.plan, (first - before) * 1e-6, rate)
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


cdef bint settle_copy(Core* core, Transfer* transfer, CURLcode code) noexcept nogil:
    """A transfer that was landing bytes has ended: count what is in place, give
    the rest of its part back."""
    cdef Job* job = transfer.job
    cdef Writer* writer = &transfer.writer
    cdef Cause cause = transfer.fault
    cdef int error = 0
    cdef bint whole = writer.position == transfer.stop or (job.ground.size < 0 and code == CURLE_OK)
    if transfer.full and cause.kind == SILENT:
        cause.kind = NONE                   # it fell silent over bytes that nobody wants
    if cause.kind == NONE and not transfer.full:
        if code != CURLE_OK:
            cause.kind = TRANSPORT
            cause.code = code
        elif not whole:
            cause.kind = SURPLUS            # it ended early and called that the end
    ground_lock(job.ground)
    if writer.deferred and cause.kind == NONE and whole and not transfer.full:
        error = writer_finish(writer)
        job.copied += writer.counted - transfer.body_start
    elif writer.deferred:
        atomic_add(&job.wasted, writer.position - transfer.body_start)
    else:
        error = writer_sync(writer)
    if writer.counted > transfer.body_start:
        job.progressed = core.now
    if plan_release(&job.plan, transfer.lane, writer.counted) < 0:
        error = ENOMEM
    ground_unlock(job.ground)
    if error:
        cause.kind = SINK
        cause.code = error
    if cause.kind == SINK:
        end(core, job, &cause, False, NULL)
        return False
    if cause.kind != NONE:
        cause.status = transfer.status
        return fail(core, transfer, cause, -1.0)
    transfer.attempts = job.fails = job.early = 0
    job.patience = max(job.patience * 0.9, 1.0)
    job_trace(job, transfer.lane, STEP_ENDED, transfer.start, writer.counted)
    if not job.auto_ and job.seats < job.limit and core.now - job.refused > REOPEN:
        job.seats += 1                      # see whether the server has more room by now
        job.refused = core.now
    if job.stream:
        job.complete = True
    return True


cdef bint give_back_part(Core* core, Transfer* transfer) noexcept nogil:
    """Nothing of the transfer's part has landed."""
    cdef Job* job = transfer.job
    cdef int failed = 0
    if job.planned:
        ground_lock(job.ground)
        failed = plan_release(&job.plan, transfer.lane, transfer.start)
        ground_unlock(job.ground)
    if failed:
        out_of_memory(core, job)
    return not failed


cdef bint act(Core* core, Transfer* transfer) noexcept nogil:
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
    heed_proxy(transfer, &cause)
    if transfer.source > 0 and (is_mirror(transfer) or verdict.kind in (EDGE, CHANGED)):
        cause.kind = STATUS if is_mirror(transfer) else OTHER_OBJECT
        source_failed(core, transfer, &cause)
        return True
    if transfer.status == 403 and newly_connected(transfer) and others_copy(job, transfer):
        # So says a proxy that takes no more connections. A signed address that has run out
        # says it as well to those that have worked.
        return fail(core, transfer, cause, -1.0)
    if transfer.status == 416 and not job.planned and job.first_start > 0:
        job.first_start = 0             # shorter than what an earlier transfer has left of it
        return True
    if verdict.kind == EMPTY and not job.planned:
        job.state = ASKED
        return post_head(core, transfer)
    if verdict.kind == MOVED and not stale:
        curl_easy_getinfo(transfer.easy, CURLINFO_REDIRECT_URL, &location)
        if location is NULL:            # libcurl forms it only where the body came whole
            location = <char*>header(transfer.easy, b"Location")
        job.state = ASKED
        return post(core, job, REDIRECTED, &cause, strdup(location) if location is not NULL else NULL)
    if verdict.kind in (MOVED, EXPIRED, MISSING) and stale:
        # Signed addresses run out: only the first to notice has it resolved anew.
        if transfer.generation == job.generation and job.state == LANDING:
            job.state = ASKED
            return post(core, job, STALE, &cause, NULL)
        return True
    if verdict.kind == EXPIRED and job.renews and job.state == RESOLVING:
        # Who waited long for a connection may hold a token that has run out by then.
        job.renews = False
        job.state = ASKED
        return post(core, job, STALE, &cause, NULL)
    if verdict.kind == PLAIN:
        job.plain = True
        return True
    if (verdict.kind == REFUSED and transfer.status == 416 and not job.planned
            and verdict.total < 0 and job.part_size != SMALL_PART):
        # Neither a range nor the whole: some servers refuse what is long.
        job.plain = False
        job.part_size = SMALL_PART
        return True
    if verdict.kind == MATCH_FAILED and transfer.matched:
        job.unmatched = True            # an unconditional range will show whether it changed
        return True
    if verdict.kind == EDGE and job.pinnable and not transfer.pinned:
        job.pinned = True
        transfer.not_before = core.now + plan_backoff(0, -1.0, core.dice)
        return True
    if verdict.kind == EDGE:
        # Its connection dies with the unread body; those that match go on.
        cause.kind = OTHER_OBJECT
        return fail(core, transfer, cause, -1.0)
    if verdict.kind == AGAIN:
        if verdict.retry_at >= 0:
            wait = max(0.0, verdict.retry_at - wall_clock())
        return fail(core, transfer, cause, wait)
    if verdict.kind == IGNORED:
        cause.kind = RANGE_IGNORED
        return fail(core, transfer, cause, -1.0)
    if verdict.kind == BROKEN:
        cause.kind = FLAWED
        cause.code = <int>verdict.flaw
        if job.planned:
            return fail(core, transfer, cause, -1.0)
        end(core, job, &cause, False, NULL)
        return False
    if verdict.kind in (CHANGED, EMPTY):
        cause.kind = OTHER_OBJECT
        end(core, job, &cause, False, header(transfer.easy, b"ETag"))
        return False
    end(core, job, &cause, False, NULL)
    return False


cdef bint reap(Core* core, Transfer* transfer, CURLcode code) noexcept nogil:
    """libcurl is done with the transfer's request, or we are."""
    cdef Job* job = transfer.job
    cdef Phase phase
    cdef Cause cause
    if not transfer.judged and code == CURLE_OK:
        head(transfer)                  # a response without a body
    phase = transfer.phase
    if transfer.judged:
        measure(core, transfer)
        prove(transfer)
    if phase == WAITING and transfer.verdict.kind == STREAM and code == CURLE_OK:
        transfer.verdict.kind = EMPTY   # a stream that ended before its first byte
        transfer.verdict.total = 0
    stop(core, transfer)
    if transfer.judged and transfer.verdict.kind in (LAND, STREAM) and transfer.writer.ground is not NULL:
        return settle_copy(core, transfer, code)
    if not give_back_part(core, transfer):
        return False
    if transfer.judged and transfer.verdict.kind not in (LAND, STREAM):
        return act(core, transfer)      # even when its body was cut or aborted
    cause = transfer.fault
    if cause.kind == NONE:
        cause.kind = SURPLUS if code == CURLE_OK else TRANSPORT
        cause.code = code
    cause.status = transfer.status
    heed_proxy(transfer, &cause)
    if cause.kind == SINK:
        end(core, job, &cause, False, NULL)
        return False
    return fail(core, transfer, cause, -1.0)
