# cython: language_level=3
"""Detection of protocols by the first bytes of each direction, and the applications that only count.

    first bytes -> Detector -> the application of a Protocol, or Opaque for one without a reader
    CONNECT -> Detector, for the first bytes inside the tunnel
    Upgrade, or a CONNECT too deep in others -> Tunnel

There is no list of ports. A protocol is a folder under workers/ with a subclass of Protocol, and a line in
workers/protocols.py. A protocol that is only counted needs no folder: its line gives its name and its beginnings.

Each direction is detected by its own first bytes, for any protocol of the other one, because a server may answer in clear
text to a protocol that it does not understand.
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

from workers.core.context cimport Context
from workers.core.counts cimport OTHER, SPEAKS_OTHER
from workers.tcp.application cimport HIGH, LOW, Application, Transport
from workers.tcp.stream cimport Piece

from appliance.stats.names import NOT_HTTP

cdef enum:
    BEGINNING_BYTES = 160       # of memory for a kept piece, as http.max_total_head_bytes counts it


cdef class Protocol:
    """A protocol with known first bytes. This class only counts it; a subclass reads it.

    name: as in stats.NOT_HTTP, if it has counters there. beginnings: the possible first bytes of a direction. starters: the
    bytes with which it may begin behind another protocol, as TLS does behind STARTTLS or SOCKS.
    """

    def __init__(self, str name not None, *beginnings):
        self.name = name
        self.kind = NOT_HTTP.index(name) if name in NOT_HTTP else OTHER
        self.beginnings = beginnings
        self.starters = b""

    cdef bint begins(self, const uint8_t* p, size_t size, bint midstream) except *:
        """Return whether these first bytes of a direction are this protocol's. midstream: bytes before them are unknown."""
        cdef bytes beginning
        if midstream:                               # the bytes of a message body may be anything
            return False
        for beginning in self.beginnings:
            if <size_t>PyBytes_GET_SIZE(beginning) <= size \
                    and memcmp(p, PyBytes_AS_STRING(beginning), PyBytes_GET_SIZE(beginning)) == 0:
                return True
        return False

    cdef bint may_begin(self, const uint8_t* p, size_t size, bint midstream) except *:
        """Return whether these first bytes are too few to know, and more of them may become this protocol's."""
        cdef bytes beginning
        if midstream:
            return False
        for beginning in self.beginnings:
            if size < <size_t>PyBytes_GET_SIZE(beginning) \
                    and (size == 0 or memcmp(p, PyBytes_AS_STRING(beginning), size) == 0):
                return True
        return False

    cdef bint begins_inside(self, const uint8_t* p, size_t size) noexcept:
        """Return whether these bytes, behind those of another protocol, are certain to be this protocol's first ones."""
        return False

    cdef bint may_begin_inside(self, const uint8_t* p, size_t size) noexcept:
        """Return whether more bytes may let begins_inside() be true, and these few do not."""
        return False

    cdef bint open(self, Transport transport) except -1:
        """Attach the application that reads a connection from its first bytes on. Return False if Opaque is to count them."""
        return False

    cdef bint open_inside(self, Transport transport) except -1:
        """Attach the application that reads a connection behind another protocol."""
        return self.open(transport)

    cdef int join(self, Transport transport, int side, int kind, int64_t start) except -1:
        """Attach the application that reads the other side. This one has a protocol for Opaque only, from offset `start` on."""
        self.open(transport)
        return 0

    cdef bint resume(self, Transport transport, int side, Context cx) except -1:
        """Attach the application that continues with what an earlier process knew of the connection. Return False if none did.

        The first bytes of `side` have come, or a gap before them; bytes before these are unknown.
        """
        return False

    def records(self):
        """Return the types of the finished records that its applications append to Context.out."""
        return ()

    def state(self, config, before):
        """Return the shared state of its applications in a worker, for Context.states; None: there is none.

        Its slots() are counters of the worker's page. before: the state under an earlier configuration; None at first.
        """
        return None

    def encoder(self, config, body):
        """Return the RecordEncoder that appends them to an EventBody. config: the resolved one."""
        raise NotImplementedError


