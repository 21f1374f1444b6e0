# cython: language_level=3
"""HTTP/2 as a protocol of the worker: by its preface, or the first frame of a server that speaks first."""
from libc.stdint cimport uint8_t

from workers.core.context cimport Context
from workers.detect.detector cimport Protocol
from workers.http2.application cimport Http2, begins_settings
from workers.http2.detection cimport begins_preface
from workers.http2.encoder cimport ExchangeEncoder
from workers.http2.exchange cimport Exchange
from workers.http2.frame_header cimport FRAME_HEADER
from workers.http2.frames cimport PREFACE_SIZE
from workers.http2.kept_connections cimport KeptConnections
from workers.http2.snapshot cimport Snapshot
from workers.tcp.application cimport Transport

cdef enum:
    REQUEST_LINE = 16           # of the preface: no request in HTTP/1 begins so


cdef class Http2Protocol(Protocol):
    """HTTP/2 with prior knowledge."""

    def __init__(self):
        Protocol.__init__(self, "http2", b"PRI * HTTP/2.0")

    def records(self):
        return (Exchange,)

    def state(self, config, before):
        """Return the KeptConnections of the worker: a reload leaves them as they are."""
        return KeptConnections() if before is None else before

    def encoder(self, config, body):
        interfaces = [config.interface_of(capture) for capture in range(config.capture_count)]
        return ExchangeEncoder(body, config.run.observer, interfaces, config.http, config.bodies.mime_type)

    cdef bint begins(self, const uint8_t* p, size_t size, bint midstream) except *:
        cdef bint whole = False
        if begins_preface(p, size, &whole):
            return whole or size >= REQUEST_LINE and not midstream
        return not midstream and size >= FRAME_HEADER and begins_settings(p, size)

    cdef bint may_begin(self, const uint8_t* p, size_t size, bint midstream) except *:
        cdef bint whole = False
        if begins_preface(p, size, &whole):
            return size < PREFACE_SIZE
        return not midstream and size < FRAME_HEADER and begins_settings(p, size)

    cdef bint open(self, Transport transport) except -1:
        transport.become(Http2.__new__(Http2))
        return True

    cdef bint resume(self, Transport transport, int side, Context cx) except -1:
        cdef KeptConnections keeper = <KeptConnections>cx.states.get(self.name)
        cdef const Snapshot* saved = NULL
        cdef Http2 application
        if keeper is not None:
            saved = keeper.find(transport, side, cx)
        if saved == NULL:
            return False
        application = Http2.__new__(Http2)
        transport.become(application)
        application.resume(keeper, saved.client, cx)
        return True
