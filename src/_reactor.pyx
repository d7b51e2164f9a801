"""The reactor: one thread, one multi handle, every transfer of a Client.

One reactor has one CURLM*, one thread, one command queue, one list of jobs. The
thread is a bare pthread that never attaches to the interpreter: bytes land while
Python holds the GIL. The only libcurl call from another thread is
curl_multi_wakeup(). The loop:

    1. obey the commands          3. reap what has ended
    2. perform                    4. hand out parts        5. poll

What may land where is the planner's; what a response is worth is _response's;
redirects, credentials and destinations are Python's, which the reactor asks by
posting an event and by then leaving the job alone until the answer comes.
"""
from libc.errno cimport ENOMEM
from libc.stdint cimport int64_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memset, strcat, strchr, strcpy, strdup, strlen, strncmp, strstr

from ._controller cimport control_init, control_refused, control_tick
from ._job cimport *
from ._landing cimport *
from ._planner cimport *
from ._response cimport *
from .atomics cimport atomic_acquire, atomic_add, atomic_get, atomic_set
from .libcurl cimport *

cdef extern from "waiting.h" nogil:
    double monotonic()
    void nap(double seconds)

cdef extern from "threads.h" nogil:
    int start_thread(void** handle, void* (*run)(void*) noexcept nogil, void* argument)
    void join_thread(void* handle)
    int open_socket(int family, int type, int protocol)
    double wall_clock()

cdef extern from "<pthread.h>" nogil:
    int pthread_mutex_init(pthread_mutex_t*, void*)
    int pthread_mutex_destroy(pthread_mutex_t*)
    int pthread_mutex_lock(pthread_mutex_t*)
    int pthread_mutex_unlock(pthread_mutex_t*)

cdef extern from "<unistd.h>" nogil:
    int close(int fd)

cdef int SETTING_ONLY_ORIGIN = 8, SETTING_ONLY_HTTP = 16, SETTING_ONLY_HTTPS = 32
cdef int64_t GOOD_ATTEMPT = 64 << 10    # an attempt that lands this much is no failure to count
cdef int64_t ALIVE = 1 << 10            # fewer bytes in stall_timeout are silence
cdef int EARLY_TRIES = 2                # retries while no server has ever answered
cdef int64_t MOVED_ON = 4 << 10          # what arrives between two failures to forgive the first
cdef int64_t SMALL_PART = 512 << 10
cdef double REOPEN = 10.0               # seconds after a refusal until one more is tried
cdef double TICK = 1.0
# A wire that is slower than we are wakes us for every packet. A nap lets packets gather: 7-15 % less CPU. Not
# after a pass that brought little, for small answers would wait; nor when we have no time to lose, for what
# arrives is better taken while it is in the cache: with TLS, which makes us the slower one, naps cost 11 %.
cdef double NAP = 0.0005
cdef int64_t TRICKLE = 32 << 10         # bytes of a pass
cdef double AT_REST = 0.5               # the share of our time that we wait
cdef double LATELY = 0.02               # seconds that it is measured over
cdef double PUBLISH = 0.01              # seconds between two looks for less than a block

include "sources.pxi"
include "transfer.pxi"
include "pacing.pxi"
include "endings.pxi"
include "tail.pxi"
include "schedule.pxi"


# --- the core ---------------------------------------------------------------------

cdef enum Order:
    ADD
    ANSWER_REQUEST
    ANSWER_BEGIN
    CANCEL
    QUIT

cdef struct Command:
    Command* next
    Order order
    Job* job                    # followed only if `known`: the job may have ended and be freed
    int64_t id

cdef struct Core:
    CURLM* multi
    void* thread
    pthread_mutex_t lock        # guards the command list
    Command* head
    Command* tail
    Mailbox events
    Sockets sockets
    Job* jobs
    int limit                   # connections over all jobs
    int active
    Bucket bucket               # what jobs with a limited rate share
    int poured
    Spares spares               # for blocks on their way to a file
    long buffer_size
    uint64_t dice
    double now
    double idle                 # the share of our time that we waited, of late
    bint quit


