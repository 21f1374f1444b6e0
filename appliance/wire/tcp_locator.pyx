# cython: language_level=3
"""Locate the TCP segment of a frame, or its QUIC datagram. Every frame gets exactly one Verdict.

In: the captured bytes of one frame (`caplen` readable, `wirelen` on the wire) and the Settings of its capture.
Out: a Location, complete when the verdict is FOUND or DATAGRAM; it then holds that
    net + 20 (IPv4) or net + 40 (IPv6) <= tcp,  tcp + 20 <= Location.caplen <= caplen,  tcp_length >= 20
    (of a DATAGRAM: tcp + 8 <= Location.caplen, tcp_length >= 8)
so that a reader of the fixed headers at these offsets needs no further check. With the verdict FRAGMENT, net is the
offset of the fragment's IP header, net + 20 or net + 40 <= Location.caplen, and vlans and tunnels are set.

Tunnels are entered: the innermost flow decides, because the outer one may differ per direction (the source port of VXLAN is
a hash, a GTP tunnel has an id for each direction). For the same reason only the VLAN tags of the innermost Ethernet frame
are kept. How deep is bounded by enter(), which every way into a tunnel passes; nothing here calls itself without it but
through a VLAN tag, and those are counted too. A tunnel is bounded by the datagram around it: what was captured behind that
is never taken for its payload. A datagram that says more than there is was cut on its way to us (mirrors and packet brokers
cut frames to their MTU), so its segment is used up to the cut and the rest is missing bytes.

Memory safety: each function takes the offset `at` and proves `at + n <= view.caplen` before it reads n bytes; nothing is read
before its proof. caplen is at most LONGEST and no step is longer than 2 KiB, so that no offset overflows. No allocation, no
Python object; about 10 ns a frame. All in one file because everything can be inside everything.
Sources: RFC 791, RFC 8200 and 7045, IEEE 802.1Q and 802.2, RFC 1042, RFC 3032 and 4448 (MPLS), RFC 2516 (PPPoE), RFC 1661 and
1662 (PPP), RFC 2003, 2473 and 4213 (IP in IP), RFC 2784, 2890 and 2637 (GRE), RFC 7637 (NVGRE), draft-foschiano-erspan-03,
RFC 7348 (VXLAN), draft-ietf-nvo3-vxlan-gpe, RFC 8926 (Geneve), 3GPP TS 29.281 (GTP-U), RFC 4380 (Teredo), and the
link-layer header pages of tcpdump.org.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from appliance.wire.flow_key cimport UDP_FLOW, be16
from appliance.wire.frame_view cimport LONGEST, View, bound, enter, room
from appliance.wire.location cimport *
from appliance.wire.numbers cimport *
from appliance.wire.quic_header cimport datagram_bytes, opening_bytes
from appliance.wire.tunnel_ports cimport is_one, is_teredo, use_ports
from appliance.wire.wlan cimport CUT, nflog_packet, ppi_end, radiotap_end, wlan_end

from appliance.wire import tunnel_ports as tunnelports

VERDICTS = (
    "unknown_link", "truncated", "not_ip", "bad_ip_header", "fragment", "not_tcp", "bad_tcp_header", "too_many_tags",
    "too_many_headers", "too_many_tunnels",
)
LINK_TYPES = {0: "null", 1: "ethernet", 9: "ppp", 12: "raw", 14: "raw", 50: "ppp-serial", 51: "ppp-ether", 101: "raw",
              104: "c-hdlc", 105: "802.11", 108: "loop", 113: "linux-sll", 127: "802.11-radiotap", 192: "ppi", 228: "ipv4",
              229: "ipv6", 239: "nflog", 276: "linux-sll2"}
DEFAULT_TUNNELS = 4                     # inside each other
DEFAULT_PORTS = tunnelports.DEFAULT_PORTS

cdef enum:
    MAX_TAGS = 3
    MAX_EXTENSIONS = 8
    MAX_LABELS = 8
    LAST_OFFSET = 0xFFFF            # the highest offset that a Record can hold


cdef Verdict locate(const Settings* settings, const uint8_t* frame, uint32_t caplen, uint32_t wirelen,
                    Location* out) noexcept nogil:
    cdef View view
    caplen = min(caplen, <uint32_t>LONGEST)
    view.data = frame
    view.settings = settings
    view.caplen = caplen
    view.wirelen = wirelen
    view.tunnels = view.tags = view.shift = 0
    out.vlans = 0
    out.caplen = caplen
    if settings.link_type == DLT_EN10MB:
        return ethertype(&view, 12, 14, out)
    return link(&view, settings.link_type, out)


cdef Verdict link(View* view, int link_type, Location* out) noexcept nogil:
    cdef long end
    if link_type == DLT_LINUX_SLL:
        return cooked(view, 14, 2, 16, out)
    if link_type == DLT_LINUX_SLL2:
        return cooked(view, 0, 8, 20, out)
    if link_type == DLT_NULL or link_type == DLT_LOOP:      # address family in the writer's byte order and numbering
        return any_ip(view, 4, out)
    if (link_type == DLT_RAW or link_type == DLT_RAW_OPENBSD or link_type == LINKTYPE_RAW
            or link_type == DLT_IPV4 or link_type == DLT_IPV6):
        return any_ip(view, 0, out)
    if link_type == DLT_PPP:
        return ppp(view, 0, out)
    if link_type == DLT_PPP_SERIAL:
        return ppp_serial(view, out)
    if link_type == DLT_PPP_ETHER:
        return pppoe(view, 0, out)
    if link_type == DLT_C_HDLC:
        return ethertype(view, 2, 4, out)
    if link_type == DLT_IEEE802_11 or link_type == DLT_RADIOTAP or link_type == DLT_PPI:
        return radio(view, link_type, out)
    if link_type == DLT_NFLOG:
        end = nflog_packet(view.data, view.caplen)
        return any_ip(view, <uint32_t>end, out) if end >= 0 else TRUNCATED if end == CUT else NOT_IP
    return UNKNOWN_LINK


cdef Verdict radio(View* view, int link_type, Location* out) noexcept nogil:
    """Locate inside an 802.11 frame, alone or behind a header of reception; PPI may also hold another link type."""
    cdef bint padded = False
    cdef long end = 0
    if link_type == DLT_PPI:
        end = ppi_end(view.data, view.caplen, &link_type)
        if end >= 0 and link_type == DLT_EN10MB:
            return ethernet(view, <uint32_t>end, out)
        if end >= 0 and link_type != DLT_IEEE802_11:
            return NOT_IP
    elif link_type == DLT_RADIOTAP:
        end = radiotap_end(view.data, view.caplen, &padded)
    if end >= 0:
        end = wlan_end(view.data, view.caplen, <uint32_t>end, padded)
    return llc(view, <uint32_t>end, out) if end >= 0 else TRUNCATED if end == CUT else NOT_IP


cdef Verdict locate_datagram(const Settings* settings, const uint8_t* datagram, uint32_t length, int tunnels,
                             Location* out) noexcept nogil:
    """Locate in an IP datagram found behind `tunnels` tunnels; out.vlans stays unless it holds an Ethernet frame."""
    cdef View view
    view.data = datagram
    view.settings = settings
    view.caplen = view.wirelen = out.caplen = length
    view.tunnels = tunnels
    view.tags = view.shift = 0
    return any_ip(&view, 0, out)


# -- links -----------------------------------------------------------------------------------------------------------------------

cdef Verdict ethertype(View* view, uint32_t type_at, uint32_t at, Location* out) noexcept nogil:
    """Dispatch on the Ethernet type at type_at; the payload is at `at`. Collect VLAN tags. type_at + 2 <= at."""
    cdef uint16_t kind, tag
    while True:
        if at > view.caplen:
            return TRUNCATED
        kind = be16(view.data + type_at)
        if kind == ETHERTYPE_IPV4:
            return ipv4(view, at, out)
        if kind == ETHERTYPE_IPV6:
            return ipv6(view, at, out)
        if kind == ETHERTYPE_MPLS or kind == ETHERTYPE_MPLS_MULTICAST:
            return mpls(view, at, out)
        if kind == ETHERTYPE_PPPOE:
            return pppoe(view, at, out)
        if kind <= LONGEST_802_3:
            return llc(view, at, out)
        if kind != ETHERTYPE_VLAN and kind != ETHERTYPE_QINQ and kind != ETHERTYPE_QINQ_OLD:
            return NOT_IP
        if view.tags == MAX_TAGS:
            return TOO_MANY_TAGS
        if at + 4 > view.caplen:
            return TRUNCATED
        view.tags += 1
        tag = be16(view.data + at) & 0x0FFF
        if tag and view.settings.vlans:              # id 0 is a priority and no VLAN; switches set it in one direction only
            out.vlans |= <uint64_t>(tag | 0x8000) << view.shift
            view.shift += 16
        type_at = at + 2
        at += 4


cdef inline Verdict ethernet(View* view, uint32_t at, Location* out) noexcept nogil:
    return ethertype(view, at + 12, at + 14, out)


cdef Verdict cooked(View* view, uint32_t type_at, uint32_t device_at, uint32_t at, Location* out) noexcept nogil:
    """Locate behind a Linux cooked header, v1 or v2. Below 1536 its protocol is a Linux number and no length."""
    cdef uint16_t kind
    if at > view.caplen:
        return TRUNCATED
    if be16(view.data + device_at) == ARPHRD_NETLINK:
        return NOT_IP
    kind = be16(view.data + type_at)
    if kind == SLL_802_2:
        return llc(view, at, out)
    return NOT_IP if kind <= LONGEST_802_3 else ethertype(view, type_at, at, out)


cdef Verdict llc(View* view, uint32_t at, Location* out) noexcept nogil:
    """Locate behind 802.2 LLC, unnumbered information: SNAP (RFC 1042 and 802.1H), or the access point of IP."""
    cdef const uint8_t* p
    if at + 3 > view.caplen:
        return TRUNCATED
    p = view.data + at
    if p[0] == 0x06 and p[1] == 0x06 and p[2] == 0x03:
        return ipv4(view, at + 3, out)
    if p[0] != 0xAA or p[1] != 0xAA or p[2] != 0x03:
        return NOT_IP
    if at + 8 > view.caplen:
        return TRUNCATED
    if p[3] or p[4] or (p[5] and p[5] != 0xF8) or be16(p + 6) <= LONGEST_802_3:
        return NOT_IP                       # a vendor's own numbers; lengths, which would lead back here
    return ethertype(view, at + 6, at + 8, out)


cdef Verdict mpls(View* view, uint32_t at, Location* out) noexcept nogil:
    """Locate behind MPLS labels: IP by its first nibble, or an Ethernet frame behind an optional control word (RFC 4448).
    A destination address can look like each of them, so the Ethernet type decides."""
    cdef const uint8_t* p
    cdef int labels = 0
    cdef bint bottom = False
    while not bottom:
        if labels == MAX_LABELS:
            return TOO_MANY_TAGS
        labels += 1
        if at + 4 > view.caplen:
            return TRUNCATED
        bottom = view.data[at + 2] & 1
        at += 4
    if at + 20 > view.caplen:
        return TRUNCATED
    p = view.data + at
    if p[0] >> 4 == 4 and ((p[0] & 0x0F >= 5 and be16(p + 2) <= room(view, at)) or not followed(p + 12)):
        return ipv4(view, at, out)
    if p[0] >> 4 == 6 and (<uint32_t>be16(p + 4) + 40 <= room(view, at) or not followed(p + 12)):
        return ipv6(view, at, out)
    if at + 24 > view.caplen:
        return TRUNCATED
    if p[0] == 0 and p[1] == 0 and (followed(p + 16) or not followed(p + 12)):
        at += 4
    elif not followed(p + 12):
        return NOT_IP
    return ethernet(view, at, out) if enter(view, out) else TOO_MANY_TUNNELS


cdef inline bint followed(const uint8_t* p) noexcept nogil:
    """Return whether five readable bytes are an Ethernet type with a flow behind it, or a length and SNAP."""
    cdef uint16_t kind = be16(p)
    return (kind == ETHERTYPE_IPV4 or kind == ETHERTYPE_IPV6 or kind == ETHERTYPE_VLAN or kind == ETHERTYPE_QINQ
            or kind == ETHERTYPE_QINQ_OLD or kind == ETHERTYPE_MPLS or kind == ETHERTYPE_PPPOE
            or (kind <= LONGEST_802_3 and p[2] == 0xAA and p[3] == 0xAA and p[4] == 0x03))


cdef Verdict pppoe(View* view, uint32_t at, Location* out) noexcept nogil:
    if at + 6 > view.caplen:
        return TRUNCATED
    if view.data[at] != 0x11 or view.data[at + 1] != 0:     # version 1, type 1, session data
        return NOT_IP
    return ppp(view, at + 6, out)


cdef Verdict ppp(View* view, uint32_t at, Location* out) noexcept nogil:
    """Locate in PPP, also without address and control; a compressed protocol number has one byte, which is odd."""
    cdef uint16_t kind
    if at + 4 > view.caplen:
        return TRUNCATED
    if view.data[at] == 0xFF and view.data[at + 1] == 0x03:
        at += 2
    if view.data[at] & 1:
        kind = view.data[at]
        at += 1
    else:
        kind = be16(view.data + at)
        at += 2
    if kind == PPP_IPV4:
        return ipv4(view, at, out)
    if kind == PPP_IPV6:
        return ipv6(view, at, out)
    if kind == PPP_MPLS or kind == PPP_MPLS_MULTICAST:
        return mpls(view, at, out)
    return NOT_IP


cdef Verdict ppp_serial(View* view, Location* out) noexcept nogil:
    """Locate in PPP with HDLC framing, or in Cisco HDLC; the first byte tells them apart."""
    if view.caplen < 4:
        return TRUNCATED
    if view.data[0] == 0x0F or view.data[0] == 0x8F:
        return ethertype(view, 2, 4, out)
    return ppp(view, 0, out)


# -- IP --------------------------------------------------------------------------------------------------------------------------

cdef Verdict any_ip(View* view, uint32_t at, Location* out) noexcept nogil:
    """Locate in IPv4 or IPv6, by the version field."""
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
    cdef const uint8_t* ip
    cdef uint32_t header, total
    if at + 20 > view.caplen:
        return TRUNCATED
    ip = view.data + at
    header = (ip[0] & 0x0F) * 4
    total = be16(ip + 2)
    if total == 0:
        total = room(view, at)      # segmentation offload: the sender's stack leaves the length to the card
    if ip[0] >> 4 != 4 or header < 20 or total < header:
        return BAD_IP_HEADER
    out.net = at
    if be16(ip + 6) & 0x3FFF:           # more fragments, or an offset
        out.tunnels = view.tunnels
        return FRAGMENT
    if ip[9] == PROTO_TCP:
        return tcp(view, at + header, total - header, out)
    bound(view, at + total, out)
    return inner(view, ip[9], at + header, out)


cdef Verdict ipv6(View* view, uint32_t at, Location* out) noexcept nogil:
    """Locate in IPv6: walk the chain of extension headers, bounded (RFC 8200, section 4)."""
    cdef const uint8_t* ip
    cdef uint32_t left, size
    cdef uint8_t proto
    cdef int headers = 0
    if at + 40 > view.caplen:
        return TRUNCATED
    ip = view.data + at
    if ip[0] >> 4 != 6:
        return BAD_IP_HEADER
    left = be16(ip + 4)
    if left == 0:
        left = room(view, at + 40)  # jumbogram (RFC 2675) or segmentation offload
    out.net = at
    proto = ip[6]
    at += 40
    while is_extension(proto):
        if headers == MAX_EXTENSIONS:
            return TOO_MANY_HEADERS
        headers += 1
        if at + 8 > view.caplen:
            return TRUNCATED
        if proto == PROTO_FRAGMENT:
            if be16(view.data + at + 2) & 0xFFF9:   # an offset, or more to come; an atomic fragment (RFC 6946) has neither
                out.tunnels = view.tunnels
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
    if proto == PROTO_TCP:
        return tcp(view, at, left, out)
    bound(view, at + left, out)
    return inner(view, proto, at, out)


cdef inline bint is_extension(uint8_t proto) noexcept nogil:
    """Return whether it is an extension header of RFC 7045; ESP is none, because its payload is encrypted."""
    return (proto == PROTO_HOPOPTS or proto == PROTO_ROUTING or proto == PROTO_DSTOPTS or proto == PROTO_FRAGMENT
            or proto == PROTO_AH or proto == PROTO_MOBILITY or proto == PROTO_HIP or proto == PROTO_SHIM6)


cdef Verdict tcp(View* view, uint32_t at, uint32_t length, Location* out) noexcept nogil:
    if length < 20:
        return BAD_TCP_HEADER
    if at + 20 > view.caplen:
        return TRUNCATED
    if at > LAST_OFFSET:
        return TOO_MANY_HEADERS
    out.tcp = at
    out.tcp_length = length
    return FOUND


# -- tunnels ---------------------------------------------------------------------------------------------------------------------

cdef Verdict inner(View* view, uint8_t proto, uint32_t at, Location* out) noexcept nogil:
    """Locate in another payload of IP, which may be a tunnel."""
    if proto == PROTO_UDP:
        return udp(view, at, out)
    if proto == PROTO_GRE:
        return gre(view, at, out)
    if proto == PROTO_IPV4:
        return ipv4(view, at, out) if enter(view, out) else TOO_MANY_TUNNELS
    if proto == PROTO_IPV6:
        return ipv6(view, at, out) if enter(view, out) else TOO_MANY_TUNNELS
    return NOT_TCP


cdef Verdict gre(View* view, uint32_t at, Location* out) noexcept nogil:
    """Locate in GRE with any of its options; its protocol field names ERSPAN and NVGRE."""
    cdef uint16_t flags, kind
    cdef uint32_t start = at
    if at + 4 > view.caplen:
        return TRUNCATED
    flags = be16(view.data + at)
    kind = be16(view.data + at + 2)
    if flags & 0x0007 == 1:
        return pptp(view, flags, kind, at, out)
    if flags & 0x4007:                          # source routes, unknown versions
        return NOT_TCP
    at += 4
    at += 4 if flags & 0x8000 else 0            # checksum
    at += 4 if flags & 0x2000 else 0            # key
    at += 4 if flags & 0x1000 else 0            # sequence
    if kind == ETHERTYPE_ERSPAN:
        return erspan(view, flags & 0x1000, at, out)
    if kind == ETHERTYPE_ERSPAN_3:
        return erspan_3(view, at, out)
    if (kind != ETHERTYPE_IPV4 and kind != ETHERTYPE_IPV6 and kind != ETHERTYPE_BRIDGED and kind != ETHERTYPE_MPLS
            and kind != ETHERTYPE_MPLS_MULTICAST):
        return NOT_TCP
    if not enter(view, out):
        return TOO_MANY_TUNNELS
    return ethernet(view, at, out) if kind == ETHERTYPE_BRIDGED else ethertype(view, start + 2, at, out)


cdef Verdict pptp(View* view, uint16_t flags, uint16_t kind, uint32_t at, Location* out) noexcept nogil:
    """Locate in GRE version 1: a key, then PPP behind a sequence number; without one it is a bare acknowledgement."""
    if flags & 0xFF7F != 0x3001 or kind != ETHERTYPE_PPP:
        return NOT_TCP
    if not enter(view, out):
        return TOO_MANY_TUNNELS
    return ppp(view, at + 16 if flags & 0x0080 else at + 12, out)


cdef Verdict erspan(View* view, bint sequenced, uint32_t at, Location* out) noexcept nogil:
    """Locate in ERSPAN. Type I has neither a sequence number nor a header of its own; type II has both."""
    if sequenced:
        if at + 8 > view.caplen:
            return TRUNCATED
        if view.data[at] >> 4 != 1:
            return NOT_TCP
        at += 8
    return ethernet(view, at, out) if enter(view, out) else TOO_MANY_TUNNELS


cdef Verdict erspan_3(View* view, uint32_t at, Location* out) noexcept nogil:
    cdef uint8_t kind
    if at + 12 > view.caplen:
        return TRUNCATED
    kind = view.data[at + 10] >> 2 & 0x1F
    if view.data[at] >> 4 != 2 or (kind != 0 and kind != 2):
        return NOT_TCP
    at += 20 if view.data[at + 11] & 1 else 12  # with the platform's own subheader
    if not enter(view, out):
        return TOO_MANY_TUNNELS
    return any_ip(view, at, out) if kind == 2 else ethernet(view, at, out)


cdef Verdict udp(View* view, uint32_t at, Location* out) noexcept nogil:
    """Locate in UDP: in a tunnel, or else a datagram that may open a QUIC connection, on any port; with settings.udp, any."""
    cdef Location outside = out[0]
    cdef Verdict verdict = udp_tunnel(view, at, out)
    if verdict != NOT_TCP and not (view.settings.udp and verdict == NOT_IP) \
            or not (view.settings.quic or view.settings.udp) or at > LAST_OFFSET:
        return verdict
    out[0] = outside            # a tunnel without TCP and UDP in it has left its own place there
    out.tcp = at
    if view.settings.udp:
        out.tcp_length = datagram_bytes(view.data, view.caplen, at)
    else:
        out.tcp_length = opening_bytes(view.data, view.caplen, at)
    if out.tcp_length == 0:
        return NOT_TCP
    out.vlans |= UDP_FLOW
    return DATAGRAM


cdef Verdict udp_tunnel(View* view, uint32_t at, Location* out) noexcept nogil:
    """Locate in UDP on the ports of tunnels, each checked by its header; Teredo proves itself on any port."""
    cdef uint16_t source, destination
    if at + 4 > view.caplen:
        return TRUNCATED
    source = be16(view.data + at)
    destination = be16(view.data + at + 2)
    at += 8
    if is_one(&view.settings.ports.vxlan, destination):
        return vxlan(view, at, out)
    if destination == PORT_VXLAN_GPE:
        return vxlan_gpe(view, at, out)
    if destination == PORT_GRE:
        return gre(view, at, out)
    if is_one(&view.settings.ports.geneve, destination):
        return geneve(view, at, out)
    if is_one(&view.settings.ports.gtp_u, destination) or is_one(&view.settings.ports.gtp_u, source):
        return gtp(view, at, out)
    if (is_one(&view.settings.ports.teredo, destination) or is_one(&view.settings.ports.teredo, source)
            or is_teredo(view.data, view.caplen, at)):
        return teredo(view, at, out)
    return NOT_TCP


cdef Verdict vxlan(View* view, uint32_t at, Location* out) noexcept nogil:
    if at + 8 > view.caplen:
        return TRUNCATED
    if not view.data[at] & 0x08:                # the flag that says there is a network identifier
        return NOT_TCP
    return ethernet(view, at + 8, out) if enter(view, out) else TOO_MANY_TUNNELS


cdef Verdict vxlan_gpe(View* view, uint32_t at, Location* out) noexcept nogil:
    """Locate in VXLAN-GPE: VXLAN with a flag, and a fourth byte that names the payload."""
    cdef uint8_t flags, kind
    if at + 8 > view.caplen:
        return TRUNCATED
    flags = view.data[at]
    kind = view.data[at + 3] if flags & 0x04 else 3
    if flags & 0x39 != 0x08 or not 1 <= kind <= 3:      # version 0, with an identifier, no management
        return NOT_TCP
    if not enter(view, out):
        return TOO_MANY_TUNNELS
    if kind == 3:
        return ethernet(view, at + 8, out)
    return ipv4(view, at + 8, out) if kind == 1 else ipv6(view, at + 8, out)


cdef Verdict geneve(View* view, uint32_t at, Location* out) noexcept nogil:
    cdef uint16_t kind
    cdef uint32_t size
    if at + 8 > view.caplen:
        return TRUNCATED
    size = 8 + (view.data[at] & 0x3F) * 4
    kind = be16(view.data + at + 2)
    if view.data[at] >> 6 or view.data[at + 1] & 0x80:  # version; a control packet, whose payload no endpoint forwards
        return NOT_TCP
    if kind != ETHERTYPE_BRIDGED and kind != ETHERTYPE_IPV4 and kind != ETHERTYPE_IPV6:
        return NOT_TCP
    if not enter(view, out):
        return TOO_MANY_TUNNELS
    return ethernet(view, at + size, out) if kind == ETHERTYPE_BRIDGED else ethertype(view, at + 2, at + size, out)


cdef Verdict gtp(View* view, uint32_t at, Location* out) noexcept nogil:
    """Locate in GTP-U version 1, G-PDU, behind at most MAX_EXTENSIONS extension headers."""
    cdef uint8_t flags, following
    cdef int headers = 0
    if at + 8 > view.caplen:
        return TRUNCATED
    flags = view.data[at]
    if flags >> 4 != 3 or view.data[at + 1] != 0xFF:
        return NOT_TCP
    at += 8
    if flags & 0x07:                            # any of the three: all their fields are there
        if at + 4 > view.caplen:
            return TRUNCATED
        following = view.data[at + 3] if flags & 0x04 else 0
        at += 4
        while following:
            if headers == MAX_EXTENSIONS:
                return TOO_MANY_HEADERS
            headers += 1
            if at + 1 > view.caplen or at + view.data[at] * 4 > view.caplen:
                return TRUNCATED
            if view.data[at] == 0:
                return NOT_TCP
            at += view.data[at] * 4
            following = view.data[at - 1]
    return any_ip(view, at, out) if enter(view, out) else TOO_MANY_TUNNELS


cdef Verdict teredo(View* view, uint32_t at, Location* out) noexcept nogil:
    """Locate in Teredo; authentication and origin indication may precede the IPv6 header."""
    if at + 4 > view.caplen:
        return TRUNCATED
    if be16(view.data + at) == 1:
        at += 13 + view.data[at + 2] + view.data[at + 3]
        if at + 2 > view.caplen:
            return TRUNCATED
    if be16(view.data + at) == 0:
        at += 8
    if at + 1 > view.caplen:
        return TRUNCATED
    if view.data[at] >> 4 != 6:
        return NOT_TCP
    return ipv6(view, at, out) if enter(view, out) else TOO_MANY_TUNNELS


def find(int link_type, frame not None, wirelen=None, int max_tunnels=DEFAULT_TUNNELS, bint vlans=True, ports=None,
         bint quic=False, bint udp=False):
    """Return (verdict name, "found" or "datagram", net, tcp, tcp_length, [vlan ids]) of a frame, for tests and tools."""
    cdef Settings settings
    cdef Location out
    cdef Py_buffer view
    cdef Verdict verdict
    settings.link_type = link_type
    settings.max_tunnels = max_tunnels
    settings.vlans = vlans
    settings.quic = quic
    settings.udp = udp
    use_ports(&settings.ports, ports)
    PyObject_GetBuffer(frame, &view, PyBUF_SIMPLE)
    try:
        verdict = locate(&settings, <const uint8_t*>view.buf, view.len, view.len if wirelen is None else wirelen, &out)
    finally:
        PyBuffer_Release(&view)
    if verdict != FOUND and verdict != DATAGRAM:
        return VERDICTS[<int>verdict - 1], None, None, None, []
    ids = [out.vlans >> (16 * i) & 0xFFF for i in range(MAX_TAGS) if out.vlans >> (16 * i) & 0x8000]
    return "found" if verdict == FOUND else "datagram", out.net, out.tcp, out.tcp_length, ids
