# cython: language_level=3
"""CryptoStream: the CRYPTO frames of one side, in order."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from workers.quic.context cimport QuicContext
from workers.tls.message cimport HandshakeMessages


cdef class CryptoStream:
    cdef HandshakeMessages messages
    cdef uint64_t next          # offset of the first byte that has not come yet
    cdef list held              # [(offset, bytes)] that wait for earlier ones, by offset; None: nothing
    cdef const uint8_t* p       # bytes to read now
    cdef const uint8_t* end
    cdef bytes reading          # the held bytes that p and end point into; None: those of the packet

    cdef int add(self, uint64_t offset, const uint8_t* p, uint32_t size, QuicContext cx) except -1
    cdef bint take(self, uint64_t ts_ns, QuicContext cx) except -1
    cdef bint next_held(self, QuicContext cx) except -1
    cdef int release(self, QuicContext cx) except -1
