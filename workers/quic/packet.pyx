# cython: language_level=3
"""The headers of QUIC packets (RFC 9000, section 17; RFC 9369, section 3.2).

Length proof: every function reads p[i] only for i < size, or behind p < end.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from appliance.wire.flow_key cimport be32
from appliance.wire.quic_header cimport LONG, LONGEST_ID, known_version, long_kind

cdef enum:
    FIXED = 0x40


cdef bint varint(const uint8_t** p, const uint8_t* end, uint64_t* out) noexcept nogil:
    """Read a variable-length integer (RFC 9000, section 16). False: it is not all there."""
    cdef uint32_t size, i
    cdef uint64_t value
    if p[0] >= end:
        return False
    size = 1 << (p[0][0] >> 6)
    if <uint64_t>(end - p[0]) < size:
        return False
    value = p[0][0] & 0x3F
    for i in range(1, size):
        value = value << 8 | p[0][i]
    p[0] += size
    out[0] = value
    return True


cdef bint connection_id(const uint8_t** p, const uint8_t* end, Span* out) noexcept nogil:
    if p[0] >= end or <uint64_t>(end - p[0]) < 1 + <uint64_t>p[0][0]:
        return False
    out.size = p[0][0]
    out.p = p[0] + 1
    p[0] += 1 + out.size
    return True


cdef int parse_packet(const uint8_t* p, uint32_t size, Packet* out) noexcept nogil:
    """Parse the header of the packet at p; `size`: what is left of the datagram."""
    cdef const uint8_t* at = p + 5
    cdef const uint8_t* end = p + size
    cdef uint64_t length
    cdef Kind kind
    memset(out, 0, sizeof(Packet))
    out.kind = NO_PACKET
    out.p = p
    out.size = size
    if size == 0:
        return 0
    if not p[0] & LONG:
        if p[0] & FIXED:
            out.kind = SHORT
        return 0
    if size < 7:
        return 0
    out.version = be32(p + 1)
    if not connection_id(&at, end, &out.target) or not connection_id(&at, end, &out.source):
        return 0
    if out.version == 0:
        out.kind = NEGOTIATION
        return 0
    if not known_version(out.version):
        out.kind = UNKNOWN
        return 0
    # The fixed bit may be clear (RFC 9287).
    if out.target.size > LONGEST_ID or out.source.size > LONGEST_ID:
        return 0
    kind = <Kind>long_kind(p[0], out.version)
    if kind == RETRY:
        out.kind = RETRY
        return 0
    if kind == INITIAL:
        if not varint(&at, end, &length) or length > <uint64_t>(end - at):      # the token
            return 0
        at += length
    if not varint(&at, end, &length) or length > <uint64_t>(end - at):
        return 0
    out.kind = kind
    out.number_at = <uint32_t>(at - p)
    out.size = out.number_at + <uint32_t>length
    return 0
