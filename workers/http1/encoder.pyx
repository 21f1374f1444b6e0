# cython: language_level=3
"""TransactionEncoder: writes a Transaction as one line of JSON straight into the body of events.

The contract is workers/events/schema.py: a test decodes the written line as its Event. An event takes about 1 µs.

Length proof: write() adds up the longest that an event can become (six bytes for each byte of text, BOILERPLATE for all
keys and numbers) and makes that much room before it writes; the functions below it only append.
"""
import json

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t

from workers.http1.message cimport AMBIGUOUS_FRAMING, Message, Span
from workers.events.endpoints_json cimport put_connection
from workers.events.event_body cimport EventBody
from workers.events.http_json cimport HeaderChoice, put_bool, put_mime_type, told_body, told_files, topic_of_status
from workers.core.counters cimport Tally
from workers.events.json_text cimport put, put_bytes, put_number, put_text
from workers.core.flow cimport Flow
from workers.events.record_encoder cimport RecordEncoder, put_capture
from workers.events.rpc_json cimport CallSide, put_grpc, put_rpc
from workers.events.url_json cimport Text, put_url
from workers.http1.grpc_web cimport is_grpc_web, side_of, trailer_of
from workers.http1.transaction cimport METHOD_CONNECT, Transaction, opens_tunnel, tunnel_protocol

from workers.http1.message import FRAMINGS
from workers.body.redact import REDACTED
from appliance.stats.names import PAIRINGS
from workers.events.http_json import anomalies_json

cdef enum:
    BOILERPLATE = 8192          # more than all literals and numbers of one event
    TRAILER_BYTES = 4096        # the most that is kept of the trailers of gRPC-Web

cdef tuple NO_FILES = (b"", b"")
cdef list FRAMING_TEXT = [name.encode() for name in FRAMINGS]
cdef list PAIRING_TEXT = [name.encode() for name in PAIRINGS]


cdef inline Text part_of(Message message, Span span) noexcept:
    """Return a range of a message's head."""
    cdef Text text
    text.p = <const uint8_t*>PyBytes_AS_STRING(message.head) + span.at
    text.size = span.length
    return text


cdef Text path_of(Message request) noexcept:
    """Return the target of a request up to its query; unknown if it was not captured."""
    cdef Text path
    cdef size_t size
    path.p = NULL
    path.size = 0
    if request is not None:
        path = part_of(request, request.target)
        for size in range(path.size):
            if path.p[size] == 63:
                path.size = size
                break
    return path


cdef inline uint8_t* put_span(uint8_t* out, Message message, Span span) noexcept:
    return put_text(out, <const uint8_t*>PyBytes_AS_STRING(message.head) + span.at, span.length)


