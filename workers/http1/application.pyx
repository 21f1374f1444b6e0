# cython: language_level=3
"""Http1: feeds in-order bytes to a MessageReader per direction, and the steps of the readers to the Pairer.

The side whose reader first finds an HTTP head decides the roles: the client is the side that sends requests, on any port.

One class, because nearly every step of one reader may move the other reader, the Pairer and the second reading of a body.
"""
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

from appliance.native.prefetch cimport fetch
from workers.core.context cimport Context
from workers.http1.resync cimport alone_in
from workers.http1.message_reader cimport (
    AT_START, CANDIDATE, CHUNK_SIZE, END, ENDING, HEAD, IN_HEAD, LENGTH, LOST, NEED_MORE, START, TUNNEL, UNTIL_CLOSE, Input,
    MessageReader, Step, account,
)
from workers.http1.message cimport (
    AMBIGUOUS_FRAMING, BAD_CHUNK, EARLY_RESPONSE, EXTRA_BYTES, LENGTH_NOT_ALLOWED, OVERLAP_CONFLICT, RESYNCHRONISED, Message,
)
from workers.http1.body cimport begin_body, end_body, leave_out_body
from workers.http1.pairing cimport Pairer
from workers.http1.second_reading cimport BODY, REQUESTS, UNDECIDED, Ruling, SecondReading
from workers.http1.start_line cimport begins_well, may_begin_well
from workers.http1.successor cimport begins_another, enter_at_preface, enter_behind, is_preface, rest_of, resumes
from workers.detect.detector cimport Protocols, give_way, opaque
from workers.tcp.application cimport HIGH, LOW, Application, Transport
from workers.tcp.stream cimport Piece, Stream, reached
from workers.core.counts cimport OTHER, SPEAKS_HTTP, SPEAKS_OTHER
from workers.http1.transaction cimport METHOD_HEAD, Transaction, opens_tunnel

cdef extern from "Python.h":
    ctypedef struct PyListObject:
        PyObject** ob_item


