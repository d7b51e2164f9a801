from libc.stdint cimport int64_t

cdef extern from "atomics.h" nogil:
    int64_t atomic_get(const int64_t* cell) noexcept
    void atomic_set(int64_t* cell, int64_t value) noexcept
    int64_t atomic_add(int64_t* cell, int64_t value) noexcept
    int64_t atomic_acquire(const int64_t* cell) noexcept
    void atomic_publish(int64_t* cell, int64_t value) noexcept
