# cython: language_level=3
"""Stream: one direction of a TCP connection, segments in, in-order pieces out."""
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t

from workers.context cimport Context
from workers.segment cimport Segment

cdef enum Mark:                 # of a piece, and of the message it belongs to: bits, as in message.pxd's Anomaly
    CONFLICT = 1 << 0           # bytes of it came in two versions
    AMBIGUOUS = 1 << 1          # the frame was made of fragments that contradicted each other


cdef struct Piece:
    const uint8_t* data         # valid until the next call on any stream
    uint32_t length
    uint32_t missing            # bytes known to be missing behind data (cut off by the snapshot length)
    int64_t offset              # of data[0] in its stream
    uint64_t ts_ns              # of the frame that brought it
    uint32_t ack                # acknowledgement number of that frame
    bint has_ack
    int marks                   # what is to be said about its bytes from marked_from to marked_to
    int64_t marked_from
    int64_t marked_to


cdef struct Held:               # a segment's bytes that wait for those before them, or for the other direction
    int64_t offset
    uint8_t* data               # its own, malloc'd; NULL if there are none
    int64_t differs_from        # the range that came in two versions
    int64_t differs_to
    uint64_t ts_ns
    uint32_t length
    uint32_t missing
    uint32_t ack
    uint8_t has_ack
    uint8_t marks
    uint8_t unproven            # came with a SYN: it counts only if the other side acknowledges it


cdef struct Stream:             # all zero at first
    uint8_t seen                # a frame of this direction was captured
    uint8_t absent              # none was in time: it is not waited for
    uint8_t known               # a frame of either direction spoke of its sequence numbers
    uint8_t anchored            # it is known (or decided) which byte is the first
    uint8_t midstream           # the first byte was decided without a SYN
    uint8_t finished            # every byte up to FIN was delivered
    uint8_t fin_seen
    uint8_t scaled              # its SYN was seen, so `scale` means something
    int8_t scale                # of the windows that its frames offer
    uint8_t newest              # place of the last frame's fingerprint
    uint32_t next_seq           # sequence number and offset of the byte to deliver next
    uint32_t first_seq          # sequence number of the first byte, once anchored
    uint32_t window             # the largest that the other side has offered for it, in bytes
    int64_t next
    int64_t edge                # the highest end of a segment so far
    int64_t acked               # the highest acknowledgement of the other side
    int64_t gap_from            # the last gap: bytes of it that come after all are late
    int64_t gap_to
    int64_t lowest              # while not anchored: the lowest offset any frame spoke of
    int64_t fin_at
    int64_t released            # acknowledgements up to this offset of the peer are not waited for any more
    uint64_t past               # its newest piece in the History
    Held* held                  # a sorted run in a buffer: [first, first + count)
    uint32_t held_first
    uint32_t held_count
    uint32_t held_room
    uint32_t held_bytes
    uint64_t held_since         # clock when the first held piece began to wait
    uint32_t[4] fingerprints    # of its last frames


cdef inline int64_t offset_of(const Stream* stream, uint32_t seq) noexcept nogil:
    return stream.next + <int32_t>(seq - stream.next_seq)


cdef int touch(Stream* stream, uint32_t seq) noexcept
cdef int anchor(Stream* stream, uint32_t seq, Context cx) except -1
cdef int settle(Stream* stream, Context cx) except -1
cdef int acknowledge(Stream* stream, uint32_t ack, const Stream* peer, Context cx) noexcept
cdef int64_t reach(const Stream* stream, const Stream* peer) noexcept
cdef bint repeated(Stream* stream, uint32_t fingerprint) noexcept
cdef bint unseen(const Stream* stream, uint32_t ack) noexcept
cdef bint certain(const Stream* stream, const Stream* peer) noexcept
cdef bint waits_for_peer(const Stream* stream) noexcept
cdef bint over_limit(const Stream* stream, Context cx) noexcept
cdef int offer(Stream* stream, const Segment* segment, Stream* peer, Piece* out, Context cx) except -1
cdef int refuse_early(Stream* stream, Context cx) except -1
cdef int end(Stream* stream, const Segment* segment, Stream* peer, Context cx) except -1
cdef int pull(Stream* stream, Stream* peer, Piece* out, Context cx) except -1
cdef int64_t give_up(Stream* stream, Stream* peer, Context cx) except -1
cdef int drop_all(Stream* stream, uint64_t* counter, Context cx) except -1
cdef int release(Stream* stream) noexcept
