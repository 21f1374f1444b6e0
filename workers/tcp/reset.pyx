# cython: language_level=3
"""Reset: which RST counts, and what shows that it was forged.

A RST counts if its number lies between the other side's acknowledgement and the last captured byte (RFC 9293 section
3.10.7.4, RFC 5961), and if its sender sends no more while the settle time runs. One that has overtaken bytes before it waits
for them.

It was forged if its sender goes on. It was forged, too, if the other side sends new data in order a second later, because a
host that has the RST sends none. Before that, the data may have been on their way when the RST came.
"""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

from workers.core.context cimport Context
from workers.tcp.acceptance cimport answers
from workers.tcp.segment cimport ACK, RST, Segment
from workers.tcp.stream cimport Stream, offset_of, window_of

cdef enum:
    ON_THEIR_WAY_NS = 1000000000    # longest time that data travel from their sender to the capture


cdef int take_reset(Reset* reset, const Segment* segment, int side, const Stream* mine, const Stream* peer, bint proven,
                    Context cx) noexcept:
    """Record a plausible RST. The connection ends later, since frames sent before it may still be on their way."""
    cdef int64_t offset = offset_of(mine, segment.seq)
    cdef int64_t seen = max(mine.edge, mine.next)
    if reset.since:
        return 0
    if not mine.anchored and peer.scaled and not proven and not (segment.flags & ACK and answers(peer, segment.ack)):
        cx.tally.resets_ignored += 1    # RFC 9293 section 3.10.7.3: a host that waits for its SYN's answer takes no other
        return 0
    if mine.anchored and (offset < min(mine.acked, seen) or offset - seen > max(<int64_t>1, window_of(mine, peer))):
        cx.tally.resets_ignored += 1
        return 0
    reset.seq = segment.seq
    if mine.anchored and offset > seen + 1:
        reset.early = <uint8_t>(side + 1)   # it has overtaken bytes before it, or is forged: those bytes decide
        return 0
    return accept_reset(reset, side, peer, cx)


cdef int accept_reset(Reset* reset, int side, const Stream* peer, Context cx) noexcept:
    """Accept the RST of a side, until something shows that it was forged. peer: the other side's stream."""
    reset.early = 0
    reset.since = max(cx.now, <uint64_t>1)
    reset.side = <uint8_t>side
    reset.edge = peer.edge
    return 0


cdef bint undoes(Reset* reset, const Segment* segment, int side, const Stream* mine, const Stream* peer, Context cx) noexcept:
    """Return whether a segment shows that the accepted RST was forged. mine: the stream of its side."""
    if segment.flags & RST:
        reset.twice |= side != reset.side
        return False
    if side != reset.side:
        return segment.length and not reset.twice and cx.now >= reset.since + ON_THEIR_WAY_NS \
            and offset_of(mine, segment.seq) == mine.edge
    if segment.length and <int32_t>(segment.seq + segment.length - reset.seq) > 0:
        return True
    return segment.flags & ACK and offset_of(peer, segment.ack) > reset.edge
