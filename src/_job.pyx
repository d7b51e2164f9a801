"""A job: one fetch, as Python's control plane and the reactor share it.

Knows no libcurl: a setting is a number and a value. Python creates a job, hands
it to the reactor, and from then on only answers its questions. An answer is
written to `job.answer`, which the reactor does not read until the command that
follows it; the command queue's lock orders the two sides. The last event
of a job is FINISHED; before it the handle must not be freed (the Client keeps
it in a table until then).
"""
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset, strlen, memcpy

from ._landing cimport Landing
from ._planner cimport plan_free
from .atomics cimport atomic_add, atomic_get, atomic_publish, atomic_set

cdef extern from "<pthread.h>" nogil:
    int pthread_mutex_init(pthread_mutex_t*, void*)
    int pthread_mutex_destroy(pthread_mutex_t*)
    int pthread_mutex_lock(pthread_mutex_t*)
    int pthread_mutex_unlock(pthread_mutex_t*)
    int pthread_cond_destroy(pthread_cond_t*)
    int pthread_cond_signal(pthread_cond_t*)

cdef extern from "waiting.h" nogil:
    int cond_init(pthread_cond_t*)
    int cond_wait(pthread_cond_t*, pthread_mutex_t*, double seconds)
    double monotonic()

SETTING_LONG, SETTING_OFF_T, SETTING_STRING, SETTING_SLIST = range(4)
SETTING_PRIVATE = 8                 # or-ed in: only for the origin of the credentials
SETTING_HTTP, SETTING_HTTPS = 16, 32    # or-ed in: only for addresses of this scheme

EVENT_KINDS = ("redirected", "headers", "stale", "note", "traced", "adapted", "dropped", "finished")
STEPS = ("sent", "first", "ended", "stolen", "hedged", "stalled", "failed", "refused")
CAUSE_KINDS = ("", "cancelled", "transport", "status", "flawed", "other_object", "range_ignored",
               "silent", "sink", "too_large", "surplus", "different")

cdef int64_t handles = 0


def live_jobs():
    """How many JobHandles exist, for the leak gate."""
    return atomic_get(&handles)


cdef int mailbox_init(Mailbox* box) noexcept nogil:
    memset(box, 0, sizeof(Mailbox))
    return pthread_mutex_init(&box.lock, NULL) or cond_init(&box.full)


cdef void mailbox_post(Mailbox* box, Event* event) noexcept nogil:
    event.next = NULL
    pthread_mutex_lock(&box.lock)
    if box.tail is NULL:
        box.head = event
    else:
        box.tail.next = event
    box.tail = event
    pthread_cond_signal(&box.full)
    pthread_mutex_unlock(&box.lock)


cdef void mailbox_close(Mailbox* box) noexcept nogil:
    pthread_mutex_lock(&box.lock)
    box.closed = True
    pthread_cond_signal(&box.full)
    pthread_mutex_unlock(&box.lock)


cdef void mailbox_free(Mailbox* box) noexcept nogil:
    cdef Event* event = box.head
    cdef Event* gone
    while event is not NULL:
        gone, event = event, event.next
        free(gone.text)
        free(gone.address)
        free(gone)
    pthread_cond_destroy(&box.full)
    pthread_mutex_destroy(&box.lock)


cdef object text_of(const char* text):
    return None if text is NULL else text[:strlen(text)].decode("latin-1")


cdef list mailbox_wait(Mailbox* box, double seconds):
    """All waiting events, oldest first, as dicts; [None] once the box is closed
    and empty."""
    cdef Event* event
    cdef Event* gone
    cdef bint closed
    with nogil:
        pthread_mutex_lock(&box.lock)
        if box.head is NULL and not box.closed:
            cond_wait(&box.full, &box.lock, seconds)
        event = box.head
        box.head = box.tail = NULL
        closed = box.closed
        pthread_mutex_unlock(&box.lock)
    out = []
    while event is not NULL:
        out.append({
            "job": event.job, "kind": EVENT_KINDS[<int>event.kind],
            "cause": CAUSE_KINDS[<int>event.cause.kind], "code": event.cause.code,
            "status": event.cause.status, "offered": event.cause.offered,
            "exhausted": bool(event.exhausted),
            "start": event.start, "stop": event.stop, "total": event.total,
            "number": event.number, "seconds": event.seconds,
            "text": text_of(event.text), "address": text_of(event.address)})
        gone, event = event, event.next
        free(gone.text)
        free(gone.address)
        free(gone)
    return [None] if closed and not out else out


