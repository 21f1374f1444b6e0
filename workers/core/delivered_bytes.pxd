# cython: language_level=3
"""History: where the bytes that streams delivered lately still lie, so that a later copy of them can be compared."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef enum:
    PIECES = 1 << 16            # a power of two; 32 bytes each


cdef struct Past:
    int64_t offset              # in its stream
    const uint8_t* data
    uint64_t before             # serial of the piece before it in its stream, 0: none
    uint32_t length
    bint owned                  # by this history, not by a batch


cdef class History:
    cdef Past* ring
    cdef uint64_t serial        # of the last piece; the first has 1
    cdef uint64_t oldest        # pieces of batches before this one have lost their bytes
    cdef uint64_t oldest_owned
    cdef object batches         # deque of (message, serial of its first piece, other bytes in which its pieces lie)
    cdef object owned           # deque of serials of pieces whose bytes are owned, oldest first
    cdef uint64_t owned_bytes
    cdef int forget_owned(self) noexcept
    cdef uint64_t remember(self, uint64_t before, int64_t offset, const uint8_t* data, uint32_t length) noexcept
    cdef uint64_t adopt(self, uint64_t before, int64_t offset, uint8_t* data, uint32_t length) except 0
    cdef uint32_t differing(self, uint64_t last, int64_t offset, const uint8_t* data, uint32_t length,
                            int64_t* start, int64_t* stop) noexcept
    cdef int keep(self, message) except -1
    cdef int hold(self, data) except -1
