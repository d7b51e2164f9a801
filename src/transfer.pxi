# One transfer: an easy handle that carries one request at a time, one closed range.
#
# Included by _reactor.pyx, because one shared object alone may hold libcurl (a
# static build would carry it twice). All of it runs on the reactor thread. The
# callbacks judge, land and take notes; they never touch the multi handle. What
# follows from the notes is decided in _reactor.pyx after curl_multi_perform.

cdef enum Phase:
    IDLE
    SENT            # no body yet
    WAITING         # the first good response, paused until Python's begin()
    COPYING         # the body lands
    COMPARING       # a repeated stream: what has landed must come again
    SKIPPING        # the rest of this body is of no use

cdef struct Sockets:        # a reactor's open sockets, for a forked child to close
    int* fds
    int used
    int room

cdef struct Transfer:
    CURL* easy
    Job* job
    int lane
    Phase phase
    curl_slist* headers
    curl_slist* connect_to
    curl_slist** lists      # one per SLIST setting of the job
    Writer writer
    int64_t start           # the part asked for, offsets of the target
    int64_t asked           # where it ended when it was asked for
    int64_t stop            # where it ends now; a thief or a shorter 206 lowers it
    int64_t claim
    int64_t body_start      # where writing began: what an unproven body falls back to
    int64_t body_stop       # where the body ends, as the response says; -1 unsaid
    int64_t skip            # bytes of the body before those that we want
    int64_t compared        # COMPARING: next offset
    int64_t skipped         # SKIPPING: bytes so far
    bint ranged             # a Range header was sent
    bint matched            # If-Match was sent
    bint pinned
    bint judged
    bint full               # it has all that it wanted: the abort is no error
    bint leaving            # it was cut short, because others need the connection
    bint paused             # a stream whose reader's window is full
    bint held               # it waits for the rate's limit
    int source              # who was asked, see sources.pxi
    int turn                # how often it moved on to the next
    int generation
    int status
    Verdict verdict
    Cause fault             # why a callback aborted
    int64_t header_bytes
    double began
    double first_byte
    double marked           # stall clock: when `mark` was received
    int64_t mark
    int64_t received        # body bytes of this response
    double not_before       # backoff
    int attempts            # failures of this lane in a row
    char[256] message       # CURLOPT_ERRORBUFFER

cdef int64_t HEADER_LIMIT = 64 << 10
cdef int64_t PAUSE_FOR = 64 << 10       # a paused stream goes on when so much fits
cdef int64_t SKIP_LIMIT = 64 << 10      # beyond, a new connection is cheaper
cdef int64_t UNBOUNDED = <int64_t>1 << 60


# --- sockets --------------------------------------------------------------------

cdef curl_socket_t on_open(void* client, int purpose, curl_sockaddr* address) noexcept nogil:
    """Open a socket for libcurl and note it down."""
    cdef Sockets* sockets = <Sockets*>client
    cdef int* more
    cdef int fd = open_socket(address.family, address.socktype, address.protocol)
    if fd < 0:
        return -1
    if sockets.used == sockets.room:
        more = <int*>realloc(sockets.fds, (sockets.room + 64) * sizeof(int))
        if more is NULL:
            close(fd)
            return -1
        sockets.fds = more
        sockets.room += 64
    sockets.fds[sockets.used] = fd
    sockets.used += 1
    return fd


cdef int on_close(void* client, curl_socket_t fd) noexcept nogil:
    cdef Sockets* sockets = <Sockets*>client
    cdef int i
    for i in range(sockets.used):
        if sockets.fds[i] == fd:
            sockets.used -= 1
            sockets.fds[i] = sockets.fds[sockets.used]
            break
    return close(fd)


# --- the head of a response --------------------------------------------------------

cdef size_t on_header(char* data, size_t size, size_t n, void* client) noexcept nogil:
    cdef Transfer* transfer = <Transfer*>client
    if n >= 5 and strncmp(data, b"HTTP/", 5) == 0:
        transfer.header_bytes = 0
    transfer.header_bytes += n
    if transfer.header_bytes > HEADER_LIMIT:
        transfer.fault.kind = TOO_LARGE
        return 0
    return n


cdef const char* header(CURL* easy, const char* name) noexcept nogil:
    cdef curl_header* found
    if curl_easy_header(easy, name, 0, CURLH_HEADER, -1, &found) != 0:
        return NULL
    return found.value


