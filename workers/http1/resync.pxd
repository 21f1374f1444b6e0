# cython: language_level=3
"""Finder: the search for the start of a message."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from workers.core.limits cimport Limits
from workers.core.counters cimport Tally


cdef struct Input:              # the unread part of a piece
    const uint8_t* p
    const uint8_t* end
    int64_t offset              # of p in its stream
    int64_t peer_ack            # offset in the other stream that the piece's frame acknowledged; -1: unknown
    uint64_t ts_ns


cdef enum:
    LAST_CHUNK_SIZE = 7         # of a chunked body without trailers, with the line end before it


cdef class Finder:
    cdef bint http              # the connection speaks HTTP
    cdef int kind               # the protocol of other bytes: a place in stats.NOT_HTTP
    cdef bytearray partial      # bytes from earlier pieces: of a head, or while LOST of a possible head
    cdef list pieces            # [(offset, ns, acknowledged)] of partial: the first piece, and each that acknowledges anew
    cdef int64_t piece_at       # offset of its newest piece, and its time
    cdef uint64_t piece_ns
    cdef int64_t partial_at     # while LOST: offset of its first byte
    cdef uint32_t early         # … bytes of it that came before any HTTP
    cdef uint64_t trail         # … the eight bytes before the next ones to search
    cdef uint64_t looked        # bytes searched without finding any HTTP
    cdef bint gapped            # bytes of unknown meaning are missing somewhere before
    cdef int64_t candidate      # offset of the start that the search found
    cdef uint64_t candidate_ns
    cdef int64_t candidate_ack  # offset that its frame acknowledged in the other direction; -1: unknown
    cdef bint candidate_request
    cdef bint candidate_starts  # it stands at the start of a piece
    cdef bint candidate_first   # … and that means something
    cdef bint candidate_apart   # an empty line stands before it
    cdef int64_t lost_to        # the end of the last piece that left the reader LOST

    cdef bint find(self, Input* source, Limits limits, Tally tally) except -1
    cdef int place(self) except -1
    cdef bint find_cut(self, Limits limits) except -1
    cdef int keep(self, Input* source, size_t start, Tally tally) except -1
    cdef int passing(self, const Input* source, size_t count) except -1
    cdef int gather(self, const Input* source, bint first) except -1
    cdef int pass_over(self, uint64_t count, Tally tally) noexcept
    cdef int forget(self, Tally tally) except -1
    cdef bint behind_chunks(self) noexcept
    cdef int refuse(self, Input* source, Tally tally) except -1


cdef bint alone_in(const uint8_t* p, uint32_t size) noexcept nogil
