# cython: language_level=3
"""Reassembly of IP datagrams, ahead of the sharder."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from appliance.wire.ip_datagram cimport Datagram
from appliance.wire.flow_key cimport HashKey
from appliance.wire.ip_fragment cimport OUTCOMES_END, Fragment, Key, Outcome
from appliance.wire.location cimport Location


cdef struct Whole:          # a complete datagram; the bytes stay until the next call
    const uint8_t* data
    uint32_t length
    bint ambiguous          # other readers of the same fragments may have seen other bytes


cdef struct Age:            # datagrams by age
    uint32_t oldest
    uint32_t youngest


cdef class Defragmenter:
    cdef HashKey hash_key
    cdef uint32_t max_datagrams
    cdef uint64_t max_bytes
    cdef uint64_t timeout_ns
    cdef uint64_t late_ns           # how long a complete datagram is remembered
    cdef uint64_t now_ns            # the highest time stamp so far
    cdef Datagram* datagrams        # number 0 stands for none
    cdef uint32_t* buckets          # first of the chain
    cdef uint32_t bucket_mask
    cdef uint32_t fresh             # the first datagram never used
    cdef uint32_t free              # used and released ones, linked by chain
    cdef uint32_t used
    cdef Age waiting                # for more, or discarded and remembered
    cdef Age complete               # remembered for their late copies
    cdef uint64_t bytes             # allocated for all datagrams
    cdef uint64_t held              # fragments without an outcome
    cdef uint64_t conflicts         # fragments whose bytes differ from those that came first
    cdef uint64_t outcomes[<int>OUTCOMES_END]
    cdef uint8_t* out               # the last complete datagram
    cdef int add(self, const uint8_t* frame, uint32_t caplen, const Location* place, uint64_t ts_ns, bint ambiguous,
                 Whole* whole) except -1
    cdef void expire(self, uint64_t ts_ns) noexcept nogil
    cdef void settle(self) noexcept nogil
    cdef uint32_t find(self, const Key* key, uint32_t* bucket) noexcept nogil
    cdef uint32_t open(self, const Key* key, uint32_t bucket) noexcept nogil
    cdef void close(self, uint32_t number, Outcome outcome) noexcept nogil
    cdef void discard(self, Datagram* datagram, Outcome reason) noexcept nogil
    cdef void give_back(self, Datagram* datagram) noexcept nogil
    cdef bint evict(self) noexcept nogil
    cdef int grow(self, Datagram* datagram, uint32_t bytes, uint32_t pieces) except -1
    cdef int insert(self, Datagram* datagram, const Fragment* fragment) except -1
    cdef void assemble(self, Datagram* datagram, Whole* whole) noexcept nogil