cdef bint repeated(CURL* easy, const char* name) noexcept nogil:
    cdef curl_header* found
    return curl_easy_header(easy, name, 0, CURLH_HEADER, -1, &found) == 0 and found.amount > 1


cdef bint newly_connected(Transfer* transfer) noexcept nogil:
    cdef long opened = 0
    curl_easy_getinfo(transfer.easy, CURLINFO_NUM_CONNECTS, &opened)
    return opened > 0


cdef void head(Transfer* transfer) noexcept nogil:
    """Judge the response whose headers are complete; choose the phase."""
    cdef Job* job = transfer.job
    cdef Headers headers
    cdef Expect expect
    cdef Verdict* verdict = &transfer.verdict
    cdef long status = 0
    cdef int64_t shift
    transfer.judged = True
    transfer.first_byte = monotonic()
    curl_easy_getinfo(transfer.easy, CURLINFO_RESPONSE_CODE, &status)
    transfer.status = <int>status
    memset(&headers, 0, sizeof(headers))
    headers.content_range = header(transfer.easy, b"Content-Range")
    headers.twice = repeated(transfer.easy, b"Content-Range")
    headers.encoded_twice = repeated(transfer.easy, b"Content-Encoding")
    # Beside Transfer-Encoding libcurl ignores the length, and so must we.
    if header(transfer.easy, b"Transfer-Encoding") is NULL:
        headers.content_length = header(transfer.easy, b"Content-Length")
    headers.content_encoding = header(transfer.easy, b"Content-Encoding")
    headers.content_type = header(transfer.easy, b"Content-Type")
    headers.etag = header(transfer.easy, b"ETag")
    headers.last_modified = header(transfer.easy, b"Last-Modified")
    headers.retry_after = header(transfer.easy, b"Retry-After")
    shift = shift_at(job, transfer.start)
    expect.start = transfer.start + shift if transfer.ranged else -1
    expect.stop = transfer.asked + shift
    expect.total = job.total
    expect.first = not job.planned
    expect.etag = etag_of(transfer)
    expect.last_modified = job.last_modified
    if is_mirror(transfer):
        expect.last_modified = source_of(job, transfer.source).last_modified
    judge(transfer.status, &headers, &expect, verdict)
    if verdict.kind == LAND:
        transfer.body_stop = verdict.stop - shift
        transfer.phase = COPYING if job.planned else WAITING
    elif verdict.kind == STREAM:
        transfer.ranged = False         # the range was asked for, but not given
        transfer.body_stop = -1
        if not job.planned:
            transfer.phase = WAITING
        elif job.stream and job.ground.landed > 0:
            transfer.phase = COMPARING
            transfer.compared = 0
            transfer.skip = job.spans[0].start
        else:
            transfer.phase = COPYING
            transfer.skip = job.spans[0].start
    elif verdict.kind == IGNORED:
        transfer.fault.kind = RANGE_IGNORED
        transfer.phase = SKIPPING
    else:
        transfer.phase = SKIPPING
    if transfer.status == 403 and newly_connected(transfer):
        transfer_leave(transfer)        # perhaps one too many, and an idle one counts as well
    if transfer.phase == COPYING:
        begin_writing(transfer)
    job_trace(job, transfer.lane, STEP_FIRST, transfer.start, transfer.stop)


cdef inline bint is_mirror(Transfer* transfer) noexcept nogil:
    return source_of(transfer.job, transfer.source).url is not NULL


cdef inline const char* etag_of(Transfer* transfer) noexcept nogil:
    """The validator that the answer should have: a mirror has its own."""
    return source_of(transfer.job, transfer.source).etag if is_mirror(transfer) else transfer.job.etag


cdef int64_t shift_at(Job* job, int64_t offset) noexcept nogil:
    """Offset in the object - offset in the target, at a target offset."""
    cdef int low = 0, high = job.nspans, middle
    while high - low > 1:
        middle = (low + high) // 2
        if job.spans[middle].at <= offset:
            low = middle
        else:
            high = middle
    return job.spans[low].start - job.spans[low].at


