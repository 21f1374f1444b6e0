# cython: language_level=3
from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef struct About:              # what libpcap says of a frame
    uint64_t ts_ns
    uint32_t wirelen


cdef class Pending:
    cdef list frames            # bytes; None where taken
    cdef About* about           # one for each
    cdef Py_ssize_t capacity
    cdef Py_ssize_t at          # the next to be taken
    cdef readonly Py_ssize_t bytes      # held by the frames that wait
    cdef int add(self, uint64_t ts_ns, const uint8_t* frame, uint32_t caplen, uint32_t wirelen) except -1
    cdef bytes take(self, About* about)
