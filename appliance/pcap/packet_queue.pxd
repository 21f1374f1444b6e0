# cython: language_level=3
from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef struct FrameInfo:              # libpcap's metadata of a frame
    uint64_t ts_ns
    uint32_t wirelen
    int link_type


cdef class PacketQueue:
    cdef list frames            # bytes; None once taken
    cdef FrameInfo* about           # one for each
    cdef Py_ssize_t capacity
    cdef Py_ssize_t at          # the next one to take
    cdef readonly Py_ssize_t bytes      # total of the queued frames
    cdef int add(self, uint64_t ts_ns, const uint8_t* frame, uint32_t caplen, uint32_t wirelen, int link_type) except -1
    cdef bytes take(self, FrameInfo* about)
