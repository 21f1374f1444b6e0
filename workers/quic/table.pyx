# cython: language_level=3
"""QuicTable: datagrams of any kind to the QUIC connections among them.

A connection begins with an Initial packet that opens with the keys of its own connection id. Other datagrams make no state, and
forged packets cost their share of a budget. A connection stays for a fixed time, so that retransmissions of a known handshake
make no second event; a full table evicts the oldest.
"""
from collections import OrderedDict

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from workers.quic.connection cimport QuicConnection
from workers.quic.context cimport QuicContext
from workers.quic.packet cimport INITIAL, ZERO_RTT, Packet, parse_packet

cdef enum:
    SHORTEST_ID = 8             # of the connection id that a client chooses (RFC 9000, section 7.2)


@cython.final
@cython.no_gc
cdef class Reported:
    """The rest of a connection whose event was reported, so that retransmissions make no second one."""


cdef Reported reported(QuicConnection connection):
    cdef Reported left = Reported.__new__(Reported)
    left.client = connection.client
    left.ids = tuple(connection.ids)
    left.since_ns = connection.since_ns
    left.again = connection.again
    return left


@cython.final
cdef class QuicTable:
    def __init__(self, QuicContext context not None):
        self.cx = context
        self.connections = OrderedDict()    # a dict passes over its removed entries to find the oldest
        self.ended = []

    cdef Belongs datagram(self, object key, int side, const uint8_t* p, uint32_t size, uint64_t ts_ns) except *:
        """Take the payload of a datagram. key: the same for both directions; side: 0 or 1, the sender.

        ts_ns is for facts: the owner advances the context's clock.
        """
        cdef QuicConnection connection
        cdef Reported before = None
        cdef object found
        self.expire()                   # at each datagram: no time between two frames may depend on the batch that they are in
        found = self.connections.get(key)
        self.latest = None
        if type(found) is QuicConnection:
            connection = <QuicConnection>found
            connection.heard[1 - side] |= self.answered
            connection.datagram(side, p, size, ts_ns)
        else:
            if found is not None:
                before = <Reported>found
            # Behind a reported connection: another one on the same ports.
            if not self.opens(before, side, p, size):
                return NOT_QUIC if before is None else OF_CONNECTION
            connection = QuicConnection.__new__(QuicConnection, self.cx, key)
            connection.heard[1 - side] = self.answered
            if not connection.datagram(side, p, size, ts_ns):
                return NOT_QUIC if before is None else OF_CONNECTION
            if before is not None:
                if before.since_ns == connection.since_ns:
                    connection.again = before.again + 1
                self.connections.pop(key, None)
            else:
                while len(self.connections) >= <Py_ssize_t>self.cx.max_connections:   # more than one where the limit was lowered
                    self.cx.evicted += type(next(iter(self.connections.values()))) is QuicConnection
                    self.end_oldest()
            self.connections[key] = connection
        self.latest = connection
        if connection.known:
            # In the same place, so that the table stays in the order of time.
            self.connections[key] = reported(connection)
            return HANDSHAKE_KNOWN
        return OF_CONNECTION

    cdef bint opens(self, Reported before, int side, const uint8_t* p, uint32_t size) except -1:
        """Return whether a client's first Initial may be in this datagram. before: the connection on these ports."""
        cdef Packet packet
        while size:
            parse_packet(p, size, &packet)
            if packet.kind == INITIAL:
                if packet.target.size < SHORTEST_ID:
                    return False
                if before is None:
                    return True
                return side == before.client and \
                    PyBytes_FromStringAndSize(<const char*>packet.target.p, packet.target.size) not in before.ids
            if packet.kind != ZERO_RTT:             # which may stand before the Initial
                return False
            p += packet.size
            size -= packet.size
        return False

    cdef int expire(self) except -1:
        """End connections whose time is over by the context's clock."""
        cdef object oldest
        cdef uint64_t since_ns
        while self.connections:
            oldest = next(iter(self.connections.values()))
            since_ns = (<QuicConnection>oldest).since_ns if type(oldest) is QuicConnection else (<Reported>oldest).since_ns
            if since_ns + self.cx.timeout_ns > self.cx.clock_ns:
                break
            self.end_oldest()
        return 0

    cdef int end_oldest(self) except -1:
        cdef object oldest = self.connections.popitem(False)[1]
        if type(oldest) is QuicConnection and (<QuicConnection>oldest).finish():
            self.ended.append(oldest)
        return 0

    def feed(self, object key, int side, data, uint64_t ts_ns=0):
        """Take the payload of a datagram. Return "not quic", "connection", or "known": see `connection`."""
        cdef Py_buffer view
        self.cx.advance(ts_ns)
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            return _ANSWERS[self.datagram(key, side, <const uint8_t*>view.buf, <uint32_t>view.len, ts_ns)]
        finally:
            PyBuffer_Release(&view)

    @property
    def connection(self):
        """Return the connection of the last datagram; None if it was not QUIC."""
        return self.latest

    def take_ended(self, uint64_t ts_ns):
        """Return connections whose handshake will not become better known: their time is over, or they were evicted."""
        self.cx.advance(ts_ns)
        self.expire()
        ended, self.ended = self.ended, []
        return ended

    def finish(self):
        """End all connections; return those that are events and were not handed out."""
        while self.connections:
            self.end_oldest()
        ended, self.ended = self.ended, []
        return ended

    def __len__(self):
        return len(self.connections)


cdef tuple _ANSWERS = ("not quic", "connection", "known")
