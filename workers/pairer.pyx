# cython: language_level=3
"""Pairing: which response answers which request (RFC 9112 section 9.3.2), by order, and checked by TCP's own numbers.

As long as nothing that may hold messages was lost, order decides, and the numbers only confirm it: a response's frame
acknowledges the request it answers; if it acknowledges no further than that, it answers no later one.

After a loss order decides nothing. What does, depends on how the client was seen to talk:

- It takes turns (no request was sent while an answer was outstanding). Then a response answers the newest request that its
  frame acknowledges. If it acknowledges more than that, it answers one that was not captured.
- It pipelines in batches: requests that acknowledge the same bytes of the server were sent together, and all of them are
  answered before the next batch begins. Behind the loss, requests and responses are held until that happens; then they are
  counted, from the batch's begin up to the first loss and from its end back to the last one. Between those, nothing is paired.
- It keeps several requests outstanding all the time (sliding): then only the end of the connection can be counted from.

A way of talking is only believed after it was seen: a client that pipelines is held to pipeline in batches after some of
them came whole. UNCERTAIN are pairs by counting, those whose turn follows a loss that nothing explains, and those behind a
loss of a client that was not yet seen to take turns.
"""
cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

from workers.limits cimport Limits
from workers.message cimport BY_LENGTH, EXTRA_BYTES, RESYNCHRONISED, Message
from workers.tally cimport Tally
from workers.transaction cimport (
    ORDERED, REQUEST_ONLY, RESPONSE_ONLY, UNCERTAIN, VERIFIED, Batch, Flow, Transaction, begin,
)

cdef enum:
    MOST_INFORMATIONAL = 16     # of one transaction that are listed
    BLANK = 8                   # bytes of blank lines between two requests, at most
    SHORTEST = 30               # bytes of a response, at least: a status line and a field
    ENOUGH = 4                  # to believe in batches: one of three requests, or four of two
    FEW = 32                    # places in front of `waiting` that are not worth moving the others for

cdef uint64_t FOUND = RESYNCHRONISED | EXTRA_BYTES      # of a message that was looked for
cdef int64_t END_OF_ALL = <int64_t>1 << 62


cdef int64_t known_end(Message request) noexcept:
    """Offset behind what is certainly the request's own."""
    cdef int64_t end = request.start + <int64_t>request.bytes
    if request.complete:
        return end
    if request.framing == BY_LENGTH:
        return request.head_end + <int64_t>request.content_length
    return end - <int64_t>request.missing       # a gap that ended it may hold other requests


cdef bint alone(Transaction first, Transaction second, Message response) noexcept:
    """Do the acknowledgements leave only `first` to be answered by this response?"""
    if response.peer_ack < 0:
        return False
    if response.peer_ack <= known_end(first.request) + BLANK:
        return True
    if second is None or second.after_loss:
        return False            # the server had more requests than were captured
    return response.peer_ack < second.request.head_end or second.request.peer_ack > response.start


