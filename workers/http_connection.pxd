# cython: language_level=3
"""HttpConnection: a Connection whose bytes are HTTP messages; their transactions go to the context."""
from libc.stdint cimport int64_t, uint8_t, uint32_t

from workers.connection cimport Connection
from workers.context cimport Context
from workers.http1 cimport Input, MessageReader, Step
from workers.message cimport Message
from workers.pairer cimport Pairer
from workers.stream cimport Piece


cdef enum:
    LAST_CHUNK_SIZE = 7         # and the line end before it, without trailers


cdef class HttpConnection(Connection):
    cdef MessageReader low      # of each side, once it has said something
    cdef MessageReader high
    cdef Pairer pairer          # once HTTP was found
    cdef int client             # side that sends requests; -1: nobody has said anything yet
    cdef bint[2] begun          # a head was read
    cdef int64_t[2] ended       # offset behind the last message, or of the first byte; -1: nothing came yet
    cdef int64_t[2] weak        # where a message begins that little has proven, if it is the last one; -1: none
    cdef int64_t[2] weak_ack    # … what its frame acknowledged
    cdef uint8_t[2][7] tails    # while a reader is lost: the last bytes it had
    cdef int64_t[2] tail_at     # … where they end
    cdef uint32_t bombs         # bodies that reached a limit of their own
    cdef bint[2] body_open      # the end of its last message's body is not known
    cdef int64_t[2] heard       # offset in the other stream that its last bytes acknowledged; -1 unknown

    cdef MessageReader reader(self, int side)
    cdef int say(self, int side, MessageReader reader, Step step, Context cx) except -1
    cdef int flush(self, int side, MessageReader reader, Context cx) except -1
    cdef int hold(self, int side, MessageReader reader, Context cx) except -1
    cdef int leave(self, MessageReader reader, MessageReader other, Context cx) except -1
    cdef bint confirm(self, int side, MessageReader reader, const Piece* piece) except -1
    cdef bint believe_for_now(self, int side, MessageReader reader) noexcept
    cdef bint refuted(self, int side, MessageReader reader, const Input* source, const Piece* piece) except -1
    cdef int remember(self, int side, const Piece* piece) noexcept
    cdef bint ends_chunks(self, int side, MessageReader reader, const Piece* piece) noexcept
    cdef int head(self, int side, MessageReader reader, Context cx) except -1
    cdef int look(self, MessageReader reader, Context cx) except -1
    cdef int looked(self, Message message, Context cx) except -1
    cdef int end(self, int side, MessageReader reader, Context cx) except -1
    cdef int tunnel(self, Context cx) except -1
    cdef bint unsure(self, int side) except -1
    cdef int doubt_body(self, int side, Message request, Context cx) except -1
