# cython: language_level=3
"""Where HTTP messages start, as far as their first bytes can tell."""
from libc.stdint cimport uint8_t, uint32_t


cdef enum Kind:                 # what is not HTTP; names in tally.pyx, in this order
    OTHER
    TLS
    SSH
    SMTP
    HTTP2


cdef struct Start:              # what search() has found
    size_t at                   # where the message starts
    bint request
    size_t keep                 # nothing was found: what comes next may complete a start line from here on


cdef enum:
    OPEN = 1 << 30


cdef uint32_t head_end(const uint8_t* p, uint32_t size, uint32_t* scanned) noexcept nogil
cdef bint may_start(const uint8_t* p, size_t size) noexcept nogil
cdef size_t preface(const uint8_t* p, size_t size) noexcept nogil
cdef bint begins_status_line(const uint8_t* p, size_t size) noexcept nogil
cdef bint begins_well(const uint8_t* p, size_t size) noexcept nogil
cdef Kind kind_of(const uint8_t* p, size_t size) noexcept nogil
cdef bint search(const uint8_t* p, size_t size, size_t longest, Start* out) noexcept nogil
