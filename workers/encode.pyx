# cython: language_level=3
"""Encoder: a Transaction to one line of JSON, written straight into a growing buffer.

The contract is workers/events.py: what is written here decodes as its Event, and a test keeps it so. About 1 µs an event.

Length proof: write() adds up the longest that an event can become (six bytes for each byte of text, BOILERPLATE for all
keys and numbers) and makes that much room before it writes; the functions below it only append.
"""
import json

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcpy, memmove

from appliance.flow cimport HashKey, siphash
from workers.message cimport AMBIGUOUS_FRAMING, Message, Span
from workers.parties cimport parties
from workers.tally cimport CLASSES_END, Tally
from workers.text cimport put, put_bytes, put_number, put_text
from workers.transaction cimport METHOD_CONNECT, Flow, Transaction, opens_tunnel

from workers.message import FRAMINGS, anomalies_json
from workers.redact import REDACTED, Parameters
from workers.tally import PAIRINGS
from workers.text import text_json

ALWAYS_REDACTED = ("authorization", "proxy-authorization", "cookie", "set-cookie")

cdef enum:
    BOILERPLATE = 8192          # more than all literals and numbers of one event
    FIRST_CAPACITY = 1 << 16

cdef const char* HEX = b"0123456789abcdef"
cdef list FRAMING_TEXT = [name.encode() for name in FRAMINGS]
cdef list PAIRING_TEXT = [name.encode() for name in PAIRINGS]


cdef inline uint8_t* put_bool(uint8_t* out, bint value) noexcept nogil:
    return put(out, b"true" if value else b"false")


cdef inline uint8_t* put_span(uint8_t* out, Message message, Span span) noexcept:
    return put_text(out, <const uint8_t*>PyBytes_AS_STRING(message.head) + span.at, span.length)


