"""The judge of responses: may these bytes land, and where?

Pure: no libcurl, no clock, no allocation. libcurl alone returns OK with wrong
bytes in a third of the hostile cases that the field has met (a 200 for a range,
a 206 at another offset, gzip over a slice, multipart…), so every response is
judged here before its first byte lands. What cannot be proven is not accepted.

The rule for a 206: Content-Range starts exactly where we asked, ends within the
part, states the total we know; the length agrees; the bytes are not encoded; the
validator is the target's. A shorter range than asked is legal.
"""
from libc.stdint cimport int64_t
from libc.string cimport memset, strchr, strcmp, strlen, strncasecmp, strncmp

cdef int64_t LIMIT = <int64_t>1 << 60       # offsets beyond are nonsense


cdef inline const char* skip_spaces(const char* text) noexcept nogil:
    while text[0] == c' ' or text[0] == c'\t':
        text += 1
    return text


cdef inline bint whole_number(const char* text, int64_t* value) noexcept nogil:
    """A number and nothing else."""
    text = number(skip_spaces(text), value)
    return text is not NULL and skip_spaces(text)[0] == 0


cdef inline const char* number(const char* text, int64_t* value) noexcept nogil:
    """Read decimal digits; NULL when there are none, or too many to be true."""
    cdef int64_t n = 0
    if not c'0' <= text[0] <= c'9':
        return NULL
    while c'0' <= text[0] <= c'9':
        if n > LIMIT // 10:
            return NULL
        n = n * 10 + (text[0] - c'0')
        if n > LIMIT:
            return NULL
        text += 1
    value[0] = n
    return text


cdef bint content_range(const char* text, int64_t* start, int64_t* stop, int64_t* total) noexcept nogil:
    """Parse `bytes a-b/t`, `bytes a-b/*` or `bytes */t`; -1 stands for the `*`s."""
    cdef int64_t last
    text = skip_spaces(text)
    if strncasecmp(text, b"bytes", 5) != 0:
        return False
    text = skip_spaces(text + 5)
    if text[0] == c'=' or text[0] == c':':      # seen in the wild, harmless
        text = skip_spaces(text + 1)
    start[0] = stop[0] = total[0] = -1
    if text[0] == c'*':
        text += 1
    else:
        text = number(text, start)
        if text is NULL or text[0] != c'-':
            return False
        text = number(text + 1, &last)
        if text is NULL or last < start[0]:
            return False
        stop[0] = last + 1
    text = skip_spaces(text)
    if text[0] != c'/':
        return False
    text = skip_spaces(text + 1)
    if text[0] == c'*':
        text += 1
    else:
        text = number(text, total)
        if text is NULL or total[0] < stop[0]:
            return False
    return skip_spaces(text)[0] == 0


cdef bint identity(const char* encoding) noexcept nogil:
    if encoding is NULL:
        return True
    encoding = skip_spaces(encoding)
    if strncasecmp(encoding, b"identity", 8) == 0:
        encoding = skip_spaces(encoding + 8)
    return encoding[0] == 0


cdef inline bint weak(const char* etag) noexcept nogil:
    return strncmp(etag, b"W/", 2) == 0


cdef inline const char* opaque(const char* etag) noexcept nogil:
    return etag + 2 if weak(etag) else etag


cdef bint same_date(const Headers* headers, const Expect* expect) noexcept nogil:
    return (headers.last_modified is not NULL and expect.last_modified is not NULL
            and strcmp(headers.last_modified, expect.last_modified) == 0)


cdef void compare(const Headers* headers, const Expect* expect, Verdict* verdict) noexcept nogil:
    """Turn a LAND or STREAM verdict into EDGE, CHANGED or BROKEN unless the
    response's validator is the target's."""
    cdef bint agrees
    if expect.total >= 0 and verdict.total >= 0 and verdict.total != expect.total:
        verdict.kind = CHANGED
        if expect.etag is not NULL and headers.etag is not NULL and strcmp(headers.etag, expect.etag) == 0:
            verdict.kind = BROKEN           # the same version can't have two lengths
            verdict.flaw = TOTAL_DIFFERS
        return
    if expect.etag is not NULL and headers.etag is not NULL:
        # A strong tag is itself or another one; of a weak one the opaque part counts.
        if weak(expect.etag):
            agrees = strcmp(opaque(headers.etag), opaque(expect.etag)) == 0
        else:
            agrees = strcmp(headers.etag, expect.etag) == 0
        if agrees and weak(expect.etag) and expect.last_modified is not NULL:
            agrees = same_date(headers, expect)
            if not agrees:
                verdict.kind = CHANGED
                return
        if not agrees:
            verdict.kind = EDGE if same_date(headers, expect) else CHANGED
        return
    if expect.etag is not NULL or expect.last_modified is not NULL:
        if headers.last_modified is NULL or expect.last_modified is NULL:
            verdict.kind = BROKEN
            verdict.flaw = NO_VALIDATOR
        elif not same_date(headers, expect):
            verdict.kind = CHANGED


