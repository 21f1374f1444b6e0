# cython: language_level=3
"""The keyed flow hash. Layout and direction rule: flow.pxd.

SipHash (Aumasson and Bernstein, 2012) over the 48 bytes of a FlowKey; about 15 ns. CPython salts the hash of bytes but not
of tuples of integers, so tables and shards keyed by numbers from the wire need a keyed hash of their own.
"""
from libc.stdint cimport uint8_t
from libc.string cimport memcpy


cdef HashKey hash_key(bytes secret) except *:
    """Return the C form of a 16-byte secret. Raises ValueError for any other length."""
    cdef HashKey key
    if len(secret) != 16:
        raise ValueError(f"the flow hash key has 16 bytes, not {len(secret)}")
    memcpy(&key, <const uint8_t*>secret, 16)
    return key


def siphash_bytes(bytes secret not None, bytes data not None, int rounds=1, int final_rounds=3):
    """Return SipHash of any bytes under a 16-byte secret, by the function that shards frames; for tests and tools."""
    cdef HashKey key = hash_key(secret)
    return siphash(&key, <const uint8_t*>data, len(data), rounds, final_rounds)
