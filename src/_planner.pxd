"""Who fetches which bytes: the state of one object's plan."""
from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef struct Part:
    int64_t start           # half-open [start, stop), offsets of the target
    int64_t stop


cdef struct Lane:           # one connection's stake in the plan
    int64_t start           # where its part began
    int64_t claim           # it may write below this; nobody else may
    int64_t stop            # where its part ends; a thief lowers it
    bint busy
    bint unproven           # its bytes count only as a whole: not to be stolen from
    double rate             # bytes per second, 0 while unknown


cdef struct Steal:
    int victim
    Part part               # what the thief gets: [part.start, part.stop)


cdef struct Plan:
    int64_t size            # of the target
    int64_t block           # unit of claims, a power of two
    int64_t fixed           # part size asked for by the user, or 0
    int64_t window          # a reader holds this many bytes at once, or 0: all
    int64_t next            # everything from here on was never handed out
    int64_t unissued        # bytes in gaps + bytes from next to size
    int64_t* cuts           # ascending offsets that no part may straddle
    int ncuts
    Part* gaps              # handed out once and given back; ascending, disjoint
    int ngaps
    int room
    Lane* lanes
    int nlanes
    double gap              # seconds from request to first byte, smoothed
    double rate             # bytes per second of one connection, smoothed


cdef int plan_init(Plan* plan, int64_t size, int64_t block, int64_t fixed, int lanes,
                   const int64_t* cuts, int ncuts) noexcept nogil
cdef void plan_free(Plan* plan) noexcept nogil
cdef void plan_measured(Plan* plan, double gap, double rate) noexcept nogil
cdef int64_t plan_part_size(const Plan* plan, int connections, bint followed) noexcept nogil
cdef bint plan_adopt(Plan* plan, int lane, int64_t start, int64_t stop) noexcept nogil
cdef int plan_resume(Plan* plan, const uint32_t* filled, int64_t nblocks) noexcept nogil
cdef bint plan_take(Plan* plan, int lane, int connections, bint followed,
                    int64_t credit, int64_t wanted, Part* out) noexcept nogil
cdef int64_t plan_extend(Plan* plan, int lane) noexcept nogil
cdef void plan_shorten(Plan* plan, int lane, int64_t stop) noexcept nogil
cdef int plan_release(Plan* plan, int lane, int64_t landed) noexcept nogil
cdef bint plan_steal(Plan* plan, int thief, double handshake, Steal* out) noexcept nogil
cdef int plan_hedge(Plan* plan, const int64_t* landed, double handshake, Part* out) noexcept nogil
cdef bint plan_drains(const Plan* plan, int64_t leftover, double handshake) noexcept nogil
cdef double plan_backoff(int attempt, double retry_after, uint64_t seed) noexcept nogil
