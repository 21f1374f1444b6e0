# cython: language_level=3
"""Acceptance: the segments that a host accepts, by the knowledge of a passive reader."""
from libc.stdint cimport int32_t, int64_t, uint32_t

from workers.tcp.segment cimport ACK, RST, SYN, Segment
from workers.tcp.stream cimport ORIGIN, WINDOW, Stream, offset_of, window_of


cdef bint answers(const Stream* stream, uint32_t ack) noexcept:
    """Return whether this acknowledges the stream's SYN, and no byte that was not sent with it or after it."""
    cdef uint32_t sent = stream.next_seq - stream.first_seq + <uint32_t>(max(stream.edge, stream.next) - stream.next)
    return <uint32_t>(ack - stream.first_seq) <= sent


cdef bint takes_part(const Stream* stream, const Segment* segment) noexcept:
    """Return whether the sender of the stream's SYN accepts this as the other side's first segment. RFC 9293 section 3.10.7.3.

    A RST may be its last segment, but is no part of a connection."""
    if segment.flags & RST:
        return False
    return answers(stream, segment.ack) if segment.flags & ACK else segment.flags & SYN != 0


cdef bint possible(const Stream* stream, uint32_t ack, const Stream* peer) noexcept:
    """Return acceptable() for any acknowledgement.

    Bytes may be on their way through another interface, or lost: this refuses only impossible numbers. A number is too old
    if it lies before the largest window that the peer has offered, or before the first byte.
    """
    cdef int64_t offset = offset_of(stream, ack)
    if not stream.seen or not stream.anchored:
        return True
    if offset - max(stream.next, stream.edge) > window_of(stream, peer):
        return False
    if stream.midstream or not stream.scaled or not peer.scaled:
        return True
    if offset < min(stream.acked, stream.next) - <int64_t>stream.window:
        return False
    return stream.next - ORIGIN >= WINDOW or offset >= offset_of(stream, stream.first_seq)


cdef bint stale(Stream* stream, const Segment* segment, const Stream* peer) noexcept:
    """Return whether the frame's time stamp is older than its receiver's TS.Recent (RFC 7323 section 5); else record it."""
    if not segment.stamped or segment.flags & (SYN | RST):
        return False
    if not stream.stamped:
        if stream.scaled:
            return False                # its SYN had none
        stream.stamped = True
    if not peer.stamped:
        return False
    if stream.stamp_known and <int32_t>(segment.stamp - stream.stamp) < 0:
        return True
    if stream.anchored and offset_of(stream, segment.seq) <= stream.acked:
        stream.stamp = segment.stamp
        stream.stamp_known = True
    return False
