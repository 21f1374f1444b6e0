# cython: language_level=3
"""Connection: two streams, two message readers, one pairer."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from workers.http1 cimport Input, MessageReader, Step
from workers.limits cimport Limits
from workers.segment cimport Segment
from workers.stream cimport Piece, Stream
from workers.tally cimport Tally
from workers.transaction cimport Flow, Pairer


cdef class Half:                # one direction
    cdef Stream stream
    cdef MessageReader reader
    cdef bint begun             # a head was read


cdef enum Ending:
    OPEN
    BY_FIN
    BY_RST
    BY_TIMEOUT
    BY_EVICTION
    BY_REUSE
    BY_SHUTDOWN


cdef class Connection:
    cdef Flow flow
    cdef uint64_t hash
    cdef uint64_t last_ns       # clock at its last frame
    cdef uint64_t reset_ns      # clock when a RST was reached; 0: none
    cdef uint32_t slot          # its place in the table
    cdef bint queued            # the table will call expire() soon
    cdef Ending ending
    cdef Half low               # from the lower endpoint of the key
    cdef Half high
    cdef Half client            # low or high once HTTP said so
    cdef Pairer pairer
    cdef uint32_t reopen_seq    # first byte of a new connection that a SYN on this one announced
    cdef Half reopening         # the half that SYN came from

    cdef int open(self, Flow flow, uint64_t hash) except -1
    cdef bint replaced_by(self, const Segment* segment, bint from_low) except -1
    cdef uint32_t first_seq(self, Half half)
    cdef int accept(self, const Segment* segment, bint from_low, uint64_t now, Limits limits, Tally tally,
                    list out) except -1
    cdef int drain(self, uint64_t now, Limits limits, Tally tally, list out) except -1
    cdef int read(self, Half mine, Half peer, const Piece* piece, Limits limits, Tally tally, list out) except -1
    cdef int say(self, Half mine, Step step, Limits limits, Tally tally, list out) except -1
    cdef int head(self, Half mine, Limits limits, Tally tally, list out) except -1
    cdef int end(self, Half mine, Tally tally, list out) except -1
    cdef int gap(self, Half mine, uint64_t count, Limits limits, Tally tally, list out) except -1
    cdef int close(self, Half mine, bint by_fin, Limits limits, Tally tally, list out) except -1
    cdef int give_up(self, Half mine, Half peer, uint64_t now, Limits limits, Tally tally, list out) except -1
    cdef bint waits(self) noexcept
    cdef int expire(self, uint64_t now, Limits limits, Tally tally, list out) except -1
    cdef int finish(self, Ending ending, uint64_t now, Limits limits, Tally tally, list out) except -1
