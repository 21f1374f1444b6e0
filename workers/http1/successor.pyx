# cython: language_level=3
"""The application that reads a connection behind HTTP/1: the Detector after a CONNECT, that of the protocol after an Upgrade.

A protocol to which HTTP/1 can upgrade has its line in enter_behind().
"""
from base64 import b64decode

from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memset

from workers.core.context cimport Context
from workers.core.counts cimport OTHER
from workers.detect.detector cimport Tunnel, enter_tunnel, give_way
from workers.http1.message cimport Message
from workers.http1.message_reader cimport LOST, MessageReader
from workers.http1.transaction cimport field_of, tunnel_protocol
from workers.http2.application cimport Http2, enter_http2
from workers.http1.resync cimport Input
from workers.http2.joining cimport join_http2
from workers.tcp.application cimport LOW, Application, Transport
from workers.tcp.stream cimport Piece
from workers.websocket.application cimport enter_websocket
from workers.websocket.connection cimport open_websocket

cdef enum:
    MOST_JOINS = 32             # pieces of a side that are tried
    PREFACE_HEAD = 18           # bytes of the preface of HTTP/2 that look like the head of a request

cdef bytes PREFACE_LINE = b"PRI * HTTP/2.0"

ABOUT_THE_CONNECTION = (b"connection", b"upgrade", b"http2-settings", b"keep-alive", b"proxy-connection", b"transfer-encoding")


cdef int enter_behind(Transport transport, int client, Message request, Message response, int index, int64_t client_at,
                      Context cx) except -1:
    """Give the connection to the application that reads it behind this response.

    request: None if it is not known. index: their transaction's number. client_at: the client's bytes up to this offset were
    read as HTTP, and those behind the end of the request belong to the next application, for which they are a gap.
    """
    cdef int64_t ahead = -1
    cdef bytes protocol = tunnel_protocol(request, response)
    if request is not None and request.complete and not request.end_lost:
        ahead = client_at - request.start - <int64_t>request.bytes
    if response.status != 101:
        return enter_tunnel(transport, client, ahead, cx)
    transport.unsettled = False
    if protocol == b"websocket":
        return enter_websocket(transport, client, open_websocket(
            transport.flow_of(client == LOW), index, None if request is None else part(request, True),
            b"" if request is None else part(request, False), None if response.end_lost else extensions_of(response),
            response.last_ns, cx), ahead, cx)
    if protocol == b"h2c":
        return enter_http2(transport, client,
                           None if request is None else fields_of(request, transport.flow_of(client == LOW).secure),
                           0 if request is None else request.first_ns, 0 if request is None else request.last_ns,
                           b"" if request is None else settings_of(request), ahead, cx)
    return transport.become(Tunnel.__new__(Tunnel))


cdef Piece rest_of(const Piece* piece, const Input* source) noexcept:
    """Return the part of a piece that was not read."""
    cdef Piece rest = piece[0]
    rest.data = source.p
    rest.length = <uint32_t>(source.end - source.p)
    rest.offset = source.offset
    return rest


cdef bint begins_another(Transport transport, int side, const Piece* piece, const Input* source, Context cx) except -1:
    """Return whether another protocol begins within a piece, behind a preface: it has taken the rest."""
    cdef Piece rest = rest_of(piece, source)
    return give_way(transport, side, &rest, -1, cx)


cdef bint is_preface(Message message) except -1:
    """Return whether a head is the beginning of the preface of HTTP/2 (RFC 9113 section 3.4)."""
    return message.head.rstrip(b"\r\n") == PREFACE_LINE and message.head_end - message.start == PREFACE_HEAD


cdef int enter_at_preface(Transport transport, int client, Message preface, bint server_seen, Context cx) except -1:
    """Read a connection as HTTP/2 from its preface on. HTTP/1 has read the beginning of the preface.

    server_seen: bytes of the server were read before.
    """
    cdef Http2 application = Http2.__new__(Http2)
    cdef Piece piece
    memset(&piece, 0, sizeof(Piece))
    piece.data = b"PRI * HTTP/2.0\r\n\r\n"
    piece.length = PREFACE_HEAD
    piece.offset = preface.start
    piece.ts_ns = preface.first_ns
    piece.peer_ack = preface.peer_ack
    piece.has_ack = preface.peer_ack >= 0
    transport.unsettled = False
    transport.become(application)
    application.begin(client, False, server_seen, cx)
    application.begun[1 - client] = server_seen
    return transport.pass_data(client, &piece, cx)


cdef list fields_of(Message request, bint secure):
    """Return the fields of a request as HTTP/2 has them (RFC 7540 section 8.1.2)."""
    cdef bytes method = request.head[request.method.at:request.method.at + request.method.length]
    cdef list fields = [(b":method", method), (b":scheme", b"https" if secure else b"http"), (b":path", part(request, True))]
    for line in request.head.split(b"\n")[1:]:
        name, colon, value = line.partition(b":")
        name = name.strip().lower()
        if colon and name and name not in ABOUT_THE_CONNECTION:
            fields.append((name, value.strip()))
    return fields


cdef bytes settings_of(Message request):
    """Return the payload of SETTINGS in HTTP2-Settings (RFC 7540 section 3.2.1); b"" if there is none."""
    try:
        return b64decode(field_of(request, b"http2-settings") + b"==", b"-_")
    except ValueError:
        return b""


cdef bint resumes(Application application, MessageReader reader, int side, const Piece* piece, Context cx) except -1:
    """Give a piece to HTTP/2 if the reader has found no HTTP/1 and the piece may begin with frames.

    Return whether it did.
    """
    if piece.length == 0 or piece.data[0] or reader.http or reader.kind != OTHER or piece.offset <= reader.tried \
            or reader.joins >= MOST_JOINS or not (reader.state == LOST or reader.midstream):
        return False
    reader.joins += 1
    reader.tried = piece.offset
    return join_http2(<Transport>application.transport, application, side, piece, cx)


cdef bytes part(Message request, bint target):
    """Return the target of a request, or its Host."""
    if target:
        return request.head[request.target.at:request.target.at + request.target.length]
    return request.head[request.host.at:request.host.at + request.host.length]


cdef bytes extensions_of(Message response):
    return field_of(response, b"sec-websocket-extensions")
