# cython: language_level=3
"""QuicEncoder: writes the handshake of a QuicConnection as an event of the dataset tls.

Length proof: handshake_room() covers put_handshake(), and BOILERPLATE the rest.
"""
from libc.stdint cimport uint8_t

from workers.core.counters cimport Tally
from workers.core.flow cimport Flow
from workers.events.event_body cimport EventBody
from workers.events.json_text cimport put, put_bytes
from workers.events.record_encoder cimport put_capture
from workers.quic.connection cimport QuicConnection, version_name
from workers.tls.encoder cimport HandshakeEncoder

cdef enum:
    BOILERPLATE = 512           # more than the literals below, a version's name and a share


cdef class QuicEncoder(HandshakeEncoder):
    """The encoder of one pipeline's QUIC connections."""

    def __init__(self, EventBody body not None, str observer not None, interfaces):
        HandshakeEncoder.__init__(self, body, observer, interfaces, "quic")

    cdef int write(self, record, Tally tally) except -1:
        """Append the event of a finished connection."""
        cdef QuicConnection connection = <QuicConnection>record
        cdef Flow flow = connection.flow
        cdef uint8_t* out
        flow.client_low = connection.client == 0
        if self.refuses(0, connection, flow, tally):
            return 0
        out = self.body.room(self.handshake_room(flow, connection.handshake) + BOILERPLATE)
        out = self.put_handshake(out, flow, connection.handshake, connection.first_ns, connection.last_ns, 0)
        out = put(out, b',"quic":{')
        if connection.version:
            out = put(put_bytes(put(out, b'"version":"'), version_name(connection.version).encode()), b'",')
        if connection.retry:
            out = put(out, b'"retry":true,')
        if connection.zero_rtt:
            out = put(out, b'"zero_rtt":true,')
        if out[-1] == c',':
            out -= 1
        out = put_capture(put(out, b"},"), flow)
        return self.finish(0, put(out, b"}}\n"), flow, tally)

    cdef int omit(self, record, Tally tally) except -1:
        """Count nothing: datagrams are counted as they come."""
        return 0
