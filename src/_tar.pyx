"""The blocks of a tar archive: pure. One header, one record of an extended header, one
number, as strictly as Go's reader, which is what those who make layers test against.

Knows 512 bytes and nothing of files. Never reads behind what it was given, and calls
nothing of Python: tests/fuzz/tar.c includes it as C.
"""
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

cdef int64_t MOST = 0x7FFFFFFFFFFFFFFF

FLAWS = ("", "a header's checksum is wrong", "a header's number is none", "a header's size is negative",
         "the map of a sparse file is wrong")


cdef bint tar_number(const char* field, int size, int64_t* value) noexcept nogil:
    """A number of a header: octal, or base 256 where the first bit is set. False when it is
    none, or has more than 63 bits."""
    cdef int i = 0
    cdef uint64_t number = 0, byte, negative
    value[0] = 0
    if <unsigned char>field[0] & 0x80:
        # Two's complement, the sign in the first byte's second bit.
        negative = 0xFF if <unsigned char>field[0] & 0x40 else 0
        for i in range(size):
            byte = <unsigned char>field[i] ^ negative
            if i == 0:
                byte &= 0x7F
            if number >> 56:
                return False
            number = number << 8 | byte
        if number >> 63:
            return False
        value[0] = ~<int64_t>number if negative else <int64_t>number
        return True
    while i < size and (field[i] == c' ' or field[i] == 0):
        i += 1
    while i < size and c'0' <= field[i] <= c'7':
        if number >> 60:
            return False
        number = number << 3 | <uint64_t>(field[i] - 48)
        i += 1
    while i < size:
        if field[i] != c' ' and field[i] != 0:
            return False
        i += 1
    value[0] = <int64_t>number
    return True


cdef bint tar_blank(const char* block) noexcept nogil:
    """Nothing but zeros: the archive's end."""
    return block[0] == 0 and memcmp(block, block + 1, BLOCK - 1) == 0


cdef bint summed(const char* block) noexcept nogil:
    """The sum is right: of unsigned bytes, or of signed ones, as some old writers have it."""
    cdef int64_t said = 0, plain = 8 * 32, signed = 8 * 32
    cdef int i
    if not tar_number(block + 148, 8, &said):
        return False
    for i in range(BLOCK):
        if not 148 <= i < 156:
            plain += <unsigned char>block[i]
            signed += <signed char>block[i]
    return said == plain or said == signed


cdef int upto(const char* field, int size) noexcept nogil:
    cdef int n = 0
    while n < size and field[n]:
        n += 1
    return n


cdef int tar_head(const char* block, Head* head) noexcept nogil:
    """Read a header; 0, or the index of its flaw in FLAWS. Kinds and names are not judged."""
    cdef int n = 0, m
    cdef bint posix = memcmp(block + 257, b"ustar\0", 6) == 0
    cdef bint gnu = memcmp(block + 257, b"ustar  ", 7) == 0
    memset(head, 0, sizeof(Head))
    if not summed(block):
        return 1
    head.kind = block[156]
    if not (tar_number(block + 100, 8, &head.mode) and tar_number(block + 108, 8, &head.uid)
            and tar_number(block + 116, 8, &head.gid) and tar_number(block + 124, 12, &head.size)
            and tar_number(block + 136, 12, &head.mtime)):
        return 2
    if head.kind in (c'3', c'4') and not (tar_number(block + 329, 8, &head.major)
                                          and tar_number(block + 337, 8, &head.minor)):
        return 2
    if head.size < 0:
        return 3
    # Where old GNU has times and extents, POSIX has the prefix of the name.
    if posix:
        n = upto(block + 345, 155)
        memcpy(head.name, block + 345, n)
        if n:
            head.name[n] = c'/'
            n += 1
    m = upto(block, 100)
    memcpy(head.name + n, block, m)
    head.name[n + m] = 0
    m = upto(block + 157, 100)
    memcpy(head.link, block + 157, m)
    head.link[m] = 0
    if head.kind == c'S':
        if not gnu or not tar_number(block + 483, 12, &head.real) or head.real < 0:
            return 4
        head.extended = block[482] != 0
    return 0