cdef void flawed(Flaw flaw, const Expect* expect, Verdict* verdict) noexcept nogil:
    """A 206 that can't be used. To the first request: see whether the server does
    better without a range; later: it is broken."""
    verdict.kind = PLAIN if expect.first and expect.start >= 0 else BROKEN
    verdict.flaw = flaw


cdef void judge_partial(const Headers* headers, const Expect* expect, Verdict* verdict) noexcept nogil:
    cdef int64_t length = -1
    verdict.kind = LAND
    if headers.content_type is not NULL and strncasecmp(headers.content_type, b"multipart/", 10) == 0:
        flawed(MULTIPART, expect, verdict)
        return
    if headers.encoded_twice or not identity(headers.content_encoding):
        flawed(ENCODED, expect, verdict)
        return
    if headers.content_range is NULL:
        flawed(NO_CONTENT_RANGE, expect, verdict)
        return
    if headers.twice or not content_range(headers.content_range, &verdict.start, &verdict.stop, &verdict.total):
        flawed(BAD_CONTENT_RANGE, expect, verdict)
        return
    if expect.start < 0 or verdict.start != expect.start:
        flawed(WRONG_START, expect, verdict)
        return
    if verdict.stop > expect.stop:
        flawed(BEYOND_PART, expect, verdict)
        return
    if headers.content_length is not NULL:
        if not whole_number(headers.content_length, &length) or length != verdict.stop - verdict.start:
            flawed(LENGTH_MISMATCH, expect, verdict)
            return
        verdict.measured = True
    if expect.first and verdict.total < 0 and expect.total < 0:
        flawed(TOTAL_UNKNOWN, expect, verdict)
        return
    compare(headers, expect, verdict)


cdef void judge_whole(const Headers* headers, const Expect* expect, Verdict* verdict) noexcept nogil:
    verdict.start = 0
    verdict.stop = -1
    if not expect.first and expect.start >= 0:
        verdict.kind = IGNORED
        return
    verdict.kind = STREAM
    if headers.encoded_twice or not identity(headers.content_encoding):
        verdict.kind = BROKEN
        verdict.flaw = ENCODED
        return
    if headers.content_length is not NULL:
        if not whole_number(headers.content_length, &verdict.total):
            verdict.total = -1
            verdict.kind = BROKEN
            verdict.flaw = BAD_LENGTH
            return
        verdict.stop = verdict.total
        verdict.measured = True
    compare(headers, expect, verdict)
    if verdict.kind == STREAM and verdict.total == 0:
        verdict.kind = EMPTY


cdef void judge_unsatisfiable(const Headers* headers, const Expect* expect, Verdict* verdict) noexcept nogil:
    if not expect.first:
        verdict.kind = AGAIN
    else:
        verdict.kind = PLAIN if expect.start >= 0 else REFUSED
    if headers.content_range is not NULL and content_range(
            headers.content_range, &verdict.start, &verdict.stop, &verdict.total):
        if verdict.total >= 0 and expect.total >= 0 and verdict.total != expect.total:
            verdict.kind = CHANGED
        elif verdict.total >= 0 and expect.first and verdict.total <= expect.start:
            verdict.kind = EMPTY            # of the object nothing lies where we asked


cdef void judge(int status, const Headers* headers, const Expect* expect,
                Verdict* verdict) noexcept nogil:
    """Fill `verdict` for one response. Never fails."""
    memset(verdict, 0, sizeof(Verdict))
    verdict.start = verdict.stop = verdict.total = -1
    verdict.retry_after = -1.0
    verdict.retry_at = -1
    if headers.retry_after is not NULL:
        retry_after(headers.retry_after, verdict)
    if status == 206:
        judge_partial(headers, expect, verdict)
    elif status == 200 or status == 203:
        judge_whole(headers, expect, verdict)
    elif status == 204:
        verdict.kind = EMPTY if expect.first else AGAIN
        verdict.total = 0
    elif status == 416:
        judge_unsatisfiable(headers, expect, verdict)
    elif 300 <= status < 400:
        verdict.kind = MOVED
    elif status in (401, 403, 410):
        verdict.kind = EXPIRED
    elif status == 404:
        verdict.kind = MISSING
    elif status == 412:
        verdict.kind = MATCH_FAILED
    elif status in (408, 421, 425, 429) or (500 <= status < 600 and status not in (501, 505)):
        verdict.kind = AGAIN
    else:
        verdict.kind = REFUSED
    # Some servers refuse ranges with 400, 403 or 501 and serve the whole object.
    if expect.first and expect.start >= 0 and status in (400, 403, 501):
        verdict.kind = PLAIN


