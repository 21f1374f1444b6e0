# cython: language_level=3
"""Stream: one direction of a TCP connection, segments in, in-order pieces out."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from workers.limits cimport Limits
from workers.segment cimport Segment
from workers.tally cimport Tally


cdef struct Piece:
    const uint8_t* data         # valid until the next call on the stream that gave it
    uint32_t length
    uint32_t missing            # bytes known to be missing behind data (cut off by the snapshot length)
    int64_t offset              # of data[0] in its stream
    uint64_t ts_ns              # of the frame that brought it
    uint32_t ack                # acknowledgement number of that frame
    bint has_ack


cdef class Held:
    """A segment's bytes that wait for those before them, or for the other direction."""
    cdef int64_t offset
    cdef bytes data
    cdef uint32_t missing
    cdef uint64_t ts_ns
    cdef uint32_t ack
    cdef bint has_ack


cdef class Stream:
    cdef bint seen              # a frame of this direction was captured
    cdef bint absent            # none was in time: it is not waited for
    cdef bint known             # a frame of either direction spoke of its sequence numbers
    cdef bint anchored          # it is known (or decided) which byte is the first
    cdef bint midstream         # the first byte was decided without a SYN
    cdef bint finished          # every byte up to FIN was delivered
    cdef bint fin_seen
    cdef uint32_t next_seq      # sequence number and offset of the byte to deliver next
    cdef int64_t next
    cdef int64_t origin         # offset of the first byte, once anchored
    cdef int64_t lowest         # while not anchored: the lowest offset any frame spoke of
    cdef int64_t fin_at
    cdef int64_t released       # acknowledgements up to this offset of the peer are not waited for any more
    cdef list held              # [Held] in order of offset, None while nothing is held
    cdef uint32_t held_bytes
    cdef uint64_t held_since    # clock when the first held piece began to wait; 0: nothing is held
    cdef Held given             # keeps the bytes of the last pulled piece alive

    cdef int64_t offset_of(self, uint32_t seq) noexcept
    cdef int touch(self, uint32_t seq) except -1
    cdef int anchor(self, uint32_t seq, Tally tally) except -1
    cdef int settle(self, Tally tally) except -1
    cdef bint unseen(self, uint32_t ack) noexcept
    cdef int offer(self, const Segment* segment, Stream peer, uint64_t now, Piece* out, Tally tally) except -1
    cdef int hold(self, const Segment* segment, int64_t offset, uint64_t now, Tally tally) except -1
    cdef int end(self, const Segment* segment, uint64_t now, Tally tally) except -1
    cdef int keep(self, int position, int64_t offset, bytes data, uint32_t missing, const Segment* segment,
                  Tally tally) except -1
    cdef bint waits_for_peer(self) noexcept
    cdef bint over_limit(self, Limits limits, Tally tally) noexcept
    cdef int pull(self, Stream peer, uint64_t now, Piece* out, Tally tally) except -1
    cdef int64_t give_up(self, Stream peer, uint64_t now, Tally tally) except -1
    cdef int drop_all(self, Tally tally) except -1
