# cython: language_level=3
"""Joining: a connection whose bytes look like the middle of HTTP/2, until that is certain or refuted."""
from libc.stdint cimport int64_t, uint8_t, uint64_t

from workers.core.context cimport Context
from workers.tcp.application cimport Application, Transport
from workers.tcp.stream cimport Piece


cdef class HeldPiece:
    cdef Piece piece
    cdef bytes data             # its bytes
    cdef int side


cdef class Joining(Application):
    cdef Application before     # reads the bytes if they are not HTTP/2
    cdef int first              # the side whose bytes look like frames
    cdef list held              # HeldPiece of both sides, in order
    cdef bytearray low          # the bytes of each side in them
    cdef bytearray high
    cdef uint64_t size          # bytes held
    cdef uint64_t memory        # … and what they take of max_total_head_bytes
    cdef uint64_t look_at       # size at which the search for a header block is worth its while

    cdef bytearray bytes_of(self, int side)
    cdef int client(self) except -2
    cdef int judge(self, Context cx) except -1
    cdef bint adopt_known(self, Context cx) except -1
    cdef bint decide(self, Context cx) except -1
    cdef int adopt(self, int client, Context cx) except -1
    cdef int release(self, Context cx) except -1
    cdef int pass_on(self, Context cx) except -1


cdef bint join_http2(Transport transport, Application before, int side, const Piece* piece, Context cx) except -1
