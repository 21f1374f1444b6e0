# cython: language_level=3
"""HTTP/1 as a protocol of the worker: it reads a connection alone, or one side beside another protocol."""
from libc.stdint cimport int64_t

from workers.detect.detector cimport Protocol
from workers.http1.application cimport Http1
from workers.http1.encoder cimport TransactionEncoder
from workers.http1.transaction cimport Transaction
from workers.tcp.application cimport Transport


cdef class Http1Protocol(Protocol):
    """HTTP/0.9 to 1.1. It has no first bytes of its own, so it reads and searches the bytes that no other protocol claims."""

    def __init__(self):
        Protocol.__init__(self, "http")

    def records(self):
        return (Transaction,)

    def encoder(self, config, body):
        interfaces = [config.interface_of(capture) for capture in range(config.capture_count)]
        return TransactionEncoder(body, config.run.observer, interfaces, config.http, config.bodies.mime_type)

    cdef bint open(self, Transport transport) except -1:
        transport.become(Http1.__new__(Http1))
        return True

    cdef int join(self, Transport transport, int side, int kind, int64_t start) except -1:
        cdef Http1 application = Http1.__new__(Http1)
        transport.become(application)
        return application.beside(side, kind, start)
