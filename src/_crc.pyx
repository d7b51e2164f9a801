"""Checksums that object stores state, as hash objects: update() lets go of the GIL."""
from libc.stdint cimport uint64_t

cdef extern from "crc.h" nogil:
    ctypedef struct CrcTable:
        pass
    void crc_table(CrcTable* table, uint64_t polynomial)
    uint64_t crc_by_table(const CrcTable* table, uint64_t crc, const unsigned char* data, size_t n)
    unsigned int crc32c_by_cpu(unsigned int crc, const unsigned char* data, size_t n)
    bint cpu_has_crc()

# Filled when the module is loaded, and never again.
cdef CrcTable castagnoli
cdef CrcTable nvme
crc_table(&castagnoli, 0x82F63B78)
crc_table(&nvme, <uint64_t>0x9A6C9329AC4BC9B5)


cdef class Crc32c:
    """CRC-32C (Castagnoli); Google Cloud Storage, S3. `soft`: without the CPU's help; `hard`: with it."""
    cdef uint64_t crc
    cdef readonly bint hard

    name = "crc32c"
    digest_size = 4

    def __cinit__(self, *, bint soft=False):
        self.crc = 0xFFFFFFFF
        self.hard = cpu_has_crc() and not soft

    def update(self, const unsigned char[:] data not None):
        cdef size_t n = data.shape[0]
        cdef const unsigned char* pointer = &data[0] if n else NULL
        with nogil:
            if self.hard:
                self.crc = crc32c_by_cpu(<unsigned int>self.crc, pointer, n)
            else:
                self.crc = crc_by_table(&castagnoli, self.crc, pointer, n)

    def digest(self):
        return int(self.crc ^ 0xFFFFFFFF).to_bytes(4, "big")

    def hexdigest(self):
        return self.digest().hex()


cdef class Crc64Nvme:
    """CRC-64/NVME: what S3 states unless it was told otherwise."""
    cdef uint64_t crc

    name = "crc64nvme"
    digest_size = 8

    def __cinit__(self):
        self.crc = ~<uint64_t>0

    def update(self, const unsigned char[:] data not None):
        cdef size_t n = data.shape[0]
        cdef const unsigned char* pointer = &data[0] if n else NULL
        with nogil:
            self.crc = crc_by_table(&nvme, self.crc, pointer, n)

    def digest(self):
        return int(~self.crc).to_bytes(8, "big")

    def hexdigest(self):
        return self.digest().hex()
