# cython: language_level=3
"""Where is the TCP segment in this frame?"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t


cdef enum Verdict:
    FOUND               # a TCP segment with at least its 20 fixed header bytes captured
    UNKNOWN_LINK        # a link type that is not decoded
    TRUNCATED           # the capture ends before the headers do
    NOT_IP              # ARP, LLDP, …
    BAD_IP_HEADER       # version, header length or total length make no sense
    FRAGMENT            # a fragment of a datagram
    NOT_TCP             # UDP, ICMP, …
    BAD_TCP_HEADER      # the datagram is too short for a TCP header
    TOO_MANY_TAGS       # more VLAN tags than MAX_TAGS
    TOO_MANY_HEADERS    # an IPv6 extension chain longer than MAX_EXTENSIONS
    TOO_MANY_TUNNELS    # nested deeper than capture.max_tunnels
    VERDICTS_END


cdef struct Location:
    uint64_t vlans          # VLAN tags, outermost in the lowest 16 bits; each is id | 0x8000, so that id 0 is not "no tag"
    uint32_t net            # offset of the IP header in the frame
    uint32_t tcp            # offset of the TCP header
    uint32_t tcp_length     # bytes of TCP header and payload on the wire, as the IP header says
    int tunnels             # with the verdict FRAGMENT: how many more may be entered


cdef Verdict locate(int link_type, const uint8_t* frame, uint32_t caplen, uint32_t wirelen, int max_tunnels,
                    Location* out) noexcept nogil
cdef Verdict locate_datagram(const uint8_t* datagram, uint32_t length, int max_tunnels, Location* out) noexcept nogil
