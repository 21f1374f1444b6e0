# cython: language_level=3
"""Delivery: from a connection's bytes to the streams of users, piece by piece.

    Connection (TCP) -> UserStreams -> Delivery -> the user's stream

One list carries the consecutive pieces of one direction. Before another direction gets pieces, or a stream is made, Delivery
passes the gathered pieces to their stream: users see bytes in causal order.

An exception of a user's stream ends that stream: after complete() it gets no more calls. complain() raises the exception again
once the engine has finished its step, so that it harms neither the connection nor any other stream.

Delivery keeps the users' objects, not the connections: the garbage collector does not see connections, and a user's stream
may refer back to its Assembler.
"""
cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

from appliance.wire.flow_key cimport FlowKey
from workers.tcp.application cimport HIGH, Application
from workers.tcp.connection cimport OPEN, Connection
from workers.core.context cimport Context
from workers.core.limits cimport Limits
from workers.tcp.stream cimport Piece as Run, Stream as Half

from appliance.packet.endpoints import Flow, address_text

cdef enum:
    MOST_ERRORS = 64            # kept of one call; a counter has the rest


@cython.final
@cython.freelist(64)
cdef class Piece:
    """Bytes of a stream that follow each other.

    data: a copy, so the user may keep it. skip: bytes known to be missing before them; -1 at the start of a mid-stream
    connection's stream. start, end: first and last piece of the stream; a stream has one of each (often an empty piece),
    unless it raised. An acknowledged FIN, a RST, a timeout, a limit or a flush sets end.
    ts_ns: of the frame that brought the bytes, for an empty piece that of the newest frame.
    """

    def __init__(self, bytes data not None=b"", int64_t skip=0, bint start=False, bint end=False, uint64_t ts_ns=0):
        self.data = data
        self.skip = skip
        self.start = start
        self.end = end
        self.ts_ns = ts_ns

    def __eq__(self, other):
        cdef Piece piece
        if not isinstance(other, Piece):
            return NotImplemented
        piece = <Piece>other
        return (self.data == piece.data and self.skip == piece.skip and self.start == piece.start
                and self.end == piece.end and self.ts_ns == piece.ts_ns)

    def __repr__(self):
        return f"Piece({self.data!r}, skip={self.skip}, start={self.start}, end={self.end}, ts_ns={self.ts_ns})"


cdef class Delivery(Context):
    """A Context with the users' streams, and the gathered pieces of one direction."""

    def __init__(self, Limits limits not None, new):
        Context.__init__(self, limits)
        self.new = new
        self.streams = []
        self.pieces = []
        self.errors = []

    cdef int make(self, UserStreams owner, int side) except -1:
        """Make the stream of one direction by the factory."""
        cdef const FlowKey* key = &owner.connection().key
        cdef Py_ssize_t at = 2 * <Py_ssize_t>owner.connection().slot + side
        self.hand_over()
        while len(self.streams) <= at:
            self.streams.append(None)
        net = Flow(address(key.family, key.low), address(key.family, key.high))
        transport = Flow(key.low_port, key.high_port)
        if side == HIGH:
            net, transport = net.reverse(), transport.reverse()
        owner.state[side] = OVER
        try:
            stream = self.new(net, transport)
        except BaseException as error:
            self.note(error)
            return 0
        if stream is None:
            owner.state[side] = IGNORED
            self.ignored += 1
            return 0
        self.streams[at] = stream
        owner.state[side] = LIVE
        self.made += 1
        return 0

    cdef int put(self, UserStreams owner, int side, bytes data, uint64_t ts_ns) except -1:
        """Append the next bytes of a live stream to the gathered pieces."""
        cdef Piece piece = Piece.__new__(Piece)
        if self.owner is not owner or self.side != side:
            self.hand_over()
            self.owner = owner
            self.side = side
        piece.data = data
        piece.ts_ns = ts_ns
        piece.skip = owner.lost[side]
        if not owner.begun[side]:
            owner.begun[side] = piece.start = True
            if owner.streams[side].midstream:
                piece.skip = -1
        owner.lost[side] = 0
        self.pieces.append(piece)
        return 0

    cdef int hand_over(self) except -1:
        """Pass the gathered pieces to their stream."""
        cdef UserStreams owner = self.owner
        cdef list pieces = self.pieces
        cdef int side = self.side
        cdef bint failed = False
        if owner is None:
            return 0
        self.owner = None
        self.pieces = []
        try:
            self.streams[2 * <Py_ssize_t>owner.connection().slot + side].reassembled(pieces)
        except BaseException as error:
            self.note(error)
            failed = True
        if failed:
            self.complete(owner, side)
        return 0

    cdef int complete(self, UserStreams owner, int side) except -1:
        """Complete a live stream, and forget it."""
        cdef Py_ssize_t at = 2 * <Py_ssize_t>owner.connection().slot + side
        stream = self.streams[at]
        self.streams[at] = None
        owner.state[side] = OVER
        self.completed += 1
        try:
            stream.complete()
        except BaseException as error:
            self.note(error)
        return 0

    cdef int note(self, error) except -1:
        self.failed += 1
        if len(self.errors) < MOST_ERRORS:
            self.errors.append(error)
        return 0

    cdef int complain(self) except -1:
        """Raise the exceptions that users' code has raised, several as an ExceptionGroup."""
        errors = self.errors
        if errors:
            self.errors = []
            for error in errors:
                if len(errors) == 1 or not isinstance(error, Exception):     # a KeyboardInterrupt is not hidden in a group
                    raise error
            raise ExceptionGroup("several streams have raised", errors)
        return 0


