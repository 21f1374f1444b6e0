# cython: language_level=3
"""Tests of the first bytes of HTTP messages: where a message starts, and where its head ends."""
from libc.stdint cimport uint8_t, uint32_t


cdef struct Start:              # a result of search()
    size_t at                   # where the message starts
    bint request
    size_t keep                 # without a match: the next bytes may complete a start line that begins here


cdef enum:
    OPEN = 1 << 30


cdef uint32_t head_end(const uint8_t* p, uint32_t size, uint32_t* scanned) noexcept nogil
cdef bint may_start(const uint8_t* p, size_t size) noexcept nogil
cdef size_t preface(const uint8_t* p, size_t size) noexcept nogil
cdef bint begins_status_line(const uint8_t* p, size_t size) noexcept nogil
cdef bint begins_field(const uint8_t* p, size_t size) noexcept nogil
cdef bint may_begin_well(const uint8_t* p, size_t size) noexcept nogil
cdef bint begins_well(const uint8_t* p, size_t size) noexcept nogil
cdef bint begins_http2(const uint8_t* p, size_t size) noexcept nogil
cdef bint search(const uint8_t* p, size_t size, size_t longest, Start* out) noexcept nogil
