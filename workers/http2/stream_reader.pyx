# cython: language_level=3
"""The interface between a connection of HTTP/2 and what reads a tunnel in one of its streams.

    take        the next bytes of DATA of a side, without padding
    lose        the next `count` of these bytes are lost
    lose_place  frames of this side are lost, and it is unknown whether and how many bytes of the stream were in them
    mark        two copies of bytes of the connection differ: those at these offsets of the side's TCP stream
    end         the side has ended; whole: by END_STREAM
    close       the stream has ended, after both sides

A side is CLIENT or SERVER.
"""
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint64_t


@cython.no_gc
cdef class StreamReader:
    cdef int take(self, int side, const uint8_t* p, uint64_t count, uint64_t ts_ns) except -1:
        return 0

    cdef int lose(self, int side, uint64_t count) except -1:
        return 0

    cdef int lose_place(self, int side) except -1:
        return 0

    cdef int mark(self, int side, int64_t start, int64_t stop, int marks) except -1:
        return 0

    cdef int end(self, int side, bint whole) except -1:
        return 0

    cdef int close(self) except -1:
        return 0


@cython.no_gc
cdef class StreamReaders:
    cdef int grant(self, exchange) except -1:
        """Give an Exchange its StreamReader if its response has come and grants its CONNECT request."""
        return 0
