# cython: language_level=3
"""Tunnels: reads what the streams of an HTTP/2 connection carry behind CONNECT requests."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from workers.core.context cimport Context
from workers.http2.exchange cimport Exchange
from workers.http2.session cimport Session
from workers.http2.stream_reader cimport StreamReader, StreamReaders
from workers.tcp.application cimport Transport
from workers.websocket.connection cimport WebSocket

cdef enum:
    TUNNEL_BYTES = 2048         # of memory for what reads a tunnel
    PLACES = 16                 # pieces of a side of which it is known where they end in both streams


cdef struct Place:
    int64_t outside             # offset behind a piece in the TCP stream
    int64_t inside              # … in the stream of HTTP/2


cdef class Tunnels(StreamReaders):
    cdef Context cx
    cdef Session session
    cdef Transport outside      # the connection's
    cdef int client             # the side of the connection that sends requests
    cdef uint32_t waiting       # tunnels whose application has a timeout

    cdef StreamReader begin(self, Exchange granted)
    cdef StreamReader websocket(self, Exchange exchange, int64_t ahead)
    cdef int look(self) except -1
    cdef int on_time(self) except -1


cdef class StreamTransport(Transport):
    pass


cdef class ConnectTunnel(StreamReader):
    cdef Tunnels tunnels
    cdef StreamTransport transport
    cdef Place[2][PLACES] places        # the newest of each side, by side of the connection
    cdef uint64_t[2] pieces             # … and how many there were
    cdef bint waits

    cdef int begin(self, int64_t ahead, bint known) except -1
    cdef int64_t inside(self, int side, int64_t offset) noexcept
    cdef int restart(self) except -1
    cdef int finish(self) except -1
    cdef int note_timeout(self) except -1


cdef class WebSocketTunnel(StreamReader):
    cdef Tunnels tunnels
    cdef WebSocket connection
    cdef bint[2] over           # by side: it has ended


cdef bytes tunnel_name(Exchange exchange)
