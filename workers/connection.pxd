# cython: language_level=3
"""Connection: two streams of TCP, and what may end them. What their bytes mean, a subclass says."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from appliance.flow cimport FlowKey
from workers.context cimport Context
from workers.segment cimport Segment
from workers.stream cimport Piece, Stream

cdef enum:                      # a side of a connection: index of its stream
    LOW = 0                     # from the lower endpoint of the key
    HIGH = 1


cdef enum Ending:
    OPEN
    BY_FIN
    BY_RST
    BY_TIMEOUT
    BY_EVICTION
    BY_HALF_OPEN
    BY_REUSE
    BY_SHUTDOWN


cdef class Early:               # a segment that may belong to the next connection on these ports
    cdef Segment segment        # its payload is `data`
    cdef bytes data
    cdef int side


cdef class Connection:
    cdef FlowKey key
    cdef uint64_t hash
    cdef uint64_t last_ns       # clock at its last frame
    cdef uint64_t reset_ns      # clock when a RST was believed; 0: none
    cdef uint32_t slot          # its place in the table
    cdef uint16_t capture       # which interface it was first seen on
    cdef uint8_t ending         # Ending
    cdef uint8_t shed           # share of the new flows that the capture left out when this one began, in 256ths
    cdef uint8_t next_shed      # the same of a SYN that came later: of the connection that may follow on these ports
    cdef uint8_t queued         # the table will call expire() soon
    cdef uint8_t opening        # the table counts it among the half-open
    cdef uint8_t opener         # the side (plus 1) whose SYN, without ACK, was seen
    cdef uint8_t proven         # both ends were seen to take part, or one sends on and on
    cdef uint8_t reset_side     # whose RST it was
    cdef uint8_t reset_early    # the side (plus 1) whose RST came before bytes that it follows
    cdef uint8_t alive          # a RST was believed, and the connection went on
    cdef uint8_t reopening      # the side (plus 1) whose SYN announced a new connection on these ports
    cdef uint8_t reopen_inside  # its number could be this connection's, so that only a SYN-ACK confirms it
    cdef uint32_t reset_seq     # number of that RST
    cdef int64_t reset_edge     # how far the other side's bytes were seen when the RST came
    cdef uint32_t reopen_seq    # first byte of that connection
    cdef uint32_t stray_seq     # a segment that nobody believed: what an answer to it would acknowledge
    cdef uint64_t strayed_ns    # clock when the last one came
    cdef uint32_t stray_ack     # and what that answer would start with
    cdef uint8_t stray          # whose it was, plus 1
    cdef uint8_t strange        # the other side has answered it: these are another connection's numbers
    cdef list early             # [Early] that this connection did not believe, the last ones; None while there are none
    cdef Stream[2] streams

    # What a subclass does with the bytes.
    cdef int warm(self, int step) noexcept
    cdef int take(self, int side, const Piece* piece, Context cx) except -1
    cdef int skip(self, int side, int64_t count, Context cx) except -1
    cdef int over(self, int side, bint by_fin, Context cx) except -1
    cdef int mark(self, int side, int64_t start, int64_t stop, int marks, Context cx) except -1
    cdef int greet(self, int side, Context cx) except -1
    cdef int done(self, Context cx) except -1

    cdef bint replaced_by(self, const Segment* segment, int side, Context cx) except -1
    cdef int accept(self, const Segment* segment, int side, Context cx) except -1
    cdef bint undoes_reset(self, const Segment* segment, int side) noexcept
    cdef int wander(self, const Segment* segment, int side, Context cx) except -1
    cdef int forget_early(self, Context cx) except -1
    cdef int succeed(self, Connection before, Context cx) except -1
    cdef int announce(self, const Segment* segment, int side, Context cx) except -1
    cdef int believe(self, int side, Context cx) noexcept
    cdef int reset(self, const Segment* segment, int side, Context cx) except -1
    cdef int prove(self, const Segment* segment, int side) except -1
    cdef int give(self, int side, const Piece* piece, Context cx) except -1
    cdef int drain(self, Context cx) except -1
    cdef int give_up(self, int side, Context cx) except -1
    cdef bint waits(self) noexcept
    cdef int expire(self, Context cx) except -1
    cdef int finish(self, Ending ending, Context cx) except -1
