# cython: language_level=3
"""ShedSet: which flows are left out as a whole."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:                      # flags of TCP
    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    ACK = 0x10

cdef enum:
    WAYS = 8                    # members in a bucket: one line of the memory


cdef struct Member:
    uint32_t tag                # high half of the flow hash; its place in the buckets is made of the low half
    uint32_t mark               # when it was last heard of, and in its lowest two bits Stage; 0: empty


cdef class ShedSet:
    cdef Member* members
    cdef uint64_t buckets       # number of them less 1; a power of two
    cdef uint64_t now           # ticks: the clock, made of frame time stamps
    cdef uint64_t timeout       # ticks
    cdef bint answers           # a SYN-ACK begins a flow as a SYN does
    cdef uint64_t flows         # joined so far
    cdef uint64_t evicted
    cdef bint begins(self, uint8_t flags) noexcept nogil
    cdef bint holds(self, uint64_t hash, uint64_t ts_ns, uint8_t flags, bint below) except -1
    cdef Member* find(self, uint64_t hash) noexcept nogil
    cdef Member* room(self, uint64_t hash) noexcept nogil