cdef inline Transfer* lane_of(Job* job, int lane) noexcept nogil:
    return &(<Transfer*>job.transfers)[lane]


cdef bint post(Core* core, Job* job, EventKind kind, const Cause* cause, char* text) noexcept nogil:
    """Ask Python; takes over `text`. Without memory to ask the job ends: False."""
    cdef Event* event = new_event(job, kind)
    if event is NULL:
        free(text)
        out_of_memory(core, job)
        return False
    if cause is not NULL:
        event.cause = cause[0]
    event.text = text
    mailbox_post(&core.events, event)
    return True


cdef bint post_head(Core* core, Transfer* transfer) noexcept nogil:
    """HEADERS: what the first good response says, with all of its headers."""
    cdef Event* event = new_event(transfer.job, HEADERS)
    cdef curl_header* line = NULL
    cdef size_t size = 1
    cdef char* address = NULL
    cdef long port = 0
    if event is NULL:
        out_of_memory(core, transfer.job)
        return False
    while True:
        line = curl_easy_nextheader(transfer.easy, CURLH_HEADER, -1, line)
        if line is NULL:
            break
        size += strlen(line.name) + strlen(line.value) + 2
    event.text = <char*>calloc(size, 1)
    if event.text is not NULL:
        while True:
            line = curl_easy_nextheader(transfer.easy, CURLH_HEADER, -1, line)
            if line is NULL:
                break
            strcat(event.text, line.name)
            strcat(event.text, b":")
            strcat(event.text, line.value)
            strcat(event.text, b"\n")
    curl_easy_getinfo(transfer.easy, CURLINFO_PRIMARY_IP, &address)
    curl_easy_getinfo(transfer.easy, CURLINFO_PRIMARY_PORT, &port)
    event.address = strdup(address) if address is not NULL else NULL
    event.cause.status = transfer.status
    event.cause.code = <int>transfer.verdict.kind
    event.start = transfer.verdict.start
    event.stop = transfer.verdict.stop
    event.total = transfer.verdict.total
    event.number = transfer.generation
    pin(transfer.job, address, port)
    mailbox_post(&core.events, event)
    return True


cdef void pin(Job* job, const char* address, long port) noexcept nogil:
    """Remember the first server's address as CURLOPT_CONNECT_TO wants it."""
    cdef size_t size
    if address is NULL or job.address is not NULL or not job.pinnable:
        return
    size = strlen(address) + 32
    job.address = <char*>malloc(size)
    if job.address is not NULL:
        if strchr(address, c':') is not NULL:
            snprintf(job.address, size, b"::[%s]:%ld", address, port)
        else:
            snprintf(job.address, size, b"::%s:%ld", address, port)


cdef void out_of_memory(Core* core, Job* job) noexcept nogil:
    cdef Cause cause
    memset(&cause, 0, sizeof(cause))
    cause.kind = TRANSPORT
    cause.code = CURLE_OUT_OF_MEMORY
    end(core, job, &cause, False, NULL)


cdef void end(Core* core, Job* job, const Cause* cause, bint exhausted, const char* message) noexcept nogil:
    """The job is over: no transfer of it writes after this; tell Python."""
    cdef int lane
    cdef Job** link = &core.jobs
    cdef Transfer* transfer
    cdef Cause why
    memset(&why, 0, sizeof(why))
    if cause is not NULL:
        why = cause[0]              # may lie in a transfer that is freed below
    cdef Event* event = job.last_event
    job.last_event = NULL
    event.text = strdup(message) if message is not NULL and message[0] else NULL
    for lane in range(job.limit if job.transfers is not NULL else 0):
        transfer = lane_of(job, lane)
        if transfer.phase != IDLE:
            stop(core, transfer)
            if job.ground is not NULL and transfer.writer.ground is not NULL:
                ground_lock(job.ground)
                if writer_sync(&transfer.writer) and why.kind == NONE:
                    why.kind = SINK
                    why.code = job.ground.error
                ground_unlock(job.ground)
        transfer_free(transfer)
    free(job.transfers)
    job.transfers = NULL
    job.state = ENDED
    if job.ground is not NULL:
        ground_close(job.ground)
    while link[0] is not NULL and link[0] is not job:
        link = &link[0].next
    if link[0] is job:
        link[0] = job.next
        core.bucket.jobs -= job.bucket is not NULL
    event.job = job.id
    event.kind = FINISHED
    event.cause = why
    event.exhausted = exhausted
    event.number = job.attempts
    event.start = event.stop = event.total = -1
    mailbox_post(&core.events, event)       # the last touch: Python may free the job now


