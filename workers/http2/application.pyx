# cython: language_level=3
"""Http2: feeds in-order bytes to a Session, and keeps to HTTP/2 only while both sides speak it.

A side that begins unlike HTTP/2 is read by the fallback: a server that knows no HTTP/2 answers its preface with a status 400.
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from workers.core.context cimport Context
from workers.core.counts cimport JOINED_CONNECTIONS, SPEAKS_OTHER
from workers.detect.detector cimport Protocols
from workers.http2.connection cimport Http2Connection
from workers.http2.detection cimport begins_preface
from workers.http2.exchange cimport CLIENT, SERVER, section_of
from workers.http2.frame_header cimport FRAME_HEADER, SETTINGS
from workers.http2.header_list cimport REQUEST_SECTION, HeaderList
from workers.http2.hpack cimport HpackDecoder
from workers.http2.kept_connections cimport MOST_BYTES, KeptConnections, note
from workers.http2.session cimport Session
from workers.http2.tunnels cimport Tunnels
from workers.tcp.application cimport HIGH, LOW, Application, Transport
from workers.tcp.stream cimport Piece

from appliance.stats.names import NOT_HTTP

cdef int KIND = NOT_HTTP.index("http2")

cdef enum:
    HEADER_TABLE_SIZE = 1       # SETTINGS_HEADER_TABLE_SIZE
    MOST_SETTINGS = 6 * 64      # bytes of a server's first frame


cdef bint begins_settings(const uint8_t* p, size_t size) noexcept nogil:
    """Return whether bytes are the frame that a server begins with, SETTINGS (RFC 9113 section 3.4), or its beginning."""
    cdef uint32_t length
    if size >= 1 and p[0] or size >= 4 and p[3] != SETTINGS or size >= 5 and p[4]:
        return False
    if size >= 3:
        length = <uint32_t>p[1] << 8 | p[2]
        if length % 6 or length > MOST_SETTINGS:
            return False
    for at in range(5, min(size, <size_t>FRAME_HEADER)):
        if p[at]:
            return False
    return size > 0


cdef int enter_http2(Transport transport, int client, list fields, uint64_t first_ns, uint64_t last_ns, bytes settings,
                     int64_t ahead, Context cx) except -1:
    """Read the bytes that come now as HTTP/2: a client's request was HTTP/1.1, and the server has changed the protocol.

    fields: [(name, value)] of the request as HTTP/2 has them; None: it is not known. first_ns, last_ns: its time. settings: the
    payload of SETTINGS from its field HTTP2-Settings. ahead: bytes that the client sent behind it and that another application
    read; below 0: how many is not known.
    """
    cdef Http2 application = Http2.__new__(Http2)
    cdef Http2Connection connection
    cdef HeaderList found = HeaderList()
    cdef bytes block
    cdef uint32_t name, at
    transport.unsettled = False
    transport.become(application)
    application.begin(client, False, False, cx)
    connection = application.session.connection
    if fields is not None:
        block = literals(fields)
        HpackDecoder().decode(<const uint8_t*>PyBytes_AS_STRING(block), PyBytes_GET_SIZE(block), REQUEST_SECTION, True, found)
    connection.upgraded(section_of(found) if fields is not None else None, first_ns, last_ns)
    for at in range(0, len(settings) - len(settings) % 6, 6):
        name = settings[at] << 8 | settings[at + 1]
        if name == HEADER_TABLE_SIZE:
            connection.server_decoder.announce(int.from_bytes(settings[at + 2:at + 6], "big"))
    return application.on_gap(client, ahead, cx) if ahead > 0 else 0


cdef bytes literals(list fields):
    """Return a header block of literals (RFC 7541 section 6.2.2)."""
    cdef list out = []
    for name, value in fields:
        out += (b"\0", length_of(name), name, length_of(value), value)
    return b"".join(out)


cdef bytes length_of(bytes text):
    """Return the length of a string without Huffman coding (RFC 7541 section 5.1)."""
    cdef size_t rest = PyBytes_GET_SIZE(text)
    cdef list out = [127]
    if rest < 127:
        return bytes((rest,))
    rest -= 127
    while rest >= 128:
        out.append(rest & 127 | 128)
        rest >>= 7
    out.append(rest)
    return bytes(out)


@cython.final
@cython.no_gc
cdef class Http2(Application):
    def __cinit__(self):
        self.kind = KIND

    cdef int begin(self, int client, bint client_joined, bint server_joined, Context cx) except -1:
        """Begin to read. client: the side that sends requests. joined: a side does not begin with its first byte."""
        cdef Transport transport = <Transport>self.transport
        cdef KeptConnections keeper = <KeptConnections>cx.states.get("http2")
        self.read(client, client_joined, server_joined, cx)
        cx.tally.http2[JOINED_CONNECTIONS] += client_joined or server_joined
        if keeper is not None and keeper.base != NULL and transport.is_tcp():
            self.keeper = keeper
            self.kept = keeper.follow(transport, self.session.connection, client)
            self.kept.begun[0], self.kept.begun[1] = self.begun[0], self.begun[1]
        return 0

    cdef int read(self, int client, bint client_joined, bint server_joined, Context cx) except -1:
        """Make what reads the connection."""
        cdef Transport transport = <Transport>self.transport
        self.client = client
        self.session = Session(Http2Connection(
            client_joined, server_joined, stream_limit=cx.limits.max_streams, block_limit=cx.limits.max_head_bytes,
            held_limit=cx.limits.max_streams_bytes), cx.tally)
        self.session.connection.flow = transport.flow_of(client == LOW)
        self.tunnels = Tunnels.__new__(Tunnels, cx, self.session, transport, client)
        self.session.connection.readers = self.tunnels
        cx.tally.spoke(&transport.spoken, SPEAKS_OTHER + self.kind)
        return 0

    cdef int join(self, int client, Context cx) except -1:
        """Begin to read in the middle. client: the side that sends requests."""
        self.begun[0] = self.begun[1] = True
        return self.begin(client, True, True, cx)

    cdef int resume(self, KeptConnections keeper, int client, Context cx) except -1:
        """Continue where another process has stopped, with the snapshot that the keeper has found."""
        cdef Transport transport = <Transport>self.transport
        self.read(client, True, True, cx)
        self.keeper = keeper
        self.kept = keeper.resume(transport, self.session.connection)
        self.begun[0], self.begun[1] = self.kept.begun[0], self.kept.begun[1]
        return 0

    cdef int meet(self, int side, const Piece* piece, Context cx) except -1:
        """Take the first bytes of a side behind a snapshot: pass over bytes read before, and note missing ones as a gap."""
        cdef Transport transport = <Transport>self.transport
        cdef uint32_t seq = self.streams[side].next_seq - <uint32_t>(self.streams[side].next - piece.offset)
        cdef int64_t ahead = self.kept.ahead(side, seq)
        cdef Piece rest
        if not -<int64_t>MOST_BYTES < ahead < <int64_t>MOST_BYTES:
            self.on_close(cx)                   # these are the numbers of another connection
            (<Protocols>transport.applications).fallback.open(transport)
            return transport.pass_data(side, piece, cx)
        if ahead + piece.length <= 0:
            return 0
        self.kept.awaited[side] = False
        rest = piece[0]
        if ahead < 0:
            rest.data -= ahead
            rest.length -= <uint32_t>-ahead
            rest.offset -= ahead
        elif ahead > 0:
            self.session.seen_ns[self.speaker(side)] = piece.ts_ns
            self.session.connection.offset = self.session.connection.offset_end = piece.offset
            self.on_gap(side, ahead, cx)
        return self.on_data(side, &rest, cx)

    cdef int leave(self) noexcept:
        """Keep the connection no longer."""
        if self.kept is not None:
            self.keeper.leave(self.kept)
            self.kept = None
        return 0

    cdef int speaker(self, int side) noexcept:
        """Return what a side is: CLIENT or SERVER."""
        return CLIENT if side == self.client else SERVER

    cdef bint begins(self, int side, const Piece* piece) noexcept:
        """Return whether the first bytes of a side are HTTP/2, or may be."""
        cdef bint whole = False
        if self.lost[side] or (<Transport>self.transport).joined(side):
            return not (piece.data[0] == 72 or piece.data[0] == 71)     # HTTP/1.1 200, GET
        if side == self.client:
            return begins_preface(piece.data, piece.length, &whole)
        return begins_settings(piece.data, piece.length)

    cdef int on_data(self, int side, const Piece* piece, Context cx) except -1:
        cdef bint whole = False
        if piece.length == 0:
            return 0
        if self.session is None:
            self.begin(side if begins_preface(piece.data, piece.length, &whole) else 1 - side, False, False, cx)
        if not self.begun[side]:
            if not self.begins(side, piece):
                self.yield_to_fallback(side, cx)
                return (<Transport>self.transport).pass_data(side, piece, cx)
            self.begun[side] = True
            self.starts[side] = piece.offset
            if self.kept is not None:
                self.kept.begun[side] = True
        if self.kept is not None:
            if self.kept.awaited[side]:
                return self.meet(side, piece, cx)
            note(self.keeper, self.kept)
        self.octets[side] += piece.length
        self.session.take(self.speaker(side), piece, cx)
        (<Transport>self.transport).unsettled = self.waits()
        return 0

    cdef int on_gap(self, int side, int64_t count, Context cx) except -1:
        if self.session is None:            # TLS has named the protocol, and the first bytes inside are lost
            self.begin((<Transport>self.transport).opener == HIGH + 1, False, False, cx)
        if self.kept is not None:
            if self.kept.awaited[side]:
                return 0                        # meet() finds out by numbers what is missing
            note(self.keeper, self.kept)
        self.lost[side] = self.lost[side] or not self.begun[side]
        self.session.skip(self.speaker(side), count, cx)
        (<Transport>self.transport).unsettled = self.waits()
        return 0

    cdef int on_conflict(self, int side, int64_t start, int64_t stop, int marks, Context cx) except -1:
        return 0 if self.session is None else self.session.mark(self.speaker(side), start, stop, marks)

    cdef int yield_to_fallback(self, int side, Context cx) except -1:
        """Give the connection to the fallback: this side begins unlike HTTP/2, which the other one has spoken in vain."""
        cdef Transport transport = <Transport>self.transport
        cdef int other = 1 - side
        self.leave()
        self.session.abandon(cx)
        transport.unsettled = False
        if not self.begun[other]:
            (<Protocols>transport.applications).fallback.open(transport)
            return 0
        cx.tally.not_http[self.kind] += 1
        cx.tally.not_http_bytes[self.kind] += self.octets[other]
        return (<Protocols>transport.applications).fallback.join(transport, other, self.kind, self.starts[other])

    cdef int on_end(self, int side, bint by_fin, Context cx) except -1:
        return 0 if self.session is None else self.session.close(self.speaker(side), cx)

    cdef bint waits(self) noexcept:
        return self.session is not None and (
            self.session.connection.resets.done < self.session.connection.resets.count or self.tunnels.waiting != 0)

    cdef int on_time(self, Context cx) except -1:
        if self.session is None:
            return 0
        self.session.connection.on_time(cx.now - cx.skew)
        self.tunnels.on_time()
        return self.session.report_ended(cx)

    cdef int on_close(self, Context cx) except -1:
        self.leave()
        return 0 if self.session is None else self.session.finish(cx)
