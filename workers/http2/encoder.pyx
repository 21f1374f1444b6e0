# cython: language_level=3
"""ExchangeEncoder: writes an Exchange as one line of JSON straight into the body of events.

The contract is workers/events/schema.py, which HTTP/1 has too.

Length proof: write() adds up the longest that an event can become (six bytes for each byte of text, BOILERPLATE for all
keys and numbers) and makes that much room before it writes; the functions below it only append.
"""
import json

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from workers.core.counters cimport Tally
from workers.core.flow cimport Flow
from workers.events.endpoints_json cimport put_connection
from workers.events.event_body cimport EventBody
from workers.events.http_json cimport HeaderChoice, put_bool, put_mime_type, told_body, told_files, topic_of_status
from workers.events.json_text cimport put, put_bytes, put_number, put_text
from workers.events.record_encoder cimport RecordEncoder, put_capture
from workers.events.rpc_json cimport CallSide, put_grpc, put_rpc
from workers.events.url_json cimport Text, put_url
from workers.http2.exchange cimport CLIENT, IS_GRPC, NOT_RESET, SERVER, Exchange, Half, HeaderSection, is_timed
from workers.http2.grpc cimport message_of, status_of
from workers.http2.header_list cimport (
    AUTHORITY, CONTENT_TYPE, HOST, METHOD, NO_ENTRY, PATH, REFERER, SCHEME, USER_AGENT, Certainty, Field,
)
from workers.http2.header_table cimport NAME_UNKNOWN, VALUE_UNKNOWN
from workers.http2.tunnels cimport tunnel_name

from appliance.stats.names import HTTP2_CERTAINTIES, HTTP2_SIDES, PAIRINGS
from workers.events.http_json import anomalies_json

cdef enum:
    BOILERPLATE = 8192          # more than all literals and numbers of one event
    MOST_REFERENCES = 8         # fields that a path_ref names

ERRORS = (                      # RFC 9113 section 7, by code
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)
cdef tuple NO_FILES = (b"", b"")
cdef list PAIRING_TEXT = [name.encode() for name in PAIRINGS]
cdef list CERTAINTY_TEXT = [name.encode() for name in HTTP2_CERTAINTIES]
cdef list SIDE_TEXT = [name.encode() for name in HTTP2_SIDES]