cdef void stop(Core* core, Transfer* transfer) noexcept nogil:
    if transfer.phase != IDLE:
        core.active -= 1
    transfer_stop(transfer, core.multi)


# --- commands -----------------------------------------------------------------------------

cdef void adopt(Core* core, Job* job) noexcept nogil:
    """ADD: take a job over."""
    cdef Job** link = &core.jobs
    job_take_request(job)
    job.progressed = job.born = job.stumbled = core.now
    job.state = RESOLVING
    job.next = NULL
    if job.trace:
        job.traced = &core.events
    job.spares = &core.spares
    if job.limit_rate > 0:
        job.bucket = &core.bucket
        if core.bucket.jobs == 0:
            core.bucket.filled = core.now
        core.bucket.jobs += 1
    if job.auto_:
        control_init(&job.control, min(job.start, job.limit), job.limit)
        job.seats = job.control.target
    while link[0] is not NULL:
        link = &link[0].next
    link[0] = job
    if job.answer.ground is not NULL:       # its target is known already
        if seat(job):
            begin(core, job)
        else:
            out_of_memory(core, job)


cdef void begin(Core* core, Job* job) noexcept nogil:
    """ANSWER_BEGIN: there is ground. Make the plan, let the first body land."""
    cdef Transfer* first = lane_of(job, 0)
    cdef int64_t size, stop_
    cdef int64_t* cuts
    cdef int i
    job_take_target(job)
    size = job.ground.size
    if size < 0:                        # a stream: until it ends, or the caller has enough
        size = UNBOUNDED if job.spans[0].stop < 0 else job.spans[0].stop - job.spans[0].start
    cuts = <int64_t*>malloc(job.nspans * sizeof(int64_t))
    if cuts is not NULL:
        for i in range(1, job.nspans):
            cuts[i - 1] = job.spans[i].at
    if cuts is NULL or plan_init(&job.plan, size, job.block, UNBOUNDED if job.stream else job.part_size,
                                 job.limit, cuts, job.nspans - 1) < 0:
        free(cuts)
        out_of_memory(core, job)
        return
    free(cuts)
    job.plan.window = job.ground.capacity if job.ground.ring else 0
    job.ground.orderly = job.nspans == 1 and job.part_size % job.block == 0
    if (size > 0 and not job.stream and atomic_get(&job.ground.landed) > 0
            and plan_resume(&job.plan, job.ground.filled, job.ground.nblocks) < 0):
        out_of_memory(core, job)
        return
    job.seen = atomic_get(&job.ground.landed)
    job.planned = job.proven = True
    job.progressed = core.now
    job.state = LANDING
    if size == 0:
        end(core, job, NULL, False, NULL)
        return
    if first.phase != WAITING:
        return                          # its response had no body: start over
    stop_ = size if job.stream else min(first.body_stop, size)
    if job.stream:
        first.start = 0                 # whatever range was asked for
    if not plan_adopt(&job.plan, 0, first.start, stop_):
        stop(core, first)               # it brings what is in place, or what nobody wants
        return
    first.stop = job.plan.lanes[0].stop
    part_with_last(job, first)
    first.phase = COPYING
    first.marked = core.now
    if job.stream:
        first.skip = job.spans[0].start
    if begin_writing(first) == 0:
        curl_easy_pause(first.easy, CURLPAUSE_CONT)
    else:
        end(core, job, &first.fault, False, NULL)


cdef bint known(Core* core, const Command* command) noexcept nogil:
    """Whether the command's job is one of ours still."""
    cdef Job* job = core.jobs
    while job is not NULL:
        if job is command.job and job.id == command.id:
            return True
        job = job.next
    return False


