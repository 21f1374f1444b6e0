# cython: language_level=3
"""Delivery: the application that passes its bytes to the streams of users."""
from libc.stdint cimport int64_t, uint8_t, uint64_t

from workers.tcp.application cimport Application, Applications
from workers.tcp.connection cimport Connection
from workers.core.context cimport Context
from workers.tcp.stream cimport Piece as Run


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


cdef class UserStreams(Application):
    cdef int64_t[2] lost        # bytes of each side that are missing before its next piece
    cdef uint8_t[2] state       # State
    cdef uint8_t[2] begun       # a piece was made

    cdef Connection connection(self)
    cdef bint greeted(self, int side) noexcept


cdef class ForUsers(Applications):
    pass


cdef class Delivery(Context):
    cdef object new
    cdef list streams           # users' objects of each side of each connection: at 2 * slot + side
    cdef list pieces            # of the owner's side, not delivered yet
    cdef UserStreams owner
    cdef int side
    cdef list errors            # raised by users' code during this call
    cdef uint64_t made
    cdef uint64_t ignored
    cdef uint64_t completed
    cdef uint64_t failed

    cdef int make(self, UserStreams owner, int side) except -1
    cdef int put(self, UserStreams owner, int side, bytes data, uint64_t ts_ns) except -1
    cdef int hand_over(self) except -1
    cdef int complete(self, UserStreams owner, int side) except -1
    cdef int note(self, error) except -1
    cdef int complain(self) except -1


cdef bint go_on(Connection connection, int side, uint64_t ts_ns, Context cx) except -1
