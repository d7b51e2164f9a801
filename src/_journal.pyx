"""The journal's entries: which blocks of a file are in place, and what they hold.

Knows a descriptor, an index and a sum; nothing of HTTP, plans or headers. An entry is
8 bytes: the block's sum, and a mark made of sum and index, so that a torn, moved or
empty entry is none. The reactor writes it (one pwrite) after the block's own bytes:
a killed process loses no entry, because both are in the kernel by then. What a power
cut makes of their order does not matter: after another boot an entry is only a claim,
and the block is read and summed before it is believed.
"""
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, malloc

cdef extern from "<unistd.h>" nogil:
    ssize_t pwrite(int fd, const void* data, size_t size, int64_t offset)
    ssize_t pread(int fd, void* data, size_t size, int64_t offset)

cdef extern from "blocksum.h" nogil:
    uint32_t block_sum(const void* data, size_t n)
    uint32_t soft_sum(const unsigned char* data, size_t n)

cdef uint32_t MAGIC = 0x70617270        # "parp"

cdef struct Entry:
    uint32_t sum
    uint32_t mark

ENTRY_SIZE = sizeof(Entry)


cdef uint32_t journal_sum(const void* data, int64_t size) noexcept nogil:
    return block_sum(data, size)


cdef inline uint32_t mark_of(int64_t index, uint32_t sum) noexcept nogil:
    return (sum * <uint32_t>2654435761 + <uint32_t>index * <uint32_t>2246822519) ^ MAGIC


cdef int journal_note(int fd, int64_t at, int64_t index, uint32_t sum) noexcept nogil:
    """Enter block `index`; entries begin at offset `at`. Return 0, or an errno."""
    cdef Entry entry
    entry.sum = sum
    entry.mark = mark_of(index, sum)
    while pwrite(fd, &entry, sizeof(Entry), at + index * <int64_t>sizeof(Entry)) != sizeof(Entry):
        if errno != EINTR:
            return errno if errno else -1
    return 0


cdef bint journal_sum_of(int fd, int64_t start, int64_t size, uint32_t* sum) noexcept nogil:
    """Read a block back and sum it. False when it can't be read whole."""
    cdef char* data = <char*>malloc(size)
    cdef int64_t done = 0
    cdef ssize_t got
    if data is NULL:
        return False
    while done < size:
        got = pread(fd, data + done, size - done, start + done)
        if got < 0 and errno == EINTR:
            continue
        if got <= 0:
            break
        done += got
    if done == size:
        sum[0] = block_sum(data, size)
    free(data)
    return done == size


def claimed(const unsigned char[:] entries):
    """One byte per whole entry of `entries`: 1 where it stands for a block in place."""
    cdef int64_t n = entries.shape[0] // <int64_t>sizeof(Entry), i
    cdef const Entry* entry
    out = bytearray(n)
    cdef unsigned char[:] flags = out
    for i in range(n):
        entry = <const Entry*>&entries[i * <int64_t>sizeof(Entry)]
        flags[i] = entry.mark == mark_of(i, entry.sum)
    return out


def proven(int fd, const unsigned char[:] entries, int64_t size, int64_t block, int64_t first, int64_t count):
    """As claimed(), of `count` entries from `first` on, but each block of the file `fd`
    (size bytes) is read and has to give its sum. Without the GIL; takes as long as the
    disk does. Shorter at the end of the file; 0 where there is no entry."""
    cdef int64_t n = entries.shape[0] // <int64_t>sizeof(Entry), i
    cdef const Entry* entry
    cdef uint32_t sum = 0
    cdef int64_t stop = min(first + count, (size + block - 1) // block)
    out = bytearray(max(stop - first, 0))
    cdef unsigned char[:] flags = out
    with nogil:
        for i in range(first, min(n, stop)):
            entry = <const Entry*>&entries[i * <int64_t>sizeof(Entry)]
            flags[i - first] = (entry.mark == mark_of(i, entry.sum)
                                and journal_sum_of(fd, i * block, min(block, size - i * block), &sum)
                                and sum == entry.sum)
    return out


def sum_of(const unsigned char[:] data, *, bint soft=False):
    """The sum of a block; `soft`: without the CPU's instruction (for tests)."""
    cdef const unsigned char* pointer = &data[0] if data.shape[0] else NULL
    return soft_sum(pointer, data.shape[0]) if soft else block_sum(pointer, data.shape[0])


def entry(int64_t index, uint32_t sum):
    """An entry as bytes (for tests)."""
    cdef Entry made
    made.sum = sum
    made.mark = mark_of(index, sum)
    return (<const char*>&made)[:sizeof(Entry)]
