# cython: language_level=3
"""HttpConnection: in-order bytes to a MessageReader for each direction, and what the readers say to the Pairer.

The side whose reader first finds an HTTP head decides the roles: the client is who sends requests, whatever the ports are.
"""
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from workers.connection cimport HIGH, LOW, Connection, fetch
from workers.context cimport Context
from workers.http1 cimport CANDIDATE, END, HEAD, LOST, NEED_MORE, TUNNEL, Input, MessageReader, Step
from workers.message cimport BAD_CHUNK, EARLY_RESPONSE, OVERLAP_CONFLICT, Message
from workers.start cimport OTHER
from workers.stream cimport Piece, offset_of
from workers.transaction cimport METHOD_HEAD, Flow, Pairer, Transaction, opens_tunnel

cdef extern from "Python.h":
    ctypedef struct PyListObject:
        PyObject** ob_item


@cython.final
@cython.no_gc
cdef class HttpConnection(Connection):
    def __cinit__(self):
        self.client = self.heard[0] = self.heard[1] = -1

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
        while True:
            step = reader.step(&source, cx.limits, cx.tally)
            if piece.marks and reader.message is not None and reader.message.start < piece.marked_to \
                    and source.offset > piece.marked_from:
                reader.message.anomalies |= OVERLAP_CONFLICT * piece.marks
            if step == NEED_MORE:
                break
            if step == CANDIDATE:
                reader.trust(self.confirm(side, reader), &source, cx.tally)
            else:
                self.say(side, reader, step, cx)
        if reader.kind != OTHER and (other is None or other.kind == OTHER):
            self.leave(reader, self.reader(1 - side), cx)
        self.heard[side] = max(self.heard[side], source.peer_ack)
        return 0

    cdef int leave(self, MessageReader reader, MessageReader other, Context cx) except -1:
        """This side speaks another protocol, so the other one does too."""
        if other.state != LOST:                     # else it was counted
            cx.tally.not_http[<int>reader.kind] += 1
        other.forget(cx.tally)
        other.kind = reader.kind
        other.state = TUNNEL
        return 0

    cdef bint confirm(self, int side, MessageReader reader) except -1:
        """Is what the reader has found after a loss the next message, or a text in a body? TCP's numbers tell.

        Who takes turns starts a message just where the other side's last bytes have acknowledged all before it, and
        nothing of it. Where the other side's last bytes were lost, its next message at least acknowledges something new.
        A client that was seen to send on without waiting starts its messages anywhere, and so does its server.
        """
        cdef int peer = 1 - side
        if self.client >= 0 and (side == self.client) != reader.candidate_request:
            return False
        if not self.streams[peer].seen:
            return reader.candidate_first
        if self.heard[peer] == reader.candidate:
            return True
        if self.pairer is not None and self.pairer.pipelines:
            if reader.candidate_request:
                return reader.candidate_first or reader.candidate_apart
            if self.pairer.waiting:
                return reader.candidate_first
        return reader.candidate_first and self.reader(peer).lost_bytes and reader.candidate_ack > max(self.heard[side], 0)

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
        cdef bint after_loss = reader.lost_bytes, tunnel = False, no_body = False
        if message.is_request and self.streams[side].midstream and not self.begun[side]:
            after_loss = True                       # requests sent before the capture began may not be answered yet
        self.begun[side] = True
        reader.lost_bytes = False
        if self.client < 0:
            self.client = side if message.is_request else 1 - side
            flow = Flow.__new__(Flow)
            flow.key = self.key
            flow.capture = self.capture
            flow.shed = self.shed
            flow.client_low = self.client == LOW
            flow.midstream = self.streams[LOW].midstream or self.streams[HIGH].midstream
            self.pairer = Pairer(flow)
            self.reader(LOW).http = self.reader(HIGH).http = True
        if message.is_request != (side == self.client):
            cx.tally.failed += 1                    # both sides ask, or both answer: this is not HTTP
            reader.message = None
            reader.lose(NULL, 0, cx.tally)
            return 0
        if message.is_request:
            self.pairer.request_head(message, after_loss, cx.limits, cx.tally, cx.out)
            reader.frame(False, False)
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
        if (message.status >= 200 or message.status == 101) and request is not None and request.complete \
                and not request.end_lost and message.first_ns >= request.last_ns:
            cx.tally.response_time(message.first_ns - request.last_ns)
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
        reader.message = None
        if side == self.client:
            self.pairer.request_end(cx.tally, cx.out)
            return 0
        if opens_tunnel(message, transaction.request if transaction is not None else None):
            self.tunnel(cx)
        self.pairer.response_end(cx.tally, cx.out)
        return 0

    cdef int tunnel(self, Context cx) except -1:
        """HTTP is over: what follows is only counted."""
        cdef MessageReader reader
        cx.tally.tunnels += 1
        self.over(self.client, False, cx)           # a request that is answered so before its end has no more of it
        for side in range(2):
            reader = self.reader(side)
            reader.forget(cx.tally)
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
        self.say(side, reader, reader.gap(count, cx.limits, cx.tally), cx)
        return self.flush(side, reader, cx)

    cdef int over(self, int side, bint by_fin, Context cx) except -1:
        """The reader learns that nothing more comes."""
        cdef MessageReader reader = self.low if side == LOW else self.high
        cdef Step step
        if reader is None:
            return 0
        step = reader.close(by_fin, cx.limits, cx.tally)
        while step != NEED_MORE:
            self.say(side, reader, step, cx)
            step = reader.close(by_fin, cx.limits, cx.tally)
        return 0

    cdef int mark(self, int side, int64_t start, int64_t stop, int marks, Context cx) except -1:
        """Marks the messages that these bytes belong to, if their events have not left yet."""
        cdef MessageReader reader = self.low if side == LOW else self.high
        cdef Transaction transaction
        cdef Message message
        if reader is not None and reader.message is not None and reader.message.start < stop:
            reader.message.anomalies |= OVERLAP_CONFLICT * marks
        if self.pairer is not None:
            for transaction in (self.pairer.answering, *self.pairer.waiting):
                message = None
                if transaction is not None:
                    message = transaction.request if side == self.client else transaction.response
                if message is not None and message.start < stop and start < message.start + <int64_t>message.bytes:
                    message.anomalies |= OVERLAP_CONFLICT * marks
        return 0

    cdef int done(self, Context cx) except -1:
        """What still waits for an answer leaves as it is."""
        if self.pairer is not None:
            self.pairer.finish(cx.tally, cx.out)
            self.pairer = None
        if self.low is not None:
            self.low.forget(cx.tally)
            self.low.state = LOST
        if self.high is not None:
            self.high.forget(cx.tally)
            self.high.state = LOST
        return 0
