# cython: language_level=3
"""Endpoints as JSON: the part of an event that is the same for every event of a connection.

Community ID 1 (github.com/corelight/community-id-spec): SHA-1 over seed 0, both addresses, the protocol, a zero byte and both
ports; a FlowKey has the endpoint order that the specification requires.

The id of a connection is a SipHash under the digest of its endpoints, as an event's: of its first frame's time, and of what
tells it from another one at the same time. The longer input keeps it apart from every event's id.

Length proof: only numbers here come from the wire. The literals and the longest values between them, two IPv6 addresses and
three VLAN ids, are less than LONGEST; the buffer of the hashed bytes has room for IPv6, and for the VLANs.
"""
from binascii import b2a_base64

from appliance.native.digests import blake2b, sha1

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from appliance.wire.flow_key cimport UDP_FLOW, FlowKey, HashKey, siphash
from appliance.wire.numbers cimport PROTO_TCP, PROTO_UDP
from workers.events.json_text cimport put, put_bytes, put_hex, put_number
from workers.core.flow cimport Flow

cdef extern from "arpa/inet.h":
    int AF_INET, AF_INET6
    const char* inet_ntop(int family, const void* address, char* out, unsigned int size) noexcept

cdef enum:
    HASHED = 2 + 16 + 16 + 2 + 4    # bytes under the Community ID's hash, at most
    ADDRESS_TEXT = 46               # of an IPv6 address, with its NUL
    LONGEST = 512                   # more bytes than parties() writes


cdef inline uint8_t* put_big(uint8_t* out, uint64_t value, int size) noexcept nogil:
    """Write the low `size` bytes of a number, the highest first."""
    cdef int i
    for i in range(size):
        out[i] = <uint8_t>(value >> 8 * (size - 1 - i))
    return out + size


cdef inline uint8_t* put_address(uint8_t* out, const uint64_t* address, int family) noexcept nogil:
    if family == 6:
        out = put_big(out, address[0], 8)
    return put_big(out, address[1], 8 if family == 6 else 4)


cdef uint8_t* put_endpoint(uint8_t* out, const uint8_t* address, int family, uint64_t port) noexcept:
    cdef char[ADDRESS_TEXT] text
    out = put(out, b'{"ip":"')
    out = put(out, inet_ntop(AF_INET6 if family == 6 else AF_INET, address, text, sizeof(text)))
    out = put(out, b'","port":')
    out = put_number(out, port)
    return put(out, b"}")


cdef uint8_t* put_vlans(uint8_t* out, uint64_t vlans) noexcept:
    """Write the outermost tag, and of several the innermost too."""
    cdef int shift, tags = 0
    cdef uint64_t outer = 0, inner = 0
    for shift in range(0, 48, 16):
        if vlans >> shift & 0x8000:
            inner = vlans >> shift & 0xFFF
            if tags == 0:
                outer = inner
            tags += 1
    if tags:
        out = put(out, b',"vlan":{"id":"')
        out = put_number(out, outer)
        out = put(out, b'"}')
    if tags > 1:
        out = put(out, b',"inner":{"vlan":{"id":"')
        out = put_number(out, inner)
        out = put(out, b'"}}')
    return out


cdef bytes parties(Flow flow, bytes observer):
    """Return observer, network, source and destination as JSON, with a comma behind.

    The text lacks the protocol, which belongs at flow.protocol_at; see put_parties(). Set flow.identity too,
    the root of event ids, and flow.connection.
    """
    cdef FlowKey* key = &flow.key
    cdef int family = key.family, i
    cdef int size = 16 if family == 6 else 4
    cdef bint udp = key.vlans & UDP_FLOW != 0
    cdef uint8_t[HASHED + 8] hashed
    cdef uint8_t[LONGEST] text
    cdef uint8_t* low = hashed + 2
    cdef uint8_t* high = low + size
    cdef uint8_t* end
    cdef uint8_t* out
    cdef bytes digest
    cdef const uint8_t* byte
    hashed[0] = hashed[1] = 0
    put_address(low, key.low, family)
    end = put_address(high, key.high, family)
    end = put_big(end, (PROTO_UDP if udp else PROTO_TCP) << 8, 2)
    end = put_big(end, key.low_port, 2)
    end = put_big(end, key.high_port, 2)
    out = put(text, b'"network":{"transport":"udp","type":"ipv' if udp else b'"network":{"transport":"tcp","type":"ipv')
    out = put_number(out, family)
    flow.protocol_at = PyBytes_GET_SIZE(observer) + (out - text)
    out = put(out, b'","community_id":"1:')
    digest = sha1(hashed[:end - hashed], usedforsecurity=False).digest()
    out = put_bytes(out, <bytes>b2a_base64(digest, newline=False))
    out = put(out, b'"')
    out = put_vlans(out, key.vlans)
    out = put(out, b'},"source":')
    out = put_endpoint(out, low if flow.client_low else high, family, key.low_port if flow.client_low else key.high_port)
    out = put(out, b',"destination":')
    out = put_endpoint(out, high if flow.client_low else low, family, key.high_port if flow.client_low else key.low_port)
    out = put(out, b",")
    for i in range(8):
        end[i] = <uint8_t>(key.vlans >> 8 * i)
    digest = blake2b(hashed[:end + 8 - hashed], digest_size=16).digest()
    byte = <const uint8_t*>PyBytes_AS_STRING(digest)
    flow.identity[0] = flow.identity[1] = 0
    for i in range(16):
        flow.identity[i >> 3] |= <uint64_t>byte[i] << 8 * (i & 7)
    name_connection(flow)
    return observer + text[:out - text]


cdef uint8_t* put_parties(uint8_t* out, Flow flow, bytes protocol) noexcept:
    """Append flow.json, with network.protocol in its place if it is known."""
    cdef const uint8_t* text = <const uint8_t*>PyBytes_AS_STRING(flow.json)
    memcpy(out, text, flow.protocol_at)
    out += flow.protocol_at
    if PyBytes_GET_SIZE(protocol):
        out = put_bytes(put(out, b'","protocol":"'), protocol)
    memcpy(out, text + flow.protocol_at, PyBytes_GET_SIZE(flow.json) - flow.protocol_at)
    return out + (PyBytes_GET_SIZE(flow.json) - flow.protocol_at)


cdef int name_connection(Flow flow) noexcept:
    """Write the id of the connection of this flow."""
    cdef HashKey key
    cdef uint64_t[4] seed
    cdef uint8_t* out = flow.connection
    key.k0 = flow.identity[0]
    key.k1 = flow.identity[1]
    seed[0] = flow.begun_ns
    seed[1] = flow.turns
    seed[2] = flow.again
    for seed[3] in range(2):
        out = put_hex(out, siphash(&key, seed, sizeof(seed), 2, 4))
    return 0