cdef class Encoder:
    """Encodes the transactions of one pipeline, one growing body per topic.

    observer: name of this sensor. interfaces: names by capture index. http: the configuration's section. limit: bytes of a
    body; an event longer than that has one by itself. sniffed: mime_type comes from the content, or is absent.
    """

    def __init__(self, str observer not None, interfaces, http, size_t limit, sniffed=False):
        self.full = []
        self.limit = limit
        self.observers = [b'"observer":{"name":%b,"ingress":{"interface":{"name":%b}}},' % (
            json.dumps(observer).encode(), json.dumps(name).encode()) for name in interfaces]
        names = [name.lower().encode() for name in http.headers]
        self.all_headers = b"all" in names
        self.headers = frozenset(names)
        hidden = (*ALWAYS_REDACTED, *http.redact) if http.redaction else http.redact
        self.redacted = frozenset(name.lower().encode() for name in hidden)
        self.parameters = Parameters(http.redact_parameters)
        self.hiding = bool(self.parameters)
        self.max_headers = http.max_headers
        self.sniffed = sniffed

    def __dealloc__(self):
        cdef int i
        for i in range(TOPICS):
            free(self.outputs[i].data)

    def take(self):
        """[(topic index, events, body)] since the last take(); bodies have no newline at the end."""
        cdef int i
        for i in range(TOPICS):
            if self.outputs[i].events:
                self.close(i, self.outputs[i].used)
        taken = self.full
        self.full = []
        self.events = self.size = 0
        return taken

    cdef int close(self, int topic, size_t end) except -1:
        """The events of a topic up to `end` become one body; one that follows them begins the next."""
        cdef Output* output = &self.outputs[topic]
        self.full.append((topic, output.events, PyBytes_FromStringAndSize(<char*>output.data, end - 1)))
        output.used -= end
        memmove(output.data, output.data + end, output.used)
        output.events = 0
        return 0

    cdef int write(self, Transaction transaction, Tally tally) except -1:
        """Appends the event of a finished transaction to the body of its topic."""
        cdef Message request = transaction.request, response = transaction.response
        cdef Message first = request if request is not None else response
        cdef Flow flow = transaction.flow
        cdef bytes request_headers = None, response_headers = None
        cdef size_t bound = BOILERPLATE, before
        cdef Output* output
        cdef uint8_t* out
        cdef uint8_t* grown
        cdef uint64_t end_ns
        cdef uint64_t anomalies = 0
        cdef int topic = TOPICS - 1
        cdef uint64_t[2] seed
        cdef uint64_t word
        cdef HashKey key
        if response is not None and 1 <= response.status // 100 <= CLASSES_END:
            topic = response.status // 100 - 1
        if self.hiding:
            if request is not None:
                self.hide(request)
            if response is not None:
                self.hide(response)
        if flow.json is None:
            flow.json = <bytes>self.observers[flow.capture] + parties(flow)
        bound += PyBytes_GET_SIZE(flow.json)
        if request is not None:
            bound += 6 * (PyBytes_GET_SIZE(request.head) + 2 * request.target.length)   # the target is written twice or thrice
            if self.headers:
                request_headers = self.headers_json(request)
                bound += PyBytes_GET_SIZE(request_headers)
            if request.body is not None:
                bound += tell_body(request)
        if response is not None:
            bound += 6 * PyBytes_GET_SIZE(response.head)
            if self.headers:
                response_headers = self.headers_json(response)
                bound += PyBytes_GET_SIZE(response_headers)
            if response.body is not None:
                bound += tell_body(response)
        if transaction.informational is not None:
            bound += 4 * len(transaction.informational)
        output = &self.outputs[topic]
        if output.capacity - output.used < bound:
            grown = <uint8_t*>realloc(output.data, max(2 * output.capacity, output.used + bound, <size_t>FIRST_CAPACITY))
            if grown == NULL:
                raise MemoryError
            output.data = grown
            output.capacity = max(2 * output.capacity, output.used + bound, <size_t>FIRST_CAPACITY)
        out = output.data + output.used

        end_ns = first.last_ns
        if response is not None:
            end_ns = max(end_ns, response.last_ns)
        out = put(out, b'{"@timestamp":"')
        out = self.time(out, first.first_ns)
        out = put(out, b'","ecs":{"version":"8.11.0"},"event":{"kind":"event","category":["web","network"],'
                       b'"type":["access"],"dataset":"appliance.http","id":"')
        key.k0 = flow.identity[0]
        key.k1 = flow.identity[1]
        seed[0] = first.first_ns
        seed[1] = <uint64_t>transaction.index << 1
        for _ in range(2):
            word = siphash(&key, seed, sizeof(seed), 2, 4)
            seed[1] |= 1
            out = put_hex(out, word)
        out = put(out, b'","start":"')
        out = self.time(out, first.first_ns)
        out = put(out, b'","end":"')
        out = self.time(out, end_ns)
        out = put(out, b'","duration":')
        out = put_number(out, end_ns - first.first_ns if end_ns > first.first_ns else 0)
        out = put(out, b',"outcome":"')
        if response is None or response.status == 0:
            out = put(out, b"unknown")
        else:
            out = put(out, b"success" if response.status < 400 else b"failure")
        out = put(out, b'"},')
        out = put_bytes(out, flow.json)
        if request is not None:
            out = self.url(out, request)
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
        out = self.own(out, transaction, anomalies)
        out = put(out, b"}\n")
        before = output.used
        self.size += (out - output.data) - before
        output.used = out - output.data
        if output.used - 1 > self.limit and before:
            self.close(topic, before)
        output.events += 1
        self.events += 1
        tally.made[topic] += 1
        return 0

    cdef int hide(self, Message message) except -1:
        """Takes the values of the named parameters out of the head: the target, and every line on its own."""
        cdef bytes head = message.head
        cdef Span target = message.target
        cdef Message again
        cdef bytes first = b"", rest = head
        if self.parameters.hide(head) is head:
            return 0
        if message.is_request:
            first = head[:target.at] + self.parameters.hide(head[target.at:target.at + target.length])
            rest = head[target.at + target.length:]
        again = Message.__new__(Message)
        again.head = first + b"\n".join(map(self.parameters.hide, rest.split(b"\n")))
        again.parse(self.max_headers)
        message.head = again.head
        message.method, message.target, message.reason = again.method, again.target, again.reason
        message.host, message.user_agent = again.host, again.user_agent
        message.referrer, message.content_type = again.referrer, again.content_type
        return 0

    cdef bytes headers_json(self, Message message):
        """{"name":["value",…],…} of the headers asked for, in order of appearance; hidden values say so."""
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
            if not colon or not (self.all_headers or name in self.headers):
                continue
            last = found.setdefault(name, [])
            last.append(REDACTED if name in self.redacted else value.strip(b" \t"))
        return b"{%b}" % b",".join(
            b"%b:[%b]" % (text_json(name), b",".join(text_json(value) for value in values))
            for name, values in found.items())

    cdef uint8_t* time(self, uint8_t* out, uint64_t ns) noexcept:
        """RFC 3339 in UTC with nine digits. The text of a second is made once and kept."""
        cdef uint64_t second = ns // 1000000000
        cdef uint32_t rest = <uint32_t>(ns % 1000000000)
        cdef int i
        if second != self.second or self.second_text[0] == 0:
            put_second(self.second_text, second)
            self.second = second
        memcpy(out, self.second_text, 19)
        out[19] = 46
        for i in range(28, 19, -1):
            out[i] = <uint8_t>(48 + rest % 10)
            rest //= 10
        out[29] = 90
        return out + 30

    cdef uint8_t* url(self, uint8_t* out, Message request) noexcept:
        """url and user_agent. The authority is the target's own if it has one (RFC 9112 section 3.2.2), else Host."""
        cdef const uint8_t* head = <const uint8_t*>PyBytes_AS_STRING(request.head)
        cdef Span target = request.target, authority = request.host, path = target, query, port
        cdef const uint8_t* mark
        cdef const uint8_t* p = head + target.at
        cdef uint32_t i
        query.at = query.length = 0
        if request.method_number == METHOD_CONNECT and target.length and p[0] != 47:    # host:port
            authority = target
            path.length = 0
        elif target.length > 7 and (p[0] | 0x20) == 104 and (p[3] | 0x20) == 112 and p[4] == 58 and p[5] == 47 and p[6] == 47:
            authority.at = target.at + 7
            authority.length = target.length - 7
            for i in range(authority.length):
                if head[authority.at + i] == 47 or head[authority.at + i] == 63:
                    authority.length = i
                    break
            path.at = authority.at + authority.length
            path.length = target.at + target.length - path.at
            mark = <const uint8_t*>memchr(head + authority.at, 64, authority.length)
            while mark != NULL:                             # user:password@host: the host alone
                authority.length -= <uint32_t>(mark - head) + 1 - authority.at
                authority.at = <uint32_t>(mark - head) + 1
                mark = <const uint8_t*>memchr(head + authority.at, 64, authority.length)
        elif p[0] == 42 and target.length == 1:             # OPTIONS *
            path.length = 0
        mark = <const uint8_t*>memchr(head + path.at, 63, path.length) if path.length else NULL
        if mark != NULL:
            query.at = <uint32_t>(mark - head) + 1
            query.length = path.at + path.length - query.at
            path.length = query.at - 1 - path.at
        port.at = authority.at + authority.length
        port.length = 0
        while port.at > authority.at and 48 <= head[port.at - 1] <= 57:
            port.at -= 1
            port.length += 1
        if port.at > authority.at and head[port.at - 1] == 58 and port.length <= 5:
            authority.length = port.at - 1 - authority.at
        else:
            port.length = 0
        if authority.length >= 2 and head[authority.at] == 91 and head[authority.at + authority.length - 1] == 93:
            authority.at += 1                               # [IPv6]
            authority.length -= 2
        out = put(out, b'"url":{"original":"')
        out = put_span(out, request, target)
        if authority.length:
            out = put(out, b'","domain":"')
            out = put_span(out, request, authority)
        if path.length:
            out = put(out, b'","path":"')
            out = put_span(out, request, path)
        if mark != NULL:
            out = put(out, b'","query":"')
            out = put_span(out, request, query)
        out = put(out, b'","scheme":"http"')
        if port.length:
            out = put(out, b',"port":')
            out = put_number(out, span_number(request, port))
        out = put(out, b"},")
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

    cdef uint8_t* own(self, uint8_t* out, Transaction transaction, uint64_t anomalies) except NULL:
        """What is ours: how sure the event is, and its timing."""
        cdef Message request = transaction.request, response = transaction.response
        cdef bint comma = False
        out = put(out, b'"appliance":{"transaction":')
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
        out = put(out, b'},"midstream":')
        out = put_bool(out, transaction.flow.midstream)
        if transaction.flow.shed:
            out = put_bytes(out, b',"sampling":%b' % json.dumps((256 - transaction.flow.shed) / 256).encode())
        if response is not None and opens_tunnel(response, request):
            out = put(out, b',"tunnel":{"protocol":"')
            name = tunnel_protocol(request, response)
            out = put_text(out, <const uint8_t*>name, len(name))
            out = put(out, b'"}')
        if anomalies:
            out = put(out, b',"anomalies":')
            out = put_bytes(out, <bytes>anomalies_json(anomalies))
        if transaction.informational is not None:
            out = put(out, b',"informational":')
            out = put_bytes(out, json.dumps(transaction.informational, separators=(",", ":")).encode())
        return put(out, b"}")


