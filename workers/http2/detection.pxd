# cython: language_level=3
"""Recognize HTTP/2 in the first bytes of a direction, and the side that sends them."""
from libc.stdint cimport uint8_t

cdef enum Speaker:              # names in detection.pyx, in this order
    NOT_HTTP2                   # these bytes do not show it
    CLIENT_SPEAKS
    SERVER_SPEAKS
    EITHER_SPEAKS               # frames, but no header block that tells


cdef Speaker speaker_of(const uint8_t* p, size_t size) except *
cdef bint begins_preface(const uint8_t* p, size_t size, bint* whole) noexcept nogil