cdef class Protocols(Applications):
    """The known protocols. The last one reads the connections with the first bytes of none of the others."""

    def __init__(self, protocols):
        cdef Protocol protocol
        self.known = tuple(protocols)
        self.fallback = self.known[-1]
        for protocol in self.known:
            for byte in protocol.starters:
                self.inside[byte] = True

    def states(self, config, before):
        """Return {name of a protocol: its state}. before: those under an earlier configuration."""
        states = {protocol.name: protocol.state(config, before.get(protocol.name)) for protocol in self.known}
        return {name: state for name, state in states.items() if state is not None}

    def encoders(self, config, body):
        """Return {type of record: its RecordEncoder} for all protocols."""
        return {record: protocol.encoder(config, body) for protocol in self.known for record in protocol.records()}

    cdef Application first(self):
        return Detector.__new__(Detector)

    cdef int closed(self, Transport transport, Context cx) except -1:
        cx.tally.spoke_last(&transport.spoken, transport.application is not None)
        return 0

    cdef Protocol find(self, const uint8_t* p, size_t size, bint midstream):
        """Return the protocol with these first bytes; None: none, or the bytes are too few."""
        cdef Protocol protocol
        for protocol in self.known:
            if protocol.begins(p, size, midstream):
                return protocol
        return None

    cdef bint may_begin(self, const uint8_t* p, size_t size, bint midstream) except *:
        """Return whether more bytes may show one of the protocols, and these few do not."""
        cdef Protocol protocol
        if size == 0 or size >= LONGEST_BEGINNING:
            return False
        for protocol in self.known:
            if protocol.may_begin(p, size, midstream):
                return True
        return False

    cdef bint resume(self, Transport transport, int side, Context cx) except -1:
        """Return whether a protocol continues with what an earlier process knew of a connection: it has an application then."""
        cdef Protocol protocol
        for protocol in self.known:
            if protocol.resume(transport, side, cx):
                return True
        return False

    cdef bint give_way(self, Transport transport, int side, const Piece* piece, int counted, Context cx) except -1:
        """Return whether a protocol begins with this piece, behind another one: it has replaced that and taken the piece.

        It may have begun with the pieces just before, which were too short to show it.
        counted: place in stats.NOT_HTTP of the protocol that the side was counted as; -1: none.
        """
        cdef Beginning kept
        cdef uint8_t[2 * LONGEST_BEGINNING] text
        cdef size_t count
        if piece.length == 0:
            return False
        if transport.late is not None:
            kept = <Beginning>transport.late
            if kept.side == side:
                transport.late = None
                if kept.piece.offset + kept.piece.length == piece.offset:
                    count = min(<size_t>piece.length, <size_t>LONGEST_BEGINNING)
                    memcpy(text, kept.bytes, kept.piece.length)
                    memcpy(text + kept.piece.length, piece.data, count)
                    if self.give_way_to(transport, side, text, kept.piece.length + count, kept, piece,
                                        counted, cx):
                        return True
                    if transport.late is not None:
                        return False
        if not self.inside[piece.data[0]]:
            return False
        return self.give_way_to(transport, side, piece.data, piece.length, None, piece, counted, cx)

    cdef bint give_way_to(self, Transport transport, int side, const uint8_t* p, size_t size, Beginning kept,
                          const Piece* piece, int counted, Context cx) except -1:
        """Return whether a protocol begins with these bytes, which end with the piece: as give_way().

        kept: the bytes before the piece, which the present application has; None: there are none. If the bytes are too few,
        they become `late` of the transport, one object for a connection.
        """
        cdef Protocol protocol
        for protocol in self.known:
            if protocol.begins_inside(p, size):
                transport.application.on_close(cx)
                protocol.open_inside(transport)
                if kept is not None:
                    transport.application.recall(side, &kept.piece, cx)
                transport.pass_data(side, piece, cx)
                if counted == protocol.kind:
                    cx.tally.not_http[protocol.kind] -= 1       # by its first bytes, while they were too few
                return True
        for protocol in self.known:
            if size <= LONGEST_BEGINNING and protocol.may_begin_inside(p, size):
                if kept is None:
                    kept = Beginning.__new__(Beginning)
                    kept.piece = piece[0]
                    kept.piece.data = kept.bytes
                    kept.side = side
                memcpy(kept.bytes, p, size)
                kept.piece.length = size
                transport.late = kept
                return False
        return False

    cdef int kind_of(self, const uint8_t* p, size_t size) except -1:
        """Return the place in stats.NOT_HTTP of the protocol with these first bytes; OTHER: unknown."""
        cdef Protocol protocol = self.find(p, size, False)
        return protocol.kind if protocol is not None else OTHER