cdef void obey(Core* core) noexcept nogil:
    cdef Command* command
    cdef Command* gone
    cdef Cause cause
    pthread_mutex_lock(&core.lock)
    command = core.head
    core.head = core.tail = NULL
    pthread_mutex_unlock(&core.lock)
    while command is not NULL:
        if command.order == QUIT:
            core.quit = True
        elif command.order == ADD:
            adopt(core, command.job)
        elif not known(core, command):
            pass                        # it ended before the command came
        elif command.order == ANSWER_REQUEST:
            job_take_request(command.job)
            command.job.state = RESOLVING
        elif command.order == ANSWER_BEGIN:
            begin(core, command.job)
        elif command.order == CANCEL:
            memset(&cause, 0, sizeof(cause))
            cause.kind = CANCELLED
            end(core, command.job, &cause, False, NULL)
        gone, command = command, command.next
        free(gone)


# --- the loop -----------------------------------------------------------------------------

cdef void* run(void* argument) noexcept nogil:
    cdef Core* core = <Core*>argument
    cdef CURLMsg* message
    cdef Transfer* transfer
    cdef Job* job
    cdef Job* following
    cdef int running = 0, left = 0
    cdef int64_t moved
    cdef double before, after, seen = 0.0
    cdef Cause cause
    while True:
        core.now = monotonic()
        obey(core)
        if core.quit:
            break
        pour(core)
        curl_multi_perform(core.multi, &running)
        core.now = monotonic()
        moved = 0
        while True:
            message = curl_multi_info_read(core.multi, &left)
            if message is NULL:
                break
            if message.msg == CURLMSG_DONE:
                curl_easy_getinfo(message.easy_handle, CURLINFO_PRIVATE, &transfer)
                reap(core, transfer, message_result(message))
        job = core.jobs
        while job is not NULL:
            following = job.next
            moved += job.moved
            job.moved = 0
            look_after(core, job)
            job = following
        hand_out(core)
        before = monotonic()
        if moved >= TRICKLE and core.idle > AT_REST:
            nap(NAP)
        curl_multi_poll(core.multi, NULL, 0, patience(core), NULL)
        after = monotonic()
        core.idle += (after - before - core.idle * (after - seen)) / max(after - seen, LATELY)
        seen = after
    memset(&cause, 0, sizeof(cause))
    cause.kind = CANCELLED
    while core.jobs is not NULL:
        end(core, core.jobs, &cause, False, NULL)
    mailbox_close(&core.events)
    return NULL


# --- Python's side --------------------------------------------------------------------------

cdef int64_t reactors = 0


def live_reactors():
    """How many reactor threads run, for the leak gate."""
    return atomic_get(&reactors)


