# cython: language_level=3
"""One fragment: the key of its datagram, and its part of the payload. Layout: fragment.pxd.

Sources: RFC 791 section 3.1, RFC 8200 section 4.5, RFC 6946 (atomic fragments: they are none).
"""
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memset

from appliance.wire.flow_key cimport be16, be32, be64
from appliance.wire.location cimport Location

cdef enum:
    PROTO_HOPOPTS = 0
    PROTO_ROUTING = 43
    PROTO_FRAGMENT = 44
    PROTO_AH = 51
    PROTO_DSTOPTS = 60
    PROTO_MOBILITY = 135


cdef Outcome read_fragment(const uint8_t* frame, uint32_t caplen, const Location* place, Fragment* out) noexcept nogil:
    """Read a fragment. Length proof: locate has proven net + 20 (IPv4) or net + 40 (IPv6) <= caplen."""
    memset(&out.key, 0, sizeof(Key))
    out.key.vlans = place.vlans
    out.head = frame + place.net
    if out.head[0] >> 4 == 4:
        return read_ipv4(out.head, caplen - place.net, out)
    return read_ipv6(out.head, caplen - place.net, out)


cdef Outcome read_ipv4(const uint8_t* ip, uint32_t captured, Fragment* out) noexcept nogil:
    """Read an IPv4 fragment.

    Length proof: captured >= 20. The payload is within `captured` if the outcome is GOOD.
    """
    cdef uint32_t header = (ip[0] & 0x0F) * 4, total = be16(ip + 2), field = be16(ip + 6)
    if header < 20 or total <= header:
        return TOO_SHORT
    out.key.family = 4
    out.key.source[1] = be32(ip + 12)
    out.key.target[1] = be32(ip + 16)
    out.key.id = be16(ip + 4)
    out.key.proto = out.proto = ip[9]
    out.head_length = header
    out.payload = ip + header
    out.more = field & 0x2000 != 0
    return place_payload(out, (field & 0x1FFF) * 8, total - header, header, total, captured)


cdef Outcome read_ipv6(const uint8_t* ip, uint32_t captured, Fragment* out) noexcept nogil:
    """Read an IPv6 fragment.

    Length proof: captured >= 40; each extension header is proven before it is read. Payload as in read_ipv4.
    """
    cdef uint32_t total = 40 + be16(ip + 4), at = 40, field
    cdef uint8_t proto = ip[6]
    out.next_at = 6
    while True:
        if at + 8 >= total:
            return TOO_SHORT
        if at + 8 > captured:
            return TRUNCATED
        field = be16(ip + at + 2)
        if proto == PROTO_FRAGMENT and field & 0xFFF9:
            break
        out.next_at = at
        if proto == PROTO_FRAGMENT:
            proto = ip[at]
            at += 8
        elif proto == PROTO_AH:
            proto = ip[at]
            at += (ip[at + 1] + 2) * 4
        elif (proto == PROTO_HOPOPTS or proto == PROTO_ROUTING or proto == PROTO_DSTOPTS or proto == PROTO_MOBILITY):
            proto = ip[at]
            at += (ip[at + 1] + 1) * 8
        else:
            return TOO_SHORT            # no Fragment header: locate has seen one
    out.key.family = 6
    out.key.source[0] = be64(ip + 8)
    out.key.source[1] = be64(ip + 16)
    out.key.target[0] = be64(ip + 24)
    out.key.target[1] = be64(ip + 32)
    out.key.id = be32(ip + at + 4)
    out.proto = ip[at]
    out.head_length = at
    out.payload = ip + at + 8
    out.more = field & 1
    return place_payload(out, field & 0xFFF8, total - at - 8, at - 40, total, captured)


cdef Outcome place_payload(Fragment* out, uint32_t start, uint32_t length, uint32_t before, uint32_t total,
                           uint32_t captured) noexcept nogil:
    """Set the place of the payload, after checks of its bounds.

    before: bytes beside the payload that count towards MAX_LENGTH. total: bytes from the IP header on.
    """
    if out.more and length & 7:
        return TOO_SHORT
    out.start = start
    out.end = start + length
    if before + out.end > MAX_LENGTH:
        return TOO_LONG
    return TRUNCATED if total > captured else GOOD
