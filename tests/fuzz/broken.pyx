# cython: language_level=3
"""Rooms with known faults, one each: what the sanitizers must report if they are to be believed."""
from libc.stdint cimport int32_t, uint8_t


def last_byte_and_one(const uint8_t[::1] data not None):
    """Reads one byte too far."""
    cdef const uint8_t* p = &data[0]
    return p[data.shape[0]]


def grown(int32_t number):
    """Overflows for the largest number."""
    return number + <int32_t>1


def stuck(bint really):
    """Never ends if asked to."""
    cdef int turns = 0
    while really:
        turns = (turns + 1) % 7
    return turns
