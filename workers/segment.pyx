# cython: language_level=3
"""A frame and its Record to a Segment, about 5 ns; and whether its checksums are right, about 1 ns for 16 bytes.

Length proof for every function here: BatchReader.next() holds net + 20 (IPv4) or net + 40 (IPv6) <= tcp and
tcp + 20 <= caplen.
"""
from libc.stdint cimport int8_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from appliance.batch cimport RECORD_AMBIGUOUS, Record
from appliance.flow cimport be16, be32

cdef enum:
    OPTION_END = 0
    OPTION_NOP = 1
    OPTION_SCALE = 3
    LARGEST_SCALE = 14          # RFC 7323 section 2.3
    ROUTING = 43
    FRAGMENT = 44
    AUTHENTICATION = 51


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


cdef inline uint64_t sum_words(const uint8_t* p, uint32_t size) noexcept nogil:
    """The 32-bit words of p[0:size] added up, in this machine's byte order: RFC 1071 section 2 (B) allows it."""
    cdef uint64_t total = 0
    cdef uint32_t word, i
    cdef uint32_t whole = size & ~<uint32_t>3
    for i in range(0, whole, 4):
        memcpy(&word, p + i, 4)
        total += word
    word = 0
    memcpy(&word, p + whole, size - whole)
    return total + word


cdef inline uint16_t folded(uint64_t total) noexcept nogil:
    """A sum in one's complement, 16 bits wide."""
    total = (total & 0xFFFFFFFFULL) + (total >> 32)
    total = (total & 0xFFFFFFFFULL) + (total >> 32)
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return <uint16_t>total


cdef Checksum verify(const uint8_t* frame, const Record* record) noexcept nogil:
    """The checksums of IPv4 header (RFC 791) and TCP segment (RFC 9293 section 3.1), with its pseudo header.

    A sender that leaves the sum to its card has put the sum of the pseudo header there; a frame captured on that host
    looks so, and one that the kernel merged from several (GRO) too.
    """
    cdef const uint8_t* ip = frame + record.net
    cdef const uint8_t* tcp = frame + record.tcp
    cdef uint64_t pseudo
    cdef uint32_t header
    cdef uint16_t stored
    cdef uint8_t length[4]
    if record.caplen - record.tcp < record.tcp_length:
        return UNVERIFIED
    length[0] = <uint8_t>(record.tcp_length >> 24)
    length[1] = <uint8_t>(record.tcp_length >> 16)
    length[2] = <uint8_t>(record.tcp_length >> 8)
    length[3] = <uint8_t>record.tcp_length
    pseudo = sum_words(length, 4) + <uint64_t>(6 << 8)          # protocol TCP, in the low byte of its 16-bit word
    if ip[0] >> 4 == 4:
        header = min(<uint32_t>(ip[0] & 0x0F) * 4, <uint32_t>record.tcp - record.net)
        memcpy(&stored, ip + 10, 2)
        if stored and folded(sum_words(ip, header)) != 0xFFFF:
            return BAD
        pseudo += sum_words(ip + 12, 8)
    else:
        pseudo += sum_words(ip + 8, 32)
    if folded(pseudo + sum_words(tcp, record.tcp_length)) == 0xFFFF:
        return GOOD
    memcpy(&stored, tcp + 16, 2)
    if stored == folded(pseudo):
        return OFFLOADED
    return UNVERIFIED if routed(ip, <uint32_t>record.tcp - record.net) else BAD


cdef bint routed(const uint8_t* ip, uint32_t size) noexcept nogil:
    """Is this IPv6 packet (size bytes before the TCP header) on a route? Its checksum is made for the last address of it."""
    cdef uint32_t at = 40
    cdef uint8_t proto = ip[6]
    if ip[0] >> 4 != 6:
        return False
    while at + 2 <= size:
        if proto == ROUTING and at + 4 <= size and ip[at + 3]:      # segments left: RFC 8200 section 4.4
            return True
        proto, at = ip[at], at + (8 if proto == FRAGMENT else (ip[at + 1] + 2) * 4 if proto == AUTHENTICATION
                                  else (ip[at + 1] + 1) * 8)
    return False
