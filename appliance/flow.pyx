# cython: language_level=3
"""The keyed flow hash. Layout and direction rule: flow.pxd.

SipHash (Aumasson and Bernstein, 2012) over the 48 bytes of a FlowKey; about 15 ns. CPython salts the hash of bytes but not
of tuples of integers, so tables and shards keyed by numbers from the wire need a keyed hash of their own.
"""
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy


cdef inline uint64_t rotl(uint64_t x, int by) noexcept nogil:
    return (x << by) | (x >> (64 - by))


cdef inline void sip_round(uint64_t* v) noexcept nogil:
    v[0] += v[1]; v[1] = rotl(v[1], 13); v[1] ^= v[0]; v[0] = rotl(v[0], 32)
    v[2] += v[3]; v[3] = rotl(v[3], 16); v[3] ^= v[2]
    v[0] += v[3]; v[3] = rotl(v[3], 21); v[3] ^= v[0]
    v[2] += v[1]; v[1] = rotl(v[1], 17); v[1] ^= v[2]; v[2] = rotl(v[2], 32)


cdef uint64_t siphash(const HashKey* key, const void* data, size_t length, int rounds, int final_rounds) noexcept nogil:
    """SipHash-c-d of `length` readable bytes; little-endian machines only, as the whole appliance is."""
    cdef const uint8_t* p = <const uint8_t*>data
    cdef size_t whole = length & ~<size_t>7, at = 0
    cdef uint64_t v[4]
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


cdef HashKey hash_key(bytes secret) except *:
    """The C form of a 16-byte secret; ValueError on any other length."""
    cdef HashKey key
    if len(secret) != 16:
        raise ValueError(f"the flow hash key has 16 bytes, not {len(secret)}")
    memcpy(&key, <const uint8_t*>secret, 16)
    return key


def siphash_bytes(bytes secret not None, bytes data not None, int rounds=1, int final_rounds=3):
    """SipHash of any bytes under a 16-byte secret: the very function that shards frames, for tests and tools."""
    cdef HashKey key = hash_key(secret)
    return siphash(&key, <const uint8_t*>data, len(data), rounds, final_rounds)