cdef Event* new_event(const Job* job, EventKind kind) noexcept nogil:
    """One to fill in and post; NULL without memory."""
    cdef Event* event = <Event*>calloc(1, sizeof(Event))
    if event is not NULL:
        event.job = job.id
        event.kind = kind
        event.number = job.attempts
        event.start = event.stop = event.total = -1
    return event


cdef void job_trace(Job* job, int lane, Step what, int64_t start, int64_t stop) noexcept nogil:
    """Reactor: tell of one step of a connection; without memory it is not told."""
    cdef Event* event
    if job.traced is NULL:
        return
    event = new_event(job, TRACED)
    if event is NULL:
        return
    event.cause.code = what
    event.number = lane
    event.start, event.stop = start, stop
    event.total = atomic_get(&job.active)
    event.seconds = monotonic() - job.born
    mailbox_post(job.traced, event)


cdef void job_take_request(Job* job) noexcept nogil:
    """Reactor: the answer's request becomes the job's."""
    free(job.url)
    free(job.headers)
    job.url, job.headers = job.answer.url, job.answer.headers
    job.answer.url = job.answer.headers = NULL
    job.private_ = job.answer.private_
    job.generation = job.answer.generation
    job.proven = False


cdef void job_take_target(Job* job) noexcept nogil:
    """Reactor: the answer's target becomes the job's."""
    job.ground = job.answer.ground
    job.block = job.ground.block
    job.total = job.answer.total
    job.etag, job.last_modified = job.answer.etag, job.answer.last_modified
    job.answer.etag = job.answer.last_modified = NULL
    job.stream = job.answer.stream


cdef char* duplicate(object value) except? NULL:
    """A malloc'd copy of a str or bytes; NULL for None."""
    cdef bytes raw
    cdef char* copy
    if value is None:
        return NULL
    raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
    if b"\0" in raw:
        raise ValueError("a text for libcurl must not contain NUL")
    copy = <char*>malloc(len(raw) + 1)
    if copy is NULL:
        raise MemoryError
    memcpy(copy, <const char*>raw, len(raw) + 1)
    return copy


