# cython: language_level=3
"""FlowKey identifies the connection of a frame; its keyed hash selects the shard.

Both directions of a flow give the same key: the lower endpoint (address, then port) always stands first. The family is
part of the key, so that an IPv4 flow never equals an IPv6 flow whose addresses have the same bits; the VLAN ids are part
of it, so that equal addresses on two VLANs are two flows (unless capture.vlan_in_flow is off). A bit between these ids
tells a UDP flow from a TCP flow.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy


cdef struct FlowKey:        # 48 bytes, no padding: it is hashed and compared as plain memory
    uint64_t low[2]         # address of the lower endpoint: high half, low half (IPv4: 0, address)
    uint64_t high[2]
    uint64_t vlans          # location.pxd: the ids, outermost lowest, 16 bits each; UDP_FLOW
    uint16_t low_port
    uint16_t high_port
    uint32_t family         # 4 or 6


cdef enum:
    ENDS_AT = 40            # offset of ports and family
    UDP_FLOW = 0x1000       # in `vlans`, where an id has no bit: the ports are those of UDP


cdef struct HashKey:        # 128 bits, secret, the same in every capture of a run
    uint64_t k0
    uint64_t k1


cdef HashKey hash_key(bytes secret) except *


cdef inline uint64_t rotl(uint64_t x, int by) noexcept nogil:
    return (x << by) | (x >> (64 - by))


cdef inline void sip_round(uint64_t* v) noexcept nogil:
    v[0] += v[1]; v[1] = rotl(v[1], 13); v[1] ^= v[0]; v[0] = rotl(v[0], 32)
    v[2] += v[3]; v[3] = rotl(v[3], 16); v[3] ^= v[2]
    v[0] += v[3]; v[3] = rotl(v[3], 21); v[3] ^= v[0]
    v[2] += v[1]; v[1] = rotl(v[1], 17); v[1] ^= v[2]; v[2] = rotl(v[2], 32)


cdef inline uint64_t siphash(const HashKey* key, const void* data, size_t length, int rounds, int final_rounds) noexcept nogil:
    """Return SipHash-c-d of `length` readable bytes; only for little-endian machines, as the whole appliance.

    Inline: with a known length and known rounds the compiler unrolls it and keeps its state in registers.
    """
    cdef const uint8_t* p = <const uint8_t*>data
    cdef size_t whole = length & ~<size_t>7, at = 0
    cdef uint64_t[4] v
    cdef uint64_t word
    cdef int _
    v[0] = key.k0 ^ 0x736F6D6570736575ULL
    v[1] = key.k1 ^ 0x646F72616E646F6DULL
    v[2] = key.k0 ^ 0x6C7967656E657261ULL
    v[3] = key.k1 ^ 0x7465646279746573ULL
    while at < whole:
        memcpy(&word, p + at, 8)
        v[3] ^= word
        for _ in range(rounds):
            sip_round(v)
        v[0] ^= word
        at += 8
    word = 0
    memcpy(&word, p + at, length - whole)
    word |= <uint64_t>(length & 0xFF) << 56
    v[3] ^= word
    for _ in range(rounds):
        sip_round(v)
    v[0] ^= word
    v[2] ^= 0xFF
    for _ in range(final_rounds):
        sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


cdef inline uint16_t be16(const uint8_t* p) noexcept nogil:
    return (<uint16_t>p[0] << 8) | p[1]


cdef inline uint32_t be32(const uint8_t* p) noexcept nogil:
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]


cdef inline uint64_t be64(const uint8_t* p) noexcept nogil:
    return (<uint64_t>be32(p) << 32) | be32(p + 4)


cdef inline bint flow_key(const uint8_t* ip, const uint8_t* tcp, uint64_t vlans, FlowKey* key) noexcept nogil:
    """Fill key from an IP header and a TCP or UDP header (20 or 40, and 4 bytes proven readable).

    Return True if the source is the low endpoint.
    """
    cdef uint64_t a0, a1, b0, b1, ends = 6
    cdef uint64_t a_port = be16(tcp), b_port = be16(tcp + 2)
    cdef bint forward
    if ip[0] >> 4 == 4:
        a0 = b0 = 0
        a1 = be32(ip + 12)
        b1 = be32(ip + 16)
        ends = 4
    else:
        a0 = be64(ip + 8)
        a1 = be64(ip + 16)
        b0 = be64(ip + 24)
        b1 = be64(ip + 32)
    if a0 != b0:
        forward = a0 < b0
    elif a1 != b1:
        forward = a1 < b1
    else:
        forward = a_port <= b_port
    if forward:
        key.low[0] = a0; key.low[1] = a1
        key.high[0] = b0; key.high[1] = b1
        ends = ends << 32 | b_port << 16 | a_port
    else:
        key.low[0] = b0; key.low[1] = b1
        key.high[0] = a0; key.high[1] = a1
        ends = ends << 32 | a_port << 16 | b_port
    # Build it in one register, as the hash reads it. A load wider than the preceding stores would stall until all
    # earlier stores have left the core, the copy of the last frame among them.
    memcpy(<uint8_t*>key + ENDS_AT, &ends, 8)
    key.vlans = vlans
    return forward


cdef inline bint same_flow(const FlowKey* one, const FlowKey* other) noexcept nogil:
    """Return whether two keys are equal, read in the pieces in which they were written."""
    cdef uint64_t mine, ends
    memcpy(&mine, <const uint8_t*>one + ENDS_AT, 8)
    memcpy(&ends, <const uint8_t*>other + ENDS_AT, 8)
    return ((one.low[0] ^ other.low[0]) | (one.low[1] ^ other.low[1]) | (one.high[0] ^ other.high[0])
            | (one.high[1] ^ other.high[1]) | (one.vlans ^ other.vlans) | (mine ^ ends)) == 0


cdef inline uint64_t flow_hash(const HashKey* key, const FlowKey* flow) noexcept nogil:
    """Return SipHash-1-3 of the key. Without the secret, traffic cannot choose its shard or its place in a table."""
    return siphash(key, flow, sizeof(FlowKey), 1, 3)


cdef inline uint32_t flow_place(uint32_t salt, const FlowKey* flow) noexcept nogil:
    """Return the place of a flow among 256, by which an overloaded capture sheds flows.

    It is not part of the hash, because the kernel's filter has to find the same place with the 32-bit arithmetic of BPF
    (load_shedding.refusal). salt: secret and odd (multiply-shift, Dietzfelbinger and others, 1997).
    """
    cdef uint32_t ends = <uint32_t>(flow.low[1] ^ flow.high[1]) ^ flow.low_port ^ flow.high_port
    return ends * salt >> 24
