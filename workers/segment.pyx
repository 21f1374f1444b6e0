# cython: language_level=3
"""A frame and its Record to a Segment, about 5 ns.

Length proof for every function here: BatchReader.next() holds net + 20 (IPv4) or net + 40 (IPv6) <= tcp and
tcp + 20 <= caplen.
"""
from libc.stdint cimport int8_t, uint8_t, uint16_t, uint32_t, uint64_t

from appliance.batch cimport RECORD_AMBIGUOUS, Record
from appliance.flow cimport be16, be32

cdef enum:
    OPTION_END = 0
    OPTION_NOP = 1
    OPTION_SCALE = 3
    LARGEST_SCALE = 14          # RFC 7323 section 2.3


cdef bint read_segment(const uint8_t* frame, const Record* record, Segment* out) noexcept nogil:
    """False if the header's own length makes no sense. The payload is cut to [tcp + header, caplen)."""
    cdef const uint8_t* ip = frame + record.net
    cdef const uint8_t* tcp = frame + record.tcp
    cdef uint32_t header = (tcp[12] >> 4) * 4
    cdef uint32_t captured = record.caplen - record.tcp
    if header < 20 or header > record.tcp_length:
        return False
    out.seq = be32(tcp + 4)
    out.ack = be32(tcp + 8)
    out.flags = tcp[13]
    out.window = be16(tcp + 14)
    out.ts_ns = record.ts_ns
    out.length = record.tcp_length - header
    out.captured = min(captured - header, out.length) if captured > header else 0
    out.payload = tcp + header if out.captured else tcp
    out.ambiguous = record.vlans & RECORD_AMBIGUOUS != 0
    out.scale = NO_SCALE
    if out.flags & SYN:
        out.scale = window_scale(tcp, min(header, captured))
    # Without a number for each datagram (IPv6, or IPv4 as RFC 6864 section 4.1 allows) two acknowledgements may be equal
    # bit by bit and yet two frames.
    if ip[0] >> 4 == 4 and be16(ip + 4):
        out.fingerprint = mixed(out, be16(ip + 4), be16(tcp + 16))
    elif out.length or out.flags & (SYN | FIN):
        out.fingerprint = mixed(out, 0, be16(tcp + 16))
    else:
        out.fingerprint = 0
    return True


cdef inline uint32_t mixed(const Segment* segment, uint16_t number, uint16_t checksum) noexcept nogil:
    """One word of what two copies of a frame have in common; never 0."""
    cdef uint64_t word = (<uint64_t>segment.seq << 32 | segment.ack) * 0x9E3779B97F4A7C15ULL
    word ^= (<uint64_t>number << 48 | <uint64_t>checksum << 32 | <uint64_t>segment.flags << 24) + segment.length
    word *= 0xD6E8FEB86659FD93ULL
    return <uint32_t>(word >> 32) | 1


cdef int8_t window_scale(const uint8_t* tcp, uint32_t size) noexcept nogil:
    """The window scale among the options in tcp[20:size]."""
    cdef uint32_t at = 20
    while at < size and tcp[at] != OPTION_END:
        if tcp[at] == OPTION_NOP:
            at += 1
            continue
        if at + 2 > size or tcp[at + 1] < 2:
            break
        if tcp[at] == OPTION_SCALE and tcp[at + 1] == 3 and at + 3 <= size:
            return <int8_t>min(tcp[at + 2], <uint8_t>LARGEST_SCALE)
        at += tcp[at + 1]
    return NO_SCALE
