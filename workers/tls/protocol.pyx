# cython: language_level=3
"""TLS as a protocol of the worker: connections that begin with a hello, and those that turn to TLS later."""
from libc.stdint cimport uint8_t

from workers.detect.detector cimport Protocol
from workers.tcp.application cimport Transport
from workers.tls.application cimport Tls
from workers.tls.context cimport TlsContext
from workers.tls.encoder cimport HandshakeEncoder
from workers.tls.finished_handshake cimport FinishedHandshake
from workers.tls.record cimport CERTAIN, begins_hello, may_begin_hello


cdef class TlsProtocol(Protocol):
    """TLS and SSL 3.0, over TCP."""

    def __init__(self):
        Protocol.__init__(self, "tls", b"\x16\x03")
        self.starters = b"\x16"

    def records(self):
        return (FinishedHandshake,)

    def state(self, config, before):
        """Return the TlsContext of the options; None: the dataset was never on."""
        on = "tls" in config.events.datasets or bool(config.tls.keylog)
        if not on and before is None:
            return None
        from workers.tls import settings            # only here: it loads a library
        if before is None:
            before = settings.context_of(config.tls)
        else:
            settings.configure(before, config.tls)
        settings.follow(before, config)
        (<TlsContext>before).on = on
        return before

    def encoder(self, config, body):
        interfaces = [config.interface_of(capture) for capture in range(config.capture_count)]
        return HandshakeEncoder(body, config.run.observer, interfaces)

    cdef bint begins(self, const uint8_t* p, size_t size, bint midstream) except *:
        return begins_hello(p, size) if midstream else Protocol.begins(self, p, size, midstream)

    cdef bint begins_inside(self, const uint8_t* p, size_t size) noexcept:
        return begins_hello(p, size)

    cdef bint may_begin_inside(self, const uint8_t* p, size_t size) noexcept:
        return size < CERTAIN and may_begin_hello(p, size)

    cdef bint open(self, Transport transport) except -1:
        cdef Tls application = Tls.__new__(Tls)
        application.kind = self.kind
        transport.become(application)
        return True

    cdef bint open_inside(self, Transport transport) except -1:
        cdef Tls application = Tls.__new__(Tls)
        application.kind = self.kind
        application.late = True
        transport.become(application)
        return True