cdef class TransactionEncoder(RecordEncoder):
    """The encoder of one pipeline's transactions.

    observer: name of this sensor. interfaces: names by capture index. http: the configuration's section. sniffed:
    mime_type comes from the content, or is absent.
    """

    def __init__(self, EventBody body not None, str observer not None, interfaces, http, sniffed=False):
        RecordEncoder.__init__(self, body, observer, interfaces, "http", categories=["web", "network"], types=["access"],
                               protocol="http")
        self.choice = HeaderChoice(http)
        self.max_headers = http.max_headers
        self.sniffed = sniffed

    cdef int write(self, record, Tally tally) except -1:
        """Append the event of a finished transaction."""
        cdef Transaction transaction = <Transaction>record
        cdef EventBody body = self.body
        cdef Message request = transaction.request, response = transaction.response
        cdef Message first = request if request is not None else response
        cdef Flow flow = transaction.flow
        cdef bytes request_headers = None, response_headers = None
        cdef size_t bound = BOILERPLATE
        cdef uint8_t* out
        cdef const char* outcome
        cdef uint64_t end_ns
        cdef uint64_t anomalies = 0
        cdef bint grpc = request is not None and is_grpc_web(request) or response is not None and is_grpc_web(response)
        cdef bytes status = None
        cdef tuple files = NO_FILES
        cdef int topic = topic_of_status(response.status if response is not None else 0)
        if self.refuses(topic, transaction, flow, tally):
            return 0
        if self.choice.hiding:
            if request is not None:
                self.hide(request)
            if response is not None:
                self.hide(response)
        bound += self.prepare(flow)
        if request is not None and request.body is not None or response is not None and response.body is not None:
            files = told_files(facts_of(request), facts_of(response))
            bound += PyBytes_GET_SIZE(<bytes>files[0]) + PyBytes_GET_SIZE(<bytes>files[1])
        if request is not None:
            bound += 6 * (PyBytes_GET_SIZE(request.head) + 3 * request.target.length)   # written up to four times
            if self.choice.some:
                request_headers = self.headers_json(request)
                bound += PyBytes_GET_SIZE(request_headers)
            if request.body is not None:
                bound += tell_body(request)
        if response is not None:
            bound += 6 * PyBytes_GET_SIZE(response.head)
            if self.choice.some:
                response_headers = self.headers_json(response)
                bound += PyBytes_GET_SIZE(response_headers)
            if response.body is not None:
                bound += tell_body(response)
        if grpc:
            status = trailer_of(response, b"grpc-status")
            bound += 12 * TRAILER_BYTES
        if transaction.informational is not None:
            bound += 4 * len(transaction.informational)
        out = body.room(bound)

        end_ns = first.last_ns
        if response is not None:
            end_ns = max(end_ns, response.last_ns)
        if response is None or response.status == 0:
            outcome = b"unknown"
        elif grpc and 200 <= response.status < 400:
            outcome = b"unknown" if status is None else b"success" if status == b"0" else b"failure"
        else:
            outcome = b"success" if response.status < 400 else b"failure"
        out = self.begin(out, flow, self.protocol, first.first_ns, end_ns, transaction.index, outcome)
        if request is not None:
            out = self.url(out, request, flow.secure)
        if grpc:
            out = put_rpc(out, path_of(request), status)
        out = put_bytes(out, <bytes>files[0])
        out = put(out, b'"http":{"version":"')
        out = put_number(out, first.major)
        out = put(out, b".")
        out = put_number(out, first.minor)
        out = put(out, b'"')
        if request is not None:
            out = self.request(out, request, request_headers)
        if response is not None:
            out = self.response(out, response, response_headers)
        out = put(out, b"},")
        if request is not None:
            anomalies |= request.anomalies
        if response is not None:
            anomalies |= response.anomalies
        if anomalies:
            tally.odd(anomalies)
        out = self.own(out, transaction, anomalies, grpc, <bytes>files[1])
        out = put(out, b"}\n")
        return self.finish(topic, out, flow, tally)

    cdef int omit(self, record, Tally tally) except -1:
        """Count the anomalies of a transaction whose event is not written."""
        cdef Transaction transaction = <Transaction>record
        cdef uint64_t anomalies = 0
        if transaction.request is not None:
            anomalies |= transaction.request.anomalies
        if transaction.response is not None:
            anomalies |= transaction.response.anomalies
        if anomalies:
            tally.odd(anomalies)
        return 0

    cdef int hide(self, Message message) except -1:
        """Redact the values of the named parameters in the head: in the target, and in every line separately."""
        cdef bytes head = message.head
        cdef Span target = message.target
        cdef Message again
        cdef bytes first = b"", rest = head
        if self.choice.parameters.hide(head) is head:
            return 0
        if message.is_request:
            first = head[:target.at] + self.choice.parameters.hide(head[target.at:target.at + target.length])
            rest = head[target.at + target.length:]
        again = Message.__new__(Message)
        again.head = first + b"\n".join(map(self.choice.parameters.hide, rest.split(b"\n")))
        again.parse(self.max_headers)
        message.head = again.head
        message.method, message.target, message.reason = again.method, again.target, again.reason
        message.host, message.user_agent = again.host, again.user_agent
        message.referrer, message.content_type = again.referrer, again.content_type
        return 0

    cdef bytes headers_json(self, Message message):
        """Return the selected fields as JSON, {"name":["value",…],…}, in order of appearance; mark redacted values."""
        found = {}
        last = None
        for line in message.head.split(b"\n")[1:]:
            line = line.removesuffix(b"\r")
            if line[:1] in (b" ", b"\t") and last is not None:
                if last[-1] != REDACTED:
                    last[-1] += b" " + line.strip(b" \t")       # RFC 9112 section 5.2
                continue
            name, colon, value = line.partition(b":")
            name = name.rstrip(b" \t").lower()
            last = None
            if not colon or not self.choice.shows(name):
                continue
            last = found.setdefault(name, [])
            last.append(self.choice.value(name, value.strip(b" \t")))
        return self.choice.headers_json(found)

    cdef uint8_t* url(self, uint8_t* out, Message request, bint secure) noexcept:
        """Write url and user_agent."""
        cdef Text scheme
        scheme.p = b"https"
        scheme.size = 5 if secure else 4
        out = put_url(out, part_of(request, request.target), part_of(request, request.host), scheme,
                      request.method_number == METHOD_CONNECT)
        if request.user_agent.length:
            out = put(out, b'"user_agent":{"original":"')
            out = put_span(out, request, request.user_agent)
            out = put(out, b'"},')
        return out

    cdef uint8_t* request(self, uint8_t* out, Message request, bytes headers) noexcept:
        out = put(out, b',"request":{"method":"')
        out = put_span(out, request, request.method)
        out = put(out, b'",')
        if request.referrer.length:
            out = put(out, b'"referrer":"')
            out = put_span(out, request, request.referrer)
            out = put(out, b'",')
        return put_sizes(out, request, headers, self.sniffed)

    cdef uint8_t* response(self, uint8_t* out, Message response, bytes headers) noexcept:
        out = put(out, b',"response":{')
        if response.status:                             # an HTTP/0.9 response has none
            out = put(out, b'"status_code":')
            out = put_number(out, response.status)
            out = put(out, b",")
        if response.reason.length:
            out = put(out, b'"reason":"')
            out = put_span(out, response, response.reason)
            out = put(out, b'",')
        return put_sizes(out, response, headers, self.sniffed)

    cdef uint8_t* own(self, uint8_t* out, Transaction transaction, uint64_t anomalies, bint grpc, bytes file) except NULL:
        """Write the fields outside ECS: how certain the event is, and its timing."""
        cdef Message request = transaction.request, response = transaction.response
        cdef CallSide asked, said
        cdef bint comma = False
        out = put(put_connection(out, transaction.flow), b'"transaction":')
        out = put_number(out, transaction.index)
        out = put(out, b',"pairing":"')
        out = put_bytes(out, <bytes>PAIRING_TEXT[<int>transaction.pairing])
        out = put(out, b'"')
        if request is not None:
            out = put_completeness(out, b',"request":{"complete":', request)
        if response is not None:
            out = put_completeness(out, b',"response":{"complete":', response)
        out = put(out, b',"timing":{')
        if request is not None and request.complete and not request.end_lost:
            out = put(out, b'"send_ns":')
            out = put_number(out, request.last_ns - request.first_ns)
            comma = True
            if response is not None and response.first_ns >= request.last_ns:
                out = put(out, b',"wait_ns":')
                out = put_number(out, response.first_ns - request.last_ns)
        if response is not None and response.complete and not response.end_lost:
            out = put(out, b',"receive_ns":' if comma else b'"receive_ns":')
            out = put_number(out, response.last_ns - response.first_ns)
        out = put_capture(put(out, b"},"), transaction.flow)
        if response is not None and opens_tunnel(response, request):
            out = put(out, b',"tunnel":{"protocol":"')
            name = tunnel_protocol(request, response)
            out = put_text(out, <const uint8_t*>name, len(name))
            out = put(out, b'"}')
        out = put_bytes(out, file)
        if grpc:
            asked = side_of(request)
            said = side_of(response)
            out = put_grpc(out, &asked, &said, trailer_of(response, b"grpc-message"))
        if anomalies:
            out = put(out, b',"anomalies":')
            out = put_bytes(out, <bytes>anomalies_json(anomalies))
        if transaction.informational is not None:
            out = put(out, b',"informational":')
            out = put_bytes(out, json.dumps(transaction.informational, separators=(",", ":")).encode())
        return put(out, b"}")


