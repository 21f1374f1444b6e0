# cython: language_level=3
"""Delivery: connections whose bytes go to the streams of users."""
from libc.stdint cimport int64_t, uint8_t, uint64_t

from workers.connection cimport Connection
from workers.context cimport Context
from workers.stream cimport Piece as Run


cdef enum State:                # of a direction's stream
    UNMADE
    LIVE
    IGNORED                     # the factory gave None
    OVER


cdef class Piece:
    cdef readonly bytes data
    cdef readonly int64_t skip
    cdef readonly bint start
    cdef readonly bint end
    cdef readonly uint64_t ts_ns


cdef class StreamConnection(Connection):
    cdef int64_t[2] lost        # bytes of each side that are missing before its next piece
    cdef uint8_t[2] state       # State
    cdef uint8_t[2] begun       # a piece was made

    cdef bint greeted(self, int side) noexcept
    cdef int greet(self, int side, Context cx) except -1
    cdef bint go_on(self, int side, uint64_t ts_ns, Context cx) except -1


cdef class Delivery(Context):
    cdef object factory
    cdef list streams           # users' objects of each side of each connection: at 2 * slot + side
    cdef list pieces            # of the owner's side, not handed over yet
    cdef StreamConnection owner
    cdef int side
    cdef list errors            # raised by users' code during this call
    cdef uint64_t made
    cdef uint64_t ignored
    cdef uint64_t completed
    cdef uint64_t failed

    cdef int make(self, StreamConnection connection, int side) except -1
    cdef int put(self, StreamConnection connection, int side, bytes data, uint64_t ts_ns) except -1
    cdef int hand_over(self) except -1
    cdef int complete(self, StreamConnection connection, int side) except -1
    cdef int note(self, error) except -1
    cdef int complain(self) except -1
