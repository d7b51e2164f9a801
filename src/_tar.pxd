from libc.stdint cimport int64_t

cdef enum: BLOCK = 512

# What a member is, by its header alone. Numbers are in bytes and seconds.
cdef struct Head:
    char kind               # the type flag; NUL: a file, or a folder whose name ends in a slash
    int64_t mode
    int64_t uid
    int64_t gid
    int64_t size
    int64_t mtime
    int64_t major
    int64_t minor
    int64_t real            # old GNU sparse: the file's size with its holes
    bint extended           # old GNU sparse: blocks of extents follow
    int extents             # old GNU sparse: how many are in this block
    char name[260]          # prefix and name, NUL at the end
    char link[104]

cdef struct Record:
    const char* key
    size_t key_size
    const char* value
    size_t value_size

cdef bint tar_number(const char* field, int size, int64_t* value) noexcept nogil
cdef bint tar_blank(const char* block) noexcept nogil
cdef int tar_head(const char* block, Head* head) noexcept nogil
cdef int tar_extents(const char* block, int at, int most, int64_t* extents) noexcept nogil
cdef size_t tar_record(const char* data, size_t size, Record* record) noexcept nogil
cdef bint tar_decimal(const char* text, size_t size, int64_t* value) noexcept nogil
cdef bint tar_time(const char* text, size_t size, int64_t* seconds, long* nanos) noexcept nogil
