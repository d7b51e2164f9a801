"""What one response is worth: status + headers -> verdict."""
from libc.stdint cimport int64_t


cdef enum Kind:
    LAND            # 206: land [start, stop)
    STREAM          # 200 to the first request: land from offset 0 of the object
    EMPTY           # there are no bytes where we asked
    MOVED           # 3xx
    PLAIN           # this range is not to be had; ask once without Range
    AGAIN           # a passing failure: back off and try again
    EXPIRED         # 401, 403, 410: the resolved request may be stale
    MISSING         # 404
    MATCH_FAILED    # 412
    EDGE            # another edge node's ETag for what seems the same object
    CHANGED         # another object than the one begun
    IGNORED         # 200 to a later range request: never landed
    REFUSED         # any other status: final
    BROKEN          # what the server says contradicts itself or the request


cdef enum Flaw:
    NO_FLAW
    NO_CONTENT_RANGE
    BAD_CONTENT_RANGE
    WRONG_START
    BEYOND_PART
    TOTAL_UNKNOWN
    LENGTH_MISMATCH
    ENCODED
    MULTIPART
    NO_VALIDATOR
    BAD_LENGTH
    TOTAL_DIFFERS


cdef struct Headers:        # NULL where absent
    const char* content_range
    const char* content_length
    const char* content_encoding
    const char* content_type
    const char* etag
    const char* last_modified
    const char* retry_after
    bint twice              # Content-Range occurs more than once
    bint encoded_twice      # Content-Encoding does


cdef struct Expect:
    int64_t start           # asked [start, stop) of the object; start < 0: no Range sent
    int64_t stop
    int64_t total           # -1 while unknown
    bint first              # nothing was accepted yet
    const char* etag        # the target's validator, NULL where it has none
    const char* last_modified


cdef struct Verdict:
    Kind kind
    Flaw flaw
    int64_t start           # the body covers [start, stop); stop = -1: until it ends
    int64_t stop
    int64_t total           # -1: not said
    bint measured           # the body's length is stated, so libcurl counts it
    double retry_after      # seconds from now, -1 when not said
    int64_t retry_at        # seconds since 1970, -1 when not said


cdef void judge(int status, const Headers* headers, const Expect* expect,
                Verdict* verdict) noexcept nogil
