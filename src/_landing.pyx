"""Landing: bytes at their final address, and how far they reach.

Knows memory, file descriptors, blocks and the front. Knows nothing of HTTP, of
libcurl or of who decides which bytes come next.

Two parties share a Ground. The reactor thread writes through Writers, one per
transfer, into disjoint ranges (the planner's claims see to that), so bytes are
copied without a lock; it takes the mutex once a block, to count. Any other
thread may wait for the front: it is published (release) after the bytes below
it, so whoever reads it (acquire) may read them.

A file is written by pwrite in gathered blocks: libcurl hands over 16 KiB at a
time, which would cost twice the CPU. There is no mmap file sink: a file that is
truncated by somebody else would be a SIGBUS on the reactor.
"""
from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EINTR, EINVAL, ENOMEM, ENOSYS, EOPNOTSUPP, ENOSPC, errno
from libc.stdint cimport int64_t, uint32_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from ._journal cimport journal_note, journal_sum, journal_sum_of
from .atomics cimport atomic_acquire, atomic_add, atomic_get, atomic_publish, atomic_set

import os


cdef extern from "<pthread.h>" nogil:
    int pthread_mutex_init(pthread_mutex_t*, void*)
    int pthread_mutex_destroy(pthread_mutex_t*)
    int pthread_mutex_lock(pthread_mutex_t*)
    int pthread_mutex_unlock(pthread_mutex_t*)
    int pthread_cond_destroy(pthread_cond_t*)
    int pthread_cond_broadcast(pthread_cond_t*)

cdef extern from "waiting.h" nogil:
    int cond_init(pthread_cond_t*)
    int cond_wait(pthread_cond_t*, pthread_mutex_t*, double seconds)
    double monotonic()

cdef extern from "<unistd.h>" nogil:
    ssize_t pwrite(int fd, const void* data, size_t size, int64_t offset)
    ssize_t pread(int fd, void* data, size_t size, int64_t offset)

cdef extern from "mapping.h" nogil:
    void* aligned(size_t size)

cdef extern from "disk.h" nogil:
    int64_t disk_type(int fd)
    int disk_reserve(int fd, int64_t size)
    int64_t disk_direct_align(int fd)

cdef double SIGNAL_SECONDS = 0.1     # how soon a waiting main thread sees Ctrl-C
cdef int64_t UNBOUNDED = <int64_t>1 << 60


# --- the ground ---------------------------------------------------------------

cdef void ground_lock(Ground* ground) noexcept nogil:
    pthread_mutex_lock(&ground.lock)


cdef void ground_unlock(Ground* ground) noexcept nogil:
    pthread_mutex_unlock(&ground.lock)


cdef void ground_free(Ground* ground) noexcept nogil:
    free(ground.filled)
    ground.filled = NULL


cdef inline int64_t block_size(const Ground* ground, int64_t index) noexcept nogil:
    return min(ground.block, ground.size - index * ground.block)


cdef void ground_count(Ground* ground, int64_t start, int64_t stop) noexcept nogil:
    """[start, stop) is in place. The caller holds the lock; each byte is counted
    once in the life of the ground."""
    cdef int64_t index, upto, front
    if stop <= start:
        return
    atomic_add(&ground.landed, stop - start)
    front = atomic_get(&ground.front)
    if start <= front:
        front = max(front, stop)
    if ground.size >= 0:
        index = start // ground.block
        while start < stop:
            upto = min((index + 1) * ground.block, stop)
            ground.filled[index] += <uint32_t>(upto - start)
            start = upto
            index += 1
        index = ground.front_block
        while index < ground.nblocks and ground.filled[index] == block_size(ground, index):
            index += 1
        ground.front_block = index
        front = max(front, min(index * ground.block, ground.size))
        if ground.orderly and index < ground.nblocks:
            front = max(front, index * ground.block + ground.filled[index])
    if front > atomic_get(&ground.front):
        atomic_publish(&ground.front, front)
        if atomic_get(&ground.waiters):
            pthread_cond_broadcast(&ground.moved)