cdef str address(uint32_t family, const uint64_t* halves):
    if family == 4:
        return address_text((<object>halves[1]).to_bytes(4, "big"))
    return address_text((<object>halves[0]).to_bytes(8, "big") + (<object>halves[1]).to_bytes(8, "big"))


@cython.final
@cython.no_gc
cdef class UserStreams(Application):
    """The application that passes its bytes to the Delivery, which is its context."""

    cdef Connection connection(self):
        return <Connection>self.transport

    cdef int on_data(self, int side, const Run* run, Context cx) except -1:
        cdef Delivery delivery = <Delivery>cx
        if run.length == 0:
            return 0
        if self.state[side] == UNMADE:
            delivery.make(self, side)
        if self.state[side] == LIVE:
            delivery.put(self, side, run.data[:run.length], run.ts_ns)
        return 0

    cdef int on_gap(self, int side, int64_t count, Context cx) except -1:
        self.lost[side] += count
        return 0

    cdef int on_end(self, int side, bint by_fin, Context cx) except -1:
        """Mark the last piece: the newest gathered one, or an empty one."""
        cdef Delivery delivery = <Delivery>cx
        if self.state[side] == UNMADE and (self.lost[side] or self.greeted(side)):
            delivery.make(self, side)
        if self.state[side] != LIVE:
            return 0
        if delivery.owner is not self or delivery.side != side or self.lost[side]:
            delivery.put(self, side, b"", cx.now)
        (<Piece>delivery.pieces[-1]).end = True
        delivery.hand_over()
        if self.state[side] == LIVE:
            delivery.complete(self, side)
        return 0

    cdef bint awaits_end(self, int side) noexcept:
        return self.state[side] == LIVE

    cdef bint greeted(self, int side) noexcept:
        """Return whether this side opened an established connection with a SYN."""
        cdef const Half* half = &self.streams[side]
        return self.connection().proven and half.seen and half.anchored and not half.midstream

    cdef int on_open(self, int side, Context cx) except -1:
        """Make the streams of both directions after the handshake; that of the side which has just sent comes first."""
        cdef Delivery delivery = <Delivery>cx
        cdef int each
        for each in (side, 1 - side):
            if self.state[each] == UNMADE and self.greeted(each):
                delivery.make(self, each)
        return 0


@cython.final
cdef class ForUsers(Applications):
    """The applications of an Assembler. Each connection gets its UserStreams before its first byte: its opening counts."""

    def __cinit__(self):
        self.at_once = True

    cdef Application first(self):
        return UserStreams.__new__(UserStreams)


cdef bint go_on(Connection connection, int side, uint64_t ts_ns, Context cx) except -1:
    """End each wait of a side that began before ts_ns, also for its FIN's acknowledgement; return whether there was one."""
    cdef const Half* half = &connection.streams[side]
    cdef bint found = False
    while half.held_count and half.held[half.held_first].ts_ns < ts_ns and connection.ending == OPEN:
        found = True
        connection.give_up(side, cx)
        connection.deliver_held(cx)
    if half.fin_since and half.fin_since < ts_ns and connection.ending == OPEN:
        found = True
        connection.accept_end(side, cx)
    return found