cdef class JobHandle:
    """Everything the reactor needs to know of one fetch.

    `settings`: (option number, SETTING_* kind, value) each; `spans`: the object's
    (start, stop) ranges in target order, stop None for its end; `direct`: no proxy;
    `renews`: STALE is told also of a first request that is refused, once;
    `start`: connections to begin with, where the reactor finds their number (0: `limit`
    from the beginning); `limit_rate`: bytes per second, 0 for no limit."""

    def __cinit__(self, int64_t id, *, settings=(), spans=((0, None),), int limit=8, int retries=10,
                  double retry_for=600.0, double stall_timeout=30.0,
                  int64_t part_size=0, int64_t first_part=4 << 20, int64_t first_start=0, bint steal=True,
                  bint hedge=True, bint renews=False, bint direct=True, int start=0, double limit_rate=0.0, bint trace=False):
        cdef int i
        cdef int64_t at = 0
        atomic_add(&handles, 1)
        memset(&self.job, 0, sizeof(Job))
        self.job.id = id
        self.job.limit = self.job.seats = limit
        self.job.retries = retries
        self.job.retry_for = retry_for
        self.job.stall_timeout = stall_timeout
        self.job.part_size = part_size
        self.job.first_part = first_part
        self.job.first_start = first_start
        self.job.steal = steal
        self.job.hedge = hedge
        self.job.renews = renews
        self.job.auto_ = start > 0
        self.job.start = start
        self.job.limit_rate = limit_rate
        self.job.trace = trace
        self.job.patience = 1.0
        self.job.pinnable = direct
        self.job.total = self.job.allowed = -1
        self.job.settings = <Setting*>calloc(len(settings) + 1, sizeof(Setting))
        self.job.spans = <Span*>calloc(len(spans) + 1, sizeof(Span))
        self.job.last_event = <Event*>calloc(1, sizeof(Event))
        if self.job.settings is NULL or self.job.spans is NULL or self.job.last_event is NULL:
            raise MemoryError
        self.job.nsettings = len(settings)
        for i, (option, kind, value) in enumerate(settings):
            self.job.settings[i].option = option
            self.job.settings[i].kind = kind
            if kind & 7 in (SETTING_LONG, SETTING_OFF_T):
                self.job.settings[i].number = value
            else:
                self.job.settings[i].text = duplicate(value)
        self.job.nspans = len(spans)
        for i, (start, stop) in enumerate(spans):
            self.job.spans[i].at = at
            self.job.spans[i].start = start
            self.job.spans[i].stop = -1 if stop is None else stop
            if stop is not None:
                at += stop - start

    def __dealloc__(self):
        cdef int i
        atomic_add(&handles, -1)
        if self.submitted and not self.ended:
            return              # the reactor still uses it: a leak is better than a crash
        if self.job.settings is not NULL:
            for i in range(self.job.nsettings):
                free(self.job.settings[i].text)
        free(self.job.settings)
        free(self.job.spans)
        free(self.job.last_event)
        free(self.job.url)
        free(self.job.headers)
        free(self.job.etag)
        free(self.job.last_modified)
        free(self.job.answer.url)
        free(self.job.answer.headers)
        free(self.job.answer.etag)
        free(self.job.answer.last_modified)
        free(self.job.address)
        for i in range(MOST_SOURCES):
            free(self.job.sources[i].url)
            free(self.job.sources[i].headers)
            free(self.job.sources[i].connect_to)
            free(self.job.sources[i].etag)
            free(self.job.sources[i].last_modified)
        plan_free(&self.job.plan)

    def request(self, url, headers, *, bint private, int generation):
        """Set the request: before submission, or as the answer to REDIRECTED or STALE
        (then Reactor.answer_request must follow). `headers`: 'Name: value' texts."""
        cdef Answer* answer = &self.job.answer
        free(answer.url)
        free(answer.headers)
        answer.url = answer.headers = NULL
        answer.url = duplicate(url)
        answer.headers = duplicate("\n".join(headers))
        answer.private_ = private
        answer.generation = generation

    def begin(self, Landing landing, *, int64_t total, etag=None, last_modified=None,
              bint stream=False, bint followed=False):
        """Set the target, the answer to HEADERS (Reactor.answer_begin must follow).
        `total`: size of the object, -1 unknown."""
        cdef Answer* answer = &self.job.answer
        self.landing = landing
        answer.ground = &landing.ground
        answer.total = total
        answer.etag = duplicate(etag)
        answer.last_modified = duplicate(last_modified)
        answer.stream = stream
        if followed:
            self.follow()

    def follow(self):
        """Somebody reads along the front: from now on parts are short, and a file's bytes
        go through the page cache."""
        atomic_set(&self.job.following, 1)
        if self.landing is not None:
            (<Landing>self.landing).stay_cached()

    def add_source(self, url=None, headers=(), *, bint private=False, connect_to=None, etag=None, last_modified=None):
        """The bytes can be had there as well: from a mirror that was proven to hold the
        same object, or (no `url`) from another address of the same host, as
        CURLOPT_CONNECT_TO wants it. False: there are enough. One thread at a time."""
        cdef int64_t index = atomic_get(&self.job.nsources)
        cdef Source* source
        if index == MOST_SOURCES:
            return False
        source = &self.job.sources[index]
        source.url = duplicate(url)
        source.headers = duplicate("\n".join(headers))
        source.private_ = private
        source.connect_to = duplicate(connect_to)
        source.etag = duplicate(etag)
        source.last_modified = duplicate(last_modified)
        atomic_publish(&self.job.nsources, index + 1)
        return True

    def allow(self, int connections, *, bint parting=True):
        """At most so many connections from now on; 0: begin nothing new. parting: somebody else waits
        for each connection that is not needed any more, so that it is closed at once."""
        atomic_set(&self.job.parting, parting)
        atomic_set(&self.job.allowed, connections)

    @property
    def id(self):
        return self.job.id

    def finished(self):
        """FINISHED was seen: the reactor has let go of the job."""
        self.ended = True

    def counters(self):
        """What happened so far, as a dict of whole numbers; see Job."""
        cdef Job* job = &self.job
        return {
            "requests": atomic_get(&job.requests), "opened": atomic_get(&job.connections),
            "active": atomic_get(&job.active), "peak": atomic_get(&job.peak),
            "failures": atomic_get(&job.failures), "steals": atomic_get(&job.steals),
            "hedges": atomic_get(&job.hedges), "wasted": atomic_get(&job.wasted),
            "underway": atomic_get(&job.underway)}
