# cython: language_level=3
"""Who talks to whom: the part of an event that is the same for every event of a connection.

Community ID 1 (github.com/corelight/community-id-spec): SHA-1 over seed 0, both addresses, the protocol, a zero byte and both
ports; the endpoint order of a FlowKey is the one that it asks for.

Length proof: nothing here comes from the wire but numbers. The literals and the longest that can stand between them, two IPv6
addresses and three VLAN ids, are less than LONGEST; the buffer of what is hashed is as long as IPv6 needs, and the VLANs.
"""
from binascii import b2a_base64

try:                            # what hashlib is made of, without OpenSSL, which takes 10 ms to load
    from _blake2 import blake2b
    from _sha1 import sha1
except ImportError:
    from hashlib import blake2b, sha1

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t, uint64_t

from appliance.flow cimport FlowKey
from workers.text cimport put, put_bytes, put_number
from workers.transaction cimport Flow

cdef extern from "arpa/inet.h":
    int AF_INET, AF_INET6
    const char* inet_ntop(int family, const void* address, char* out, unsigned int size) noexcept

cdef enum:
    HASHED = 2 + 16 + 16 + 2 + 4    # bytes that the Community ID is made of, at most
    ADDRESS_TEXT = 46               # of an IPv6 address, with its NUL
    LONGEST = 512                   # more than all that parties() writes


cdef inline uint8_t* put_big(uint8_t* out, uint64_t value, int size) noexcept nogil:
    """The low `size` bytes of a number, the highest first."""
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
    """The outermost tag, and of several the innermost too."""
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


cdef bytes parties(Flow flow):
    """network, source and destination as JSON, with a comma behind; sets flow.identity, which event ids are made of."""
    cdef FlowKey* key = &flow.key
    cdef int family = key.family, i
    cdef int size = 16 if family == 6 else 4
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
    end = put_big(end, 6 << 8, 2)                   # TCP
    end = put_big(end, key.low_port, 2)
    end = put_big(end, key.high_port, 2)
    out = put(text, b'"network":{"transport":"tcp","type":"ipv')
    out = put_number(out, family)
    out = put(out, b'","protocol":"http","community_id":"1:')
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
    return text[:out - text]
