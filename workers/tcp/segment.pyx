# cython: language_level=3
"""The reader of a Segment from a frame and its Record, about 5 ns.

Length proof for every function here: BatchReader.next() holds net + 20 (IPv4) or net + 40 (IPv6) <= tcp and
tcp + 20 <= caplen.
"""
from libc.stdint cimport int8_t, uint8_t, uint16_t, uint32_t, uint64_t

from appliance.ipc.frame_batch cimport RECORD_AMBIGUOUS, Record
from appliance.wire.flow_key cimport be16, be32

cdef enum:
    OPTION_END = 0
    OPTION_NOP = 1
    OPTION_SCALE = 3
    OPTION_STAMPS = 8
    LARGEST_SCALE = 14          # RFC 7323 section 2.3
    USUAL = 0x0101080A          # two NOPs and the time stamps, which nearly every host sends first: RFC 7323 appendix A


cdef bint read_segment(const uint8_t* frame, const Record* record, Segment* out) noexcept nogil:
    """Read a segment; return False if the header's own length is invalid. The payload is cut to [tcp + header, caplen)."""
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
    out.stamped = False
    if header >= 32 and captured >= 32 and be32(tcp + 20) == USUAL and not out.flags & SYN:
        out.stamped = True
        out.stamp = be32(tcp + 24)
    elif header > 20:
        read_options(tcp, min(header, captured), out)
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
    """Combine the fields that two copies of a frame have in common into one word; never 0."""
    cdef uint64_t word = (<uint64_t>segment.seq << 32 | segment.ack) * 0x9E3779B97F4A7C15ULL
    word ^= (<uint64_t>number << 48 | <uint64_t>checksum << 32 | <uint64_t>segment.flags << 24) + segment.length
    word *= 0xD6E8FEB86659FD93ULL
    return <uint32_t>(word >> 32) | 1


cdef int read_options(const uint8_t* tcp, uint32_t size, Segment* out) noexcept nogil:
    """Read the window scale of a SYN and the time stamp from the options in tcp[20:size]; the first of each counts."""
    cdef uint32_t at = 20
    while at < size and tcp[at] != OPTION_END:
        if tcp[at] == OPTION_NOP:
            at += 1
            continue
        if at + 2 > size or tcp[at + 1] < 2:
            break
        if tcp[at] == OPTION_SCALE and tcp[at + 1] == 3 and at + 3 <= size and out.flags & SYN and out.scale == NO_SCALE:
            out.scale = <int8_t>min(tcp[at + 2], <uint8_t>LARGEST_SCALE)
        elif tcp[at] == OPTION_STAMPS and tcp[at + 1] == 10 and at + 10 <= size and not out.stamped:
            out.stamped = True
            out.stamp = be32(tcp + at + 2)
        at += tcp[at + 1]
    return 0