cdef int begin_writing(Transfer* transfer) noexcept nogil:
    """The body is good and there is ground for it: set up the writer."""
    cdef Job* job = transfer.job
    cdef Ground* ground = job.ground
    cdef bint deferred = transfer.ranged and not transfer.verdict.measured
    cdef int error
    if transfer.ranged and transfer.body_stop < transfer.stop:
        ground_lock(ground)
        plan_shorten(&job.plan, transfer.lane, transfer.body_stop)
        transfer.stop = job.plan.lanes[transfer.lane].stop
        if transfer.stop % job.block:
            ground.orderly = False      # its last block will have a second owner
        ground_unlock(ground)
    ground_lock(ground)
    job.plan.lanes[transfer.lane].unproven = deferred
    ground_unlock(ground)
    transfer.claim = job.plan.lanes[transfer.lane].claim
    transfer.body_start = transfer.start
    error = writer_open(&transfer.writer, ground, transfer.start, deferred)
    if error:
        transfer.fault.kind = SINK
        transfer.fault.code = error
    return error


# --- the body -----------------------------------------------------------------------

cdef size_t on_body(char* data, size_t size, size_t n, void* client) noexcept nogil:
    """libcurl has `n` body bytes (at most 16 KiB). Anything but `n` aborts."""
    cdef Transfer* transfer = <Transfer*>client
    cdef size_t done = n
    cdef int64_t step
    if not transfer.judged:
        head(transfer)
    if transfer.phase == WAITING:
        return CURL_WRITEFUNC_PAUSE
    if transfer.phase in (COPYING, COMPARING) and not transfer.ranged and transfer.job.ground.ring:
        step = transfer.writer.position if transfer.phase == COPYING else transfer.compared
        if not ground_room(transfer.job.ground, step + n):
            transfer.paused = True
            return CURL_WRITEFUNC_PAUSE
    if transfer.job.bucket is not NULL:
        if transfer.job.bucket.tokens <= 0:
            transfer.held = True
            return CURL_WRITEFUNC_PAUSE
        transfer.job.bucket.tokens -= n
    transfer.received += n
    transfer.job.moved += n
    if transfer.fault.kind in (SINK, DIFFERENT):
        return 0                        # said once already, perhaps inside curl_easy_pause, which hears nothing
    if transfer.phase == SKIPPING:
        transfer.skipped += n
        return n if transfer.full or transfer.skipped <= SKIP_LIMIT else 0
    if transfer.skip > 0:
        step = min(transfer.skip, <int64_t>n)
        transfer.skip -= step
        atomic_add(&transfer.job.wasted, step)
        data += step
        n -= step
    if transfer.phase == COMPARING and n > 0:
        step = compare(transfer, data, n)
        if step < 0:
            return 0
        data += step
        n -= step
    if n > 0 and not copy(transfer, data, n):
        return 0
    return done


cdef int64_t compare(Transfer* transfer, const char* data, int64_t n) noexcept nogil:
    """A stream begun again: what is in place must come again. Return how many of
    the bytes were that; -1 aborts."""
    cdef Ground* ground = transfer.job.ground
    cdef int64_t step = min(n, atomic_get(&ground.landed) - transfer.compared)
    cdef int same = ground_same(ground, data, step, transfer.compared)
    if same != 1:
        transfer.fault.kind = DIFFERENT if same == 0 else SINK
        transfer.fault.code = -same
        return -1
    transfer.compared += step
    atomic_add(&transfer.job.wasted, step)
    if transfer.compared == atomic_get(&ground.landed):
        transfer.start = transfer.compared
        transfer.phase = COPYING
        if begin_writing(transfer):
            return -1
    return step


cdef bint copy(Transfer* transfer, const char* data, int64_t n) noexcept nogil:
    """Land bytes at the writer's position, never at or beyond the claim, which is
    extended block by block under the lock. False aborts the transfer."""
    cdef Job* job = transfer.job
    cdef int64_t step
    cdef int error
    while n > 0:
        if transfer.writer.position == transfer.claim:
            ground_lock(job.ground)
            error = writer_sync(&transfer.writer)
            transfer.claim = plan_extend(&job.plan, transfer.lane)
            transfer.stop = job.plan.lanes[transfer.lane].stop
            ground_unlock(job.ground)
            if error:
                transfer.fault.kind = SINK
                transfer.fault.code = error
                return False
            if transfer.writer.position == transfer.claim:
                return overrun(transfer, n)
        step = min(n, transfer.claim - transfer.writer.position)
        error = writer_put(&transfer.writer, data, step)
        if error:
            transfer.fault.kind = SINK
            transfer.fault.code = error
            return False
        if not transfer.writer.deferred:
            job.copied += step
        data += step
        n -= step
    return True


