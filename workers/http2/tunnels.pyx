# cython: language_level=3
"""Tunnels in streams of HTTP/2: CONNECT (RFC 9113 section 8.5) and extended CONNECT (RFC 8441).

Inside a CONNECT tunnel a Detector begins, as on a connection: its application has a Transport of its own, whose streams are
the DATA of both sides. Acknowledgements are those of TCP, translated: an offset of the connection's stream into one of the
DATA before it. An extended CONNECT for `websocket` goes to a WebSocket, one for any other protocol is only counted.

Where frames of the connection are lost, it is unknown how much of a tunnel is lost with them: its application is closed, and
a new Detector joins the tunnel in the middle.

While a tunnel reads, its stream must stay: Session.inside keeps the limit of waiting bytes from ending it meanwhile.
"""
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from workers.core.context cimport Context
from workers.core.counts cimport SPEAKS_HTTP
from workers.detect.detector cimport Detector, Tunnel, enter_tunnel
from workers.http2.connection cimport Http2Connection
from workers.http2.frames cimport SEARCHING, FrameReader
from workers.http2.exchange cimport CLIENT, SERVER, Exchange, HeaderSection
from workers.http2.header_list cimport AUTHORITY, HOST, PATH, PROTOCOL, SCHEME
from workers.http2.session cimport Session
from workers.http2.stream_reader cimport StreamReader, StreamReaders
from workers.tcp.application cimport Application, Transport
from workers.tcp.stream cimport ORIGIN, Piece, Stream
from workers.websocket.connection cimport open_websocket


cdef bytes tunnel_name(Exchange exchange):
    """Return the protocol of a granted tunnel: `connect`, or that of the extended CONNECT; None: it is not known."""
    cdef HeaderSection request = exchange.request
    if request.find(PROTOCOL) != NULL:
        return request.value(PROTOCOL)
    return b"connect" if request.find(PATH) == NULL else None   # RFC 9113 section 8.5: a plain CONNECT has none


cdef bint is_newest(Http2Connection connection, const uint8_t* p) noexcept:
    """Return whether a byte that is being read is of the newest piece; else a search for frames has kept it."""
    return connection.bytes <= p <= connection.bytes + (connection.offset_end - connection.offset)


cdef int64_t offset_of(Http2Connection connection, int side, const uint8_t* p) noexcept:
    """Return the offset in its stream of a byte that is being read. What is kept ends where the newest piece does."""
    cdef FrameReader reader = connection.reader(side)
    if is_newest(connection, p):
        return connection.offset + (p - connection.bytes)
    if reader.found.data <= p <= reader.found.data + reader.found.size:
        return connection.offset_end - <int64_t>(reader.found.data + reader.found.size - p)
    return connection.offset_end


@cython.final
@cython.no_gc
cdef class StreamTransport(Transport):
    """The stream below an application inside of a tunnel."""

    cdef bint joined(self, int side) noexcept:
        return self.streams[side].midstream


@cython.final
@cython.no_gc
cdef class Tunnels(StreamReaders):
    """The tunnels of a connection. session, outside, client: of that connection; the session drops them when it ends."""

    def __cinit__(self, Context cx not None, Session session not None, Transport outside not None, int client):
        self.cx = cx
        self.session = session
        self.outside = outside
        self.client = client

    cdef int grant(self, exchange) except -1:
        cdef Exchange asked = <Exchange>exchange
        cdef Http2Connection connection = self.session.connection
        if asked.response is None or asked.response.status() // 100 != 2:
            return 0
        asked.granted = True
        self.cx.tally.tunnels += 1
        asked.tunnel = self.begin(asked)
        connection.tunnels += 1
        connection.keep(asked, TUNNEL_BYTES)
        if asked.halves[CLIENT].ended:
            asked.tunnel.end(CLIENT, asked.halves[CLIENT].whole)
        return 0

    cdef StreamReader begin(self, Exchange granted):
        """Return what reads a tunnel."""
        cdef bytes name = tunnel_name(granted)
        cdef int64_t ahead = <int64_t>granted.halves[CLIENT].body_bytes
        cdef ConnectTunnel tunnel
        if name == b"websocket":
            return self.websocket(granted, ahead)
        tunnel = ConnectTunnel.__new__(ConnectTunnel)
        tunnel.tunnels = self
        self.look()
        tunnel.begin(ahead, name == b"connect")
        return tunnel

    cdef StreamReader websocket(self, Exchange exchange, int64_t ahead):
        """Open a WebSocket connection (RFC 8441 section 5)."""
        cdef WebSocketTunnel tunnel = WebSocketTunnel.__new__(WebSocketTunnel)
        cdef HeaderSection request = exchange.request, response = exchange.response
        authority = request.value(AUTHORITY) if request.find(AUTHORITY) != NULL else request.value(HOST)
        extensions = response.get(b"sec-websocket-extensions")
        if extensions is None and not response.unknown and not response.left_out:
            extensions = b""
        tunnel.tunnels = self
        tunnel.connection = open_websocket(
            self.session.connection.flow, exchange.index, request.value(PATH), authority or b"", extensions,
            exchange.halves[SERVER].last_ns, self.cx)
        tunnel.connection.scheme = request.value(SCHEME)
        if ahead:
            tunnel.connection.ignore(CLIENT, ahead, self.cx)
        return tunnel

    cdef int look(self) except -1:
        """Report the exchanges that have ended: their events come before those from inside of the tunnels."""
        if self.session.connection.out:
            self.session.hand_out(self.cx.tally, self.cx.out)
        return 0

    cdef int on_time(self) except -1:
        """Note in the tunnels whose application has a timeout that time has passed."""
        cdef Exchange exchange
        cdef ConnectTunnel tunnel
        cdef Application application
        if not self.waiting:
            return 0
        self.session.inside += 1
        try:
            for exchange in list(self.session.connection.streams.values()):
                if isinstance(exchange.tunnel, ConnectTunnel) and (<ConnectTunnel>exchange.tunnel).waits:
                    tunnel = <ConnectTunnel>exchange.tunnel
                    application = tunnel.transport.application
                    application.on_time(self.cx)
                    tunnel.note_timeout()
        finally:
            self.session.inside -= 1
        return 0


