# cython: language_level=3
"""Where is the TCP segment in this frame?"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef enum Verdict:
    FOUND               # a TCP segment with at least its 20 fixed header bytes captured
    UNKNOWN_LINK        # a link type that is not decoded
    TRUNCATED           # the captured bytes, or the datagram around a tunnel, end before the headers do
    NOT_IP              # ARP, LLDP, …
    BAD_IP_HEADER       # version, header length or total length make no sense
    FRAGMENT            # a fragment of a datagram
    NOT_TCP             # UDP, ICMP, ESP, a tunnel's management, …
    BAD_TCP_HEADER      # the datagram is too short for a TCP header
    TOO_MANY_TAGS       # more VLAN tags than MAX_TAGS, more MPLS labels than MAX_LABELS
    TOO_MANY_HEADERS    # a chain of extension headers (IPv6, GTP) longer than MAX_EXTENSIONS, or all together than 64 KiB
    TOO_MANY_TUNNELS    # nested deeper than capture.max_tunnels
    VERDICTS_END


cdef struct Settings:       # of a capture
    int link_type           # as libpcap numbers them
    int max_tunnels         # inside each other; deeper is TOO_MANY_TUNNELS
    bint vlans              # whether VLAN ids tell flows apart; without it, Location.vlans is 0


cdef struct Location:
    uint64_t vlans          # VLAN ids of the innermost Ethernet frame, outermost in the lowest 16 bits; each is id | 0x8000
    uint32_t net            # offset of the IP header in the frame
    uint32_t tcp            # offset of the TCP header
    uint32_t tcp_length     # bytes of TCP header and payload on the wire, as the IP header says
    int tunnels             # with the verdict FRAGMENT: how many were entered
    uint32_t caplen         # captured bytes of the frame, without what stands behind the datagram around a tunnel


cdef Verdict locate(const Settings* settings, const uint8_t* frame, uint32_t caplen, uint32_t wirelen,
                    Location* out) noexcept nogil
cdef Verdict locate_datagram(const Settings* settings, const uint8_t* datagram, uint32_t length, int tunnels,
                             Location* out) noexcept nogil