cdef bint overrun(Transfer* transfer, int64_t n) noexcept nogil:
    """The part is complete and bytes still come: the rest was stolen, or the
    caller wants less than the stream, or the server says one thing and sends
    another. Read a short rest away, else abort."""
    cdef Job* job = transfer.job
    cdef int64_t leftover
    transfer.full = True
    if transfer.ranged and transfer.body_stop <= transfer.stop:
        # Not stolen: more bytes than the response itself said. Then those that
        # came before them are suspect too (writer.deferred kept them uncounted).
        transfer.full = False
        transfer.fault.kind = SURPLUS
        return False
    leftover = transfer.body_stop - transfer.stop if transfer.body_stop >= 0 else UNBOUNDED
    atomic_add(&job.wasted, n)
    if plan_drains(&job.plan, leftover, job.handshake):
        transfer.phase = SKIPPING
        transfer.skipped = n
        return True
    return False


# --- life -----------------------------------------------------------------------------

cdef int apply_settings(Transfer* transfer) noexcept nogil:
    """The user's and Python's settings. Return a CURLcode."""
    cdef Job* job = transfer.job
    cdef Setting* setting
    cdef CURLcode code = CURLE_OK
    cdef int i, kind
    cdef bint private_ = source_of(job, transfer.source).private_ if is_mirror(transfer) else job.private_
    cdef const char* url = source_of(job, transfer.source).url if is_mirror(transfer) else job.url
    cdef int other = SETTING_ONLY_HTTP if url[4] | 32 == c's' else SETTING_ONLY_HTTPS   # "https:", "http:"
    for i in range(job.nsettings):
        setting = &job.settings[i]
        kind = setting.kind & 7
        if setting.kind & other:
            continue
        if setting.kind & SETTING_ONLY_ORIGIN and not private_:
            continue
        if kind == 0:
            code = curl_easy_setopt(transfer.easy, <CURLoption>setting.option, <long>setting.number)
        elif kind == 1:
            code = curl_easy_setopt(transfer.easy, <CURLoption>setting.option, <curl_off_t>setting.number)
        elif kind == 2:
            code = curl_easy_setopt(transfer.easy, <CURLoption>setting.option, setting.text)
        else:
            curl_slist_free_all(transfer.lists[i])
            transfer.lists[i] = lines(setting.text)
            code = curl_easy_setopt(transfer.easy, <CURLoption>setting.option, transfer.lists[i])
        if code != CURLE_OK:
            return code
    return code


cdef curl_slist* lines(const char* text) noexcept nogil:
    """A list of the lines of `text`, which holds none that is empty."""
    cdef curl_slist* list_ = NULL
    cdef char* copy_
    cdef char* line
    cdef char* rest
    if text is NULL or text[0] == 0:
        return NULL
    copy_ = strdup(text)
    line = copy_
    while line is not NULL:
        rest = strchr(line, c'\n')
        if rest is not NULL:
            rest[0] = 0
            rest += 1
        list_ = curl_slist_append(list_, line)
        line = rest
    free(copy_)
    return list_


cdef int prepare(Transfer* transfer, Sockets* sockets, long buffer_size) noexcept nogil:
    """Set every option for the job's current request. Return a CURLcode."""
    cdef Job* job = transfer.job
    cdef CURL* easy = transfer.easy
    cdef char[80] range_
    cdef int64_t shift = shift_at(job, transfer.start)
    cdef curl_slist* headers
    cdef char* match
    cdef Source* source = source_of(job, transfer.source)
    cdef const char* etag = etag_of(transfer)
    cdef const char* to = source.connect_to
    curl_easy_reset(easy)
    curl_easy_setopt(easy, CURLOPT_URL, source.url if source.url is not NULL else job.url)
    curl_easy_setopt(easy, CURLOPT_PRIVATE, <void*>transfer)
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, <long>1)
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, <long>0)
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, b"http,https")
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, <long>1)
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, <long>1)
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, <long>1)
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1)
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, buffer_size)
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer.message)
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, <void*>on_body)
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, <void*>transfer)
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, <void*>on_header)
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, <void*>transfer)
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, <void*>on_open)
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, <void*>sockets)
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, <void*>on_close)
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, <void*>sockets)
    if transfer.ranged:
        snprintf(range_, sizeof(range_), b"%lld-%lld", <long long>(transfer.start + shift),
                 <long long>(transfer.stop + shift - 1))
        curl_easy_setopt(easy, CURLOPT_RANGE, range_)
    headers = lines(source.headers if source.url is not NULL else job.headers)
    headers = curl_slist_append(headers, b"Accept-Encoding: identity")
    transfer.matched = (transfer.ranged and job.planned and not job.unmatched
                        and etag is not NULL and etag[0] == c'"')
    if transfer.matched:
        match = <char*>malloc(strlen(etag) + 16)
        if match is not NULL:
            strcpy(match, b"If-Match: ")
            strcat(match, etag)
            headers = curl_slist_append(headers, match)
            free(match)
    curl_slist_free_all(transfer.headers)
    transfer.headers = headers
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers)
    if job.pinned and transfer.source == 0:
        to = job.address
    if to is not NULL:
        curl_slist_free_all(transfer.connect_to)
        transfer.connect_to = curl_slist_append(NULL, to)
        curl_easy_setopt(easy, CURLOPT_CONNECT_TO, transfer.connect_to)
    return apply_settings(transfer)


