# cython: language_level=3
"""SecondReading: the bytes in the place of a refused request's body, read as the client's next requests.

A client that waits for 100 (Continue) and gets a final response may send the body all the same. Or it leaves the body out
and sends its next request. Its own bytes rarely decide between the two, because a body can be HTTP. Two facts decide: another
response of the server before the announced body is over, and the bytes behind that body. Until then both readings continue:
the reader of the connection counts a body, this one reads requests. No count and no event has its messages before adopt().

SecondReading holds the last byte of the announced body, and the bytes behind it, back from the reader of the connection.
That is less than a head, because the bytes behind the body decide as soon as the first head of this reading is whole.

Length proof: as in application.pyx; every read stays between source.p and source.end.
"""
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr

from workers.core.context cimport Context
from workers.http1.grpc_web cimport body_reader
from workers.http1.resync cimport Input
from workers.http1.message_reader cimport AT_START, CANDIDATE, END, ENDING, LOST, NEED_MORE, TUNNEL, MessageReader, Step, account
from workers.http1.message cimport BODY_LEFT_OUT, BY_LENGTH, OVERLAP_CONFLICT, Message
from workers.http1.start_line cimport begins_well, may_begin_well
from workers.tcp.stream cimport Piece
from workers.core.counters cimport Tally

cdef enum:
    TELLING = 16                # bytes behind a body that decide whether a request begins there
    LF = 10
    OBJECTS = 500               # bytes of a message beside its head
    PART = 16                   # one reading may use 1 / PART of the worker's limit for waiting bytes


