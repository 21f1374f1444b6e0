# cython: language_level=3
"""Are the checksums of a segment right? About 1 ns for 16 bytes that are at hand, as they are when the frame is copied.

Length proof: locate() holds net + 20 (IPv4) or net + 40 (IPv6) <= tcp and tcp + 20 <= caplen.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

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
        uint16_t half;
        for (; at + 4 <= size; at += 4) {
            memcpy(&word, p + at, 4);
            total += word;
        }
        word = 0;
        if (size & 2) {
            memcpy(&half, p + at, 2);
            word = half;
            at += 2;
        }
        if (size & 1)
            word |= (uint32_t)p[at] << (size & 2 ? 16 : 0);
        return total + word;
    }
    /* The same for a few words, without a call. */
    static inline uint64_t sum_few(const uint8_t* p, uint32_t size) {
        uint64_t total = 0;
        uint32_t word, at;
        for (at = 0; at < size; at += 4) {
            memcpy(&word, p + at, 4);
            total += word;
        }
        return total;
    }
    """
    # The 32-bit words of p[0:size] added up, in this machine's byte order: RFC 1071 section 2 (B) allows it.
    uint64_t sum_words(const uint8_t* p, uint32_t size) noexcept nogil
    uint64_t sum_few(const uint8_t* p, uint32_t size) noexcept nogil    # size: a multiple of 4


cdef inline uint16_t folded(uint64_t total) noexcept nogil:
    """Return a sum in one's complement, 16 bits wide."""
    total = (total & 0xFFFFFFFFULL) + (total >> 32)
    total = (total & 0xFFFFFFFFULL) + (total >> 32)
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return <uint16_t>total


cdef Checksum verify(const uint8_t* frame, uint32_t net, uint32_t tcp, uint32_t caplen,
                     uint32_t tcp_length) noexcept nogil:
    """Verify the checksums of the IPv4 header (RFC 791) and of the TCP segment with its pseudo header (RFC 9293, 3.1).

    A sender that leaves the checksum to its card stores the sum of the pseudo header instead. A frame captured on that
    host contains it, and so does a frame that the kernel merged from several (GRO).
    """
    cdef const uint8_t* ip = frame + net
    cdef const uint8_t* segment = frame + tcp
    cdef uint64_t pseudo
    cdef uint32_t header
    cdef uint16_t stored
    cdef uint8_t length[4]
    if caplen - tcp < tcp_length:
        return UNVERIFIED
    length[0] = <uint8_t>(tcp_length >> 24)
    length[1] = <uint8_t>(tcp_length >> 16)
    length[2] = <uint8_t>(tcp_length >> 8)
    length[3] = <uint8_t>tcp_length
    pseudo = sum_few(length, 4) + <uint64_t>(6 << 8)          # protocol TCP, in the low byte of its 16-bit word
    if ip[0] >> 4 == 4:
        header = min(<uint32_t>(ip[0] & 0x0F) * 4, tcp - net)
        memcpy(&stored, ip + 10, 2)
        if stored and folded(sum_words(ip, header)) != 0xFFFF:
            return BAD
        pseudo += sum_few(ip + 12, 8)
    else:
        pseudo += sum_few(ip + 8, 32)
    if folded(pseudo + sum_words(segment, tcp_length)) == 0xFFFF:
        return GOOD
    memcpy(&stored, segment + 16, 2)
    if stored == folded(pseudo):
        return OFFLOADED
    return UNVERIFIED if routed(ip, tcp - net) else BAD


cdef bint routed(const uint8_t* ip, uint32_t size) noexcept nogil:
    """Return whether an IPv6 packet has a route left; its checksum covers the last address of the route.

    size: bytes before the TCP header.
    """
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
