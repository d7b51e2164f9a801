# Where the bytes come from: the job's own address, other addresses of the same host, and
# mirrors that were proven to hold the same object.
#
# Included by _reactor.pyx (transfer.pxi says why). A source other than the job's own is
# never worth a failure: what goes wrong with it is asked of another one, and it is dropped
# when that happens too often, or when it is slow. The job's own is number 0.

cdef int SOURCE_TRIES = 2               # failures in a row after which a source is dropped
cdef int SOURCE_PARTS = 3               # parts after which its pace can be judged
cdef double SOURCE_SLOW = 0.25          # of the fastest


cdef inline Source* source_of(Job* job, int index) noexcept nogil:
    return &job.sources[index - 1] if index > 0 else &job.home


cdef int choose_source(Job* job, Transfer* transfer) noexcept nogil:
    """Spread the lanes over the sources that are alive; one that has failed moves on to
    the next."""
    cdef int n = <int>atomic_acquire(&job.nsources)
    cdef int index, alive = 1, wanted
    if n == 0 or not job.planned or job.stream or not job.proven:
        return 0                            # what a new address is worth only it can show
    for index in range(1, n + 1):
        alive += not source_of(job, index).dead
    wanted = (transfer.lane + transfer.turn) % alive
    for index in range(n + 1):
        if not source_of(job, index).dead:
            if wanted == 0:
                return index
            wanted -= 1
    return 0


cdef void drop_source(Core* core, Job* job, int index, const Cause* cause) noexcept nogil:
    """Use it no more, and say so."""
    cdef Event* event = new_event(job, DROPPED)
    source_of(job, index).dead = True
    if event is NULL:
        return
    event.number = index
    if cause is not NULL:
        event.cause = cause[0]
    mailbox_post(&core.events, event)


cdef void blame(Core* core, Transfer* transfer, const Cause* cause, bint at_once) noexcept nogil:
    """A source that goes wrong again and again is dropped, or at the first time."""
    cdef Source* source = source_of(transfer.job, transfer.source)
    source.fails += 1
    if not source.dead and (at_once or source.fails >= SOURCE_TRIES):
        drop_source(core, transfer.job, transfer.source, cause)


cdef bint source_failed(Core* core, Transfer* transfer, const Cause* cause) noexcept nogil:
    """Whether a failure was that of a source that can be done without: then it is dealt
    with. Another address of the host is to blame for less than a mirror is."""
    transfer.turn += 1                      # next time it asks somebody else
    if transfer.source == 0:
        return False
    if not is_mirror(transfer) and not unreachable(cause) and cause.kind not in (SILENT, OTHER_OBJECT):
        return False
    blame(core, transfer, cause, unreachable(cause) or cause.kind != TRANSPORT)
    return True


cdef void source_lagged(Core* core, Transfer* transfer) noexcept nogil:
    """A transfer was too slow."""
    cdef Cause cause
    transfer.turn += 1
    if transfer.source > 0:
        memset(&cause, 0, sizeof(cause))
        cause.kind = SILENT if transfer.received == 0 else NONE
        blame(core, transfer, &cause, False)


cdef void source_measured(Core* core, Transfer* transfer, double rate) noexcept nogil:
    """One response shows how fast a source is. A slow mirror is dropped: the others would
    wait for it at the end."""
    cdef Job* job = transfer.job
    cdef Source* source = source_of(job, transfer.source)
    cdef int index
    cdef double fastest = 0.0
    source.fails = 0
    source.parts += 1
    source.rate += (rate - source.rate) * (0.25 if source.parts > 1 else 1.0)
    for index in range(<int>atomic_acquire(&job.nsources) + 1):
        fastest = max(fastest, source_of(job, index).rate)
    if (transfer.source > 0 and not source.dead and source.parts >= SOURCE_PARTS
            and source.rate < SOURCE_SLOW * fastest):
        drop_source(core, job, transfer.source, NULL)
