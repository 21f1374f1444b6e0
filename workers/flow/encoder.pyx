# cython: language_level=3
"""FlowEncoder: writes a FlowRecord as an event of the dataset appliance.flow.

The contract is workers/events/schema_flow.py. Length proof: all texts here are literals and closed lists; with 40 numbers of
20 digits an event is less than BOILERPLATE beside the text that prepare() counts.
"""
import json

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy, memmove, strlen

from appliance.wire.flow_key cimport UDP_FLOW
from workers.core.counters cimport Tally
from workers.core.flow cimport Flow
from workers.events.endpoints_json cimport put_connection
from workers.events.event_body cimport EventBody
from workers.events.json_text cimport put, put_bytes, put_number
from workers.events.record_encoder cimport RecordEncoder, put_capture
from workers.tcp.flow_record cimport STILL_OPEN, Amount, FlowRecord

from appliance.stats.names import FLOW_STATES, SPOKEN

cdef extern from "string.h":
    void* memmem(const void* text, size_t size, const void* part, size_t part_size) noexcept nogil

cdef enum:
    BOILERPLATE = 3072
    AMENDED = 64                # two numbers with their keys
    CLIENT = 0
    SERVER = 1
    END = 2                     # bytes behind the last member of Flow.json

NAMELESS = ("silent", "other")          # of SPOKEN: they name no protocol
QUIC = "quic"                           # behind those of SPOKEN: SPOKEN_END
HTTP2 = "http2"                         # network.protocol has no version


cdef inline uint64_t wire(const Amount* amount) noexcept nogil:
    return amount.payload + amount.overhead


cdef inline uint8_t* put_member(uint8_t* out, const char* key, uint64_t value) noexcept nogil:
    return put_number(put(out, key), value)


cdef uint8_t* amend(uint8_t* start, uint8_t* out, const char* end, uint64_t size, uint64_t packets) noexcept nogil:
    """Insert the ECS counts at the end of an object of Flow.json, which is the first place of this text behind start.

    No text of the wire or of an option has it there, because a quotation mark in a string is escaped."""
    cdef uint8_t[AMENDED] counts
    cdef uint8_t* at = <uint8_t*>memmem(start, out - start, end, strlen(end))
    cdef size_t length = put_member(put_member(counts, b',"bytes":', size), b',"packets":', packets) - counts
    if at == NULL:
        return out
    memmove(at + length, at, out - at)
    memcpy(at, counts, length)
    return out + length


cdef uint8_t* put_pair(uint8_t* out, const char* key, uint64_t client, uint64_t server) noexcept nogil:
    out = put_member(put(out, key), b'{"client":', client)
    return put(put_member(out, b',"server":', server), b"},")


cdef uint8_t* put_amounts(uint8_t* out, const Amount* client, const Amount* server) noexcept nogil:
    """Write the counts of both sides together."""
    out = put_member(out, b'"payload_bytes":', client.payload + server.payload)
    out = put_member(out, b',"packets":', client.packets + server.packets)
    return put_member(out, b',"bytes":', wire(client) + wire(server))


cdef class FlowEncoder(RecordEncoder):
    """The encoder of one pipeline's flow events. observer, interfaces: as for RecordEncoder."""

    def __init__(self, EventBody body not None, str observer not None, interfaces):
        RecordEncoder.__init__(self, body, observer, interfaces, "flow", categories=["network"], types=["connection"],
                               protocol="")
        named = ["" if name in NAMELESS else name for name in (*SPOKEN, QUIC)]
        self.protocols = [("http" if name == HTTP2 else name).encode() for name in named]
        self.applications = [b'"application":"%b",' % name.encode() if name else b"" for name in named]
        self.states = [json.dumps(name).encode() for name in FLOW_STATES]

    cdef int write(self, record, Tally tally) except -1:
        """Append the event of a flow record."""
        cdef FlowRecord told = <FlowRecord>record
        cdef Flow flow = told.flow
        cdef uint8_t* out
        cdef uint8_t* start
        cdef Amount* total = told.total
        if self.refuses(0, record, flow, tally):
            return 0
        start = self.body.room(BOILERPLATE + self.prepare(flow))
        out = self.begin(start, flow, <bytes>self.protocols[told.spoken], told.begun_ns, told.end_ns, told.index, NULL)
        out = amend(start, out, b'},"source":', wire(&total[CLIENT]) + wire(&total[SERVER]),
                    total[CLIENT].packets + total[SERVER].packets)
        out = amend(start, out, b'},"destination":', wire(&total[CLIENT]), total[CLIENT].packets)
        out = amend(out - END, out, b"},", wire(&total[SERVER]), total[SERVER].packets)
        out = self.own(out, told)
        tally.flow_reported += told.since[CLIENT].payload + told.since[SERVER].payload
        return self.finish(0, put(out, b"}\n"), flow, tally)

    cdef int omit(self, record, Tally tally) except -1:
        cdef FlowRecord told = <FlowRecord>record
        tally.flow_refused += told.since[CLIENT].payload + told.since[SERVER].payload
        return 0

    cdef uint8_t* own(self, uint8_t* out, FlowRecord record) noexcept:
        """Write the fields outside ECS."""
        cdef Amount* total = record.total
        cdef Amount* since = record.since
        out = put_connection(out, record.flow)
        out = put_bytes(put(out, b'"flow":{"state":'), <bytes>self.states[record.state])
        out = put(out, b',"final":false' if record.state == STILL_OPEN else b',"final":true')
        out = put(put_member(out, b',"index":', record.index), b",")
        out = put_bytes(out, <bytes>self.applications[record.spoken])
        out = put_amounts(put(out, b'"totals":{'), &total[CLIENT], &total[SERVER])
        out = put_amounts(put(out, b'},"since_last":{'), &since[CLIENT], &since[SERVER])
        out = put_member(out, b',"transactions":', record.transactions_since)
        out = put(put_member(out, b'},"transactions":', record.transactions), b",")
        out = put_pair(out, b'"payload_bytes":', total[CLIENT].payload, total[SERVER].payload)
        if not record.flow.key.vlans & UDP_FLOW:        # UDP has no numbers that tell
            out = put_pair(out, b'"retransmitted_bytes":', record.repeated[CLIENT], record.repeated[SERVER])
            out = put_pair(out, b'"missing_bytes":', record.missing[CLIENT], record.missing[SERVER])
        if record.handshake_ns:
            out = put(put_member(out, b'"handshake_ns":', record.handshake_ns - 1), b",")
        out = put(out, b'"one_sided":true}' if record.one_sided else b'"one_sided":false}')
        out = put_capture(put(out, b","), record.flow)
        return put(out, b"}")