cdef class Reactor:
    """A thread that fetches. `limit`: connections over all of its jobs.

    Every method may be called from any thread. `wait` belongs to one thread, the
    Client's notifier."""
    cdef Core* core

    def __cinit__(self, int limit):
        cdef long buffer_size = 1 << 20
        if limit < 1:
            raise ValueError("limit must be at least 1")
        self.core = <Core*>calloc(1, sizeof(Core))
        if self.core is NULL:
            raise MemoryError
        pthread_mutex_init(&self.core.lock, NULL)
        mailbox_init(&self.core.events)
        self.core.limit = limit
        self.core.spares.block = BLOCK
        self.core.dice = <uint64_t>(monotonic() * 1e9)
        if curl_version_info(CURLVERSION_NOW).version_num < 0x080700:
            # One buffer a handle then, not one a multi: bound their sum.
            buffer_size = min(max((16 << 20) // limit, 256 << 10), 1 << 20)
        self.core.buffer_size = buffer_size
        self.core.multi = curl_multi_init()
        if self.core.multi is NULL:
            raise MemoryError
        curl_multi_setopt(self.core.multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, <long>limit)
        curl_multi_setopt(self.core.multi, CURLMOPT_MAXCONNECTS, <long>limit)
        curl_multi_setopt(self.core.multi, CURLMOPT_PIPELINING, <long>0)
        if start_thread(&self.core.thread, run, self.core) != 0:
            raise RuntimeError("cannot start the reactor thread")
        atomic_add(&reactors, 1)

    cdef int send(self, Order order, JobHandle handle) except -1:
        cdef Command* command
        if self.core is NULL:
            raise RuntimeError("this reactor was closed")
        command = <Command*>calloc(1, sizeof(Command))
        if command is NULL:
            raise MemoryError
        command.order = order
        if handle is not None:
            command.job = &handle.job
            command.id = handle.job.id
        pthread_mutex_lock(&self.core.lock)
        if self.core.tail is NULL:
            self.core.head = command
        else:
            self.core.tail.next = command
        self.core.tail = command
        pthread_mutex_unlock(&self.core.lock)
        curl_multi_wakeup(self.core.multi)
        return 0

    def add(self, JobHandle handle not None):
        """Start a job. Keep the handle until its FINISHED event."""
        handle.submitted = True
        self.send(ADD, handle)

    def answer_request(self, JobHandle handle not None):
        self.send(ANSWER_REQUEST, handle)

    def answer_begin(self, JobHandle handle not None):
        self.send(ANSWER_BEGIN, handle)

    def cancel(self, JobHandle handle not None):
        """Ask for the end of a job; FINISHED tells when nothing writes any more."""
        self.send(CANCEL, handle)

    def poke(self):
        """Look again: a ground has more room, or a job more connections."""
        if self.core is not NULL:
            curl_multi_wakeup(self.core.multi)

    def wait(self, double seconds=-1.0):
        """Events as a list of dicts (see _job.mailbox_wait); blocks without the GIL."""
        return mailbox_wait(&self.core.events, seconds)

    def quit(self):
        """End all jobs and the thread; after it, wait() returns [None] at last."""
        self.send(QUIT, None)

    def join(self):
        """Wait for the thread and free everything. Nobody may be in wait()."""
        cdef Core* core = self.core
        with nogil:
            join_thread(core.thread)
        command = core.head
        while command is not NULL:
            gone, command = command, command.next
            free(gone)
        self.core = NULL
        atomic_add(&reactors, -1)
        with nogil:
            curl_multi_cleanup(core.multi)
            mailbox_free(&core.events)
            free(core.sockets.fds)
            spares_free(&core.spares)
            pthread_mutex_destroy(&core.lock)
            free(core)

    def abandon(self):
        """In a forked child, where the thread does not exist: close its sockets by
        descriptor and forget the rest, which only the parent may touch."""
        cdef int i
        if self.core is NULL:
            return
        for i in range(self.core.sockets.used):
            close(self.core.sockets.fds[i])
        self.core = NULL
        atomic_add(&reactors, -1)


# --- what libcurl knows ------------------------------------------------------------------------

def libcurl_version():
    """libcurl's own version line."""
    cdef const char* text = curl_version()
    return text[:strlen(text)].decode("ascii")


def libcurl_features():
    """The CURL_VERSION_* bits of what it was built with."""
    return curl_version_info(CURLVERSION_NOW).features


def libcurl_message(int code):
    cdef const char* text = curl_easy_strerror(<CURLcode>code)
    return text[:strlen(text)].decode("ascii")


def option_kind(int option):
    """(name, SETTING_* kind) of a CURLOPT number whose value is plain data, or None."""
    cdef const curl_easyoption* found = curl_easy_option_by_id(<CURLoption>option)
    if found is NULL:
        return None
    name = found.name[:strlen(found.name)].decode("ascii")
    kind = {CURLOT_LONG: 0, CURLOT_VALUES: 0, CURLOT_OFF_T: 1, CURLOT_STRING: 2, CURLOT_SLIST: 3}.get(found.type)
    return None if kind is None else (name, kind)


def option_number(str name):
    """The CURLOPT number of an option's name without CURLOPT_."""
    cdef bytes raw = name.encode("ascii")
    cdef const curl_easyoption* found = curl_easy_option_by_name(raw)
    if found is NULL:
        raise KeyError(name)
    return <int>found.id


if curl_global_init(CURL_GLOBAL_ALL) != 0:
    raise ImportError("libcurl's curl_global_init failed")