cdef int transfer_start(Transfer* transfer, CURLM* multi, Sockets* sockets, long buffer_size,
                        int64_t start, int64_t stop, bint ranged) noexcept nogil:
    """Send the request for the target's [start, stop). Return a CURLcode."""
    cdef Job* job = transfer.job
    cdef CURLcode code
    if transfer.easy is NULL:
        transfer.easy = curl_easy_init()
        if transfer.lists is NULL:
            transfer.lists = <curl_slist**>calloc(job.nsettings + 1, sizeof(curl_slist*))
        if transfer.easy is NULL or transfer.lists is NULL:
            return CURLE_OUT_OF_MEMORY
    transfer.start = start
    transfer.stop = transfer.asked = stop
    transfer.writer.ground = NULL       # nothing is written yet; the buffer is kept
    transfer.ranged = ranged
    transfer.generation = job.generation
    transfer.pinned = job.pinned
    transfer.judged = transfer.full = transfer.paused = transfer.held = transfer.leaving = False
    transfer.source = choose_source(job, transfer)
    transfer.body_stop = -1
    transfer.skip = transfer.skipped = transfer.received = transfer.mark = transfer.header_bytes = 0
    transfer.status = 0
    transfer.message[0] = 0
    memset(&transfer.fault, 0, sizeof(Cause))
    memset(&transfer.verdict, 0, sizeof(Verdict))
    code = prepare(transfer, sockets, buffer_size)
    if code != CURLE_OK:
        return code
    transfer.began = transfer.marked = monotonic()
    transfer.first_byte = 0.0
    if curl_multi_add_handle(multi, transfer.easy) != 0:
        return CURLE_OUT_OF_MEMORY
    transfer.phase = SENT
    atomic_add(&job.requests, 1)
    if atomic_add(&job.active, 1) > atomic_get(&job.peak):
        atomic_set(&job.peak, atomic_get(&job.active))
    job_trace(job, transfer.lane, STEP_SENT, start, stop)
    return CURLE_OK


cdef void transfer_leave(Transfer* transfer) noexcept nogil:
    """Its connection is to end with it: an idle one counts at the host as well."""
    curl_easy_setopt(transfer.easy, CURLOPT_FORBID_REUSE, <long>1)      # read when it is done


cdef void transfer_stop(Transfer* transfer, CURLM* multi) noexcept nogil:
    """Take the transfer out of the multi handle: from here on it writes nothing.
    Must come before its rest is handed to anyone else."""
    cdef long opened = 0
    if transfer.phase == IDLE:
        return
    curl_easy_getinfo(transfer.easy, CURLINFO_NUM_CONNECTS, &opened)
    atomic_add(&transfer.job.connections, opened)
    curl_multi_remove_handle(multi, transfer.easy)
    atomic_add(&transfer.job.active, -1)
    transfer.phase = IDLE


cdef void transfer_free(Transfer* transfer) noexcept nogil:
    cdef int i
    if transfer.easy is not NULL:
        curl_easy_cleanup(transfer.easy)
    curl_slist_free_all(transfer.headers)
    curl_slist_free_all(transfer.connect_to)
    if transfer.lists is not NULL:
        for i in range(transfer.job.nsettings):
            curl_slist_free_all(transfer.lists[i])
        free(transfer.lists)
    writer_close(&transfer.writer)