cdef void ground_close(Ground* ground) noexcept nogil:
    """Nothing more will land: wake whoever waits."""
    pthread_mutex_lock(&ground.lock)
    atomic_set(&ground.closed, 1)
    pthread_cond_broadcast(&ground.moved)
    pthread_mutex_unlock(&ground.lock)


cdef bint ground_room(Ground* ground, int64_t stop) noexcept nogil:
    """Whether bytes may land up to `stop`. If not, more credit wakes the reactor."""
    cdef bint room
    if stop <= atomic_get(&ground.credit):
        return True
    pthread_mutex_lock(&ground.lock)
    room = stop <= atomic_get(&ground.credit)
    ground.hungry = ground.hungry or not room
    pthread_mutex_unlock(&ground.lock)
    return room


# --- writers: the reactor thread ------------------------------------------------

cdef int writer_open(Writer* writer, Ground* ground, int64_t position, bint deferred) noexcept nogil:
    """Begin at `position`. Return 0, or an errno."""
    writer.ground = ground
    writer.position = writer.counted = writer.gathered = position
    writer.deferred = deferred
    writer.summed = -1
    if ground.fd >= 0 and writer.gather is NULL:
        writer.room = ground.block
        writer.gather = spare(writer.spares, ground.block)
        if writer.gather is NULL:
            return ENOMEM
    return 0


cdef int write_all(Writer* writer, const char* data, int64_t size, int64_t offset) noexcept nogil:
    """pwrite the whole of it: the aligned middle through direct_fd where there
    is one, the rest through the page cache. Return 0, or an errno."""
    cdef Ground* ground = writer.ground
    cdef ssize_t done
    cdef int64_t step
    cdef int fd
    while size > 0:
        fd, step = ground.fd, size
        if (ground.direct_fd >= 0 and not atomic_get(&ground.cached) and offset % ground.align == 0
                and <uintptr_t>data % <uintptr_t>ground.align == 0 and size >= ground.align):
            fd, step = ground.direct_fd, size - size % ground.align
        done = pwrite(fd, data, step, offset)
        if done < 0:
            if errno == EINTR:
                continue
            if errno == EINVAL and fd == ground.direct_fd:
                ground.direct_fd = -1           # it promised more than it can
                continue
            return errno
        if done == 0:
            return ENOSPC
        data += done
        offset += done
        size -= done
    return 0


cdef int flush(Writer* writer) noexcept nogil:
    """Write what was gathered. Return 0, or an errno, kept in the ground."""
    cdef int error
    if writer.gather is NULL or writer.position == writer.gathered:
        return 0
    error = write_all(writer, writer.gather, writer.position - writer.gathered, writer.gathered)
    if error:
        if writer.ground.error == 0:
            writer.ground.error = error
        return error
    if writer.ground.journal_fd >= 0 and writer.gathered % writer.ground.block == 0:
        writer.summed = writer.gathered // writer.ground.block      # if it is whole; see enter
        writer.sum = journal_sum(writer.gather, writer.position - writer.gathered)
        if writer.position - writer.gathered != block_size(writer.ground, writer.summed):
            writer.summed = -1
    writer.gathered = writer.position
    return 0