cdef object facts_of(Message message):
    """Return the BodyFacts of a message; None: no body, or an unfinished one."""
    return None if message is None or message.body is None else message.body.facts


cdef size_t tell_body(Message message) except? 0:
    """Replace message.body by the JSON pieces of its facts; return their length.

    An unfinished body has no facts yet, so the length is 0.
    """
    facts = message.body.facts
    if facts is None:
        return 0
    message.body = told_body(facts)
    return sum(map(len, message.body))


cdef uint8_t* put_told(uint8_t* out, Message message, int place) noexcept:
    """Append one of the pieces that tell_body() made; without a body, append nothing."""
    if type(message.body) is tuple:
        out = put_bytes(out, <bytes>(<tuple>message.body)[place])
    return out


cdef uint8_t* put_sizes(uint8_t* out, Message message, bytes headers, bint sniffed) noexcept:
    """Append the members that requests and responses share (type, sizes, headers), and close the object."""
    if sniffed:
        out = put_told(out, message, 2)
    else:
        out = put_mime_type(out, part_of(message, message.content_type))
    out = put(out, b'"bytes":')
    out = put_number(out, message.bytes)
    out = put(out, b',"body":{"bytes":')
    out = put_number(out, message.body_bytes)
    out = put_told(out, message, 0)
    out = put(out, b"}")
    if headers is not None:
        out = put(out, b',"headers":')
        out = put_bytes(out, headers)
    return put(out, b"}")


cdef uint8_t* put_completeness(uint8_t* out, const char* start, Message message) except NULL:
    out = put(out, start)
    out = put_bool(out, message.complete)
    out = put(out, b',"missing_bytes":')
    out = put_number(out, message.missing)
    if message.anomalies & AMBIGUOUS_FRAMING:
        others = message.other_framings()
        if others is not None:
            out = put(out, b',"framing":"')
            out = put_bytes(out, <bytes>FRAMING_TEXT[<int>message.framing])
            out = put(out, b'","other_framings":')
            out = put_bytes(out, framings_json(others))
    out = put_told(out, message, 1)
    return put(out, b"}")


cdef bytes framings_json(list others):
    """Return the rejected framings of a message as JSON."""
    return json.dumps([{"framing": FRAMINGS[framing]} if length is None else {"framing": FRAMINGS[framing], "body_bytes": length}
                       for framing, length in others], separators=(",", ":")).encode()
