# cython: language_level=3
from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef class FrameSink:
    cdef int add(self, uint64_t ts_ns, const uint8_t* frame, uint32_t caplen, uint32_t wirelen) except -1
    cdef int use_link_type(self, int link_type) except -1
