"""One fetch as Python's control plane and the reactor share it."""
from libc.stdint cimport int64_t

from ._controller cimport Controller
from ._landing cimport Ground, Spares, pthread_cond_t, pthread_mutex_t
from ._planner cimport Plan


cdef enum State:
    RESOLVING       # no response accepted yet; at most one transfer
    ASKED           # waiting for Python's answer to REDIRECTED, HEADERS or STALE
    LANDING
    ENDED


cdef enum EventKind:
    REDIRECTED      # the resolving response is a redirect; answer: request()
    HEADERS         # the first good response; answer: begin()
    STALE           # the resolved request no longer works; answer: request()
    NOTE            # something worth telling; no answer
    TRACED          # one step of one connection, if the job is traced; no answer
    ADAPTED         # another number of connections; no answer
    DROPPED         # a source is used no more; no answer
    FINISHED        # the last event of a job: no transfer can write any more


cdef enum Step:         # of a connection; TRACED
    STEP_SENT
    STEP_FIRST
    STEP_ENDED
    STEP_STOLEN
    STEP_HEDGED
    STEP_STALLED
    STEP_FAILED
    STEP_REFUSED


cdef enum CauseKind:
    NONE
    CANCELLED
    TRANSPORT       # code: CURLcode
    STATUS          # code: HTTP status
    FLAWED          # code: Flaw, or one of the below
    OTHER_OBJECT
    RANGE_IGNORED
    SILENT          # nothing arrived for stall_timeout
    SINK            # code: errno
    TOO_LARGE       # response headers over the limit
    SURPLUS         # more or fewer bytes than the response said
    DIFFERENT       # a repeated stream differs from what has landed


cdef struct Cause:
    CauseKind kind
    int code
    int status              # of the response, or of a proxy's to CONNECT; 0 without one
    int offered             # CURLAUTH_* bits, with 407: how the proxy lets one show who one is


cdef struct Event:
    Event* next
    int64_t job
    EventKind kind
    Cause cause
    bint exhausted          # FINISHED: the cause was retried in vain
    int64_t start, stop, total
    int number              # NOTE: attempt; FINISHED: attempts made; TRACED: lane; ADAPTED: why; DROPPED: source
    double seconds          # NOTE: delay; TRACED: since the job began; ADAPTED: bytes per second
    char* text              # headers, location, message; malloc'd
    char* address           # the server's address; malloc'd


cdef struct Mailbox:        # reactor -> notifier
    pthread_mutex_t lock
    pthread_cond_t full
    Event* head
    Event* tail
    bint closed


cdef struct Span:           # the object's [start, stop) lies at offset `at` of the target
    int64_t at
    int64_t start
    int64_t stop            # -1: to the end


cdef struct Setting:        # one curl_easy_setopt
    int option
    int kind                # see SETTING_* in _job.pyx
    int64_t number
    char* text


cdef enum:
    MOST_SOURCES = 16


cdef struct Source:         # where else the object's bytes can be had
    # Constant once it is counted.
    char* url               # a mirror's; NULL: the job's own, at another address
    char* headers
    bint private_
    char* connect_to        # CURLOPT_CONNECT_TO, or NULL
    char* etag
    char* last_modified
    # The reactor's.
    bint dead
    int fails               # in a row
    int parts               # that were measured
    double rate             # of one connection, smoothed


cdef struct Bucket:         # what may still arrive of a limited rate; the reactor's
    double rate             # bytes per second, 0: unlimited
    double tokens
    double filled           # when
    int jobs                # that it is for


cdef struct Answer:         # Python's, until the reactor takes it over
    char* url
    char* headers           # lines
    bint private_           # credentials may be sent: settings marked so apply
    int generation
    Ground* ground
    int64_t total           # of the object, -1 unknown
    char* etag
    char* last_modified
    bint stream             # one response holds it all


cdef struct Job:
    int64_t id
    Job* next               # the reactor's list
    Answer answer
    Event* last_event       # set aside, so that FINISHED never lacks memory
    # Constant once submitted.
    Setting* settings
    int nsettings
    Span* spans
    int nspans
    int limit               # connections
    int retries
    double retry_for
    double stall_timeout
    int64_t part_size
    int64_t first_part
    int64_t first_start     # where the first request begins, offset of the target
    bint steal
    bint hedge              # ask anew for what a connection is far too slow with
    bint renews             # its source may make a request anew that has never worked; once
    bint auto_              # the number of connections is found by the controller
    int start               # its first number
    double limit_rate       # bytes per second, 0: unlimited
    bint trace
    # Taken over from the answer; the reactor's own from here on.
    char* url
    char* headers
    bint private_
    int generation
    Ground* ground
    int64_t block           # the ground's
    int64_t total
    char* etag
    char* last_modified
    bint stream
    Plan plan
    State state
    bint planned
    bint proven             # the current generation has answered with bytes
    bint plain              # ask without Range
    bint unmatched          # If-Match is of no use here
    bint pinnable           # `address` is the server's, not a proxy's
    bint pinned             # stay with `address`
    bint complete           # a stream has ended as it should
    int seats               # connections in use at most, <= limit
    int fails               # failed attempts since the last good one
    int early               # of those the last in a row that gain nothing by many tries
    int attempts            # failed attempts altogether
    double progressed       # when a byte last landed
    double failed           # when a failure last counted
    int64_t copied          # body bytes that were landed for good
    int64_t copied_stumbled  # `copied` when an attempt last failed
    int64_t copied_failed   # `copied` when a failure last counted
    double published        # when readers were last told of less than a block
    double refused          # when the server last refused a connection
    double not_before       # backoff of the whole job
    int64_t seen            # landed bytes at that time
    double handshake        # seconds, smoothed
    double born             # when the reactor took it over
    double stumbled         # when an attempt last failed
    double patience         # how often over the usual time a connection may be quiet: doubles with each hedge
    double ticked           # when the controller last looked
    Controller control
    Bucket* bucket          # NULL: unlimited
    Spares* spares          # the reactor's
    int64_t moved           # bytes received in this pass of the reactor's loop
    Mailbox* traced         # NULL: nobody wants to know
    Source home             # what is measured of the job's own address
    void* transfers
    char* address
    # Written by any thread.
    int64_t following       # somebody reads along the front
    int64_t allowed         # connections at most by the leave of others, -1: any number
    int64_t parting         # a connection that is not needed any more is closed at once
    # Python appends, then counts; nothing is ever taken out.
    Source[MOST_SOURCES] sources
    int64_t nsources
    # Read by any thread.
    int64_t requests
    int64_t connections     # opened
    int64_t active
    int64_t failures
    int64_t steals
    int64_t hedges
    int64_t wasted          # bytes received twice or thrown away
    int64_t peak            # most active at once
    int64_t underway        # bytes received, not yet counted by the ground


cdef int mailbox_init(Mailbox* box) noexcept nogil
cdef void mailbox_post(Mailbox* box, Event* event) noexcept nogil
cdef void mailbox_close(Mailbox* box) noexcept nogil
cdef list mailbox_wait(Mailbox* box, double seconds)
cdef void mailbox_free(Mailbox* box) noexcept nogil


cdef Event* new_event(const Job* job, EventKind kind) noexcept nogil
cdef void job_trace(Job* job, int lane, Step what, int64_t start, int64_t stop) noexcept nogil
cdef void job_take_request(Job* job) noexcept nogil
cdef void job_take_target(Job* job) noexcept nogil


cdef class JobHandle:
    cdef Job job
    cdef readonly object landing
    cdef readonly bint submitted
    cdef bint ended