cdef bint give_way(Transport transport, int side, const Piece* piece, int counted, Context cx) except -1:
    """Return whether a protocol begins with this piece, behind another one: Protocols.give_way()."""
    return (<Protocols>transport.applications).give_way(transport, side, piece, counted, cx)


@cython.final
cdef class Beginning:
    """The first bytes of a side, too few to know its protocol: a piece with bytes of its own."""


@cython.no_gc
cdef class Undecided(Application):
    """An application that judges the first bytes of a side.

    It keeps a few bytes that may begin a protocol, until more of them come or anything else happens.
    """

    cdef int decide(self, int side, Protocol protocol, int64_t start, Context cx) except -1:
        """Choose what reads a side from its first byte on, at offset `start`. protocol: None is none that is known."""
        return 0

    cdef bint hold(self, int side, const Piece* piece, Context cx) except -1:
        """Decide by the first bytes of a side; return whether the piece is kept because they are too few.

        The bytes before it have been passed on then, and the piece belongs to the application of the transport.
        """
        cdef Transport transport = <Transport>self.transport
        cdef Protocols protocols = <Protocols>transport.applications
        cdef Beginning one, made
        cdef uint8_t[2 * LONGEST_BEGINNING] text
        cdef size_t size = 0, count = min(<size_t>piece.length, <size_t>LONGEST_BEGINNING)
        cdef bint midstream = transport.joined(side)
        if self.held is None and piece.length >= LONGEST_BEGINNING:
            self.decide(side, protocols.find(piece.data, piece.length, midstream), piece.offset, cx)
            return False
        for one in self.held or ():
            memcpy(text + size, one.bytes, one.piece.length)
            size += one.piece.length
        if count:                               # a piece without bytes has no place either
            memcpy(text + size, piece.data, count)
        if count == piece.length and cx.tally.head_bytes <= cx.limits.max_total_head_bytes \
                and protocols.may_begin(text, size + count, midstream) \
                and protocols.find(text, size + count, midstream) is None:
            made = Beginning.__new__(Beginning)
            cx.tally.head_bytes += BEGINNING_BYTES
            made.piece = piece[0]
            if count:
                memcpy(made.bytes, piece.data, count)
            made.piece.data = made.bytes
            if self.held is None:
                self.held = []
            self.held.append(made)
            self.side = side
            return True
        self.decide(side, protocols.find(text, size + count, midstream),
                    (<Beginning>self.held[0]).piece.offset if self.held is not None else piece.offset, cx)
        self.pass_held(cx)
        return False

    cdef int let_go(self, Context cx) except -1:
        """Decide by the kept bytes alone, and pass them on."""
        cdef Transport transport = <Transport>self.transport
        cdef Beginning one
        cdef uint8_t[2 * LONGEST_BEGINNING] text
        cdef size_t size = 0
        for one in self.held:
            memcpy(text + size, one.bytes, one.piece.length)
            size += one.piece.length
        one = <Beginning>self.held[0]
        self.decide(self.side, (<Protocols>transport.applications).find(text, size, transport.joined(self.side)),
                    one.piece.offset, cx)
        return self.pass_held(cx)

    cdef int pass_held(self, Context cx) except -1:
        """Pass the kept pieces to the application that was chosen."""
        cdef list held = self.held
        cdef Beginning one
        self.held = None
        if held is not None:
            cx.tally.head_bytes -= BEGINNING_BYTES * <uint64_t>len(held)
        for one in held or ():
            (<Transport>self.transport).pass_data(self.side, &one.piece, cx)
        return 0

    cdef int on_conflict(self, int side, int64_t start, int64_t stop, int marks, Context cx) except -1:
        cdef Application application
        if self.held is None:
            return 0
        self.let_go(cx)
        application = (<Transport>self.transport).application
        return application.on_conflict(side, start, stop, marks, cx)

    cdef int on_end(self, int side, bint by_fin, Context cx) except -1:
        if self.held is None:
            return 0
        self.let_go(cx)
        return (<Transport>self.transport).pass_end(side, by_fin, cx)

    cdef int on_close(self, Context cx) except -1:
        cdef Application application
        if self.held is None:
            return 0
        self.let_go(cx)
        application = (<Transport>self.transport).application
        return application.on_close(cx)


