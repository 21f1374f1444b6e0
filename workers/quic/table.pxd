# cython: language_level=3
"""QuicTable: the QUIC connections among the datagrams of a worker."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from workers.quic.connection cimport QuicConnection
from workers.quic.context cimport QuicContext


cdef enum Belongs:              # answers of datagram()
    NOT_QUIC                    # no packet in it opens a connection
    OF_CONNECTION               # of a connection that the table knows
    HANDSHAKE_KNOWN             # the same, and it completes the handshake: connection.facts() are an event


cdef class Reported:            # stands for a connection whose event was reported
    cdef int client
    cdef tuple ids              # destination connection ids in its Initials
    cdef uint64_t since_ns
    cdef uint32_t again


cdef class QuicTable:
    cdef readonly QuicContext cx
    cdef object connections     # {key: QuicConnection or Reported}, the oldest first
    cdef bint answered          # set by the owner: the other side of the next datagram's flow has sent something
    cdef QuicConnection latest  # the connection of the last datagram
    cdef list ended             # connections whose time is over, not yet handed out

    cdef Belongs datagram(self, object key, int side, const uint8_t* p, uint32_t size, uint64_t ts_ns) except *
    cdef bint opens(self, Reported before, int side, const uint8_t* p, uint32_t size) except -1
    cdef int expire(self) except -1
    cdef int end_oldest(self) except -1
