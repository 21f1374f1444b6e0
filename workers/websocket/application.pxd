# cython: language_level=3
"""WebSocketApplication: a WebSocket connection directly over TCP."""
from libc.stdint cimport int64_t

from workers.core.context cimport Context
from workers.tcp.application cimport Application, Transport
from workers.websocket.connection cimport WebSocket


cdef class WebSocketApplication(Application):
    cdef WebSocket connection
    cdef int client             # the side that sent the upgrade


cdef int enter_websocket(Transport transport, int client, WebSocket connection, int64_t ahead, Context cx) except -1