cdef size_t tell_body(Message message) except? 0:
    """Makes message.body what its facts look like in an event; how long that is. A body that goes on has no facts yet."""
    facts = message.body.facts
    if facts is None:
        return 0
    message.body = told_body(facts)
    return sum(map(len, message.body))


cdef tuple told_body(facts):
    """(what is Elastic's, what is ours, the type): pieces of an event, empty where nothing is known."""
    own = {name: value for name, value in (("sha256", facts.sha256), ("md5", facts.md5)) if value is not None}
    if facts.codings:
        own["decoded_bytes"] = facts.size
        own["codings"] = list(facts.codings)
    if facts.base64 is not None:
        own["content_base64"] = facts.base64
    return (
        b',"content":%b' % text_json(facts.text) if facts.text is not None else b"",
        b',"body":%b' % json.dumps(own, separators=(",", ":")).encode() if own else b"",
        b'"mime_type":%b,' % text_json(facts.mime_type.encode()) if facts.mime_type is not None else b"",
    )


cdef uint8_t* put_told(uint8_t* out, Message message, int place) noexcept:
    """One of the pieces that tell_body() made; nothing without a body."""
    if type(message.body) is tuple:
        out = put_bytes(out, <bytes>(<tuple>message.body)[place])
    return out


cdef uint8_t* put_sizes(uint8_t* out, Message message, bytes headers, bint sniffed) noexcept:
    """The part that requests and responses share: type, sizes, headers; closes the object."""
    cdef Span mime = message.content_type
    cdef const uint8_t* head = <const uint8_t*>PyBytes_AS_STRING(message.head)
    cdef const uint8_t* mark = NULL
    if sniffed:
        mime.length = 0
        out = put_told(out, message, 2)
    if mime.length:
        mark = <const uint8_t*>memchr(head + mime.at, 59, mime.length)
        if mark != NULL:
            mime.length = <uint32_t>(mark - head) - mime.at
        while mime.length and head[mime.at + mime.length - 1] == 32:
            mime.length -= 1
    if mime.length:
        out = put(out, b'"mime_type":"')
        out = put_span(out, message, mime)
        out = put(out, b'",')
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
    """The readings of a message that were not chosen, as JSON."""
    return json.dumps([{"framing": FRAMINGS[framing]} if length is None else {"framing": FRAMINGS[framing], "body_bytes": length}
                       for framing, length in others], separators=(",", ":")).encode()


