# cython: language_level=3
"""The static table of HPACK (RFC 7541 Appendix A)."""
from libc.stdint cimport uint8_t, uint32_t

cdef enum:
    STATIC_ENTRIES = 61


cdef struct StaticEntry:
    const uint8_t* text         # name and value, one behind the other
    uint32_t name_length
    uint32_t value_length
    uint8_t token               # header_list.pxd's Token of its name


cdef const StaticEntry* static_entry(size_t index) noexcept nogil
cdef uint8_t token_by_name(const uint8_t* name, size_t length) noexcept nogil
