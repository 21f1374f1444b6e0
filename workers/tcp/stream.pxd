# cython: language_level=3
"""Stream: one direction of a TCP connection, segments in, in-order pieces out."""
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t

from workers.core.context cimport Context
from workers.tcp.segment cimport ACK, Segment

cdef enum:
    WINDOW = 1 << 30            # RFC 7323 section 2.3: no window is larger
    UNCERTAIN = 10              # times the gap timeout: the wait of a hole or FIN for its receiver's acknowledgement


cdef extern from *:
    """
    #define ORIGIN ((int64_t)1 << 32)
    """
    const int64_t ORIGIN        # offset of the first sequence number that a frame names


cdef enum Mark:                 # of a piece, and of the message it belongs to: bits, as in message.pxd's Anomaly
    CONFLICT = 1 << 0           # two copies of its bytes differ
    AMBIGUOUS = 1 << 1          # the frame was made of fragments that contradicted each other


cdef enum Doubt:                # reasons to deliver held bytes only once the other side has acknowledged them: bits
    OPENING = 1 << 0            # they came with a SYN
    REFUSED = 1 << 1            # a host refuses the frame's acknowledgement number or time stamp
    OUTDONE = 1 << 2            # a better copy replaced other bytes of their frame


cdef enum Sure:                 # the reason to take a FIN for the end
    UNSURE
    GRANTED                     # no segment has contradicted it for long enough
    ACKNOWLEDGED


cdef struct Piece:
    const uint8_t* data         # valid until the next call on any stream
    uint32_t length
    uint32_t missing            # bytes known to be missing behind data (cut off by the snapshot length)
    int64_t offset              # of data[0] in its stream
    uint64_t ts_ns              # of the frame that brought it
    uint32_t ack                # acknowledgement number of that frame
    bint has_ack
    int64_t peer_ack            # … as an offset in the other stream; -1 unknown
    int marks                   # Mark, of its bytes from marked_from to marked_to
    int64_t marked_from
    int64_t marked_to


cdef struct Held:               # a segment's bytes that wait for those before them, or for the other direction
    int64_t offset
    uint8_t* data               # its own, malloc'd; NULL if there are none
    int64_t differs_from        # the range of conflicting copies
    int64_t differs_to
    uint64_t ts_ns
    uint32_t length
    uint32_t missing
    uint32_t ack
    uint8_t has_ack
    uint8_t marks
    uint8_t doubts              # Doubt


cdef struct Stream:             # all zero at first
    uint8_t seen                # a frame of this direction was captured
    uint8_t absent              # no frame came in time: the capture is one-sided
    uint8_t known               # a frame of either direction named one of its sequence numbers
    uint8_t anchored            # its first byte is known (or decided)
    uint8_t midstream           # the first byte was decided without a SYN
    uint8_t finished            # every byte up to FIN was delivered
    uint8_t fin_seen            # a FIN stands at fin_at; the end once it is sure and every byte before it was delivered
    uint8_t fin_sure            # Sure
    uint8_t fin_refused         # a host refuses its acknowledgement number or time stamp: counts only if acknowledged
    uint8_t stamped             # its frames have time stamps
    uint8_t stamp_known         # `stamp` is the other side's TS.Recent
    uint8_t scaled              # its SYN was captured, so `scale` is valid
    int8_t scale                # of the windows that its frames offer
    uint8_t newest              # place of the last frame's fingerprint
    uint32_t next_seq           # sequence number and offset of the byte to deliver next
    uint32_t first_seq          # sequence number of the first byte, once anchored
    uint32_t window             # the largest that the other side has offered for it, in bytes
    uint32_t stamp              # of the newest frame that the other side has in order: TS.Recent of RFC 7323
    int64_t next
    int64_t edge                # the highest end of a segment so far
    int64_t acked               # the highest acknowledgement of the other side
    int64_t gap_from            # the last gap: its bytes count as late if they still come
    int64_t gap_to
    int64_t lowest              # while not anchored: the lowest offset that any frame named
    int64_t fin_at
    int64_t fin_behind          # another FIN behind that one, which counts if the first was not the end; 0: none
    uint64_t fin_since          # clock when every byte before fin_at was there; 0: not yet
    int64_t released            # held pieces that acknowledge up to this offset of the peer do not wait for it any more
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


