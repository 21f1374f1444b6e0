# cython: language_level=3
"""WebSocketApplication: passes what TCP delivers to a WebSocket."""
cimport cython
from libc.stdint cimport int64_t

from workers.core.context cimport Context
from workers.tcp.application cimport Application, Transport
from workers.tcp.stream cimport Piece
from workers.websocket.connection cimport CLIENT, SERVER, WebSocket


cdef int enter_websocket(Transport transport, int client, WebSocket connection, int64_t ahead, Context cx) except -1:
    """Read the bytes that come now as WebSocket.

    client: the side that sent the upgrade. ahead: bytes that the client sent behind it and that another application read; -1:
    where its frames begin is not known.
    """
    cdef WebSocketApplication application = WebSocketApplication.__new__(WebSocketApplication)
    application.connection = connection
    application.client = client
    transport.unsettled = False
    transport.become(application)
    if ahead:
        connection.ignore(CLIENT, max(ahead, <int64_t>0), cx)
    return 0


@cython.final
@cython.no_gc
cdef class WebSocketApplication(Application):
    cdef int on_data(self, int side, const Piece* piece, Context cx) except -1:
        return self.connection.take(CLIENT if side == self.client else SERVER, piece.data, piece.length, piece.ts_ns, cx)

    cdef int on_gap(self, int side, int64_t count, Context cx) except -1:
        return self.connection.lose(CLIENT if side == self.client else SERVER, count, cx)

    cdef int on_close(self, Context cx) except -1:
        return self.connection.close(cx)
