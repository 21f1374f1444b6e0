"""The protocols that a worker detects, in the order of its questions. A new one is a line here."""

from __future__ import annotations

from workers.detect.detector import Protocol, Protocols
from workers.http1.protocol import Http1Protocol
from workers.http2.protocol import Http2Protocol
from workers.tls.protocol import TlsProtocol
from workers.websocket.protocol import WebSocketProtocol

PROTOCOLS = Protocols(
    (
        TlsProtocol(),
        Protocol("ssh", b"SSH-"),
        Protocol("smtp", b"EHLO ", b"HELO ", b"220 ", b"220-"),
        Http2Protocol(),
        WebSocketProtocol(),
        Http1Protocol(),  # the last: it also searches what begins like none of the others
    )
)
