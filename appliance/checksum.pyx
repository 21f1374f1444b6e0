# cython: language_level=3
"""Are the checksums of a segment right? About 1 ns for 16 bytes that are at hand, as they are when the frame is copied.

Length proof: locate() holds net + 20 (IPv4) or net + 40 (IPv6) <= tcp and tcp + 20 <= caplen.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from appliance.batch cimport Record

cdef enum:
    ROUTING = 43
    FRAGMENT = 44
    AUTHENTICATION = 51


cdef extern from *:
    """
    #if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__SANITIZE_ADDRESS__)
    __attribute__((target_clones("avx2", "default")))
    #endif
    static uint64_t sum_words(const uint8_t* p, uint32_t size) {
        uint64_t total = 0;
        uint32_t word = 0, at = 0;
        for (; at + 4 <= size; at += 4) {
            memcpy(&word, p + at, 4);
            total += word;
        }
        word = 0;
        memcpy(&word, p + at, size - at);
        return total + word;
    }
    """
    # The 32-bit words of p[0:size] added up, in this machine's byte order: RFC 1071 section 2 (B) allows it.
    uint64_t sum_words(const uint8_t* p, uint32_t size) noexcept nogil


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
