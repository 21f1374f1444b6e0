# cython: language_level=3
"""WebSocket as a protocol of the worker. It begins behind an HTTP upgrade only, so it has no first bytes of its own."""
from workers.detect.detector cimport Protocol
from workers.websocket.connection cimport WebSocketRecord
from workers.websocket.encoder cimport WebSocketEncoder


cdef class WebSocketProtocol(Protocol):
    def __init__(self):
        Protocol.__init__(self, "websocket")

    def records(self):
        return (WebSocketRecord,)

    def encoder(self, config, body):
        interfaces = [config.interface_of(capture) for capture in range(config.capture_count)]
        return WebSocketEncoder(body, config.run.observer, interfaces, config.http.redact_parameters)