@cython.final
@cython.no_gc
cdef class Pairer:
    """The requests of one connection that wait for their responses. Finished transactions are appended to `out`."""

    def __init__(self, Flow flow not None):
        self.flow = flow
        self.waiting = []
        self.in_order = True
        self.answered = self.asked_ack = self.fresh_from = -1

    cdef int request_head(self, Message message, bint after_loss, int64_t answers_lost, Limits limits, Tally tally,
                          list out) except -1:
        """A request begins. after_loss: bytes between it and the one before are missing.

        answers_lost: bytes of the server that its client had, and that may have held responses, but were lost.
        """
        cdef Transaction transaction
        cdef bint fresh = message.peer_ack > self.asked_ack
        cdef bint idle = not self.waiting and self.answering is None and self.in_order     # all is answered
        if fresh and idle and self.together > 1 and (not after_loss or self.answered <= self.asked_to + BLANK):
            self.proofs += (self.together - 1) ** 2
        if not (fresh and idle) or after_loss:
            self.study(message, after_loss, answers_lost, tally, out)
        self.together = 1 if fresh else self.together + 1
        transaction = begin(self.flow, REQUEST_ONLY)
        transaction.request = message
        transaction.after_loss = after_loss
        self.asked_ack = message.peer_ack
        self.asking = transaction
        if len(self.waiting) - self.first >= limits.max_pipelined:
            self.make_room(tally, out)
        self.waiting.append(transaction)
        tally.requests[message.method_number] += 1
        return 0

    cdef int make_room(self, Tally tally, list out) except -1:
        """Too many requests wait."""
        if self.loose is not None:
            self.release(tally, out)
        else:
            self.dropped += 1
            self.emit(self.pop(), tally, out)
        return 0

    cdef int study(self, Message message, bint after_loss, int64_t answers_lost, Tally tally, list out) except -1:
        """What a request tells that is not the only one, or comes after a loss: how its client talks, and what is decided."""
        cdef bint fresh = message.peer_ack > self.asked_ack
        cdef bint waits = len(self.waiting) != 0
        cdef Message response
        if message.peer_ack < 0:
            return 0
        if not fresh:
            self.pipelines = self.pipelines or self.asked_ack >= 0      # its client received nothing in between
            self.sends_on = self.sends_on or (self.asked_ack >= 0 and not message.anomalies & FOUND)
        elif self.answering is not None:
            response = self.answering.response
            if message.peer_ack <= response.start + <int64_t>response.bytes:
                self.pipelines = self.slides = True                     # sent with a response half received
        elif waits and not answers_lost:
            self.pipelines = True
            self.slides = self.slides or (self.in_order and not self.oldest().after_loss)   # sent with some of the answers there
        if after_loss and self.answered < message.start - BLANK and self.in_order \
                and answers_lost < SHORTEST * (<int64_t>len(self.waiting) - self.first + 1) \
                and not (self.midstream and self.flow.transactions == 0):
            self.pipelines = True           # what was lost was not answered when this one was sent
        if fresh and self.pipelines and not self.slides and self.doubt():
            self.settle(message.peer_ack, after_loss, answers_lost > 0, False, tally, out)
        return 0

    cdef bint doubt(self) except -1:
        """Does order not decide whom the next response answers?"""
        return not self.in_order or self.loose is not None or (len(self.waiting) != 0 and self.oldest().after_loss)

    cdef Transaction oldest(self):
        return self.waiting[self.first]

    cdef Transaction pop(self):
        """The oldest waiting request waits no longer."""
        cdef Transaction transaction
        if len(self.waiting) == self.first + 1:
            transaction = self.waiting.pop()
            if self.first:
                del self.waiting[:]
                self.first = 0
            return transaction
        transaction = self.waiting[self.first]
        self.waiting[self.first] = None
        self.first += 1
        if self.first >= FEW and 2 * self.first > len(self.waiting):
            del self.waiting[:self.first]
            self.first = 0
        return transaction

    cdef int request_end(self, Tally tally, list out) except -1:
        """The request being read is over."""
        cdef Transaction transaction = self.asking
        self.asking = None
        if transaction is None:
            return 0
        transaction.request_done = True
        self.asked_to = transaction.request.start + <int64_t>transaction.request.bytes
        tally.body_request += transaction.request.body_bytes
        if transaction.response_done:
            self.emit(transaction, tally, out)
        return 0

    cdef Transaction response_head(self, Message message, bint after_loss, Tally tally, list out):
        """A response begins: the transaction it belongs to (with its request, if that is known).

        An informational response leaves the transaction waiting; 101 is final (RFC 9110 section 15.2).
        """
        cdef Transaction transaction = None
        cdef bint final = message.status < 100 or message.status >= 200 or message.status == 101
        if after_loss and not (message.start == self.fresh_from and self.waiting
                               and self.oldest().request.peer_ack == message.start):
            self.in_order = False
        if 1 <= message.status // 100 <= 5:
            tally.responses[message.status // 100 - 1] += 1
        if not self.doubt():
            transaction = self.next_in_order(message)
        elif not self.pipelines:
            transaction = self.turn(message, tally, out)
        else:
            return self.hold(message, after_loss, final)
        if not final:
            if transaction is not None:
                if transaction.informational is None:
                    transaction.informational = []
                if len(transaction.informational) < MOST_INFORMATIONAL:
                    transaction.informational.append(message.status)
            self.answering = None
            return transaction
        self.answered = max(self.answered, message.peer_ack)
        if transaction is None:
            self.dropped -= self.dropped > 0
            transaction = begin(self.flow, RESPONSE_ONLY)
            transaction.request_done = True
        else:
            self.pop()
        transaction.response = message
        self.answering = transaction
        return transaction

    cdef Transaction next_in_order(self, Message response):
        """Nothing was lost: the oldest request, with its pairing decided; None if the server cannot have seen it."""
        cdef Transaction first, second
        if not self.waiting or self.dropped:
            return None
        first = self.oldest()
        if response.peer_ack >= 0 and response.peer_ack < first.request.head_end:
            return None
        second = self.waiting[self.first + 1] if len(self.waiting) > self.first + 1 else None
        if alone(first, second, response):
            first.pairing = VERIFIED
            self.turned = True
        else:
            first.pairing = ORDERED
        if first.request.complete and response.peer_ack > known_end(first.request) + BLANK:
            self.pipelines = self.sends_on = True       # the server had more before it answered this one
        return first

    cdef Transaction turn(self, Message response, Tally tally, list out):
        """Something was lost, and the client takes turns: the newest request that the server had; None if it had a newer one."""
        cdef Transaction transaction
        cdef Message request
        cdef Py_ssize_t at = len(self.waiting)
        cdef bint exact, opening, explained
        while True:
            at -= 1
            if at < self.first:
                return None
            transaction = self.waiting[at]
            request = transaction.request
            if request.head_end <= response.peer_ack and request.peer_ack <= response.start:
                break
        explained = not transaction.after_loss or self.answered >= request.start - BLANK
        opening = response.start == request.peer_ack    # it is the first that came behind this request
        exact = response.peer_ack <= known_end(request) + BLANK and (opening or transaction.informational is not None)
        while self.oldest() is not transaction:
            self.emit(self.pop(), tally, out)           # its answer was lost
        if not exact and not (opening and explained):
            self.emit(self.pop(), tally, out)           # so was this one's
            return None
        self.pipelines = not exact and request.complete
        self.in_order = True
        self.dropped = 0
        transaction.after_loss = False
        transaction.pairing = VERIFIED if exact and explained and self.turned else UNCERTAIN
        return transaction

    cdef Transaction hold(self, Message message, bint after_loss, bint final):
        """A response of a client that pipelines, behind a loss: whom it answers is decided later, by settle()."""
        cdef Transaction transaction = None
        self.in_order = False
        self.answering = None
        if final:
            self.answered = max(self.answered, message.peer_ack)
            transaction = Transaction.__new__(Transaction)
            transaction.flow = self.flow
            transaction.pairing = RESPONSE_ONLY
            transaction.request_done = True
            transaction.held = True
            transaction.after_loss = after_loss
            transaction.response = message
            transaction.informational = self.interim
            self.interim = None
            if self.loose is None:
                self.loose = []
            self.loose.append(transaction)
            self.answering = transaction
        elif self.interim is None:
            self.interim = [message.status]
        elif len(self.interim) < MOST_INFORMATIONAL:
            self.interim.append(message.status)
        return transaction

    cdef int settle(self, int64_t until, bint asked_lost, bint said_lost, bint last, Tally tally, list out) except -1:
        """A batch begins that had `until` of the server's bytes, so what is held was answered before: pairs it by counting.

        asked_lost, said_lost: behind the last request (response) held, others may have been lost. last: the connection ended.
        """
        cdef list asked = self.waiting[self.first:]
        cdef list said = self.loose if self.loose is not None else []
        cdef list batches = []
        cdef Py_ssize_t i = 0, j = 0, k, n
        cdef int64_t start, stop
        cdef Batch batch
        while i < len(asked):
            start = (<Transaction>asked[i]).request.peer_ack
            k = i
            while k < len(asked) and (<Transaction>asked[k]).request.peer_ack <= start:
                k += 1
            stop = (<Transaction>asked[k]).request.peer_ack if k < len(asked) else until
            while j < len(said) and (<Transaction>said[j]).response.start < start:
                j += 1
            n = j
            while n < len(said) and (<Transaction>said[n]).response.start < stop:
                n += 1
            batch = Batch(asked[i:k], said[j:n], start,
                          (<Transaction>asked[k]).after_loss if k < len(asked) else asked_lost,
                          (<Transaction>said[n]).after_loss if n < len(said) else said_lost)
            batches.append(batch)
            if batch.whole():
                self.proofs += <uint32_t>((k - i - 1) ** 2)
            i, j = k, n
        if self.proofs >= ENOUGH and not self.slides:
            for batch in batches:
                if not batch.match():
                    self.slides = True
                    break
        if last and (self.slides or self.proofs < ENOUGH):      # however it pipelined: at the end, all is answered
            batch = Batch(asked, said, -1, asked_lost, said_lost)
            batches = [batch] if batch.match() else []
        if not last and (self.slides or self.proofs < ENOUGH):
            return 0                        # it has not been seen yet that its batches end
        for batch in batches:
            batch.pair()
        self.release(tally, out)
        self.in_order = True
        self.fresh_from = until
        return 0

    cdef int release(self, Tally tally, list out) except -1:
        """What waits or is held leaves as it is."""
        cdef Transaction transaction
        cdef list asked = self.waiting[self.first:]
        cdef list said = self.loose
        del self.waiting[:]
        self.first = self.dropped = 0
        self.loose = self.interim = None
        for transaction in asked:
            if transaction.response is None or transaction.response_done:
                self.emit(transaction, tally, out)
            else:
                self.answering = transaction
        if said is not None:
            for transaction in said:
                if transaction.response is not None:
                    transaction.index = self.flow.transactions
                    self.flow.transactions += 1
                    transaction.held = False
                    if transaction.response_done:
                        self.emit(transaction, tally, out)
        return 0

    cdef int retract(self, bint request, int64_t end) except -1:
        """What was found after a loss and ended here was text in a body: no message follows. If it still is here, it goes."""
        cdef Transaction transaction
        if request and self.waiting and self.asking is None:
            transaction = self.waiting[-1]
            if transaction.request.anomalies & FOUND and transaction.request.start + <int64_t>transaction.request.bytes == end:
                self.retracted += 1
                if len(self.waiting) == self.first + 1:
                    self.pop()
                else:
                    self.waiting.pop()
        elif not request and self.loose is not None:
            transaction = self.loose[-1]
            if transaction.response.anomalies & FOUND \
                    and transaction.response.start + <int64_t>transaction.response.bytes == end:
                self.retracted += 1
                self.loose.pop()
                if not self.loose:
                    self.loose = None
        return 0

    cdef int disown(self) except -1:
        """The response being read was text in a body: if it was given to a request, that one waits again."""
        cdef Transaction transaction = self.answering
        self.answering = None
        if transaction is None:
            return 0
        self.retracted += 1
        if transaction.held:
            self.loose.pop()
            if not self.loose:
                self.loose = None
        elif transaction.request is not None:
            transaction.response = None
            self.in_order = False
            if self.first:
                self.first -= 1
                self.waiting[self.first] = transaction
            else:
                self.waiting.insert(0, transaction)
        return 0

    cdef int response_end(self, Tally tally, list out) except -1:
        """The response being read is over; an informational one ends nothing."""
        cdef Transaction transaction = self.answering
        self.answering = None
        if transaction is None:
            return 0
        transaction.response_done = True
        tally.body_response += transaction.response.body_bytes
        if transaction.request_done and not transaction.held:
            self.emit(transaction, tally, out)
        return 0

    cdef int emit(self, Transaction transaction, Tally tally, list out) except -1:
        if transaction is self.asking:
            self.asking = None
        if transaction.response is None:
            transaction.pairing = REQUEST_ONLY
        tally.pairings[<int>transaction.pairing] += 1
        out.append(transaction)
        return 0

    cdef int finish(self, bint asked_lost, bint said_lost, Tally tally, list out) except -1:
        """The connection is over: what still waits leaves as it is. Of both sides: may messages at the end be missing?"""
        cdef Transaction asking = self.asking, answering = self.answering, last
        if self.loose is not None and self.waiting:
            last = self.loose[-1]
            said_lost = said_lost or last.response.close or not last.response.complete
            self.settle(END_OF_ALL, asked_lost, said_lost, True, tally, out)
        tally.retracted += self.retracted
        self.retracted = 0
        self.asking = self.answering = None
        if asking is not None and asking.response is not None:
            self.emit(asking, tally, out)
        if answering is not None and answering is not asking and not answering.held:
            self.emit(answering, tally, out)
        return self.release(tally, out)