@cython.final
@cython.no_gc
cdef class Http1(Application):
    def __cinit__(self):
        self.client = self.ended[0] = self.ended[1] = self.weak[0] = self.weak[1] = -1

    cdef MessageReader reader(self, int side):
        """Return the reader of a side. Make it at its first use, to keep a silent connection small."""
        if side == LOW:
            if self.low is None:
                self.low = self.new_reader(side)
            return self.low
        if self.high is None:
            self.high = self.new_reader(side)
        return self.high

    cdef MessageReader new_reader(self, int side):
        cdef MessageReader reader = MessageReader.__new__(MessageReader)
        reader.midstream = (<Transport>self.transport).joined(side)
        reader.protocols = <Protocols>(<Transport>self.transport).applications
        return reader

    cdef int prefetch(self, int step) noexcept:
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

    cdef int on_data(self, int side, const Piece* piece, Context cx) except -1:
        """Feed one piece of in-order bytes to its direction's reader."""
        cdef MessageReader reader = self.reader(side)
        cdef MessageReader other = self.high if side == LOW else self.low
        cdef Input source
        cdef Step step
        cdef bint between
        if self.client < 0 and (give_way(<Transport>self.transport, side, piece, reader.kind if reader.junk else -1, cx)
                                or resumes(self, reader, side, piece, cx)):
            return 0                                # no HTTP was found, and another protocol begins here
        if self.ended[side] < 0:
            self.ended[side] = piece.offset
        source.p = piece.data
        source.end = piece.data + piece.length
        source.offset = piece.offset
        source.ts_ns = piece.ts_ns
        source.peer_ack = piece.peer_ack
        if side == self.client and self.pairer is not None and self.pairer.early is not None:
            self.expect_another(reader, &source)
        if other is not None and other.versionless and other.end_versionless(cx.limits, cx.tally) == HEAD:
            self.head(1 - side, other, cx)
            self.flush(1 - side, other, cx)
            self.limit_gathered(1 - side, other, cx)
        if self.refused and side == self.client:
            if self.reread(side, reader, &source, piece, cx):
                return 0
            reader = self.reader(side)
        while True:
            if self.weak[side] >= 0 and self.refuted(side, reader, &source, piece):
                self.weak[side] = -1
                self.pairer.retract(side == self.client, self.ended[side])
                reader.reject_message(cx.tally)
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
            if step == AT_START and self.client < 0 and begins_another(<Transport>self.transport, side, piece, &source, cx):
                return 0
            if step == CANDIDATE:
                reader.judge_candidate(self.confirm(side, reader, piece), &source, cx.tally)
            else:
                if step == END and side != self.client and reader.message.start == self.weak[side] and source.p < source.end \
                        and not self.pairer.sends_on:
                    self.pairer.disown()            # more bytes follow: the response was text in a body
                self.handle_step(side, reader, step, cx)
        if side == self.client and self.pairer is not None and self.pairer.early is not None:
            self.end_early_response(cx)
        if reader.kind != OTHER and (other is None or other.beside == OTHER):
            self.note_other_protocol(reader, self.reader(1 - side), cx)
        if reader.held or reader.partial is not None:
            self.limit_gathered(side, reader, cx)
        if reader.state == LOST:
            if piece.length:                        # an empty piece has no place
                reader.lost_to = piece.offset + piece.length
            cx.tally.spoke(&(<Transport>self.transport).spoken, SPEAKS_OTHER)
        if self.over:
            self.pass_on(side, piece, &source, cx)
        return 0

    cdef int pass_on(self, int side, const Piece* piece, const Input* source, Context cx) except -1:
        """Give the rest of a piece to the following application, because HTTP has ended within the piece."""
        cdef Piece rest = rest_of(piece, source)
        if (<Transport>self.transport).application is self:
            self.enter_successor(source.offset if side == self.client else reached(&self.streams[self.client]), cx)
        return (<Transport>self.transport).pass_data(side, &rest, cx) if rest.length else 0

    cdef bint reread(self, int side, MessageReader reader, Input* source, const Piece* piece, Context cx) except -1:
        """Read the bytes in the place of a refused request's body as requests, too. Return True if the input is used up."""
        cdef SecondReading second = self.second
        cdef Transaction transaction = self.pairer.asking
        cdef Message request = reader.message
        cdef Ruling ruling
        if second is None:
            self.refused = False
            if transaction is None or transaction.request is not request or source.peer_ack <= transaction.response.start \
                    or source.offset != request.head_end or not may_begin_well(source.p, source.end - source.p):
                return False
            self.refused = True
            second = self.second = SecondReading(request, self.bombs)
        ruling = second.take(reader, source, piece, cx)
        if ruling == BODY:
            self.drop(cx)
        elif ruling == REQUESTS:
            self.adopt(cx)
        return ruling == UNDECIDED

    cdef int adopt(self, Context cx) except -1:
        """Adopt the requests of the second reading, because the client has left the body out."""
        cdef SecondReading second = self.second
        cdef int side = self.client
        cdef MessageReader reader = self.reader(side)
        cdef Message message = reader.message, last = second.reader.message
        second.let_go(cx.tally)
        self.second = None
        self.refused = False
        second.take_back(message, cx)
        reader.state = ENDING
        self.flush(side, reader, cx)
        self.body_open[side] = False
        reader = second.reader
        self.low, self.high = (reader, self.high) if side == LOW else (self.low, reader)
        for message in second.requests:
            cx.tally.started += 1
            self.begin_request(side, message, False, cx)
            if message is not last:
                reader.message = message
                self.end(side, reader, cx)
        reader.message = last
        account(reader, cx.tally)
        if second.closed:
            self.on_end(side, True, cx)
        return 0

    cdef int drop(self, Context cx) except -1:
        """Drop the second reading, because the bytes are a body; the reader gets the held bytes."""
        cdef SecondReading second = self.second
        cdef Piece piece
        self.second = None
        self.refused = False
        second.give_up(cx.tally)
        while second.held:
            second.first_held(&piece)
            self.on_data(self.client, &piece, cx)
            del second.held[0]
        return 0

    cdef int limit_gathered(self, int side, MessageReader reader, Context cx) except -1:
        """Count the gathered bytes of a reader; drop them if all readers together hold too many."""
        account(reader, cx.tally)
        if reader.held and cx.tally.head_bytes > cx.limits.max_total_head_bytes:
            if reader.state == IN_HEAD:
                self.handle_step(side, reader, reader.too_long(cx.limits, cx.tally), cx)
                self.flush(side, reader, cx)
            else:
                reader.forget(cx.tally)
            self.end_early_response(cx)
            account(reader, cx.tally)
        return 0

    cdef int end_early_response(self, Context cx) except -1:
        """Report an early response alone, if the supposed head of its request is none."""
        if self.pairer is not None and self.pairer.early is not None \
                and self.reader(self.client).unfinished() != self.pairer.early_start:
            self.pairer.forsake(cx.tally, cx.out)
        return 0

    cdef int expect_another(self, MessageReader reader, const Input* source) except -1:
        """Note where the client of an unfinished head continues: behind the whole response, another request may begin."""
        cdef Transaction answered = self.pairer.early
        if answered.response_done and reader.state == IN_HEAD and reader.turn_at == 0 and reader.partial is not None \
                and source.peer_ack >= answered.response.start + <int64_t>answered.response.bytes \
                and self.heard[1 - self.client] == source.offset:
            reader.turn_at = <uint32_t>len(reader.partial)
        return 0

    cdef int64_t unfinished(self, int64_t heard) except -2:
        """Return where a request with an unfinished head begins, if `heard` acknowledges a part of it and no more; else -1."""
        cdef int64_t start = self.reader(self.client).unfinished()
        return start if 0 <= start < heard <= self.streams[self.client].next else -1

    cdef int beside(self, int side, int kind, int64_t start) except -1:
        """Read one side of a connection; the other one has spoken another protocol since this offset."""
        self.reader(side).foreign(kind)
        self.reader(1 - side).beside = kind
        self.ended[side] = start
        return 0

    cdef int note_other_protocol(self, MessageReader reader, MessageReader other, Context cx) except -1:
        """Notify one reader that the other side speaks another protocol. It follows if it begins unlike HTTP, now or later.

        A server of HTTP answers unknown bytes in HTTP, and a client of HTTP may have reached the wrong server.
        """
        cdef Transport transport = <Transport>self.transport
        other.beside = reader.kind
        cx.tally.spoke(&transport.spoken, SPEAKS_OTHER + reader.kind)
        if other.state == LOST and not other.http:
            other.kind = reader.kind
            other.enter_state(TUNNEL, cx.tally)
        if other.kind != OTHER and other.state == TUNNEL:
            account(reader, cx.tally)
            transport.become(opaque(self.low.kind, self.high.kind))
        return 0

    cdef bint confirm(self, int side, MessageReader reader, const Piece* piece) except -1:
        """Return whether TCP's numbers prove that a candidate after a loss is the next message, not text in a body.

        For a client that takes turns, the other side's last bytes have acknowledged all bytes before a message, and none of
        it. Where those bytes were lost, the message at least acknowledges new bytes, and those were lost. A request that
        fills its frame needs no more proof, unless unknown bytes of the same turn stand before it. A client that has sent
        on without waiting starts its messages anywhere, and so does its server; in a chunked body, only behind the last chunk.
        """
        cdef int peer = 1 - side, opener
        cdef Stream* other = &self.streams[peer]
        cdef bint first = reader.candidate_first and reader.candidate <= piece.offset
        if self.client >= 0 and (side == self.client) != reader.candidate_request:
            return False
        if not other.seen:
            return reader.candidate_starts
        if self.heard[peer] == reader.candidate:
            return True
        if reader.junk and not self.begun[side] and self.begun[peer] and self.turn[side] == reader.candidate \
                and reader.candidate_ack >= self.ended[peer]:
            return True                             # its first turn since a response in HTTP, whatever it spoke before
        opener = (<Transport>self.transport).opener
        if self.client < 0 and opener and (side == opener - 1) != reader.candidate_request:
            return False                            # only this line suggests that the server opened the connection
        if first and reader.candidate_ack > max(self.heard[side], self.ended[peer], 0) and (
                reader.candidate_ack > other.next or other.gap_from < reader.candidate_ack <= other.gap_to):
            return self.believe_for_now(side, reader)
        if self.body_open[side]:
            return self.pairer is not None and self.pairer.sends_on and reader.behind_chunks()
        if reader.candidate_request:
            if first and reader.gapped and alone_in(piece.data, piece.length) \
                    and not (reader.lost_to == piece.offset and reader.candidate_ack <= self.heard[side]):
                return self.believe_for_now(side, reader)
            return self.pairer is not None and self.pairer.sends_on and (first or reader.candidate_apart)
        return first and self.pairer is not None and self.pairer.sends_on and self.pairer.waiting

    cdef bint believe_for_now(self, int side, MessageReader reader) noexcept:
        """Accept a message of weak proof; more bytes of this side, without bytes of the other one, refute it."""
        self.weak[side] = reader.candidate
        return True

    cdef bint refuted(self, int side, MessageReader reader, const Input* source, const Piece* piece) except -1:
        """Return whether a side continues behind a message of weak proof, although a side that takes turns would wait.

        Another request that fills its frame, like the first one, is a sign of pipelining.
        """
        if source.offset == piece.offset and alone_in(piece.data, piece.length) and begins_well(source.p, source.end - source.p):
            return False
        return reader.state == START and self.weak[side] >= 0 and source.offset == self.ended[side] \
            and source.p < source.end and source.peer_ack <= self.weak_ack[side] and not self.pairer.sends_on

    cdef int handle_step(self, int side, MessageReader reader, Step step, Context cx) except -1:
        if step == HEAD:
            self.head(side, reader, cx)
        elif step == END:
            self.end(side, reader, cx)
        return 0

    cdef int find_http2(self, int side, MessageReader reader, Context cx) except -1:
        """End HTTP/1 at the preface of HTTP/2, which came behind other bytes, as a header of the PROXY protocol."""
        cx.tally.started -= 1
        self.client = side
        self.preface = reader.message
        reader.message = None
        return self.stop(cx)

    cdef int head(self, int side, MessageReader reader, Context cx) except -1:
        """Handle a head: decide the roles, pair the message, and set the framing of its body."""
        cdef Transport transport = <Transport>self.transport
        cdef Message message = reader.message, request = None
        cdef Transaction transaction
        cdef bint after_loss = message.anomalies & RESYNCHRONISED != 0 or (
            message.anomalies & EXTRA_BYTES and (self.begun[side] or (      # before the first message it hides none
                not message.is_request and self.pairer is not None and self.pairer.passed_over())))
        cdef bint tunnel = False, no_body = False, early = False, in_turn
        if self.client < 0 and message.major == 2 and is_preface(message):
            return self.find_http2(side, reader, cx)
        if transport.joined(side) and not self.begun[side] and (
                message.is_request or (self.pairer is not None and not self.pairer.expects(message.start))):
            after_loss = True                       # requests sent before the capture began may still wait for a response
        self.begun[side] = True
        reader.lost_bytes = reader.cut              # the gap that cuts a head off lies behind it
        if self.client < 0:
            self.client = side if message.is_request else 1 - side
            self.pairer = Pairer(transport.flow_of(self.client == LOW), cx.tally)
            cx.tally.spoke(&transport.spoken, SPEAKS_HTTP)
            self.pairer.since_ns = message.first_ns
            self.pairer.midstream = transport.joined(self.client)
            self.reader(LOW).found_http()
            self.reader(HIGH).found_http()
        if message.is_request != (side == self.client):
            cx.tally.failed += 1                    # both sides send requests, or both responses: this is not HTTP
            reader.message = None
            reader.lose_sync(NULL, 0, cx.tally)
            self.pairer.retract(side == self.client, self.ended[side])
            return 0
        if message.is_request:
            self.begin_request(side, message, after_loss, cx)
            reader.frame(False, False)
            begin_body(reader, self.bombs, cx)
            self.reader(1 - side).headless = message.major == 0
            return self.weigh(cx)
        reader.headless = False
        if self.second is not None and 0 <= self.second.head_end <= message.peer_ack:
            self.adopt(cx)                          # before a body's end a server answers only once; then the next request
        in_turn = not self.pairer.dropped
        transaction = self.pairer.response_head(message, after_loss, self.unfinished(message.peer_ack), cx.tally, cx.out)
        if transaction is not None:
            request = transaction.request
            early = transaction is self.pairer.early or (request is not None and 0 <= message.peer_ack < request.head_end)
            if message.status >= 200 and (early or not transaction.request_done):
                message.anomalies |= EARLY_RESPONSE
            if request is None and in_turn and not transaction.held and (
                    not self.streams[self.client].anchored or message.peer_ack > self.streams[self.client].next):
                self.pairer.run_ahead(transaction, not self.pairer.waiting and (
                    self.streams[self.client].seen or message.first_ns < self.pairer.since_ns + cx.limits.gap_timeout_ns))
        (<Transport>self.transport).unsettled = self.waits()
        if request is not None:
            no_body = request.method_number == METHOD_HEAD
            tunnel = opens_tunnel(message, request)
            self.refused = message.status >= 200 and not early and transaction is self.pairer.asking and request.body_bytes == 0 \
                and self.reader(1 - side).state in (LENGTH, CHUNK_SIZE)
        elif early:
            no_body = self.reader(self.client).asks_for_head()
        self.may_lack_body = early and no_body
        reader.frame(no_body and not early, tunnel)
        begin_body(reader, self.bombs, cx)
        if 100 <= message.status < 200 and message.status != 101 and request is not None:
            request.anomalies |= message.anomalies & ~<uint64_t>(AMBIGUOUS_FRAMING & ~LENGTH_NOT_ALLOWED)   # it has no event
        if (message.status >= 200 or message.status == 101) and request is not None and request.complete \
                and not request.end_lost and message.first_ns >= request.last_ns:
            cx.tally.response_time(message.first_ns - request.last_ns)
        return self.weigh(cx)

    cdef int weigh(self, Context cx) except -1:
        """List the pairer with in_flight; over the limit for all connections, the largest holders give messages up."""
        if self.pairer.held >= self.pairer.file_at:
            cx.in_flight.file(self.pairer)
        if cx.tally.waiting_bytes > cx.limits.max_total_waiting_bytes:
            cx.in_flight.make_room(cx.limits.max_total_waiting_bytes, cx.tally, cx.out)
        return 0

    cdef int begin_request(self, int side, Message message, bint after_loss, Context cx) except -1:
        """Begin a request."""
        cdef int64_t answers_lost
        self.doubt_body(1 - side, message, cx)
        answers_lost = max(0, message.peer_ack - (
            self.ended[1 - side] if self.unsure(1 - side) else self.streams[1 - side].next))
        if self.pairer.early is None and message.start < self.pairer.ahead_to \
                and self.pairer.join(message, after_loss, cx.tally, cx.out):
            (<Transport>self.transport).unsettled = self.waits()
            return 0
        return self.pairer.request_head(message, after_loss, answers_lost, cx.tally, cx.out)

    cdef int doubt_body(self, int side, Message request, Context cx) except -1:
        """End a response where its client sent the next request, because it may answer a HEAD and have no body.

        Its request is unknown, or was incomplete when the response came.
        """
        cdef Transaction transaction = self.pairer.answering
        cdef MessageReader reader = self.reader(side)
        cdef int64_t end
        if transaction is None or (transaction.request is not None and not self.may_lack_body) \
                or transaction.response is not reader.message \
                or not reader.message.head_end <= request.peer_ack <= reader.message.start + <int64_t>reader.message.bytes:
            return 0
        if reader.message.body_bytes == 0:
            leave_out_body(reader)
            return self.flush(side, reader, cx)
        if self.may_lack_body:
            return 0
        end = reader.message.head_end
        reader.cut = True
        reader.state = ENDING
        self.flush(side, reader, cx)
        self.pairer.retract(False, self.ended[side])
        self.ended[side] = end                      # the bytes counted as its body may be other responses
        return 0

    cdef int end(self, int side, MessageReader reader, Context cx) except -1:
        """End the message being read."""
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
            end_body(message, &self.bombs, cx)
        if side == self.client:
            self.pairer.request_end(cx.tally, cx.out)
            return 0
        self.may_lack_body = False
        if message.start != self.weak[side] and opens_tunnel(message, transaction.request if transaction is not None else None):
            self.tunnel(transaction, message, cx)
        self.pairer.response_end(cx.tally, cx.out)
        if message.anomalies & BAD_CHUNK and message.body_bytes == 0:
            self.pairer.retract(False, self.ended[side])
        return 0

    cdef int tunnel(self, Transaction transaction, Message response, Context cx) except -1:
        """Stop reading HTTP behind this response. transaction: None if it is not known yet."""
        cx.tally.tunnels += 1
        self.last = response
        if transaction is not None:
            self.asked = transaction.request
            self.last_index = transaction.index
        self.on_end(self.client, False, cx)         # a request with such a response before its end has no more bytes
        return self.stop(cx)

    cdef int stop(self, Context cx) except -1:
        for side in range(2):
            self.reader(side).enter_state(TUNNEL, cx.tally)
        self.over = True                            # enter_successor() follows at the end of on_data()
        return 0

    cdef int enter_successor(self, int64_t client_at, Context cx) except -1:
        """Put another application in place; report transactions without a response. client_at: the client's bytes up to this
        offset were read here.
        """
        self.on_close(cx)
        if self.preface is not None:
            return enter_at_preface(<Transport>self.transport, self.client, self.preface, self.ended[1 - self.client] >= 0, cx)
        return enter_behind(<Transport>self.transport, self.client, self.asked, self.last, self.last_index, client_at, cx)

    cdef int flush(self, int side, MessageReader reader, Context cx) except -1:
        """End a message that is over now, without waiting for the next bytes."""
        cdef Input nothing
        nothing.p = nothing.end = NULL
        nothing.offset = nothing.peer_ack = 0
        nothing.ts_ns = 0
        return self.handle_step(side, reader, reader.step(&nothing, cx.limits, cx.tally), cx)

    cdef int on_gap(self, int side, int64_t count, Context cx) except -1:
        """Report a gap to the reader."""
        cdef MessageReader reader
        if self.over:
            self.enter_successor(reached(&self.streams[self.client]) - (count if side == self.client else 0), cx)
            return (<Transport>self.transport).pass_gap(side, count, cx)
        if self.second is not None and side == self.client:
            self.drop(cx)
        reader = self.reader(side)
        if self.ended[side] < 0:
            self.ended[side] = self.streams[side].next - count
        self.end_search(side, reader, cx)
        self.handle_step(side, reader, reader.gap(count, cx.limits, cx.tally), cx)
        self.flush(side, reader, cx)
        if side == self.client:
            self.end_early_response(cx)
        account(reader, cx.tally)
        return self.on_gap(side, count, cx) if self.over else 0     # this gap hides the end of the head that ends HTTP

    cdef int end_search(self, int side, MessageReader reader, Context cx) except -1:
        """Judge the kept bytes of a lost reader, because no more follow."""
        if reader.state == LOST and self.pairer is not None and not self.pairer.saw_pipelining:
            reader.judge_kept(&self.streams[1 - side], self.heard[1 - side], side == self.client, cx.limits, cx.tally)
        return 0

    cdef int on_end(self, int side, bint by_fin, Context cx) except -1:
        """End the stream of a side for its reader."""
        cdef MessageReader reader = self.low if side == LOW else self.high
        cdef Message message
        cdef Step step
        if reader is None:
            return 0
        if self.second is not None and side == self.client:
            if by_fin and not self.streams[1 - side].finished:
                self.second.closed = True           # the server may still send a response
                return 0
            by_fin = by_fin or self.second.closed
            self.drop(cx)
        self.end_search(side, reader, cx)
        if self.may_lack_body and side != self.client and reader.message is not None and reader.message.body_bytes == 0:
            leave_out_body(reader)
        step = reader.close(by_fin, cx.limits, cx.tally)
        while step != NEED_MORE:
            message = reader.message
            self.handle_step(side, reader, step, cx)
            if step == END and by_fin and side != self.client and not message.complete:
                self.pairer.retract(False, message.start + <int64_t>message.bytes)
            step = reader.close(by_fin, cx.limits, cx.tally)
        if side == self.client:
            self.end_early_response(cx)
        account(reader, cx.tally)
        return 0

    cdef bint awaits_end(self, int side) noexcept:
        """Return whether a body reaches to the end of the side."""
        cdef MessageReader reader = self.low if side == LOW else self.high
        return reader is not None and reader.state == UNTIL_CLOSE

    cdef int on_conflict(self, int side, int64_t start, int64_t stop, int marks, Context cx) except -1:
        """Mark the messages that contain these bytes, if their events have not left yet."""
        cdef MessageReader reader = self.low if side == LOW else self.high
        if reader is not None and reader.message is not None and reader.message.start < stop:
            reader.message.anomalies |= OVERLAP_CONFLICT * marks
        if self.pairer is not None:
            self.pairer.mark(side == self.client, start, stop, OVERLAP_CONFLICT * marks)
        return 0

    cdef bint waits(self) noexcept:
        return self.pairer is not None and (self.pairer.ahead is not None or self.pairer.tentative is not None)

    cdef int on_time(self, Context cx) except -1:
        """Report the messages that wait for bytes of the client, once the time for these is over."""
        cdef uint64_t now = cx.now - cx.skew, before = now - min(now, cx.limits.gap_timeout_ns)
        if self.pairer is not None and self.pairer.ahead is not None:
            self.pairer.report_kept(before, cx.tally, cx.out)
        if self.pairer is not None and self.pairer.tentative is not None:
            self.pairer.confirm_tentative(before, cx.tally, cx.out)
        return 0

    cdef bint unsure(self, int side) except -1:
        """Return whether messages of a side may be missing behind its last one."""
        return self.reader(side).lost_bytes or self.reader(side).state == LOST

    cdef int on_close(self, Context cx) except -1:
        """End both sides; report the messages that still wait for a response as they are."""
        if self.pairer is not None:
            self.pairer.finish(self.unsure(self.client) or not self.streams[self.client].finished,
                               self.unsure(1 - self.client) or not self.streams[1 - self.client].finished, cx.tally, cx.out)
            cx.in_flight.leave(self.pairer)
            self.pairer = None
        for reader in (self.low, self.high):
            if reader is not None:
                (<MessageReader>reader).enter_state(TUNNEL if self.over else LOST, cx.tally)
        return 0