cdef int tar_extents(const char* block, int at, int most, int64_t* extents) noexcept nogil:
    """Pairs of offset and size of old GNU sparse, from `at` on, up to `most`; how many, -1
    when one is no number."""
    cdef int n = 0
    while n < most and block[at + n * 24]:
        if not (tar_number(block + at + n * 24, 12, extents + 2 * n)
                and tar_number(block + at + n * 24 + 12, 12, extents + 2 * n + 1)):
            return -1
        n += 1
    return n


cdef size_t tar_record(const char* data, size_t size, Record* record) noexcept nogil:
    """One record "length key=value\\n" of an extended header; its length, 0 when it is none.
    The value may hold anything, also newlines and NULs; the key no NUL."""
    cdef size_t length = 0, i = 0
    while i < size and i < 9 and c'0' <= data[i] <= c'9':
        length = length * 10 + <size_t>(data[i] - 48)
        i += 1
    if i == 0 or i >= size or data[i] != c' ' or length > size or length < i + 3 or data[length - 1] != c'\n':
        return 0
    i += 1
    record.key = data + i
    while i < length - 1 and data[i] != c'=':
        if data[i] == 0:
            return 0
        i += 1
    record.key_size = <size_t>(data + i - record.key)
    if i >= length - 1 or record.key_size == 0:
        return 0
    record.value = data + i + 1
    record.value_size = length - 1 - (i + 1)
    return length


cdef bint tar_decimal(const char* text, size_t size, int64_t* value) noexcept nogil:
    """A decimal number, not negative, and nothing besides."""
    cdef int64_t number = 0
    cdef size_t i
    if size == 0 or size > 19:
        return False
    for i in range(size):
        if not c'0' <= text[i] <= c'9' or number > (MOST - (text[i] - 48)) // 10:
            return False
        number = number * 10 + (text[i] - 48)
    value[0] = number
    return True


cdef bint tar_time(const char* text, size_t size, int64_t* seconds, long* nanos) noexcept nogil:
    """Seconds with a fraction, perhaps negative; digits behind the ninth are dropped, downwards."""
    cdef bint negative = size > 0 and text[0] == c'-'
    cdef size_t i = 1 if negative else 0, point
    cdef long scale = 100000000
    cdef bint more = False
    point = i
    while point < size and text[point] != c'.':
        point += 1
    if not tar_decimal(text + i, point - i, seconds):
        return False
    nanos[0] = 0
    for i in range(point + 1, size):
        if not c'0' <= text[i] <= c'9':
            return False
        more = more or (scale == 0 and text[i] != c'0')
        nanos[0] += (text[i] - 48) * scale
        scale = scale // 10
    if negative:
        nanos[0] += more
        seconds[0] = -seconds[0]
        if nanos[0]:
            seconds[0] -= 1
            nanos[0] = 1000000000 - nanos[0]
    return True


def head_of(const unsigned char[:] block not None):
    """A header as a dict, or the words of its flaw (for tests)."""
    cdef Head head
    if block.shape[0] != BLOCK:
        raise ValueError("a header has 512 bytes")
    cdef int flaw = tar_head(<const char*>&block[0], &head)
    if flaw:
        return FLAWS[flaw]
    return {"kind": chr(<unsigned char>head.kind), "mode": head.mode, "uid": head.uid, "gid": head.gid, "size": head.size,
            "mtime": head.mtime, "major": head.major, "minor": head.minor, "name": <bytes>head.name,
            "link": <bytes>head.link}


def records_of(bytes data not None):
    """The records of an extended header, in their order: [(key, value)]; None when one is
    malformed."""
    cdef Record record
    cdef size_t at = 0, size = len(data), length
    cdef const char* text = data
    found = []
    while at < size:
        length = tar_record(text + at, size - at, &record)
        if length == 0:
            return None
        found.append((record.key[:record.key_size], record.value[:record.value_size]))
        at += length
    return found


def time_of(bytes text not None):
    """(seconds, nanoseconds) of an extended header's time; None when it is none (for tests)."""
    cdef int64_t seconds = 0
    cdef long nanos = 0
    return (seconds, nanos) if tar_time(text, len(text), &seconds, &nanos) else None
