# cython: language_level=3
"""WebSocketEncoder: writes a WebSocketRecord as one line of JSON.

The contract is workers/events/schema_websocket.py: a test decodes the written line as its type.

Length proof: target and authority are written at most three times, six bytes for each of theirs; BOILERPLATE is
longer than the rest.
"""
import json

from cpython.bytes cimport PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from workers.core.counters cimport Tally
from workers.core.flow cimport Flow
from workers.events.endpoints_json cimport put_connection
from workers.events.event_body cimport EventBody
from workers.events.json_text cimport put, put_bytes, put_number
from workers.events.record_encoder cimport RecordEncoder, put_capture
from workers.events.url_json cimport put_url, text_of
from workers.websocket.connection cimport CLIENT, SERVER, WebSocket, WebSocketRecord
from workers.websocket.frames cimport Counts

from appliance.stats.names import WEBSOCKET_ANOMALIES
from workers.body.redact import Parameters

cdef enum:
    BOILERPLATE = 8192
    NUMBER_BITS = 16            # of the number of an event in the index of its id


cdef inline uint8_t* put_member(uint8_t* out, const char* name, uint64_t value) noexcept nogil:
    out = put(put(put(out, b',"'), name), b'":')
    return put_number(out, value)


cdef uint8_t* put_side(uint8_t* out, const Counts* counts, bint complete, bint decoded) noexcept nogil:
    out = put(out, b'{"messages":')
    out = put_number(out, counts.messages)
    out = put_member(out, b"text", counts.text)
    out = put_member(out, b"binary", counts.binary)
    out = put_member(out, b"ping", counts.ping)
    out = put_member(out, b"pong", counts.pong)
    out = put_member(out, b"fragments", counts.fragments)
    out = put_member(out, b"bytes", counts.bytes)
    if decoded:
        out = put_member(out, b"decoded_bytes", counts.decoded)
    out = put_member(out, b"masked_wrong", counts.masked_wrong)
    if counts.coded:
        out = put_member(out, b"close_code", counts.close_code)
    out = put(out, b',"complete":true' if complete else b',"complete":false')
    out = put_member(out, b"missing_bytes", counts.missing)
    return put(out, b"}")


cdef class WebSocketEncoder(RecordEncoder):
    """The encoder of one pipeline's WebSocket connections. parameters: names whose values url does not show."""

    def __init__(self, EventBody body not None, str observer not None, interfaces, parameters):
        RecordEncoder.__init__(self, body, observer, interfaces, "websocket", categories=["network"], types=["connection"],
                               protocol="websocket")
        self.parameters = Parameters(parameters)

    cdef int write(self, record, Tally tally) except -1:
        """Append the event of a connection as it was then."""
        cdef WebSocketRecord state = <WebSocketRecord>record
        cdef WebSocket connection = state.connection
        cdef Flow flow = connection.flow
        cdef bytes target = connection.target, authority = connection.authority
        cdef size_t bound = BOILERPLATE
        cdef uint32_t anomalies = state.counts[CLIENT].anomalies | state.counts[SERVER].anomalies
        cdef uint8_t* out
        if self.refuses(0, state, flow, tally):
            return 0
        if target is not None:
            target = self.parameters.hide(target)
            bound += 18 * (PyBytes_GET_SIZE(target) + PyBytes_GET_SIZE(authority))
        bound += self.prepare(flow)
        out = self.body.room(bound)
        out = self.begin(out, flow, self.protocol, connection.start_ns, state.end_ns,
                         <uint64_t>connection.transaction << NUMBER_BITS | state.number & ((1 << NUMBER_BITS) - 1), NULL)
        if target is not None:
            scheme = b"https" if flow.secure else connection.scheme or b""
            out = put_url(out, text_of(target), text_of(authority), text_of(scheme), False)
        out = put(put_connection(out, flow), b'"transaction":')
        out = put_number(out, connection.transaction)
        out = put(out, b',"websocket":{"index":')
        out = put_number(out, state.number)
        out = put(out, b',"final":true' if state.final else b',"final":false')
        out = put(out, b',"client":')
        out = put_side(out, &state.counts[CLIENT], state.complete[CLIENT], state.decoded[CLIENT])
        out = put(out, b',"server":')
        out = put_side(out, &state.counts[SERVER], state.complete[SERVER], state.decoded[SERVER])
        out = put(out, b',"compressed":')
        out = put(out, b"true" if state.counts[CLIENT].compressed or state.counts[SERVER].compressed else b"false")
        if state.closed_by >= 0:
            out = put(out, b',"closed_by":"client"' if state.closed_by == CLIENT else b',"closed_by":"server"')
        out = put_member(out, b"longest_pause_ns", state.longest_pause_ns)
        out = put_capture(put(out, b"},"), flow)
        if anomalies:
            out = put_bytes(out, b',"anomalies":%b' % json.dumps(
                [name for bit, name in enumerate(WEBSOCKET_ANOMALIES) if anomalies >> bit & 1], separators=(",", ":")).encode())
        out = put(out, b"}}\n")
        return self.finish(0, out, flow, tally)
