# cython: language_level=3
"""Finder: the search for the start of a message."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from workers.limits cimport Limits
from workers.tally cimport Tally


cdef struct Input:              # what is left of a piece
    const uint8_t* p
    const uint8_t* end
    int64_t offset              # of p in its stream
    int64_t peer_ack            # offset in the other stream that the piece's frame acknowledged; -1 unknown
    uint64_t ts_ns


cdef class Finder:
    cdef bint http              # the connection is HTTP
    cdef bytearray partial      # bytes from earlier pieces: of a head, or while LOST of what may be one
    cdef list pieces            # of partial: [(offset, ns, what its frame acknowledged)], the first and those with news
    cdef int64_t piece_at       # offset of the newest piece in it, and its time
    cdef uint64_t piece_ns
    cdef int64_t partial_at     # while LOST: offset of its first byte
    cdef uint32_t early         # … of it, bytes that came before any HTTP
    cdef uint32_t trail         # … the three bytes before what is looked at next
    cdef uint64_t looked        # bytes that were searched without finding any HTTP
    cdef bint gapped            # bytes of unknown meaning are missing somewhere before
    cdef int64_t candidate      # offset of the start that was found
    cdef uint64_t candidate_ns
    cdef int64_t candidate_ack  # what its frame acknowledged of the other direction; -1 unknown
    cdef bint candidate_request
    cdef bint candidate_starts  # it stands at the start of a piece
    cdef bint candidate_first   # … and that means something
    cdef bint candidate_apart   # an empty line stands before it

    cdef bint find(self, Input* source, Limits limits, Tally tally) except -1
    cdef int keep(self, Input* source, size_t start, Tally tally) except -1
    cdef int passing(self, const Input* source, size_t count) except -1
    cdef int gather(self, const Input* source, bint first) except -1
    cdef int pass_over(self, uint64_t count, Tally tally) noexcept
    cdef int forget(self, Tally tally) except -1
    cdef int refuse(self, Input* source, Tally tally) except -1
