# cython: language_level=3
"""Where is the TCP segment in this frame? Every frame gets exactly one Verdict.

In: the captured bytes of one frame (`caplen` readable, `wirelen` on the wire) and the capture's link type.
Out: a Location, complete when the verdict is FOUND; it then holds that
    net + 20 (IPv4) or net + 40 (IPv6) <= tcp,  tcp + 20 <= caplen,  tcp_length >= 20
so that whoever reads the fixed headers at these offsets needs no further check.

Memory safety: each function takes the offset `at` and proves `at + n <= caplen` before it reads n bytes; nothing is read
before its proof. No allocation, no Python object; about 10 ns a frame.
Sources: RFC 791, RFC 8200, IEEE 802.1Q, and the link-layer header pages of tcpdump.org.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from appliance.flow cimport be16

VERDICTS = (
    "unknown_link", "truncated", "not_ip", "bad_ip_header", "fragment", "not_tcp", "bad_tcp_header", "too_many_tags",
    "too_many_headers",
)
LINK_TYPES = {0: "null", 1: "ethernet", 12: "raw", 14: "raw", 101: "raw", 108: "loop", 113: "linux-sll", 228: "ipv4",
              229: "ipv6", 276: "linux-sll2"}

cdef enum:
    MAX_TAGS = 3
    MAX_EXTENSIONS = 8

    DLT_NULL = 0
    DLT_EN10MB = 1
    DLT_RAW = 12
    DLT_RAW_OPENBSD = 14
    LINKTYPE_RAW = 101
    DLT_LOOP = 108
    DLT_LINUX_SLL = 113
    DLT_IPV4 = 228
    DLT_IPV6 = 229
    DLT_LINUX_SLL2 = 276

    ETHERTYPE_IPV4 = 0x0800
    ETHERTYPE_IPV6 = 0x86DD
    ETHERTYPE_VLAN = 0x8100
    ETHERTYPE_QINQ = 0x88A8
    ETHERTYPE_QINQ_OLD = 0x9100

    PROTO_HOPOPTS = 0
    PROTO_TCP = 6
    PROTO_ROUTING = 43
    PROTO_FRAGMENT = 44
    PROTO_AH = 51
    PROTO_DSTOPTS = 60
    PROTO_MOBILITY = 135


cdef struct View:               # one frame and what is proven about it
    const uint8_t* data
    uint32_t caplen
    uint32_t wirelen


cdef Verdict locate(int link_type, const uint8_t* frame, uint32_t caplen, uint32_t wirelen,
                    Location* out) noexcept nogil:
    cdef View view
    view.data = frame
    view.caplen = caplen
    view.wirelen = wirelen
    out.vlans = 0
    if link_type == DLT_EN10MB:
        return ethertype(&view, 12, 14, out)
    if link_type == DLT_LINUX_SLL:
        return ethertype(&view, 14, 16, out)
    if link_type == DLT_LINUX_SLL2:
        return ethertype(&view, 0, 20, out)
    if link_type == DLT_NULL or link_type == DLT_LOOP:
        return any_ip(&view, 4, out)
    if (link_type == DLT_RAW or link_type == DLT_RAW_OPENBSD or link_type == LINKTYPE_RAW
            or link_type == DLT_IPV4 or link_type == DLT_IPV6):
        return any_ip(&view, 0, out)
    return UNKNOWN_LINK


cdef Verdict ethertype(View* view, uint32_t type_at, uint32_t at, Location* out) noexcept nogil:
    """The two bytes at type_at say what follows at `at`; VLAN tags are collected on the way."""
    cdef uint16_t kind
    cdef int tags = 0
    if at > view.caplen:
        return TRUNCATED
    while True:
        kind = be16(view.data + type_at)
        if kind == ETHERTYPE_IPV4:
            return ipv4(view, at, out)
        if kind == ETHERTYPE_IPV6:
            return ipv6(view, at, out)
        if kind != ETHERTYPE_VLAN and kind != ETHERTYPE_QINQ and kind != ETHERTYPE_QINQ_OLD:
            return NOT_IP
        if tags == MAX_TAGS:
            return TOO_MANY_TAGS
        if at + 4 > view.caplen:
            return TRUNCATED
        out.vlans |= <uint64_t>((be16(view.data + at) & 0x0FFF) | 0x8000) << (16 * tags)
        tags += 1
        type_at = at + 2
        at += 4


cdef Verdict any_ip(View* view, uint32_t at, Location* out) noexcept nogil:
    """Links that do not say which IP it is: the version field does."""
    cdef uint8_t version
    if at + 1 > view.caplen:
        return TRUNCATED
    version = view.data[at] >> 4
    if version == 4:
        return ipv4(view, at, out)
    if version == 6:
        return ipv6(view, at, out)
    return NOT_IP


cdef Verdict ipv4(View* view, uint32_t at, Location* out) noexcept nogil:
    cdef const uint8_t* ip = view.data + at
    cdef uint32_t header, total
    if at + 20 > view.caplen:
        return TRUNCATED
    header = (ip[0] & 0x0F) * 4
    total = be16(ip + 2)
    if total == 0 and view.wirelen > at:
        total = view.wirelen - at       # segmentation offload: the sender's stack leaves the length to the card
    if ip[0] >> 4 != 4 or header < 20 or total < header:
        return BAD_IP_HEADER
    if be16(ip + 6) & 0x3FFF:           # more fragments, or an offset
        return FRAGMENT
    if ip[9] != PROTO_TCP:
        return NOT_TCP
    out.net = at
    return tcp(view, at + header, total - header, out)


cdef Verdict ipv6(View* view, uint32_t at, Location* out) noexcept nogil:
    """RFC 8200 section 4: the chain of extension headers, bounded."""
    cdef const uint8_t* ip = view.data + at
    cdef uint32_t left, size
    cdef uint8_t proto
    cdef int headers = 0
    if at + 40 > view.caplen:
        return TRUNCATED
    if ip[0] >> 4 != 6:
        return BAD_IP_HEADER
    left = be16(ip + 4)
    if left == 0 and view.wirelen > at + 40:
        left = view.wirelen - at - 40   # jumbogram or segmentation offload
    out.net = at
    proto = ip[6]
    at += 40
    while proto != PROTO_TCP:
        if (proto != PROTO_HOPOPTS and proto != PROTO_ROUTING and proto != PROTO_DSTOPTS and proto != PROTO_FRAGMENT
                and proto != PROTO_AH and proto != PROTO_MOBILITY):
            return NOT_TCP
        if headers == MAX_EXTENSIONS:
            return TOO_MANY_HEADERS
        headers += 1
        if at + 8 > view.caplen:
            return TRUNCATED
        if proto == PROTO_FRAGMENT:
            if be16(view.data + at + 2) & 0xFFF9:   # an offset, or more to come; an atomic fragment (RFC 6946) has neither
                return FRAGMENT
            size = 8
        elif proto == PROTO_AH:
            size = (view.data[at + 1] + 2) * 4
        else:
            size = (view.data[at + 1] + 1) * 8
        if size > left:
            return BAD_IP_HEADER
        left -= size
        proto = view.data[at]
        at += size
    return tcp(view, at, left, out)


cdef Verdict tcp(View* view, uint32_t at, uint32_t length, Location* out) noexcept nogil:
    if length < 20:
        return BAD_TCP_HEADER
    if at + 20 > view.caplen:
        return TRUNCATED
    out.tcp = at
    out.tcp_length = length
    return FOUND


def find(int link_type, frame not None, wirelen=None):
    """(verdict name or "found", net, tcp, tcp_length, [vlan ids]) of one frame: what the capture decides, for tests."""
    cdef const uint8_t[::1] view = frame if len(frame) else b"\0"
    cdef Location out
    cdef uint32_t caplen = len(frame)
    cdef Verdict verdict = locate(link_type, &view[0], caplen, caplen if wirelen is None else wirelen, &out)
    if verdict != FOUND:
        return VERDICTS[<int>verdict - 1], None, None, None, []
    vlans = [out.vlans >> (16 * i) & 0xFFF for i in range(MAX_TAGS) if out.vlans >> (16 * i) & 0x8000]
    return "found", out.net, out.tcp, out.tcp_length, vlans
