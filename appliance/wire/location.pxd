# cython: language_level=3
"""Location: the place of the TCP segment, or of the UDP datagram, in a frame. Verdict: the reason if there is none."""
from libc.stdint cimport uint32_t, uint64_t

from appliance.wire.tunnel_ports cimport TunnelPorts


cdef enum Verdict:
    FOUND               # a TCP segment with at least its 20 fixed header bytes captured
    UNKNOWN_LINK        # a link type that is not decoded
    TRUNCATED           # the captured bytes, or the datagram around a tunnel, end before the headers do
    NOT_IP              # ARP, LLDP, …
    BAD_IP_HEADER       # version, header length or total length make no sense
    FRAGMENT            # a fragment of a datagram
    NOT_TCP             # UDP that opens no QUIC connection, ICMP, ESP, a tunnel's management, …
    BAD_TCP_HEADER      # the datagram is too short for a TCP header
    TOO_MANY_TAGS       # more VLAN tags than MAX_TAGS, more MPLS labels than MAX_LABELS
    TOO_MANY_HEADERS    # a chain of extension headers (IPv6, GTP) longer than MAX_EXTENSIONS, or all together than 64 KiB
    TOO_MANY_TUNNELS    # nested deeper than capture.max_tunnels
    VERDICTS_END
    DATAGRAM = VERDICTS_END     # found too: a UDP datagram that may open a QUIC connection, or is wanted


cdef struct Settings:       # of a capture
    int link_type           # as libpcap numbers them
    int max_tunnels         # inside each other; deeper is TOO_MANY_TUNNELS
    bint quic               # whether to find datagrams that may open a QUIC connection; without it, they are NOT_TCP
    bint udp                # whether to find every other UDP datagram as well
    bint vlans              # whether VLAN ids tell flows apart; without it, Location.vlans is 0
    TunnelPorts ports


cdef struct Location:
    # VLAN ids of the innermost Ethernet frame, outermost in the lowest 16 bits, each is id | 0x8000; of a DATAGRAM also UDP_FLOW
    uint64_t vlans
    uint32_t net            # offset of the IP header in the frame
    uint32_t tcp            # offset of the TCP or UDP header
    uint32_t tcp_length     # bytes of this header and its payload on the wire, as the IP or UDP header says
    int tunnels             # with the verdict FRAGMENT: how many were entered
    uint32_t caplen         # captured bytes of the frame, without what stands behind the datagram around a tunnel