cdef void enter(Writer* writer, int64_t start, int64_t stop) noexcept nogil:
    """Enter into the journal what [start, stop) has made whole. A block that came in
    several pieces is read back. The journal failing is no failure of the transfer."""
    cdef Ground* ground = writer.ground
    cdef int64_t index, size
    cdef uint32_t sum
    for index in range(start // ground.block, (stop + ground.block - 1) // ground.block):
        size = block_size(ground, index)
        if ground.filled[index] != size:
            continue
        sum = writer.sum
        if index != writer.summed and not journal_sum_of(ground.fd, index * ground.block, size, &sum):
            continue
        if journal_note(ground.journal_fd, ground.journal_at, index, sum):
            ground.journal_fd = -1
            return


cdef int writer_put(Writer* writer, const char* data, int64_t size) noexcept nogil:
    """Land `size` bytes at the writer's position. No lock: the range is claimed.
    Return 0, or an errno."""
    cdef Ground* ground = writer.ground
    cdef int64_t room, step
    cdef int error
    if ground.base is not NULL:
        if writer.position + size > (atomic_get(&ground.credit) if ground.ring else ground.capacity):
            ground.error = ENOSPC
            return ENOSPC
        # A claim ends with its block at the latest, and so does the ring: no wrap here.
        memcpy(ground.base + (writer.position % ground.capacity if ground.ring else writer.position), data, size)
        writer.position += size
        return 0
    while size > 0:
        # The gather buffer ends on a block boundary of the file, so that all
        # but the first write of a part that begins inside a block is aligned.
        room = ground.block - writer.gathered % ground.block - (writer.position - writer.gathered)
        step = min(size, room)
        memcpy(writer.gather + (writer.position - writer.gathered), data, step)
        writer.position += step
        data += step
        size -= step
        if step == room:
            error = flush(writer)
            if error:
                return error
    return 0


cdef int same_in_ring(Ground* ground, const char* data, int64_t size, int64_t position) noexcept nogil:
    """As ground_same. What the ring no longer holds can't be compared: that it is the
    same follows from the validator, which the reactor has asked for."""
    cdef int64_t step, skip = min(size, max(0, atomic_get(&ground.credit) - ground.capacity - position))
    data += skip
    position += skip
    size -= skip
    while size > 0:
        step = min(size, ground.capacity - position % ground.capacity)
        if memcmp(ground.base + position % ground.capacity, data, step) != 0:
            return 0
        data += step
        position += step
        size -= step
    return 1


cdef int ground_same(Ground* ground, const char* data, int64_t size, int64_t position) noexcept nogil:
    """Whether `data` is what already lies at `position`: 1, 0, or -errno."""
    cdef char[16384] copy
    cdef ssize_t got
    cdef int64_t step
    if ground.ring:
        return same_in_ring(ground, data, size, position)
    if ground.base is not NULL:
        return memcmp(ground.base + position, data, size) == 0
    while size > 0:
        step = min(size, <int64_t>sizeof(copy))
        got = pread(ground.fd, copy, step, position)
        if got <= 0:
            return -errno if got < 0 else 0
        if memcmp(copy, data, got) != 0:
            return 0
        data += got
        position += got
        size -= got
    return 1


cdef int writer_sync(Writer* writer) noexcept nogil:
    """Put all bytes in place and count them, unless they are unproven. The
    caller holds the lock. Return 0, or an errno."""
    cdef int error
    if writer.deferred or writer.position == writer.counted:
        return 0
    error = flush(writer)
    if error:
        return error
    ground_count(writer.ground, writer.counted, writer.position)
    if writer.ground.journal_fd >= 0:
        enter(writer, writer.counted, writer.position)
    writer.counted = writer.position
    return 0


cdef int writer_finish(Writer* writer) noexcept nogil:
    """The response ended as it said it would: its bytes count."""
    writer.deferred = False
    return writer_sync(writer)


cdef void writer_close(Writer* writer) noexcept nogil:
    cdef Spares* spares = writer.spares
    if (writer.gather is not NULL and spares is not NULL and spares.count < SPARES
            and spares.block == writer.room):
        spares.blocks[spares.count] = writer.gather
        spares.count += 1
    else:
        free(writer.gather)
    memset(writer, 0, sizeof(Writer))
    writer.spares = spares


cdef char* spare(Spares* spares, int64_t size) noexcept nogil:
    """A block of `size` bytes, one that is warm if there is any: the kernel maps and zeroes
    each new one page by page, which costs a small object more than its bytes do."""
    if spares is NULL or spares.count == 0 or spares.block != size:
        return <char*>aligned(size)
    spares.count -= 1
    return spares.blocks[spares.count]


cdef void spares_free(Spares* spares) noexcept nogil:
    while spares.count > 0:
        spares.count -= 1
        free(spares.blocks[spares.count])


# --- Python's side -------------------------------------------------------------

cdef class Landing:
    """The landing ground of one target, as Python sees it.

    `Landing(size)` with size in bytes, or -1 while unknown; then exactly one of
    into_memory, into_address, into_file. The object must outlive every transfer
    that writes to it; `release()` drops the memory or descriptors afterwards."""

    def __cinit__(self, int64_t size, int64_t block=1 << 20):
        if size < -1 or not 4096 <= block <= 1 << 30 or block & (block - 1):
            raise ValueError("size >= -1; block: a power of two from 4 KiB to 1 GiB")
        memset(&self.ground, 0, sizeof(Ground))
        self.ground.fd = self.ground.direct_fd = self.ground.journal_fd = -1
        self.ground.size = size
        self.ground.block = block
        self.ground.credit = UNBOUNDED
        pthread_mutex_init(&self.ground.lock, NULL)
        cond_init(&self.ground.moved)
        if size >= 0:
            self.ground.nblocks = (size + block - 1) // block
            self.ground.filled = <uint32_t*>calloc(self.ground.nblocks + 1, sizeof(uint32_t))
            if self.ground.filled is NULL:
                raise MemoryError

    def __dealloc__(self):
        ground_free(&self.ground)
        pthread_cond_destroy(&self.ground.moved)
        pthread_mutex_destroy(&self.ground.lock)

    def into_memory(self, buffer):
        """Land in a writable C-contiguous buffer; it stays exported until release()."""
        cdef Pinned pinned = Pinned(buffer)
        self.held = pinned
        self.ground.base = <char*>pinned.view.buf
        self.ground.capacity = pinned.view.len

    def into_ring(self, buffer, int64_t credit):
        """Land in a buffer that is used again and again: offset o of the target lies at
        o % len(buffer), which is a multiple of the block. Nothing lands at or beyond
        `credit`, which allow() raises; an offset stays until credit > offset + length."""
        self.into_memory(buffer)
        if self.ground.capacity == 0 or self.ground.capacity % self.ground.block:
            raise ValueError(f"a ring of {self.ground.capacity} bytes is no multiple of the block")
        if not 0 < credit <= self.ground.capacity:
            raise ValueError(f"credit {credit} does not fit the ring")
        self.ground.ring = True
        self.ground.credit = credit

    def allow(self, int64_t credit, int64_t wanted=0):
        """Bytes may land below `credit`; a reader waits for those below `wanted`, so that
        a part may be short for its sake. True: the reactor has waited for this, and
        Reactor.poke() must follow. The caller is done with all below credit - length."""
        cdef bint hungry
        with nogil:
            pthread_mutex_lock(&self.ground.lock)
            hungry = self.ground.hungry and (credit > self.ground.credit or wanted > self.ground.wanted)
            if credit > self.ground.credit:
                atomic_set(&self.ground.credit, credit)
            self.ground.wanted = max(self.ground.wanted, wanted)
            if hungry:
                self.ground.hungry = False
            pthread_mutex_unlock(&self.ground.lock)
        return bool(hungry)

    def restore(self, const unsigned char[:] blocks):
        """These blocks are in place already: one byte each, not 0 where it is so. Before
        any transfer."""
        cdef int64_t index
        for index in range(min(<int64_t>blocks.shape[0], self.ground.nblocks)):
            if blocks[index] and self.ground.filled[index] == 0:
                ground_count(&self.ground, index * self.ground.block,
                             index * self.ground.block + block_size(&self.ground, index))

    def into_address(self, uintptr_t address, int64_t capacity, owner):
        """Land in `capacity` bytes at `address`; `owner` is kept alive until release()."""
        self.held = owner
        self.ground.base = <char*>address
        self.ground.capacity = capacity

    def into_file(self, int fd, *, int direct_fd=-1, int64_t align=0, int journal_fd=-1, int64_t journal_at=0):
        """Land in an open file by pwrite; whole blocks through `direct_fd` (opened
        with O_DIRECT, needing `align`) where given; enter blocks in place into
        `journal_fd`, from offset `journal_at` on. The caller closes them all."""
        if journal_fd >= 0 and self.ground.size < 0:
            raise ValueError("a target of unknown size has no blocks to enter")
        self.ground.journal_fd = journal_fd
        self.ground.journal_at = journal_at
        self.ground.fd = fd
        self.ground.direct_fd = direct_fd if align > 0 else -1
        self.ground.align = align

    def stay_cached(self):
        """Somebody reads along: write through the page cache from now on."""
        atomic_set(&self.ground.cached, 1)

    def release(self):
        """Drop the buffer. Only after the last transfer is gone."""
        self.ground.base = NULL
        self.ground.capacity = 0
        self.ground.fd = self.ground.direct_fd = self.ground.journal_fd = -1
        self.held = None

    def wait(self, int64_t offset, timeout=None):
        """Wait until the front has reached `offset`, nothing more will land, or
        `timeout` seconds are over; return the front. Signals interrupt it."""
        cdef double deadline = -1.0 if timeout is None else monotonic() + max(0.0, timeout)
        cdef double step
        cdef int64_t front
        while True:
            front = atomic_acquire(&self.ground.front)
            step = SIGNAL_SECONDS if timeout is None else min(deadline - monotonic(), SIGNAL_SECONDS)
            if front >= offset or atomic_get(&self.ground.closed) or step <= 0.0:
                return atomic_acquire(&self.ground.front)
            with nogil:
                pthread_mutex_lock(&self.ground.lock)
                atomic_add(&self.ground.waiters, 1)
                if atomic_get(&self.ground.front) < offset and not atomic_get(&self.ground.closed):
                    cond_wait(&self.ground.moved, &self.ground.lock, step)
                atomic_add(&self.ground.waiters, -1)
                pthread_mutex_unlock(&self.ground.lock)
            PyErr_CheckSignals()

    def close(self):
        """Nothing more will land: wake all who wait."""
        ground_close(&self.ground)

    def land(self, int64_t start, bytes data, *, bint deferred=False, bint finish=True):
        """Land bytes as a transfer would (for tests and for stand-in sources)."""
        cdef Writer writer
        cdef const char* pointer = data
        cdef int64_t size = len(data)
        cdef int64_t room = self.ground.size if self.ground.size >= 0 else <int64_t>1 << 60
        cdef int error
        if self.ground.base is NULL and self.ground.fd < 0:
            raise ValueError("there is no ground to land on")
        if start < 0 or start > room - size:
            raise ValueError(f"[{start}, {start + size}) lies outside the target")
        if self.ground.ring and start % self.ground.capacity + size > self.ground.capacity:
            raise ValueError(f"[{start}, {start + size}) goes beyond the end of the ring")
        memset(&writer, 0, sizeof(Writer))
        with nogil:
            error = writer_open(&writer, &self.ground, start, deferred)
            if not error:
                error = writer_put(&writer, pointer, size)
            if not error:
                pthread_mutex_lock(&self.ground.lock)
                error = writer_finish(&writer) if finish else writer_sync(&writer)
                pthread_mutex_unlock(&self.ground.lock)
            writer_close(&writer)
        if error:
            raise OSError(error, os.strerror(error))

    @property
    def size(self):
        return self.ground.size

    @property
    def front(self):
        """Length of the contiguous prefix in place, bytes."""
        return atomic_acquire(&self.ground.front)

    @property
    def block(self):
        """The unit of claims, bytes."""
        return self.ground.block

    @property
    def credit(self):
        """Where landing has to stop, bytes."""
        return atomic_get(&self.ground.credit)

    @property
    def landed(self):
        return atomic_get(&self.ground.landed)

    @property
    def closed(self):
        return bool(atomic_get(&self.ground.closed))


cdef class Pinned:
    """An exported buffer, held until the object dies."""
    cdef Py_buffer view
    cdef bint held

    def __cinit__(self, buffer):
        PyObject_GetBuffer(buffer, &self.view, PyBUF_SIMPLE | PyBUF_WRITABLE)
        self.held = True

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)


def file_system(int fd):
    """The file system's magic number (statfs f_type), 0 where it is not known."""
    return disk_type(fd)


def reserve(int fd, int64_t size):
    """Reserve disk space with fallocate(2); False where the file system can't.
    OSError when there is no room."""
    cdef int error
    with nogil:
        error = disk_reserve(fd, size)
    if error in (EOPNOTSUPP, ENOSYS, EINVAL):
        return False
    if error:
        raise OSError(error, os.strerror(error))
    return True


def direct_align(int fd):
    """What O_DIRECT wants of offsets and lengths, bytes; 0: it is not possible."""
    return disk_direct_align(fd)