@cython.final
@cython.no_gc
cdef class ConnectTunnel(StreamReader):
    """A CONNECT tunnel, read by an application on a transport of its own."""

    cdef int begin(self, int64_t ahead, bint known) except -1:
        """Begin to read. ahead: bytes of the client before the answer. known: it is a plain CONNECT; else bytes are counted."""
        cdef Tunnels tunnels = self.tunnels
        cdef Transport outside = tunnels.outside
        cdef StreamTransport transport = StreamTransport.__new__(StreamTransport)
        cdef int side
        self.transport = transport
        transport.key = outside.key
        transport.applications = outside.applications
        transport.begun_ns = outside.begun_ns
        transport.turns = outside.turns
        transport.again = outside.again
        transport.capture = outside.capture
        transport.shed = outside.shed
        transport.begun = outside.begun
        transport.spoken = SPEAKS_HTTP          # the connection counts as one of HTTP, whatever its tunnels carry
        transport.depth = outside.depth
        transport.flow = tunnels.session.connection.flow
        for side in range(2):
            transport.streams[side].seen = transport.streams[side].known = transport.streams[side].anchored = True
            transport.streams[side].next = ORIGIN
        transport.streams[tunnels.client].next += ahead
        if known:
            enter_tunnel(transport, tunnels.client, ahead, tunnels.cx)
        else:
            transport.become(Tunnel.__new__(Tunnel))
        return 0

    cdef int64_t inside(self, int side, int64_t offset) noexcept:
        """Return the offset in a side's DATA of what lies before this offset of its TCP stream; -1: that is not known."""
        cdef uint64_t place = self.pieces[side], oldest = place - min(place, <uint64_t>PLACES)
        while place > oldest:
            place -= 1
            if self.places[side][place % PLACES].outside <= offset:
                return self.places[side][place % PLACES].inside
        return ORIGIN if oldest == 0 and offset >= 0 else -1

    cdef int take(self, int side, const uint8_t* p, uint64_t count, uint64_t ts_ns) except -1:
        cdef Tunnels tunnels = self.tunnels
        cdef Http2Connection connection = tunnels.session.connection
        cdef int own = tunnels.client if side == CLIENT else 1 - tunnels.client
        cdef Transport transport = self.transport
        cdef Stream* stream = &transport.streams[own]
        cdef Piece piece
        cdef Place* place
        if stream.finished:
            return 0                            # the sender has ended this side before
        tunnels.look()
        memset(&piece, 0, sizeof(Piece))
        piece.data = p
        piece.length = <uint32_t>count
        piece.offset = stream.next
        piece.ts_ns = ts_ns
        # The acknowledgement of bytes that a search kept is not known: the one of the newest piece is later. Nor is what an
        # acknowledgement covers while the other side's bytes are kept.
        piece.peer_ack = self.inside(1 - own, connection.peer_ack) \
            if is_newest(connection, p) and connection.reader(1 - side).state != SEARCHING else -1
        piece.has_ack = piece.peer_ack >= 0
        piece.marks = connection.marks_of_piece
        if piece.marks:
            piece.marked_from = piece.offset
            piece.marked_to = piece.offset + <int64_t>count
        stream.next += <int64_t>count
        place = &self.places[own][self.pieces[own] % PLACES]
        place.outside = offset_of(connection, side, p + count)
        place.inside = stream.next
        self.pieces[own] += 1
        if piece.peer_ack > transport.heard[own]:
            transport.turn[own] = piece.offset
        tunnels.session.inside += 1
        try:
            transport.pass_data(own, &piece, tunnels.cx)
        finally:
            tunnels.session.inside -= 1
        transport.heard[own] = max(transport.heard[own], piece.peer_ack)
        return self.note_timeout()

    cdef int lose(self, int side, uint64_t count) except -1:
        cdef Tunnels tunnels = self.tunnels
        cdef int own = tunnels.client if side == CLIENT else 1 - tunnels.client
        cdef Stream* stream = &self.transport.streams[own]
        if stream.finished:
            return 0
        tunnels.look()
        stream.gap_from = stream.next
        stream.next += <int64_t>count
        stream.gap_to = stream.next
        tunnels.session.inside += 1
        try:
            self.transport.pass_gap(own, <int64_t>count, tunnels.cx)
        finally:
            tunnels.session.inside -= 1
        return self.note_timeout()

    cdef int lose_place(self, int side) except -1:
        return self.restart()

    cdef int restart(self) except -1:
        """Join the tunnel in the middle: bytes of a side are missing, and it is unknown how many."""
        cdef StreamTransport transport = self.transport
        cdef int side
        if type(transport.application) is Tunnel:
            return 0
        self.finish()
        for side in range(2):
            transport.streams[side].midstream = True
            transport.heard[side] = -1
        transport.unsettled = False
        transport.become(Detector.__new__(Detector))
        return self.note_timeout()

    cdef int finish(self) except -1:
        """End the present application."""
        cdef Tunnels tunnels = self.tunnels
        cdef Application application
        cdef int side
        tunnels.look()
        tunnels.session.inside += 1
        try:
            for side in range(2):
                if not self.transport.streams[side].finished:
                    self.transport.pass_end(side, False, tunnels.cx)
            application = self.transport.application
            application.on_close(tunnels.cx)
        finally:
            tunnels.session.inside -= 1
        return 0

    cdef int mark(self, int side, int64_t start, int64_t stop, int marks) except -1:
        cdef Tunnels tunnels = self.tunnels
        cdef int own = tunnels.client if side == CLIENT else 1 - tunnels.client
        cdef Application application = self.transport.application
        cdef int64_t first = max(self.inside(own, start), 0), last = self.transport.streams[own].next
        cdef uint64_t place = self.pieces[own], oldest = place - min(place, <uint64_t>PLACES)
        while place > oldest and self.places[own][(place - 1) % PLACES].outside >= stop:
            place -= 1
            last = self.places[own][place % PLACES].inside
        tunnels.session.inside += 1
        try:
            application.on_conflict(own, first, last, marks, tunnels.cx)
        finally:
            tunnels.session.inside -= 1
        return 0

    cdef int end(self, int side, bint whole) except -1:
        cdef Tunnels tunnels = self.tunnels
        cdef int own = tunnels.client if side == CLIENT else 1 - tunnels.client
        cdef Stream* stream = &self.transport.streams[own]
        if stream.finished:
            return 0
        tunnels.look()
        if whole:
            stream.finished = True
            stream.next += 1                    # as a FIN; the applications know of it
        tunnels.session.inside += 1
        try:
            self.transport.pass_end(own, whole, tunnels.cx)
        finally:
            tunnels.session.inside -= 1
        return self.note_timeout()

    cdef int close(self) except -1:
        self.finish()
        self.transport.unsettled = False
        self.note_timeout()
        self.transport.application = None       # it may refer to the transport
        return 0

    cdef int note_timeout(self) except -1:
        """Note whether the application has a timeout."""
        cdef Application application = self.transport.application
        cdef bint waits = self.transport.unsettled and application.waits()
        if waits != self.waits:
            self.tunnels.waiting += 1 if waits else -1
            self.waits = waits
        return 0


@cython.final
@cython.no_gc
cdef class WebSocketTunnel(StreamReader):
    """A WebSocket connection on a stream."""

    cdef int take(self, int side, const uint8_t* p, uint64_t count, uint64_t ts_ns) except -1:
        if self.over[side]:
            return 0
        self.tunnels.look()
        return self.connection.take(side, p, count, ts_ns, self.tunnels.cx)

    cdef int lose(self, int side, uint64_t count) except -1:
        return 0 if self.over[side] else self.connection.lose(side, <int64_t>count, self.tunnels.cx)

    cdef int lose_place(self, int side) except -1:
        return 0 if self.over[side] else self.connection.lose_place(side, self.tunnels.cx)

    cdef int end(self, int side, bint whole) except -1:
        self.over[side] = True
        return 0

    cdef int close(self) except -1:
        self.tunnels.look()
        return self.connection.close(self.tunnels.cx)
