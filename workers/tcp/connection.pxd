# cython: language_level=3
"""Connection: two streams of TCP, and the events that may end them. Its application interprets their bytes."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from workers.core.context cimport Context
from workers.tcp.application cimport HIGH, LOW, Transport
from workers.tcp.flow_counts cimport Counts, Past
from workers.tcp.reset cimport Reset
from workers.tcp.segment cimport SYN, Segment
from workers.tcp.stream cimport Piece, Stream

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


cdef class Connection(Transport):
    cdef uint64_t hash
    cdef uint64_t last_ns       # clock at its last frame
    cdef uint64_t newest_ns     # the highest time stamp of its frames
    cdef Reset reset
    cdef uint32_t slot          # its place in the table
    cdef uint8_t ending         # Ending
    cdef uint8_t next_shed      # `shed` of a later SYN: of the connection that may follow on these ports
    cdef uint8_t queued         # the table will run its timers soon
    cdef uint8_t watched        # … in a while, because of a FIN
    cdef uint8_t opening        # the table counts it among the half-open
    cdef uint8_t steady         # established, and no wait or end is open: accept_next() suffices for most segments
    cdef uint8_t proven         # frames of both ends confirm it, or one end sends consecutive data
    cdef uint8_t reopening      # the side (plus 1) whose SYN announced a new connection on these ports
    cdef uint8_t reopen_inside  # its number could be this connection's, so that only a SYN-ACK confirms it
    cdef uint32_t reopen_seq    # first byte of that connection
    cdef uint32_t stray_seq     # the acknowledgement number of an answer to the last refused segment
    cdef uint64_t strayed_ns    # clock when the last one came
    cdef uint32_t stray_ack     # and the sequence number of that answer
    cdef uint8_t stray          # the refused segment's side, plus 1
    cdef uint8_t strange        # the other side has answered it: these are another connection's numbers
    cdef uint8_t spoke_at_end   # its protocol when it ended: see counts.pxd
    cdef Counts[2] counts       # by side, for its flow events, as are the next two
    cdef uint32_t handshake     # ns plus 1; 0: unknown, or in `past`
    cdef Past* past             # NULL: it needs none so far
    cdef list early             # [Early]: the last segments that this connection refused; None while there are none

    cdef bint is_tcp(self) noexcept
    cdef bint replaced_by(self, const Segment* segment, int side, uint32_t turns, Context cx) except -1
    cdef bint accept_next(self, const Segment* segment, int side, Context cx) except -1
    cdef int accept(self, const Segment* segment, int side, Context cx) except -1
    cdef bint is_steady(self) noexcept
    cdef int record_stray(self, const Segment* segment, int side, Context cx) except -1
    cdef int forget_early(self, Context cx) except -1
    cdef int inherit(self, Connection before, Context cx) except -1
    cdef bint begin_streams(self, const Segment* segment, int side, Context cx) except -1
    cdef int establish(self, const Segment* segment, int side) except -1
    cdef int deliver_piece(self, int side, Piece* piece, Context cx) except -1
    cdef int pass_piece(self, int side, const Piece* piece, Context cx) except -1
    cdef int report_gap(self, int side, int64_t count, Context cx) except -1
    cdef int count_repeated(self, int side, uint64_t count, Context cx) except -1
    cdef int report_end(self, int side, bint by_fin, Context cx) except -1
    cdef int begin(self) except -1
    cdef int deliver_held(self, Context cx) except -1
    cdef int give_up(self, int side, Context cx) except -1
    cdef bint waits(self) noexcept
    cdef int expire(self, Context cx) except -1
    cdef uint64_t next_timer(self, Context cx) noexcept
    cdef bint ends(self) noexcept
    cdef bint closed(self) noexcept
    cdef int expire_ends(self, Context cx) except -1
    cdef int accept_end(self, int side, Context cx) except -1
    cdef int finish(self, Ending ending, Context cx) except -1


cdef inline bint ended_by_fin(Connection connection) noexcept:
    """Return whether a connection that has ended counts as ended by FIN."""
    return connection.ending == BY_FIN or (
        connection.streams[LOW].finished and connection.streams[HIGH].finished
        and connection.ending in (BY_TIMEOUT, BY_REUSE, BY_SHUTDOWN))


cdef inline bint may_be_replaced(Connection connection, const Segment* segment, int side) noexcept:
    """Return whether replaced_by() is worth a call. For nearly every segment it is not."""
    return (segment.flags & SYN or connection.ending != OPEN or connection.strange or connection.reopening
            or connection.streams[side].fin_sure)


cdef inline bint may_wait(Connection connection) noexcept:
    """Return whether Table.await_more() is worth a call. For nearly every segment it is not."""
    return (connection.streams[LOW].held_count or connection.streams[HIGH].held_count or connection.reset.since
            or connection.streams[LOW].fin_since or connection.streams[HIGH].fin_since or connection.unsettled
            or connection.early is not None)
