"""Memory for targets, with the buffer protocol. Knows nothing of what lands in it."""
from cpython.buffer cimport Py_buffer, PyBuffer_FillInfo, PyObject_GetBuffer

from libc.stdint cimport int64_t

from .atomics cimport atomic_add, atomic_get

cdef extern from "<unistd.h>" nogil:
    long sysconf(int name)
    enum: _SC_PAGESIZE

cdef extern from "mapping.h" nogil:
    void* map_memory(size_t size, bint huge, bint reserve)
    int unmap_memory(void* address, size_t size)
    void keep_from_fork(void* address, size_t size, bint keep)
    enum: MAPPING_HUGE_FROM

cdef int64_t mappings = 0           # live Mapping objects, for the leak gate


def live_mappings():
    """How many Mappings are not yet closed."""
    return atomic_get(&mappings)


cdef class Mapping:
    """Private anonymous memory with the buffer protocol.

    Huge pages from 4 MiB on: a shared mapping, or 4 KiB pages, cost three times
    the CPU to fill; but three hundred small objects on huge pages cost 600 MiB.
    A `reserve` mapping takes address space only, until it is touched: the place
    for an object of unknown size. Not inherited by a fork until settle()."""
    cdef char* address
    cdef Py_ssize_t length
    cdef size_t mapped
    cdef Py_ssize_t exports

    def __cinit__(self, Py_ssize_t size, *, bint reserve=False):
        if size < 0:
            raise ValueError("size must not be negative")
        self.length = size
        self.mapped = max(size, 1)
        with nogil:
            self.address = <char*>map_memory(self.mapped, size >= MAPPING_HUGE_FROM, reserve)
        if self.address is NULL:
            raise MemoryError(f"cannot map {size} bytes")
        keep_from_fork(self.address, self.mapped, True)
        atomic_add(&mappings, 1)

    def __dealloc__(self):
        self.unmap()

    cdef void unmap(self) noexcept:
        cdef char* address = self.address
        if address is not NULL:
            self.address = NULL
            atomic_add(&mappings, -1)
            with nogil:
                unmap_memory(address, self.mapped)

    def settle(self, Py_ssize_t size):
        """All bytes are in place: keep the first `size`, give the rest of the
        address space back, let forks inherit it. A view that is still exported
        keeps the rest alive until close()."""
        cdef size_t page = sysconf(_SC_PAGESIZE)
        cdef size_t keep
        if self.address is NULL or not 0 <= size <= self.length:
            raise ValueError(f"cannot settle at {size} of {self.length} bytes")
        keep = (max(size, 1) + page - 1) // page * page
        if keep < self.mapped and not self.exports:
            unmap_memory(self.address + keep, self.mapped - keep)
            self.mapped = keep
        self.length = size
        keep_from_fork(self.address, self.mapped, False)

    def close(self):
        """Unmap now; BufferError while a view is exported."""
        if self.exports:
            raise BufferError(f"{self.exports} views of this memory are still in use")
        self.length = 0
        self.unmap()

    def abandon(self):
        """In a forked child: what was here stayed with the parent (see settle), and
        the addresses may belong to another mapping by now. Forget them."""
        if self.address is not NULL:
            self.address = NULL
            self.length = 0
            atomic_add(&mappings, -1)

    def __len__(self):
        return self.length

    def __getbuffer__(self, Py_buffer* view, int flags):
        if self.address is NULL:
            raise BufferError("this memory was closed")
        PyBuffer_FillInfo(view, self, self.address, self.length, 0, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer* view):
        self.exports -= 1


cdef class Exporter:
    """Gives the buffer of another object as its own (Python classes can't before
    3.12). `source` is what is exported; while it is None, attach() has to give it."""
    cdef public object source

    def attach(self):
        """The object to export, when it is first needed."""
        raise BufferError("this memory was closed")

    def __getbuffer__(self, Py_buffer* view, int flags):
        if self.source is None:
            self.source = self.attach()
        PyObject_GetBuffer(self.source, view, flags)

    def __releasebuffer__(self, Py_buffer* view):
        """Never called (a view belongs to `source`), but its being there tells
        numpy that the memory may go away, so that it keeps a view of it."""
