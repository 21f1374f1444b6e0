# cython: language_level=3
"""The first bytes of a QUIC packet with a long header (RFC 9000, section 17.2; RFC 9369, section 3.2)."""
from libc.stdint cimport uint8_t, uint32_t

from appliance.wire.flow_key cimport be16, be32

cdef enum:
    UDP_BYTES = 8               # of a UDP header
    LEAST = 20                  # bytes of a UDP datagram with a whole packet, less than any has
    LONG = 0x80
    LONGEST_ID = 20             # of a connection id, in the versions below
    VERSION_1 = 1
    VERSION_2 = 0x6B3343CF
    FIRST_DRAFT = 0xFF000017    # draft 23: the first one with the keys of today's form
    LAST_DRAFT = 0xFF000022     # draft 34


cdef enum LongKind:
    INITIAL
    ZERO_RTT
    HANDSHAKE
    RETRY


cdef inline bint known_version(uint32_t version) noexcept nogil:
    """Return whether Initial packets of this version can be opened."""
    return version == VERSION_1 or version == VERSION_2 or FIRST_DRAFT <= version <= <uint32_t>LAST_DRAFT


cdef inline LongKind long_kind(uint8_t first, uint32_t version) noexcept nogil:
    """Return the kind of a packet of a known version by its first byte."""
    return <LongKind>(((first >> 4) + (3 if version == VERSION_2 else 0)) & 3)


cdef inline bint may_open(const uint8_t* p, uint32_t size) noexcept nogil:
    """Return whether a datagram of these `size` >= 12 readable bytes may tell of the opening of a connection.

    Its first packet is an Initial, or a 0-RTT or Retry packet, which come around it. Packets that come later only are
    none, nor is a Version Negotiation packet.
    """
    cdef uint32_t version
    if not p[0] & LONG:
        return False
    version = be32(p + 1)
    if not known_version(version) or long_kind(p[0], version) == HANDSHAKE or p[5] > LONGEST_ID:
        return False
    return 6 + <uint32_t>p[5] < size and p[6 + p[5]] <= LONGEST_ID


cdef inline bint begins_flow(const uint8_t* p) noexcept nogil:
    """Return whether the first packet of a datagram for which may_open() is true is an Initial."""
    return long_kind(p[0], be32(p + 1)) == INITIAL


cdef inline uint32_t datagram_bytes(const uint8_t* frame, uint32_t caplen, uint32_t at) noexcept nogil:
    """Return the length of the UDP datagram at `at` by its header, at least UDP_BYTES; 0 if there is none."""
    cdef uint32_t length
    if at + UDP_BYTES > caplen:
        return 0
    length = be16(frame + at + 4)
    return length if length >= UDP_BYTES else 0


cdef inline uint32_t opening_bytes(const uint8_t* frame, uint32_t caplen, uint32_t at) noexcept nogil:
    """Return the length of the UDP datagram at `at` by its header, if may_open() is true of its payload; else 0.

    It is at least LEAST, and as many bytes were captured. A datagram that is longer than what was captured was cut.
    """
    cdef uint32_t length
    if at + LEAST > caplen:
        return 0
    length = be16(frame + at + 4)
    if length < LEAST or not may_open(frame + at + UDP_BYTES, min(length, caplen - at) - UDP_BYTES):
        return 0
    return length