cdef class ExchangeEncoder(RecordEncoder):
    """The encoder of one pipeline's exchanges; its arguments are those of the TransactionEncoder."""

    def __init__(self, EventBody body not None, str observer not None, interfaces, http, sniffed=False):
        RecordEncoder.__init__(self, body, observer, interfaces, "http", categories=["web", "network"], types=["access"],
                               protocol="http")
        self.choice = HeaderChoice(http)
        self.sniffed = sniffed
        self.shown = []

    cdef int write(self, record, Tally tally) except -1:
        """Append the event of a finished exchange."""
        cdef Exchange exchange = <Exchange>record
        cdef EventBody body = self.body
        cdef Flow flow = exchange.flow
        cdef HeaderSection section
        cdef Half* asked = &exchange.halves[CLIENT]
        cdef Half* said = &exchange.halves[SERVER]
        cdef int status = exchange.response.status() if exchange.response is not None else 0
        cdef int topic = topic_of_status(status)
        cdef size_t bound = BOILERPLATE
        cdef uint64_t first_ns, end_ns
        cdef tuple asked_body = None, said_body = None, files = NO_FILES
        cdef uint8_t* out
        if self.refuses(topic, exchange, flow, tally):
            return 0
        bound += self.prepare(flow)
        for section in (exchange.request, exchange.response, exchange.request_trailers, exchange.response_trailers):
            if section is not None:
                bound += 6 * 3 * <size_t>section.size + 64 * <size_t>section.count
        if exchange.web_trailers is not None:
            bound += 12 * <size_t>len(exchange.web_trailers)
        if exchange.request_body is not None:
            asked_body = told_body(exchange.request_body.facts)
            bound += sum(map(len, asked_body))
        if exchange.response_body is not None:
            said_body = told_body(exchange.response_body.facts)
            bound += sum(map(len, said_body))
        if asked_body is not None or said_body is not None:
            files = told_files(None if asked_body is None else exchange.request_body.facts,
                               None if said_body is None else exchange.response_body.facts)
            bound += PyBytes_GET_SIZE(<bytes>files[0]) + PyBytes_GET_SIZE(<bytes>files[1])
        out = body.room(bound)
        first_ns = asked.first_ns if exchange.request is not None and asked.first_ns else said.first_ns
        end_ns = max(asked.last_ns, said.last_ns)
        out = self.begin(out, flow, self.protocol, first_ns, end_ns, exchange.index, outcome_of(exchange, status))
        if exchange.request is not None:
            out = self.url(out, exchange.request)
        if exchange.grpc == IS_GRPC:
            out = self.rpc(out, exchange)
        out = put_bytes(out, <bytes>files[0])
        out = put(out, b'"http":{"version":"2"')
        if exchange.request is not None:
            out = put(out, b',"request":{')
            out = self.message(out, exchange, CLIENT, exchange.request, exchange.request_trailers, asked_body)
        if exchange.response is not None:
            out = put(out, b',"response":{')
            if status:
                out = put_number(put(out, b'"status_code":'), status)
                out = put(out, b",")
            out = self.message(out, exchange, SERVER, exchange.response, exchange.response_trailers, said_body)
        out = put(out, b"},")
        if exchange.anomalies:
            tally.odd(exchange.anomalies)
        out = self.own(out, exchange, asked_body, said_body, <bytes>files[1])
        out = put(out, b"}\n")
        self.shown.clear()
        return self.finish(topic, out, flow, tally)

    cdef int omit(self, record, Tally tally) except -1:
        """Count the anomalies of an exchange whose event is not written."""
        if (<Exchange>record).anomalies:
            tally.odd((<Exchange>record).anomalies)
        return 0

    cdef Text text(self, HeaderSection section, int token):
        """Return the value of the first field with this token, as events show it; of size 0 if it is unknown."""
        cdef const Field* field = section.find(<uint8_t>token)
        cdef Text text
        cdef bytes value, shown
        text.p = NULL
        text.size = 0
        if field != NULL and not field.flags & VALUE_UNKNOWN:
            text.p = section.data + field.value_at
            text.size = field.value_length
            if self.choice.hiding:
                value = text.p[:text.size]
                shown = self.choice.parameters.hide(value)
                if shown is not value:
                    self.shown.append(shown)
                    text.p = <const uint8_t*>PyBytes_AS_STRING(shown)
                    text.size = PyBytes_GET_SIZE(shown)
        return text

    cdef bytes fields_json(self, HeaderSection section):
        """Return the selected fields as JSON, {"name":["value",…],…}, in order of appearance; mark redacted values."""
        cdef dict found = {}
        for name, value in section.items():
            if name is not None and value is not None and self.choice.shows(name) and name[:1] != b":":
                if self.choice.hiding:
                    value = self.choice.parameters.hide(value)
                found.setdefault(name, []).append(self.choice.value(name.lower(), value))
        return self.choice.headers_json(found)

    cdef uint8_t* url(self, uint8_t* out, HeaderSection request) except NULL:
        """Write url and user_agent. The authority is that of :authority, else that of host (RFC 9113 section 8.3.1)."""
        cdef Text target = self.text(request, PATH), authority = self.text(request, AUTHORITY)
        cdef Text scheme = self.text(request, SCHEME), agent = self.text(request, USER_AGENT)
        if authority.p == NULL:
            authority = self.text(request, HOST)
        if target.p != NULL or authority.size or scheme.size:
            out = put_url(out, target, authority, scheme, False)
        if agent.size:
            out = put(out, b'"user_agent":{"original":"')
            out = put_text(out, agent.p, agent.size)
            out = put(out, b'"},')
        return out

    cdef uint8_t* message(self, uint8_t* out, Exchange exchange, int side, HeaderSection section, HeaderSection trailers,
                          tuple told) except NULL:
        """Write the members of a request or response, and close the object."""
        cdef Half* half = &exchange.halves[side]
        cdef Text text
        if side == CLIENT:
            text = self.text(section, METHOD)
            if text.size:
                out = put_text(put(out, b'"method":"'), text.p, text.size)
                out = put(out, b'",')
            text = self.text(section, REFERER)
            if text.size:
                out = put_text(put(out, b'"referrer":"'), text.p, text.size)
                out = put(out, b'",')
        if not self.sniffed:
            out = put_mime_type(out, self.text(section, CONTENT_TYPE))
        elif told is not None:
            out = put_bytes(out, <bytes>told[2])
        out = put_number(put(out, b'"bytes":'), half.bytes)
        out = put_number(put(out, b',"body":{"bytes":'), half.body_bytes)
        if told is not None:
            out = put_bytes(out, <bytes>told[0])
        out = put(out, b"}")
        if self.choice.some:
            out = put_bytes(put(out, b',"headers":'), self.fields_json(section))
            if trailers is not None:
                out = put_bytes(put(out, b',"trailers":'), self.fields_json(trailers))
        return put(out, b"}")

    cdef uint8_t* own(self, uint8_t* out, Exchange exchange, tuple asked, tuple said, bytes file) except NULL:
        """Write the fields outside ECS: how certain the event is, and its timing."""
        cdef Half* request = &exchange.halves[CLIENT]
        cdef Half* response = &exchange.halves[SERVER]
        cdef bytes name
        cdef CallSide request_side, response_side
        cdef bint sent = exchange.request is not None and is_timed(request)
        out = put_number(put(put_connection(out, exchange.flow), b'"transaction":'), exchange.index)
        out = put_bytes(put(out, b',"pairing":"'), <bytes>PAIRING_TEXT[exchange.pairing])
        out = put(out, b'"')
        if exchange.request is not None:
            out = put_completeness(put(out, b',"request":{"complete":'), request, asked)
        if exchange.response is not None:
            out = put_completeness(put(out, b',"response":{"complete":'), response, said)
        out = put(out, b',"timing":{')
        if sent:
            out = put_number(put(out, b'"send_ns":'), request.last_ns - min(request.first_ns, request.last_ns))
            if exchange.response is not None and not response.begin_lost and response.first_ns >= request.last_ns:
                out = put_number(put(out, b',"wait_ns":'), response.first_ns - request.last_ns)
        if exchange.response is not None and is_timed(response) and not response.begin_lost:
            out = put(out, b',"receive_ns":' if sent else b'"receive_ns":')
            out = put_number(out, response.last_ns - min(response.first_ns, response.last_ns))
        out = put_capture(put(out, b"},"), exchange.flow)
        out = self.http2(out, exchange)
        if exchange.granted:
            name = tunnel_name(exchange) or b"unknown"
            out = put(out, b',"tunnel":{"protocol":"')
            out = put_text(out, <const uint8_t*>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
            out = put(out, b'"}')
        out = put_bytes(out, file)
        if exchange.grpc == IS_GRPC:
            request_side = side_of(exchange, CLIENT)
            response_side = side_of(exchange, SERVER)
            out = put_grpc(out, &request_side, &response_side, message_of(exchange))
        if exchange.anomalies:
            out = put_bytes(put(out, b',"anomalies":'), <bytes>anomalies_json(exchange.anomalies))
        if exchange.informational is not None:
            out = put(out, b',"informational":')
            out = put_bytes(out, json.dumps(exchange.informational, separators=(",", ":")).encode())
        return put(out, b"}")

    cdef uint8_t* rpc(self, uint8_t* out, Exchange exchange) except NULL:
        """Write rpc."""
        cdef Text path
        path.p = NULL
        if exchange.request is not None:
            path = self.text(exchange.request, PATH)
        return put_rpc(out, path, status_of(exchange))

    cdef uint8_t* http2(self, uint8_t* out, Exchange exchange) except NULL:
        """Write appliance.http2."""
        cdef HeaderSection section
        cdef Certainty known = Certainty.EXACT
        cdef uint32_t unknown = 0
        for section in (exchange.request, exchange.response, exchange.request_trailers, exchange.response_trailers):
            if section is not None:
                known = max(known, section.certainty)
                unknown += section.unknown
        out = put_number(put(out, b',"http2":{"stream_id":'), exchange.stream_id)
        out = put_bytes(put(out, b',"headers":"'), <bytes>CERTAINTY_TEXT[<int>known])
        out = put(out, b'"')
        if unknown:
            out = put_number(put(out, b',"unknown_headers":'), unknown)
            reference = path_reference(exchange.request) if exchange.request is not None else None
            if reference is not None:
                out = put_bytes(put(out, b',"path_ref":"'), <bytes>reference)
                out = put(out, b'"')
        if exchange.reset_by != NOT_RESET:
            out = put(out, b',"reset":{"error":"')
            out = put_bytes(out, error_name(exchange.reset_code))
            out = put_bytes(put(out, b'","by":"'), <bytes>SIDE_TEXT[exchange.reset_by])
            out = put(out, b'"}')
        if exchange.pushed:
            out = put(out, b',"pushed":true')
        if exchange.upgraded:
            out = put(out, b',"upgraded":true')
        return put(out, b"}")


cdef const char* outcome_of(Exchange exchange, int status) except NULL:
    """Return event.outcome: a gRPC call succeeds with the status OK, also where it is not known to be one."""
    if exchange.grpc and 200 <= status < 400 or status == 0:
        said = status_of(exchange) if exchange.grpc == IS_GRPC else None
        return b"unknown" if said is None else b"success" if said == b"0" else b"failure"
    return b"success" if status < 400 else b"failure"


cdef CallSide side_of(Exchange exchange, int side) noexcept:
    """Return what is known of the messages of a side."""
    cdef CallSide found
    cdef HeaderSection section = exchange.request if side == CLIENT else exchange.response
    found.known = section is not None and not exchange.halves[side].loss and not exchange.messages[side].lost
    found.messages = exchange.messages[side].count
    found.bytes = exchange.messages[side].bytes
    return found


cdef bytes error_name(uint32_t code):
    """Return the name of an error code (RFC 9113 section 7); of an unknown one its number."""
    return (ERRORS[code] if code < len(ERRORS) else f"0x{code:x}").encode()


cdef bytes path_reference(HeaderSection request):
    """Return the entries of the header table that hold the :path, as text; None: it is known, or is no such entry.

    While several pseudo-headers are such entries it is unknown which is the :path, and all of them are named.
    """
    cdef const Field* field
    cdef uint32_t place
    cdef list places = []
    if request.find(PATH) != NULL or request.left_out:
        return None
    for place in range(request.count):
        field = &request.fields[place]
        if field.flags & NAME_UNKNOWN:
            if field.ordinal == NO_ENTRY or len(places) == MOST_REFERENCES:
                return None
            places.append(b"%d" % field.ordinal)
        elif not field.name_length or request.data[field.name_at] != 58:
            break                               # pseudo-headers come first
    return b"%d:%b" % (request.generation, b",".join(places)) if places else None


cdef uint8_t* put_completeness(uint8_t* out, const Half* half, tuple told) except NULL:
    out = put_bool(out, half.whole and not half.loss)
    out = put_number(put(out, b',"missing_bytes":'), half.missing)
    if told is not None:
        out = put_bytes(out, <bytes>told[1])
    return put(out, b"}")
