# cython: language_level=3
"""HttpConnection: in-order bytes to a MessageReader for each direction, and what the readers say to the Pairer.

The side whose reader first finds an HTTP head decides the roles: the client is who sends requests, whatever the ports are.
"""
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove

from appliance.cache cimport fetch
from workers.connection cimport HIGH, LOW, Connection
from workers.context cimport Context
from workers.http1 cimport CANDIDATE, END, ENDING, HEAD, IN_HEAD, LOST, NEED_MORE, START, TUNNEL, Input, MessageReader, Step
from workers.message cimport (
    AMBIGUOUS_FRAMING, BAD_CHUNK, BODY_CODING_FAILED, BODY_CODING_UNKNOWN, BODY_LIMIT, EARLY_RESPONSE, EXTRA_BYTES,
    LENGTH_NOT_ALLOWED, OVERLAP_CONFLICT, RESYNCHRONISED, Message,
)
from workers.pairer cimport Pairer
from workers.start cimport OTHER, begins_well
from workers.stream cimport Piece, Stream, offset_of
from workers.tally cimport Tally
from workers.transaction cimport METHOD_HEAD, Flow, Transaction, opens_tunnel

cdef enum:                      # places in stats.BODY_OUTCOMES
    FAILED = 3
    UNKNOWN = 4
    LIMIT = 5

cdef extern from "Python.h":
    ctypedef struct PyListObject:
        PyObject** ob_item


cdef const char* LAST_CHUNK = b"\r\n0\r\n\r\n"


cdef bint alone_in(const Piece* piece) noexcept:
    """Does a head end where the piece ends?"""
    cdef const uint8_t* end = piece.data + piece.length
    return piece.length >= LAST_CHUNK_SIZE and memcmp(end - 4, LAST_CHUNK + 3, 4) == 0 \
        and memcmp(end - LAST_CHUNK_SIZE, LAST_CHUNK, LAST_CHUNK_SIZE) != 0


cdef void account(MessageReader reader, Tally tally) noexcept:
    """Counts what a reader has gathered of heads."""
    cdef size_t size = len(reader.partial) if reader.partial is not None else 0
    tally.head_bytes += size
    tally.head_bytes -= reader.held
    reader.held = size


