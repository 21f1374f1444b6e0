# cython: language_level=3
"""StreamReader: reads the DATA of one stream in place of a body. StreamReaders: makes it."""
from libc.stdint cimport int64_t, uint8_t, uint64_t


cdef class StreamReader:
    cdef int take(self, int side, const uint8_t* p, uint64_t count, uint64_t ts_ns) except -1
    cdef int lose(self, int side, uint64_t count) except -1
    cdef int lose_place(self, int side) except -1
    cdef int mark(self, int side, int64_t start, int64_t stop, int marks) except -1
    cdef int end(self, int side, bint whole) except -1
    cdef int close(self) except -1


cdef class StreamReaders:
    cdef int grant(self, exchange) except -1