@cython.final
@cython.no_gc
cdef class Detector(Undecided):
    """The first application of a connection or CONNECT tunnel. The first bytes of either side replace it."""

    cdef int on_data(self, int side, const Piece* piece, Context cx) except -1:
        cdef Transport transport = <Transport>self.transport
        if self.held is not None and side != self.side:
            self.let_go(cx)
        elif transport.joined(side) and (<Protocols>transport.applications).resume(transport, side, cx):
            return transport.pass_data(side, piece, cx)
        elif self.hold(side, piece, cx):
            return 0
        return transport.pass_data(side, piece, cx)

    cdef int decide(self, int side, Protocol protocol, int64_t start, Context cx) except -1:
        cdef Transport transport = <Transport>self.transport
        if protocol is None:
            (<Protocols>transport.applications).fallback.open(transport)
        elif not protocol.open(transport):
            transport.become(opaque(OTHER, OTHER))
        return 0

    cdef int on_gap(self, int side, int64_t count, Context cx) except -1:
        cdef Transport transport = <Transport>self.transport
        if self.held is not None:
            self.let_go(cx)
        elif not (transport.joined(side) and (<Protocols>transport.applications).resume(transport, side, cx)):
            (<Protocols>transport.applications).fallback.open(transport)
        return transport.pass_gap(side, count, cx)


cdef Opaque opaque(int low, int high):
    """Return an Opaque for a connection with these protocols of its sides; OTHER: the side has sent no byte yet."""
    cdef Opaque made = Opaque.__new__(Opaque)
    made.kinds[LOW] = low
    made.kinds[HIGH] = high
    made.starts[LOW] = made.starts[HIGH] = -1
    return made


@cython.final
@cython.no_gc
cdef class Opaque(Undecided):
    """The counter of protocols without a reader, until a side's first bytes belong to no such protocol."""

    cdef int on_data(self, int side, const Piece* piece, Context cx) except -1:
        cdef Transport transport = <Transport>self.transport
        cdef int kind = self.kinds[side]
        if kind == OTHER:
            if self.held is not None and side != self.side:
                self.let_go(cx)
            elif self.hold(side, piece, cx):
                return 0
            return transport.pass_data(side, piece, cx)
        if give_way(transport, side, piece, -1, cx):
            return 0
        cx.tally.not_http_bytes[kind] += piece.length
        return 0

    cdef int decide(self, int side, Protocol protocol, int64_t start, Context cx) except -1:
        cdef Transport transport = <Transport>self.transport
        if protocol is None or protocol.kind == OTHER:
            return self.yield_to_fallback(side)
        self.kinds[side] = protocol.kind
        self.starts[side] = start
        cx.tally.not_http[protocol.kind] += 1
        cx.tally.spoke(&transport.spoken, SPEAKS_OTHER + protocol.kind)
        return 0

    cdef int on_gap(self, int side, int64_t count, Context cx) except -1:
        if self.held is not None:
            self.let_go(cx)
        elif self.kinds[side] == OTHER:
            self.yield_to_fallback(side)
        else:
            return 0
        return (<Transport>self.transport).pass_gap(side, count, cx)

    cdef int yield_to_fallback(self, int side) except -1:
        """Give the side to the fallback: it begins like no known protocol."""
        cdef Transport transport = <Transport>self.transport
        return (<Protocols>transport.applications).fallback.join(
            transport, 1 - side, self.kinds[1 - side], self.starts[1 - side])


@cython.final
@cython.no_gc
cdef class Tunnel(Application):
    """The counter of the bytes behind a granted CONNECT or Upgrade, where no other application reads them."""

    cdef int on_data(self, int side, const Piece* piece, Context cx) except -1:
        cx.tally.tunnel_bytes += piece.length
        return 0


cdef int enter_tunnel(Transport transport, int client, int64_t ahead, Context cx) except -1:
    """Detect the protocol inside a CONNECT tunnel by the bytes that come now; too deep in others, only count them.

    ahead: bytes that the client sent into the tunnel before its answer. They are a gap inside, because HTTP has read them.
    """
    transport.unsettled = False
    if transport.depth >= cx.limits.max_connect_depth:
        cx.tally.tunnels_too_deep += 1
        return transport.become(Tunnel.__new__(Tunnel))
    transport.depth += 1
    transport.become(Detector.__new__(Detector))
    if ahead > 0:
        transport.pass_gap(client, ahead, cx)
    for side in range(2):
        if transport.streams[side].finished:
            transport.pass_end(side, True, cx)
    return 0