@cython.final
@cython.no_gc
cdef class SecondReading:
    def __init__(self, Message request not None, uint32_t bombs):
        self.reader = MessageReader.__new__(MessageReader)
        self.reader.begun = self.reader.http = True
        self.reader.midstream = True                # its first message must look like HTTP
        self.tally = Tally()
        self.requests = []
        self.held = []
        self.beyond = b""
        self.head_end = -1
        self.chunks = request.framing != BY_LENGTH
        self.body_end = request.head_end + (0 if self.chunks else <int64_t>request.content_length)
        self.last_ns = request.last_ns
        self.bombs = bombs

    cdef Ruling take(self, MessageReader counts, Input* source, const Piece* piece, Context cx) except <Ruling>-1:
        """Read the next bytes as requests, while `counts` reads them as a body. BODY: the input is used up or held."""
        cdef Input part = source[0]
        cdef Ruling ruling = UNDECIDED
        cdef int64_t plain = 0 if self.chunks else min(<int64_t>(source.end - source.p), self.body_end - 1 - source.offset)
        if piece.marks:
            counts.message.anomalies |= OVERLAP_CONFLICT * piece.marks
            if self.reader.message is not None:
                self.reader.message.anomalies |= OVERLAP_CONFLICT * piece.marks
        if plain > 0:                               # bytes before the last one of the announced body
            part.end = part.p + plain
            ruling = self.read(&part, cx)
            part = source[0]
            part.end = part.p + plain
            counts.step(&part, cx.limits, cx.tally)
            source.p += plain
            source.offset += plain
        if ruling == UNDECIDED and source.p < source.end:
            self.hold_input(source, piece, cx.tally)
            ruling = self.read_on(source, cx)
            account(self.reader, cx.tally)
            if self.held_bytes > cx.limits.max_head_bytes or cx.tally.head_bytes > cx.limits.max_total_head_bytes:
                ruling = BODY
            if ruling == BODY:
                source.p = source.end
        account(self.reader, cx.tally)
        return ruling

    cdef Ruling read(self, Input* source, Context cx) except <Ruling>-1:
        """Read all the input. BODY: it holds bytes that are no request."""
        cdef Step step
        cdef Message message
        while True:
            step = self.reader.step(source, cx.limits, self.tally)
            if step == NEED_MORE:
                return BODY if self.reader.state == LOST or self.reader.state == TUNNEL else UNDECIDED
            if step == CANDIDATE:
                return BODY
            if step == AT_START:
                continue
            if step == END:
                self.reader.message = None
                continue
            message = self.reader.message
            if not message.is_request or self.reader.cut or self.too_many(message, cx):
                return BODY
            if self.head_end < 0:
                self.head_end = message.head_end
            self.requests.append(message)
            self.reader.frame(False, False)
            message.body = None
            if self.reader.state != ENDING:
                message.body = body_reader(message, self.bombs, cx)

    cdef bint too_many(self, Message message, Context cx) except -1:
        """Charge another request; return whether these requests, or all waiting messages, exceed a limit."""
        cdef size_t weight = OBJECTS + <size_t>len(message.head)
        self.weight += weight
        cx.tally.waiting_bytes += weight
        return self.weight > cx.limits.max_total_waiting_bytes // PART \
            or cx.tally.waiting_bytes > cx.limits.max_total_waiting_bytes

    cdef Ruling read_on(self, Input* source, Context cx) except <Ruling>-1:
        """Read from the last byte of the announced body on; stop at the decision."""
        cdef Input part
        cdef const uint8_t* lf
        cdef Ruling ruling = UNDECIDED
        while ruling == UNDECIDED and source.p < source.end:
            part = source[0]
            part.end = part.p + 1
            if self.head_end < 0:                   # heads end where lines do
                lf = <const uint8_t*>memchr(source.p, LF, source.end - source.p)
                part.end = lf + 1 if lf != NULL else source.end
            source.p = part.end
            source.offset += part.end - part.p
            ruling = self.look_beyond(&part, part.end - part.p)
            if ruling != BODY and self.read(&part, cx) == BODY:
                ruling = BODY
            elif self.head_end < 0 and ruling != BODY:
                ruling = UNDECIDED
        return ruling

    cdef Ruling look_beyond(self, const Input* source, size_t count) except <Ruling>-1:
        """Judge the bytes behind the announced body. BODY: a request begins there, REQUESTS: none can."""
        cdef int64_t before
        if self.chunks:
            return REQUESTS
        before = max(self.body_end - source.offset, <int64_t>0)
        if before < <int64_t>count and len(self.beyond) < TELLING:
            self.beyond = (self.beyond + source.p[before:count])[:TELLING].lstrip(b"\r\n")
        if not self.beyond:
            return UNDECIDED
        if begins_well(<const uint8_t*>self.beyond, len(self.beyond)):
            return BODY
        return UNDECIDED if may_begin_well(<const uint8_t*>self.beyond, len(self.beyond)) else REQUESTS

    cdef int hold_input(self, const Input* source, const Piece* piece, Tally tally) except -1:
        """Keep the input for the reader of the connection."""
        cdef size_t size = <size_t>(source.end - source.p)
        self.held.append((source.p[:size], source.offset, source.ts_ns, source.peer_ack))
        self.held_bytes += size
        tally.head_bytes += size
        return 0

    cdef int first_held(self, Piece* piece) except -1:
        """Set a piece to the first of the held ones; its bytes stay valid while `held` has it."""
        cdef bytes data
        data, piece.offset, piece.ts_ns, piece.peer_ack = self.held[0]
        piece.data = <const uint8_t*>data
        piece.length = <uint32_t>len(data)
        piece.missing = 0
        piece.marks = 0
        piece.marked_from = piece.marked_to = 0
        return 0

    cdef int let_go(self, Tally tally) noexcept:
        """Take back the charge of the held bytes and the requests, which end here or continue elsewhere."""
        tally.head_bytes -= self.held_bytes
        tally.waiting_bytes -= self.weight
        self.held_bytes = self.weight = 0
        return 0

    cdef int take_back(self, Message request, Context cx) except -1:
        """Reduce the request that was sent without its body to its head."""
        request.bytes = <uint64_t>(request.head_end - request.start)
        request.body_bytes = 0
        request.last_ns = self.last_ns
        request.anomalies |= BODY_LEFT_OUT
        if request.body is not None:                # its BodyReader has seen bytes of other requests
            request.body = body_reader(request, self.bombs, cx)
        return 0

    cdef int give_up(self, Tally tally) except -1:
        """End this reading, because the bytes are a body; the reader of the connection counts them."""
        self.reader.forget(self.tally)
        account(self.reader, tally)
        return self.let_go(tally)