cdef void retry_after(const char* text, Verdict* verdict) noexcept nogil:
    """Seconds, or an HTTP date (RFC 9110 IMF-fixdate). Not strptime: that
    depends on the process's locale."""
    cdef int64_t day, year, hour, minute, second, value = 0
    cdef int month
    cdef const char* names = b"JanFebMarAprMayJunJulAugSepOctNovDec"
    cdef const char* rest
    text = skip_spaces(text)
    rest = number(text, &value)
    if rest is not NULL:
        if skip_spaces(rest)[0] == 0:
            verdict.retry_after = <double>value
        return
    text = strchr(text, c',')
    if text is NULL or strlen(text) < 25:       # ", 21 Oct 2015 07:28:00 GMT"
        return
    rest = number(skip_spaces(text + 1), &day)
    if rest is NULL:
        return
    rest = skip_spaces(rest)
    if strlen(rest) < 17:
        return
    month = 0
    while month < 12 and strncmp(rest, names + 3 * month, 3) != 0:
        month += 1
    if month == 12:
        return
    rest = number(skip_spaces(rest + 3), &year)
    if rest is NULL:
        return
    rest = number(skip_spaces(rest), &hour)
    if rest is NULL or rest[0] != c':':
        return
    rest = number(rest + 1, &minute)
    if rest is NULL or rest[0] != c':':
        return
    rest = number(rest + 1, &second)
    if rest is NULL or strcmp(skip_spaces(rest), b"GMT") != 0:
        return
    if year > 9999 or not 1 <= day <= 31 or hour > 23 or minute > 59 or second > 60:
        return
    verdict.retry_at = epoch(year, month + 1, day) * 86400 + hour * 3600 + minute * 60 + second


cdef int64_t epoch(int64_t year, int64_t month, int64_t day) noexcept nogil:
    """Days from 1970-01-01 to a civil date (Howard Hinnant's days_from_civil)."""
    cdef int64_t era, yoe, doy
    if month <= 2:
        year -= 1
    era = year // 400
    yoe = year - era * 400
    doy = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + yoe * 365 + yoe // 4 - yoe // 100 + doy - 719468


KINDS = ("land", "stream", "empty", "moved", "plain", "again", "expired", "missing",
         "match_failed", "edge", "changed", "ignored", "refused", "broken")
FLAWS = ("", "no Content-Range", "malformed Content-Range", "Content-Range starts elsewhere",
         "Content-Range ends beyond the part", "the total size is not said",
         "Content-Length contradicts Content-Range", "the content is encoded",
         "multipart/byteranges", "no validator to compare", "malformed Content-Length",
         "another total under the same validator")


cdef inline const char* text_or_null(object value) except? NULL:
    return NULL if value is None else <const char*><bytes>value


def verdict_of(int status, dict headers, *, int64_t start=-1, int64_t stop=-1, int64_t total=-1,
               bint first=True, bytes etag=None, bytes last_modified=None):
    """The verdict on one response as a dict, for tests and the fuzzer. `headers`
    maps lower-case names (str) to values (bytes)."""
    cdef Headers given
    cdef Expect expect
    cdef Verdict verdict
    memset(&given, 0, sizeof(given))
    cdef bytes value
    for name, value in headers.items():
        if name == "content-range":
            given.content_range = value
        elif name == "content-length":
            given.content_length = value
        elif name == "content-encoding":
            given.content_encoding = value
        elif name == "content-type":
            given.content_type = value
        elif name == "etag":
            given.etag = value
        elif name == "last-modified":
            given.last_modified = value
        elif name == "retry-after":
            given.retry_after = value
    expect.start, expect.stop, expect.total, expect.first = start, stop, total, first
    expect.etag = text_or_null(etag)
    expect.last_modified = text_or_null(last_modified)
    judge(status, &given, &expect, &verdict)
    return {"kind": KINDS[<int>verdict.kind], "flaw": FLAWS[<int>verdict.flaw],
            "start": verdict.start, "stop": verdict.stop, "total": verdict.total,
            "measured": bool(verdict.measured),
            "retry_after": None if verdict.retry_after < 0 else verdict.retry_after,
            "retry_at": None if verdict.retry_at < 0 else verdict.retry_at}