@cython.final
@cython.no_gc
cdef class HttpConnection(Connection):
    def __cinit__(self):
        self.client = self.heard[0] = self.heard[1] = self.ended[0] = self.ended[1] = self.weak[0] = self.weak[1] = -1

    cdef MessageReader reader(self, int side):
        """The reader of a side; made when it is first needed, so that a connection which says nothing stays small."""
        if side == LOW:
            if self.low is None:
                self.low = MessageReader.__new__(MessageReader)
                self.low.midstream = self.streams[LOW].midstream
            return self.low
        if self.high is None:
            self.high = MessageReader.__new__(MessageReader)
            self.high.midstream = self.streams[HIGH].midstream
        return self.high

    cdef int warm(self, int step) noexcept:
        if step == 0:
            fetch(<void*>self.low, 2)
            fetch(<void*>self.high, 2)
            fetch(<void*>self.pairer, 2)
        elif self.pairer is not None and step == 1:
            fetch(<void*>self.pairer.flow, 2)
            fetch(<void*>self.pairer.waiting, 1)
        elif self.pairer is not None:
            fetch(<void*>self.pairer.flow.json, 6)
            fetch((<PyListObject*>self.pairer.waiting).ob_item, 1)
        return 0

    cdef int take(self, int side, const Piece* piece, Context cx) except -1:
        """One piece of in-order bytes to its direction's reader."""
        cdef MessageReader reader = self.reader(side)
        cdef MessageReader other = self.high if side == LOW else self.low
        cdef Input source
        cdef Step step
        cdef bint between
        if self.ended[side] < 0:
            self.ended[side] = piece.offset
        source.p = piece.data
        source.end = piece.data + piece.length
        source.offset = piece.offset
        source.ts_ns = piece.ts_ns
        source.peer_ack = -1
        if piece.has_ack and self.streams[1 - side].known:
            source.peer_ack = offset_of(&self.streams[1 - side], piece.ack)
        if other is not None and other.versionless and other.settle(cx.limits, cx.tally) == HEAD:
            self.head(1 - side, other, cx)
            self.flush(1 - side, other, cx)
            self.hold(1 - side, other, cx)
        while True:
            if self.weak[side] >= 0 and self.refuted(side, reader, &source, piece):
                self.weak[side] = -1
                self.pairer.retract(side == self.client, self.ended[side])
                reader.stray(cx.tally)
            between = reader.state == START or reader.state == IN_HEAD
            step = reader.step(&source, cx.limits, cx.tally)
            if between and reader.junk and self.pairer is not None:
                self.pairer.retract(side == self.client, self.ended[side])
            if piece.marks and reader.message is not None and reader.message.start < piece.marked_to \
                    and source.offset > piece.marked_from:
                reader.message.anomalies |= OVERLAP_CONFLICT * piece.marks
            if reader.spilled:
                reader.spilled = False
                if side == self.client and self.pairer.waiting:
                    (<Transaction>self.pairer.waiting[-1]).request.anomalies |= EXTRA_BYTES
            if step == NEED_MORE:
                break
            if step == CANDIDATE:
                reader.trust(self.confirm(side, reader, piece), &source, cx.tally)
            else:
                if step == END and side != self.client and reader.message.start == self.weak[side] and source.p < source.end \
                        and not self.pairer.sends_on:
                    self.pairer.disown()            # it goes on: that was no answer, but text in one
                self.say(side, reader, step, cx)
        if reader.kind != OTHER and (other is None or other.kind == OTHER):
            self.leave(reader, self.reader(1 - side), cx)
        if reader.held or reader.partial is not None:
            self.hold(side, reader, cx)
        self.heard[side] = max(self.heard[side], source.peer_ack)
        if reader.state == LOST:
            self.remember(side, piece)
        return 0

    cdef int hold(self, int side, MessageReader reader, Context cx) except -1:
        """Accounts for what a reader has gathered; it lets go of that when all readers together hold too much."""
        account(reader, cx.tally)
        if reader.held and cx.tally.head_bytes > cx.limits.max_total_head_bytes:
            if reader.state == IN_HEAD:
                self.say(side, reader, reader.too_long(cx.limits, cx.tally), cx)
                self.flush(side, reader, cx)
            else:
                reader.forget(cx.tally)
            account(reader, cx.tally)
        return 0

    cdef int leave(self, MessageReader reader, MessageReader other, Context cx) except -1:
        """This side speaks another protocol, so the other one does too."""
        if other.state != LOST:                     # else it was counted
            cx.tally.not_http[<int>reader.kind] += 1
        other.forget(cx.tally)
        account(other, cx.tally)
        other.kind = reader.kind
        other.state = TUNNEL
        return 0

    cdef bint confirm(self, int side, MessageReader reader, const Piece* piece) except -1:
        """Is what the reader has found after a loss the next message, or a text in a body? TCP's numbers tell.

        Who takes turns starts a message just where the other side's last bytes have acknowledged all before it, and
        nothing of it. Where those bytes were lost, the message at least acknowledges something new, and that was lost.
        A request that fills its frame needs no more proof, unless unknown bytes of the same turn stand before it. A client
        that was seen to send on without waiting starts its messages anywhere, and so does its server, but in a chunked
        body only behind its last chunk.
        """
        cdef int peer = 1 - side
        cdef Stream* other = &self.streams[peer]
        cdef bint first = reader.candidate_first and reader.candidate <= piece.offset
        if self.client >= 0 and (side == self.client) != reader.candidate_request:
            return False
        if not other.seen:
            return reader.candidate_starts
        if self.heard[peer] == reader.candidate:
            return True
        if self.client < 0 and self.opener and (side == self.opener - 1) != reader.candidate_request:
            return False                            # nothing but this line says that the server opened the connection
        if first and reader.candidate_ack > max(self.heard[side], self.ended[peer], 0) and (
                reader.candidate_ack > other.next or other.gap_from < reader.candidate_ack <= other.gap_to):
            return self.believe_for_now(side, reader)
        if self.body_open[side]:
            return self.ends_chunks(side, reader, piece) and self.pairer is not None and self.pairer.sends_on
        if reader.candidate_request:
            if first and reader.gapped and alone_in(piece) \
                    and not (self.tail_at[side] == piece.offset and reader.candidate_ack <= self.heard[side]):
                return self.believe_for_now(side, reader)
            return self.pairer is not None and self.pairer.sends_on and (first or reader.candidate_apart)
        return first and self.pairer is not None and self.pairer.sends_on and self.pairer.waiting

    cdef bint believe_for_now(self, int side, MessageReader reader) noexcept:
        """The proof is weak: more bytes of this side behind it, without a word of the other one, will refute it."""
        self.weak[side] = reader.candidate
        return True

    cdef bint refuted(self, int side, MessageReader reader, const Input* source, const Piece* piece) except -1:
        """Does its side go on behind a message of weak proof as no one would who waits for an answer?

        Another request that fills its frame, as that one did, is what pipelining looks like.
        """
        if source.offset == piece.offset and alone_in(piece) and begins_well(source.p, source.end - source.p):
            return False
        return reader.state == START and self.weak[side] >= 0 and source.offset == self.ended[side] \
            and source.p < source.end and source.peer_ack <= self.weak_ack[side] and not self.pairer.sends_on

    cdef int remember(self, int side, const Piece* piece) noexcept:
        """Keeps the last bytes of a piece, for telling what stands before the next one."""
        cdef uint32_t count = min(piece.length, <uint32_t>LAST_CHUNK_SIZE)
        cdef uint8_t* tail = self.tails[side]
        if count == 0:                              # a piece without bytes has no place either
            return 0
        memmove(tail, tail + count, LAST_CHUNK_SIZE - count)
        memcpy(tail + LAST_CHUNK_SIZE - count, piece.data + piece.length - count, count)
        self.tail_at[side] = piece.offset + piece.length
        return 0

    cdef bint ends_chunks(self, int side, MessageReader reader, const Piece* piece) noexcept:
        """Does the last chunk of a body stand before what the reader has found?"""
        cdef int64_t before = reader.candidate - piece.offset
        if before >= LAST_CHUNK_SIZE:
            return before <= piece.length and memcmp(piece.data + before - LAST_CHUNK_SIZE, LAST_CHUNK, LAST_CHUNK_SIZE) == 0
        return before == 0 and self.tail_at[side] == piece.offset and memcmp(self.tails[side], LAST_CHUNK, LAST_CHUNK_SIZE) == 0

    cdef int say(self, int side, MessageReader reader, Step step, Context cx) except -1:
        if step == HEAD:
            self.head(side, reader, cx)
        elif step == END:
            self.end(side, reader, cx)
        return 0

    cdef int head(self, int side, MessageReader reader, Context cx) except -1:
        """A head was read: decide the roles, pair it, and tell the reader how its body is framed."""
        cdef Message message = reader.message
        cdef Flow flow
        cdef Transaction transaction
        cdef Message request = None
        cdef bint after_loss = message.anomalies & RESYNCHRONISED != 0 or (
            message.anomalies & EXTRA_BYTES and self.begun[side])   # before the first message it hides none
        cdef bint tunnel = False, no_body = False
        cdef int64_t answers_lost
        if message.is_request and self.streams[side].midstream and not self.begun[side]:
            after_loss = True                       # requests sent before the capture began may not be answered yet
        self.begun[side] = True
        reader.lost_bytes = reader.cut              # what cuts a head off is missing behind it
        if self.client < 0:
            self.client = side if message.is_request else 1 - side
            flow = Flow.__new__(Flow)
            flow.key = self.key
            flow.capture = self.capture
            flow.shed = self.shed
            flow.client_low = self.client == LOW
            flow.midstream = self.streams[LOW].midstream or self.streams[HIGH].midstream
            self.pairer = Pairer(flow)
            self.pairer.midstream = self.streams[self.client].midstream
            self.reader(LOW).found_http()
            self.reader(HIGH).found_http()
        if message.is_request != (side == self.client):
            cx.tally.failed += 1                    # both sides ask, or both answer: this is not HTTP
            reader.message = None
            reader.lose(NULL, 0, cx.tally)
            self.pairer.retract(side == self.client, self.ended[side])
            return 0
        if message.is_request:
            self.doubt_body(1 - side, message, cx)
            answers_lost = max(0, message.peer_ack - (
                self.ended[1 - side] if self.unsure(1 - side) else self.streams[1 - side].next))
            self.pairer.request_head(message, after_loss, answers_lost, cx.limits, cx.tally, cx.out)
            reader.frame(False, False)
            self.look(reader, cx)
            self.reader(1 - side).headless = message.major == 0
            return 0
        reader.headless = False
        transaction = self.pairer.response_head(message, after_loss, cx.tally, cx.out)
        if transaction is not None:
            request = transaction.request
        if request is not None:
            no_body = request.method_number == METHOD_HEAD
            tunnel = opens_tunnel(message, request)
            if not transaction.request_done and message.status >= 200:
                message.anomalies |= EARLY_RESPONSE
        reader.frame(no_body, tunnel)
        self.look(reader, cx)
        if 100 <= message.status < 200 and message.status != 101 and request is not None:
            request.anomalies |= message.anomalies & ~<uint64_t>(AMBIGUOUS_FRAMING & ~LENGTH_NOT_ALLOWED)   # it has no event
        if (message.status >= 200 or message.status == 101) and request is not None and request.complete \
                and not request.end_lost and message.first_ns >= request.last_ns:
            cx.tally.response_time(message.first_ns - request.last_ns)
        return 0

    cdef int look(self, MessageReader reader, Context cx) except -1:
        """If events are to say what bodies contain, and this message has one: its bytes will be looked at."""
        cdef Message message = reader.message
        cdef object seen = message.body             # of a body without a head, what came before it was known to be one
        message.body = None
        if cx.bodies is not None and reader.state != ENDING:
            message.body = cx.bodies.begin(message.head, message.status, self.bombs)
            if seen is not None:
                message.body.take(seen)
        return 0

    cdef int looked(self, Message message, Context cx) except -1:
        """The body that was looked at is over."""
        facts = message.body.end(message.complete)
        cx.tally.bodies[<int>facts.outcome] += 1
        cx.tally.decoded += <uint64_t>facts.size if facts.codings else 0
        if facts.outcome == FAILED:
            message.anomalies |= BODY_CODING_FAILED
        elif facts.outcome == UNKNOWN:
            message.anomalies |= BODY_CODING_UNKNOWN
        elif facts.outcome == LIMIT:
            message.anomalies |= BODY_LIMIT
        self.bombs += <bint>facts.bomb
        return 0

    cdef int doubt_body(self, int side, Message request, Context cx) except -1:
        """A response whose request is not known ended where its client went on: it may have answered a HEAD."""
        cdef Transaction transaction = self.pairer.answering
        cdef MessageReader reader = self.reader(side)
        cdef int64_t end
        if transaction is None or transaction.request is not None or transaction.response is not reader.message \
                or not reader.message.head_end <= request.peer_ack <= reader.message.start + <int64_t>reader.message.bytes:
            return 0
        if reader.message.body_bytes == 0:
            reader.message.body = None
            reader.frame(True, False)
            return self.flush(side, reader, cx)
        end = reader.message.head_end
        reader.cut = True
        reader.state = ENDING
        self.flush(side, reader, cx)
        self.pairer.retract(False, self.ended[side])
        self.ended[side] = end                      # what was taken for its body may be other responses
        return 0

    cdef int end(self, int side, MessageReader reader, Context cx) except -1:
        """The message being read is over."""
        cdef Message message = reader.message
        cdef Transaction transaction = self.pairer.answering
        if message.complete:
            cx.tally.complete += 1
        elif message.anomalies & BAD_CHUNK:
            cx.tally.failed += 1
        else:
            cx.tally.truncated += 1
        if message.start != self.weak[side]:
            self.weak[side] = -1
        self.weak_ack[side] = message.peer_ack
        self.ended[side] = message.start + <int64_t>(message.bytes if message.complete else message.bytes - message.missing)
        self.body_open[side] = not message.complete and (message.chunked or message.has_length)
        reader.message = None
        if message.body is not None:
            self.looked(message, cx)
        if side == self.client:
            self.pairer.request_end(cx.tally, cx.out)
            return 0
        if message.start != self.weak[side] and opens_tunnel(message, transaction.request if transaction is not None else None):
            self.tunnel(cx)
        self.pairer.response_end(cx.tally, cx.out)
        if message.anomalies & BAD_CHUNK and message.body_bytes == 0:
            self.pairer.retract(False, self.ended[side])
        return 0

    cdef int tunnel(self, Context cx) except -1:
        """HTTP is over: what follows is only counted."""
        cdef MessageReader reader
        cx.tally.tunnels += 1
        self.over(self.client, False, cx)           # a request that is answered so before its end has no more of it
        for side in range(2):
            reader = self.reader(side)
            reader.forget(cx.tally)
            account(reader, cx.tally)
            reader.state = TUNNEL
        return 0

    cdef int flush(self, int side, MessageReader reader, Context cx) except -1:
        """A message that is over says so now, without waiting for the bytes behind it."""
        cdef Input nothing
        nothing.p = nothing.end = NULL
        nothing.offset = nothing.peer_ack = 0
        nothing.ts_ns = 0
        return self.say(side, reader, reader.step(&nothing, cx.limits, cx.tally), cx)

    cdef int skip(self, int side, int64_t count, Context cx) except -1:
        """The reader learns of a gap."""
        cdef MessageReader reader = self.reader(side)
        if self.ended[side] < 0:
            self.ended[side] = self.streams[side].next - count
        self.say(side, reader, reader.gap(count, cx.limits, cx.tally), cx)
        self.flush(side, reader, cx)
        account(reader, cx.tally)
        return 0

    cdef int over(self, int side, bint by_fin, Context cx) except -1:
        """The reader learns that nothing more comes."""
        cdef MessageReader reader = self.low if side == LOW else self.high
        cdef Message message
        cdef Step step
        if reader is None:
            return 0
        step = reader.close(by_fin, cx.limits, cx.tally)
        while step != NEED_MORE:
            message = reader.message
            self.say(side, reader, step, cx)
            if step == END and by_fin and side != self.client and not message.complete:
                self.pairer.retract(False, message.start + <int64_t>message.bytes)
            step = reader.close(by_fin, cx.limits, cx.tally)
        account(reader, cx.tally)
        return 0

    cdef int mark(self, int side, int64_t start, int64_t stop, int marks, Context cx) except -1:
        """Marks the messages that these bytes belong to, if their events have not left yet."""
        cdef MessageReader reader = self.low if side == LOW else self.high
        cdef Transaction transaction
        cdef Message message
        if reader is not None and reader.message is not None and reader.message.start < stop:
            reader.message.anomalies |= OVERLAP_CONFLICT * marks
        if self.pairer is not None:
            for transaction in (self.pairer.answering, *self.pairer.waiting, *(self.pairer.loose or ())):
                message = None
                if transaction is not None:
                    message = transaction.request if side == self.client else transaction.response
                if message is not None and message.start < stop and start < message.start + <int64_t>message.bytes:
                    message.anomalies |= OVERLAP_CONFLICT * marks
        return 0

    cdef bint unsure(self, int side) except -1:
        """May messages of a side be missing behind its last one?"""
        return self.reader(side).lost_bytes or self.reader(side).state == LOST

    cdef int done(self, Context cx) except -1:
        """What still waits for an answer leaves as it is."""
        if self.pairer is not None:
            self.pairer.finish(self.unsure(self.client) or not self.streams[self.client].finished,
                               self.unsure(1 - self.client) or not self.streams[1 - self.client].finished, cx.tally, cx.out)
            self.pairer = None
        if self.low is not None:
            self.low.forget(cx.tally)
            account(self.low, cx.tally)
            self.low.state = LOST
        if self.high is not None:
            self.high.forget(cx.tally)
            account(self.high, cx.tally)
            self.high.state = LOST
        return 0