cdef bytes tunnel_protocol(Message request, Message response):
    """What a connection becomes: "connect", or the first protocol of the Upgrade field (RFC 9110 section 7.8)."""
    if response.status != 101:
        return b"connect"
    for message in (response, request):
        if message is not None:
            for line in (<Message>message).head.split(b"\n")[1:]:
                name, _, value = line.partition(b":")
                if name.strip().lower() == b"upgrade" and value.strip():
                    return value.split(b",")[0].strip().lower()
    return b"unknown"


cdef uint8_t* put_hex(uint8_t* out, uint64_t value) noexcept nogil:
    cdef int i
    for i in range(16):
        out[i] = HEX[value >> (60 - 4 * i) & 15]
    return out + 16


cdef uint64_t span_number(Message message, Span span) noexcept:
    """The value of a few digits."""
    cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(message.head) + span.at
    cdef uint64_t value = 0
    cdef uint32_t i
    for i in range(span.length):
        value = value * 10 + (p[i] - 48)
    return value


cdef void put_second(uint8_t* out, uint64_t second) noexcept nogil:
    """2026-11-22T10:00:00 of a POSIX time: days to a date in the proleptic Gregorian calendar, years from March on."""
    cdef uint64_t days = second // 86400, clock = second % 86400
    cdef uint64_t z = days + 719468                     # from 0000-03-01
    cdef uint64_t era = z // 146097
    cdef uint64_t doe = z - era * 146097
    cdef uint64_t yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
    cdef uint64_t doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    cdef uint64_t mp = (5 * doy + 2) // 153
    cdef uint64_t day = doy - (153 * mp + 2) // 5 + 1
    cdef uint64_t month = mp + 3 if mp < 10 else mp - 9
    cdef uint64_t year = yoe + era * 400 + (1 if month <= 2 else 0)
    put_two(out, year // 100 % 100)
    put_two(out + 2, year % 100)
    out[4] = out[7] = 45
    put_two(out + 5, month)
    put_two(out + 8, day)
    out[10] = 84
    put_two(out + 11, clock // 3600)
    out[13] = out[16] = 58
    put_two(out + 14, clock // 60 % 60)
    put_two(out + 17, clock % 60)


cdef inline void put_two(uint8_t* out, uint64_t value) noexcept nogil:
    out[0] = <uint8_t>(48 + value // 10)
    out[1] = <uint8_t>(48 + value % 10)
