# cython: language_level=3
"""Pairing: which response answers which request (RFC 9112 section 9.3.2), by order, and checked by TCP's own numbers.

What the numbers prove. A response's frame acknowledges the request it answers, so it answers none that ends behind that
acknowledgement; and if that acknowledgement reaches no further than one request, it answers no later one, captured or not.
A request's frame acknowledges what its client had received, so when responses were lost, a client that sent request B after
more of the server's bytes than request A had its answer to A among them: a response that starts behind that point is not A's.
What is left after these is one request (verified), or several sent without waiting (pipelined: the first is meant, by order,
unless something was lost between: uncertain). Behind lost requests their answers may come first: all is uncertain, until a
response that answers none of the known requests, or a client that never pipelines and has all its answers, ends the doubt.
"""
cimport cython
from libc.stdint cimport int64_t

from workers.limits cimport Limits
from workers.message cimport Message
from workers.tally cimport Tally


@cython.final
@cython.no_gc
cdef class Flow:
    pass


@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class Transaction:
    pass


cdef bint opens_tunnel(Message response, Message request) noexcept:
    """Does HTTP end behind this response? RFC 9110 sections 9.3.6 and 15.2.2."""
    return response.status == 101 or (
        request is not None and request.method_number == METHOD_CONNECT and 200 <= response.status < 300)


cdef enum:
    BLANK = 8                   # bytes of blank lines between two requests, at most


cdef bint alone(Transaction first, Transaction second, Message response) noexcept:
    """Do the acknowledgements leave only `first` to be answered by this response?"""
    cdef Message request = first.request
    cdef int64_t end = request.start + <int64_t>request.bytes
    if response.peer_ack < 0:
        return False
    if not request.complete:
        end -= request.missing      # a gap that ended it may hold other requests
    if response.peer_ack <= end + BLANK:
        return True
    if second is None or second.after_loss:
        return False            # the server had more requests than were captured
    return response.peer_ack < second.request.head_end or second.request.peer_ack > response.start


cdef Transaction begin(Flow flow, Pairing pairing):
    cdef Transaction transaction = Transaction.__new__(Transaction)
    transaction.flow = flow
    transaction.index = flow.transactions
    transaction.pairing = pairing
    flow.transactions += 1
    return transaction


@cython.final
@cython.no_gc
cdef class Pairer:
    """The requests of one connection that wait for their responses. Finished transactions are appended to `out`."""

    def __init__(self, Flow flow not None):
        self.flow = flow
        self.waiting = []
        self.doubt_from = self.answered = -1

    cdef int request_head(self, Message message, bint after_loss, Limits limits, Tally tally, list out) except -1:
        """A request begins. after_loss: bytes between it and the one before are missing."""
        cdef Transaction transaction = begin(self.flow, REQUEST_ONLY), last
        transaction.request = message
        transaction.after_loss = after_loss
        if after_loss:
            if self.doubt_from < 0 and (self.pipelines or self.answered < message.start - BLANK):
                self.doubt_from = transaction.index
        elif not self.waiting and self.answering is None and not self.pipelines:
            self.doubt_from = -1
        if self.waiting:
            last = self.waiting[-1]
            self.pipelines = self.pipelines or message.peer_ack <= last.request.peer_ack
        self.asking = transaction
        self.waiting.append(transaction)
        tally.requests[message.method_number] += 1
        if len(self.waiting) > limits.max_pipelined:
            self.emit(self.waiting.pop(0), tally, out)
        return 0

    cdef int request_end(self, Tally tally, list out) except -1:
        """The request being read is over."""
        cdef Transaction transaction = self.asking
        self.asking = None
        if transaction is None:
            return 0
        transaction.request_done = True
        tally.body_request += transaction.request.body_bytes
        if transaction.response_done:
            self.emit(transaction, tally, out)
        return 0

    cdef Transaction response_head(self, Message message, bint after_loss, Tally tally, list out):
        """A response begins: the transaction it belongs to (with its request, if that is known).

        An informational response leaves the transaction waiting; 101 is final (RFC 9110 section 15.2).
        """
        cdef Transaction transaction
        if after_loss:
            self.responses_lost = True
        transaction = self.choose(message, tally, out)
        if 1 <= message.status // 100 <= 5:
            tally.responses[message.status // 100 - 1] += 1
        if 100 <= message.status < 200 and message.status != 101:
            if transaction is not None:
                if transaction.informational is None:
                    transaction.informational = []
                transaction.informational.append(message.status)
            self.answering = None
            return transaction
        if transaction is None:
            transaction = begin(self.flow, RESPONSE_ONLY)
            transaction.request_done = True
            self.doubt_from = -1
            self.answered = message.peer_ack
        else:
            self.waiting.remove(transaction)
        transaction.response = message
        self.answering = transaction
        return transaction

    cdef Transaction choose(self, Message response, Tally tally, list out):
        """The waiting transaction that this response answers, with its pairing decided; None if it answers none of them."""
        cdef Transaction first, second
        while self.responses_lost and len(self.waiting) > 1:
            first = self.waiting[0]
            second = self.waiting[1]
            if first.request.peer_ack < 0 or second.request.peer_ack <= first.request.peer_ack:
                break
            if second.request.peer_ack > response.start:
                break
            self.waiting.pop(0)             # its client had the answer before it sent the next: that answer was lost
            self.emit(first, tally, out)
        if not self.waiting:
            return None
        first = self.waiting[0]
        if response.peer_ack >= 0 and response.peer_ack < first.request.head_end:
            return None                     # the server had not seen this request yet
        second = self.waiting[1] if len(self.waiting) > 1 else None
        if 0 <= self.doubt_from <= first.index:
            first.pairing = UNCERTAIN
        elif alone(first, second, response):
            first.pairing = VERIFIED
            self.responses_lost = False
        elif self.responses_lost:
            first.pairing = UNCERTAIN
        else:
            first.pairing = ORDERED
        return first

    cdef int response_end(self, Tally tally, list out) except -1:
        """The response being read is over; an informational one ends nothing."""
        cdef Transaction transaction = self.answering
        self.answering = None
        if transaction is None:
            return 0
        transaction.response_done = True
        tally.body_response += transaction.response.body_bytes
        if transaction.request_done:
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

    cdef int finish(self, Tally tally, list out) except -1:
        """The connection is over: what still waits leaves as it is."""
        cdef Transaction transaction
        open_ = list(self.waiting)
        for transaction in (self.asking, self.answering):
            if transaction is not None and transaction not in open_ \
                    and not (transaction.request_done and transaction.response_done):
                open_.append(transaction)
        self.waiting = []
        self.asking = self.answering = None
        for transaction in sorted(open_, key=index_of):
            self.emit(transaction, tally, out)
        return 0


def index_of(Transaction transaction):
    """Its place in its connection."""
    return transaction.index
