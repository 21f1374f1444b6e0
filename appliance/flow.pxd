# cython: language_level=3
"""FlowKey: which conversation a frame belongs to, and the keyed hash that shards it.

Both directions of a flow give the same key: the lower endpoint (address, then port) always stands first. The family is
part of the key, so that an IPv4 flow never equals an IPv6 flow whose addresses have the same bits; the VLAN ids are part
of it, so that equal addresses on two VLANs are two flows (unless capture.vlan_in_flow is off).
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy


cdef struct FlowKey:        # 48 bytes, no padding: it is hashed and compared as plain memory
    uint64_t low[2]         # address of the lower endpoint: high half, low half (IPv4: 0, address)
    uint64_t high[2]
    uint64_t vlans          # locate.pxd: the ids, outermost lowest, 16 bits each
    uint16_t low_port
    uint16_t high_port
    uint32_t family         # 4 or 6


cdef enum:
    ENDS_AT = 40            # offset of ports and family


cdef struct HashKey:        # 128 bits, secret, the same in every capture of a run
    uint64_t k0
    uint64_t k1


cdef uint64_t siphash(const HashKey* key, const void* data, size_t length, int rounds, int final_rounds) noexcept nogil
cdef HashKey hash_key(bytes secret) except *


cdef inline uint16_t be16(const uint8_t* p) noexcept nogil:
    return (<uint16_t>p[0] << 8) | p[1]


cdef inline uint32_t be32(const uint8_t* p) noexcept nogil:
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]


cdef inline uint64_t be64(const uint8_t* p) noexcept nogil:
    return (<uint64_t>be32(p) << 32) | be32(p + 4)


cdef inline bint flow_key(const uint8_t* ip, const uint8_t* tcp, uint64_t vlans, FlowKey* key) noexcept nogil:
    """Fills key from an IP header (20 or 40 bytes proven readable) and a TCP header (4 bytes); True if the source is low."""
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
    # In one piece, as the hash will read it: read in a piece that was written in several, it would have to wait until all
    # that was written before is out of the core, the last frame's copy too.
    memcpy(<uint8_t*>key + ENDS_AT, &ends, 8)
    key.vlans = vlans
    return forward


cdef inline bint same_flow(const FlowKey* one, const FlowKey* other) noexcept nogil:
    """Whether two keys are equal, read in the pieces in which they were written."""
    cdef uint64_t mine, ends
    memcpy(&mine, <const uint8_t*>one + ENDS_AT, 8)
    memcpy(&ends, <const uint8_t*>other + ENDS_AT, 8)
    return ((one.low[0] ^ other.low[0]) | (one.low[1] ^ other.low[1]) | (one.high[0] ^ other.high[0])
            | (one.high[1] ^ other.high[1]) | (one.vlans ^ other.vlans) | (mine ^ ends)) == 0


cdef inline uint64_t flow_hash(const HashKey* key, const FlowKey* flow) noexcept nogil:
    """SipHash-1-3 of the key: hostile traffic cannot choose its shard or its place in a table without the secret."""
    return siphash(key, flow, sizeof(FlowKey), 1, 3)


cdef inline uint32_t flow_place(uint32_t salt, const FlowKey* flow) noexcept nogil:
    """Where a flow stands among 256 places, by which an overloaded capture leaves flows out.

    Not of the hash: the kernel's filter has to find the same place, with the 32-bit arithmetic of BPF (shedding.refusal).
    salt: secret and odd (multiply-shift, Dietzfelbinger and others, 1997).
    """
    cdef uint32_t ends = <uint32_t>(flow.low[1] ^ flow.high[1]) ^ flow.low_port ^ flow.high_port
    return ends * salt >> 24