cdef inline int64_t reached(const Stream* stream) noexcept nogil:
    """Return the offset behind its delivered bytes. Its FIN is none."""
    return stream.next - stream.finished


cdef inline bint at_end(const Stream* stream) noexcept nogil:
    """Return whether every byte before its FIN is delivered, and none behind it."""
    return stream.fin_seen and stream.anchored and not stream.finished and stream.next == stream.fin_at


cdef inline bint repeated(Stream* stream, uint32_t fingerprint) noexcept:
    """Return whether this frame repeats one of its direction's last frames bit by bit: a copy made on the way.

    Otherwise remember its fingerprint. A retransmission has another fingerprint."""
    if fingerprint == 0:
        return False
    if (fingerprint == stream.fingerprints[0] or fingerprint == stream.fingerprints[1]
            or fingerprint == stream.fingerprints[2] or fingerprint == stream.fingerprints[3]):
        return True
    stream.newest = (stream.newest + 1) & 3
    stream.fingerprints[stream.newest] = fingerprint
    return False


cdef inline void deliver(Stream* stream, const Segment* segment, Piece* out, Context cx) noexcept:
    """Deliver a segment whose first byte is the next one, as the piece `out`."""
    cdef int64_t offset = stream.next
    out.data = segment.payload
    out.length = segment.captured
    out.missing = segment.length - segment.captured
    out.offset = offset
    out.ts_ns = segment.ts_ns
    out.ack = segment.ack
    out.has_ack = segment.flags & ACK
    out.marks = AMBIGUOUS if segment.ambiguous else 0
    out.marked_from = offset
    out.marked_to = offset + segment.captured
    stream.next += segment.length
    stream.next_seq += segment.length
    stream.edge = max(stream.edge, stream.next)
    cx.tally.delivered += segment.captured
    if segment.captured:
        stream.past = cx.history.remember(stream.past, offset, segment.payload, segment.captured)


cdef bint ends_well(const Stream* stream) noexcept
cdef int note_sequence(Stream* stream, uint32_t seq) noexcept
cdef int set_first_byte(Stream* stream, uint32_t seq, Context cx) except -1
cdef int begin_again(Stream* stream, uint32_t seq, Context cx) except -1
cdef int begin_midstream(Stream* stream, Context cx) except -1
cdef int acknowledge(Stream* stream, uint32_t ack, const Stream* peer, Context cx) noexcept
cdef int64_t window_of(const Stream* stream, const Stream* peer) noexcept
cdef bint unseen(const Stream* stream, uint32_t ack) noexcept
cdef bint hole_is_lost(const Stream* stream, const Stream* peer) noexcept
cdef bint waits_for_peer(const Stream* stream) noexcept
cdef bint behind_hole(const Stream* stream, const Stream* peer) noexcept
cdef uint64_t next_timeout(const Stream* stream, const Stream* peer, Context cx) noexcept
cdef bint over_limit(const Stream* stream, Context cx) noexcept
cdef int take_segment(Stream* stream, const Segment* segment, bint refused, Stream* peer, Piece* out, Context cx) except -1
cdef int refuse_early(Stream* stream, Context cx) except -1
cdef int end(Stream* stream, const Segment* segment, bint refused, Stream* peer, Context cx) except -1
cdef int acknowledge_fin(Stream* stream, uint32_t ack) noexcept
cdef int discard_fin(Stream* stream, Context cx) except -1
cdef int pull(Stream* stream, Stream* peer, Piece* out, Context cx) except -1
cdef int64_t give_up(Stream* stream, Stream* peer, Context cx) except -1
cdef int drop_all(Stream* stream, uint64_t* counter, Context cx) except -1
cdef int release(Stream* stream) noexcept
