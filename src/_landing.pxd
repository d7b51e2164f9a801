"""Where bytes come to rest: blocks, the front, memory and file writes."""
from libc.stdint cimport int64_t, uint32_t


cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass


cdef struct Ground:                 # one target's landing ground
    pthread_mutex_t lock            # guards filled, front_block and the Plan beside it
    pthread_cond_t moved            # the front moved, or `closed` was set
    int64_t size                    # -1: unknown, one stream, the front is its position
    int64_t block
    uint32_t* filled                # bytes in place per block
    int64_t nblocks
    int64_t front_block             # first block that is not full
    int64_t front                   # contiguous prefix in place; atomic
    int64_t landed                  # bytes in place altogether; atomic
    int64_t waiters                 # how many threads wait for the front; atomic
    int64_t closed                  # nothing more will land; atomic
    char* base                      # memory, or NULL
    int64_t capacity                # bytes at base
    bint ring                       # memory is used again: offset o lies at o % capacity
    int64_t credit                  # no byte may land at or beyond; atomic, grows under the lock
    int64_t wanted                  # a reader waits for bytes below this; under the lock
    bint hungry                     # the reactor could do more with more credit; under the lock
    bint orderly                    # every block is filled from its beginning up
    int fd                          # file, or -1
    int direct_fd                   # the same file opened with O_DIRECT, or -1
    int64_t cached                  # somebody reads along: not past the page cache; atomic
    int64_t align                   # what direct_fd wants of offsets and lengths
    int error                       # errno of the first failed write
    int journal_fd                  # where blocks in place are entered, or -1
    int64_t journal_at              # offset of the first entry


cdef enum:
    BLOCK = 1048576                 # bytes of the usual block
    SPARES = 8                      # blocks that an idle reactor keeps


cdef struct Spares:                 # blocks that writers have given back; reactor thread only
    char* blocks[8]                 # SPARES of them
    int count
    int64_t block                   # their size


cdef struct Writer:                 # one transfer's hand; reactor thread only
    Ground* ground
    Spares* spares                  # where its block comes from, or NULL
    int64_t position                # next byte to write
    int64_t counted                 # everything below was reported to the ground
    bint deferred                   # count nothing until finish(): length unproven
    char* gather                    # file: the bytes of [gathered, position)
    int64_t gathered
    int64_t room                    # bytes of gather
    int64_t summed                  # the block whose sum `sum` is, or -1
    uint32_t sum


cdef void ground_free(Ground* ground) noexcept nogil
cdef void ground_count(Ground* ground, int64_t start, int64_t stop) noexcept nogil
cdef void ground_close(Ground* ground) noexcept nogil
cdef bint ground_room(Ground* ground, int64_t stop) noexcept nogil
cdef void ground_lock(Ground* ground) noexcept nogil
cdef void ground_unlock(Ground* ground) noexcept nogil

cdef int writer_open(Writer* writer, Ground* ground, int64_t position, bint deferred) noexcept nogil
cdef int writer_put(Writer* writer, const char* data, int64_t size) noexcept nogil
cdef int ground_same(Ground* ground, const char* data, int64_t size, int64_t position) noexcept nogil
cdef int writer_sync(Writer* writer) noexcept nogil
cdef int writer_finish(Writer* writer) noexcept nogil
cdef void writer_close(Writer* writer) noexcept nogil
cdef void spares_free(Spares* spares) noexcept nogil


cdef class Landing:
    cdef Ground ground
    cdef object held                # what keeps base or the descriptors alive
