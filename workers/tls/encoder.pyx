# cython: language_level=3
"""HandshakeEncoder: writes a FinishedHandshake as one line of JSON straight into the body of events.

The contract is TlsEvent in workers/events/schema_tls.py.
Length proof: write() asks for handshake_room(), and OWN_BYTES for all keys and numbers behind it.
"""
from libc.stdint cimport uint8_t, uint64_t

from workers.core.counters cimport Tally
from workers.core.flow cimport Flow
from workers.events.endpoints_json cimport put_connection
from workers.events.event_body cimport EventBody
from workers.events.json_text cimport put
from workers.events.record_encoder cimport RecordEncoder, put_capture
from workers.tls.finished_handshake cimport FinishedHandshake
from workers.tls.handshake cimport NO, YES, Handshake
from workers.tls.handshake_json cimport handshake_bound, put_own_tls, put_tls

cdef enum:
    OWN_BYTES = 256


cdef class HandshakeEncoder(RecordEncoder):
    """The encoder of one pipeline's handshakes over TCP. observer, interfaces: as for RecordEncoder.

    protocol: network.protocol; the encoder of another one that has handshakes of TLS derives from this.
    """

    def __init__(self, EventBody body not None, str observer not None, interfaces, str protocol="tls"):
        RecordEncoder.__init__(self, body, observer, interfaces, "tls", categories=["network"],
                               types=["connection", "protocol"], protocol=protocol)

    cdef size_t handshake_room(self, Flow flow, Handshake handshake) except 0:
        """Return the most bytes that put_handshake() writes."""
        return self.prepare(flow) + handshake_bound(handshake)

    cdef uint8_t* put_handshake(self, uint8_t* out, Flow flow, Handshake handshake, uint64_t first_ns, uint64_t last_ns,
                                uint64_t index) except NULL:
        """Write an event up to the fields of `appliance` about TLS. Times and index are those of begin()."""
        cdef const char* outcome = b"unknown"
        if handshake.established == YES:
            outcome = b"success"
        elif handshake.established == NO:
            outcome = b"failure"
        out = self.begin(out, flow, self.protocol, first_ns, last_ns, index, outcome)
        out = put_tls(out, handshake)
        return put_own_tls(put_connection(put(out, b","), flow), handshake)

    cdef int write(self, record, Tally tally) except -1:
        """Append the event of a finished handshake."""
        cdef FinishedHandshake finished = <FinishedHandshake>record
        cdef Handshake handshake = finished.handshake
        cdef Flow flow = finished.flow
        cdef uint8_t* out
        self.omit(record, tally)
        if self.refuses(0, record, flow, tally):
            return 0
        out = self.body.room(OWN_BYTES + self.handshake_room(flow, handshake))
        out = self.put_handshake(out, flow, handshake, finished.first_ns, finished.last_ns, finished.index)
        out = put_capture(put(out, b","), flow)
        return self.finish(0, put(out, b"}}\n"), flow, tally)

    cdef int omit(self, record, Tally tally) except -1:
        """Count a handshake by its outcome."""
        cdef Handshake handshake = (<FinishedHandshake>record).handshake
        handshake.cx.handshakes[handshake.established] += 1
        return 0
