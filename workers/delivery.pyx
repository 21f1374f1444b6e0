# cython: language_level=3
"""Delivery: from a connection's bytes to the streams of users, piece by piece.

    Connection (TCP) -> StreamConnection -> Delivery -> the user's stream

Pieces of one direction that become known in one go are handed over in one list; before anything is given to another
direction, or a stream is made, what was put together so far is handed over: users see bytes in causal order.

An exception of the user's ends that stream (complete() is called, nothing more is given); it is raised again by complain()
once the engine has finished its step, so that neither the connection nor any other stream is hurt.

The users' objects are kept here, not in the connections: these are not seen by the garbage collector, and a user's stream
may well refer back to its Assembler.
"""
cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

from appliance.flow cimport FlowKey
from workers.connection cimport HIGH, OPEN, Connection
from workers.context cimport Context
from workers.limits cimport Limits
from workers.stream cimport Piece as Run, Stream as Half

from appliance.endpoints import Flow, address_text

cdef enum:
    MOST_ERRORS = 64            # kept of one call; the rest is counted


@cython.final
@cython.freelist(64)
cdef class Piece:
    """Bytes of a stream that follow each other.

    data: copied out of the frame, so it may be kept. skip: bytes known to be missing before them; -1 at the start of a
    stream that was picked up in the middle. start, end: first and last piece of the stream; a stream has one of each (often
    an empty piece), unless it raised. end is set by FIN, RST, timeout, limit or flush. ts_ns: of the frame that brought the
    bytes, for an empty piece that of the newest frame.
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
    """A Context with the users' streams, and where pieces are put together before they are handed over."""

    def __init__(self, Limits limits not None, factory):
        Context.__init__(self, limits)
        self.factory = factory
        self.streams = []
        self.pieces = []
        self.errors = []

    cdef int make(self, StreamConnection connection, int side) except -1:
        """Asks the factory for the stream of one direction."""
        cdef const FlowKey* key = &connection.key
        cdef Py_ssize_t at = 2 * <Py_ssize_t>connection.slot + side
        self.hand_over()
        while len(self.streams) <= at:
            self.streams.append(None)
        net = Flow(address(key.family, key.low), address(key.family, key.high))
        transport = Flow(key.low_port, key.high_port)
        if side == HIGH:
            net, transport = net.reverse(), transport.reverse()
        connection.state[side] = OVER
        try:
            stream = self.factory.new(net, transport)
        except BaseException as error:
            self.note(error)
            return 0
        if stream is None:
            connection.state[side] = IGNORED
            self.ignored += 1
            return 0
        self.streams[at] = stream
        connection.state[side] = LIVE
        self.made += 1
        return 0

    cdef int put(self, StreamConnection connection, int side, bytes data, uint64_t ts_ns) except -1:
        """The next bytes of a live stream."""
        cdef Piece piece = Piece.__new__(Piece)
        if self.owner is not connection or self.side != side:
            self.hand_over()
            self.owner = connection
            self.side = side
        piece.data = data
        piece.ts_ns = ts_ns
        piece.skip = connection.lost[side]
        if not connection.begun[side]:
            connection.begun[side] = piece.start = True
            if connection.streams[side].midstream:
                piece.skip = -1
        connection.lost[side] = 0
        self.pieces.append(piece)
        return 0

    cdef int hand_over(self) except -1:
        """Gives the pieces put together so far to their stream."""
        cdef StreamConnection connection = self.owner
        cdef list pieces = self.pieces
        cdef int side = self.side
        cdef bint failed = False
        if connection is None:
            return 0
        self.owner = None
        self.pieces = []
        try:
            self.streams[2 * <Py_ssize_t>connection.slot + side].reassembled(pieces)
        except BaseException as error:
            self.note(error)
            failed = True
        if failed:
            self.complete(connection, side)
        return 0

    cdef int complete(self, StreamConnection connection, int side) except -1:
        """Tells a live stream that nothing more comes, and forgets it."""
        cdef Py_ssize_t at = 2 * <Py_ssize_t>connection.slot + side
        stream = self.streams[at]
        self.streams[at] = None
        connection.state[side] = OVER
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
        """Raises what users' code has raised."""
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
cdef class StreamConnection(Connection):
    """A Connection whose bytes go to the Delivery. Its context is one."""

    cdef int take(self, int side, const Run* run, Context cx) except -1:
        cdef Delivery delivery = <Delivery>cx
        if run.length == 0:
            return 0
        if self.state[side] == UNMADE:
            delivery.make(self, side)
        if self.state[side] == LIVE:
            delivery.put(self, side, run.data[:run.length], run.ts_ns)
        return 0

    cdef int skip(self, int side, int64_t count, Context cx) except -1:
        self.lost[side] += count
        return 0

    cdef int over(self, int side, bint by_fin, Context cx) except -1:
        """The last piece: the one that is being put together, or an empty one."""
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

    cdef bint greeted(self, int side) noexcept:
        """Has this side opened the connection with a SYN, and was that more than an attempt?"""
        cdef const Half* half = &self.streams[side]
        return self.proven and half.seen and half.anchored and not half.midstream

    cdef int greet(self, int side, Context cx) except -1:
        """The handshake is over: both directions have a stream now, that of the side which has just spoken first."""
        cdef Delivery delivery = <Delivery>cx
        cdef int each
        for each in (side, 1 - side):
            if self.state[each] == UNMADE and self.greeted(each):
                delivery.make(self, each)
        return 0

    cdef bint go_on(self, int side, uint64_t ts_ns, Context cx) except -1:
        """Ends every wait of a side that a frame from before ts_ns began; was there one?"""
        cdef const Half* half = &self.streams[side]
        cdef bint found = False
        while half.held_count and half.held[half.held_first].ts_ns < ts_ns and self.ending == OPEN:
            found = True
            self.give_up(side, cx)
            self.drain(cx)
        return found
