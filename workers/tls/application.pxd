# cython: language_level=3
"""Tls: the application of a connection with TLS."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from workers.core.context cimport Context
from workers.tcp.application cimport Application, Transport
from workers.tcp.stream cimport Piece
from workers.tls.decryption cimport Decryption
from workers.tls.handshake cimport Handshake


cdef class Tls(Application):
    cdef Handshake handshake    # None: its event is written, or the dataset is off
    cdef Transport kept         # of a connection that has ended, and still waits for keys
    cdef Decryption decryption  # None: no keys are followed
    cdef bint known             # the handshake is over; its event may wait for keys
    cdef uint32_t index         # events of the connection before it
    cdef int kind               # place of TLS in stats.NOT_HTTP
    cdef bint begun             # a byte has come
    cdef bint late              # another protocol came before it on this connection
    cdef bint[2] speaks         # by side: it has sent TLS
    cdef int64_t[2] starts      # … offset of its first byte
    cdef int64_t[2] lost        # … missing bytes before that
    cdef uint64_t first_ns
    cdef uint64_t last_ns

    cdef bint first_bytes(self, int side, const Piece* piece, Context cx) except -1
    cdef int read(self, int side, const Piece* piece, Context cx) except -1
    cdef int yield_side(self, int side, const Piece* piece, Context cx) except -1
    cdef int write_when_known(self, Context cx) except -1
    cdef int write(self, Context cx) except -1
    cdef int finish(self, Context cx) except -1
