"""What a crash leaves: one entry per block that is in place."""
from libc.stdint cimport int64_t, uint32_t


cdef uint32_t journal_sum(const void* data, int64_t size) noexcept nogil
cdef int journal_note(int fd, int64_t at, int64_t index, uint32_t sum) noexcept nogil
cdef bint journal_sum_of(int fd, int64_t start, int64_t size, uint32_t* sum) noexcept nogil
