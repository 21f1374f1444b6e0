# cython: language_level=3
"""Acceptance: the segments that a host accepts."""
from libc.stdint cimport int32_t, int64_t, uint32_t

from workers.tcp.segment cimport Segment
from workers.tcp.stream cimport Stream, offset_of


cdef bint answers(const Stream* stream, uint32_t ack) noexcept
cdef bint takes_part(const Stream* stream, const Segment* segment) noexcept
cdef bint possible(const Stream* stream, uint32_t ack, const Stream* peer) noexcept
cdef bint stale(Stream* stream, const Segment* segment, const Stream* peer) noexcept


cdef inline bint acceptable(const Stream* stream, uint32_t ack, const Stream* peer) noexcept:
    """Return whether the sender of this stream may accept a frame with this acknowledgement. RFC 5961 section 5.

    Nearly every one lies between the acknowledged and the captured bytes, behind the first byte; possible() has the rest."""
    cdef int64_t offset = offset_of(stream, ack)
    return (stream.acked <= offset <= stream.edge and <int32_t>(ack - stream.first_seq) >= 0) or possible(stream, ack, peer)
