# cython: language_level=3
"""Pairing: which response answers which request (RFC 9112 section 9.3.2), by order, and checked by TCP's own numbers.

While no bytes that may hold messages are lost, order decides, and the numbers only confirm it. A response's frame
acknowledges the request that it answers. If it acknowledges no further bytes, the response answers no later request.

After a loss order decides nothing, unless the server had only one request to answer. Then the observed behaviour of the
client decides:

- It takes turns (it sent no request while a response was outstanding). Then a response answers the newest request that its
  frame acknowledges. If the frame acknowledges more bytes, the response answers a request that was not captured.
- It pipelines in batches. Requests that acknowledge the same bytes of the server were sent together, and the server answers
  all of them before the next batch begins. Behind the loss, the pairer holds requests and responses until that happens. Then
  it counts them, from the batch's begin up to the first loss, and from its end back to the last one. It pairs none between.
- It keeps several requests outstanding all the time (sliding). Then only the end of the connection is a base for counting.

The pairer relies on a behaviour only after it has observed it: a client that pipelines counts as pipelining in batches after
some batches came whole. No past behaviour proves the next one: a lost request may have been sent early, and from then on
each response looks like the answer to the next request. So all pairs behind such a loss are UNCERTAIN. They are again sure
once the client was so much slower than its server, several times in a row, that no response can have been outstanding.
One class, because each rule reads and changes the same state of the order.
"""
cimport cython
from libc.stdint cimport int64_t, uint64_t

from workers.http1.message cimport BY_CHUNKS, BY_LENGTH, EXTRA_BYTES, RESYNCHRONISED, Message
from workers.core.counters cimport Tally
from workers.core.flow cimport Flow
from workers.http1.transaction cimport (
    BLANK, METHOD_CONNECT, METHOD_HEAD, ORDERED, REQUEST_ONLY, RESPONSE_ONLY, UNCERTAIN, VERIFIED, PipelineBatch, Transaction,
    Turns, alone, batches_of, begin, held_transaction, known_end, batch_evidence_of, separate, with_status,
)
from workers.http1.waiting_messages cimport Waiting

cdef enum:
    SHORTEST = 30               # least bytes of a response: a status line and a field line
    ENOUGH_TURNS = 2            # exchanges after which a client counts as taking turns
    UNLIKELY = 1000             # one in this many
    PROOF = 100000000           # … and this counts as certain
    ENOUGH = 4                  # evidence of batches: one batch of three requests, or four of two

cdef uint64_t FOUND = RESYNCHRONISED | EXTRA_BYTES      # of a message that a search has found
cdef int64_t END_OF_ALL = <int64_t>1 << 62
cdef uint64_t END_OF_TIME = 0xFFFFFFFFFFFFFFFFULL


@cython.final
@cython.no_gc
cdef class Pairer(Waiting):
    """The pairing of one connection. It appends finished transactions to `out`."""

    def __init__(self, Flow flow not None, Tally tally not None):
        self.flow = flow
        self.tally = tally
        self.waiting = []
        self.in_order = self.proven = True
        self.acked_by_responses = self.newest_request_ack = self.settled_to = self.ahead_to = self.unpaired_to = self.begins = -1

    cdef int request_head(self, Message message, bint after_loss, int64_t answers_lost, Tally tally, list out) except -1:
        """Begin a request. after_loss: bytes between it and the request before are missing.

        answers_lost: lost bytes of the server that its client had received, and that may have held responses.
        """
        cdef Transaction transaction
        cdef bint fresh = message.peer_ack > self.newest_request_ack, idle
        if self.early is not None and self.pair_early_response(message, after_loss, tally, out):
            return 0
        if self.tentative is not None:
            self.review_tentative(message, tally, out)
        if not self.proven:
            self.follow_turns(message)
        idle = not self.waiting and self.answering is None and self.in_order    # no request is outstanding
        if fresh and idle and self.burst_size > 1 and (not after_loss or self.acked_by_responses <= self.requests_end + BLANK):
            self.batch_evidence += (self.burst_size - 1) ** 2
        if not (fresh and idle) or after_loss:
            self.observe_client(message, after_loss, answers_lost, tally, out)
        self.burst_size = 1 if fresh else self.burst_size + 1
        transaction = begin(self.flow, REQUEST_ONLY)
        transaction.request = message
        transaction.after_loss = after_loss or self.requests_given_up
        self.requests_given_up = False
        self.newest_request_ack = message.peer_ack
        self.asking = transaction
        self.wait(transaction)
        tally.requests[message.method_number] += 1
        return 0

    cdef bint pair_early_response(self, Message message, bint after_loss, Tally tally, list out) except -1:
        """Match a request with the response before the end of its head; return False if that answers another request."""
        cdef Transaction transaction = self.early
        if message.start != self.early_start:
            self.forsake(tally, out)
            return False
        self.early = None
        transaction.request = message
        transaction.after_loss = after_loss
        self.proven = self.proven and self.in_order and not after_loss
        transaction.pairing = VERIFIED if self.proven else UNCERTAIN
        self.burst_size = 1
        self.newest_request_ack = message.peer_ack
        self.asking = transaction
        tally.requests[message.method_number] += 1
        return True

    cdef int forsake(self, Tally tally, list out) except -1:
        """Report an early response alone, because the supposed head of its request is none."""
        cdef Transaction transaction = self.early
        self.early = None
        if transaction is not None:
            transaction.request_done = True
            if transaction.response_done:
                self.emit(transaction, tally, out)
        return 0

    cdef bint give_up(self, Tally tally, list out) except -1:
        """Give up the oldest waiting messages; return False if only one request waits.

        Of messages held because order does not decide, give up all, because counting a part of them would be wrong. Later
        requests are then behind a loss.
        """
        cdef Transaction asking = None
        cdef size_t before = <size_t>len(out)
        if self.held_responses is not None:
            if self.asking is not None and self.waiting and self.waiting[-1] is self.asking:
                asking = self.pop_newest()          # its request is being read
            self.report_all(tally, out)
            self.requests_given_up = asking is None
            if asking is not None:
                asking.after_loss = True
                self.wait(asking)
        elif self.ahead is not None:
            self.report_kept(END_OF_TIME, tally, out)
        elif len(self.waiting) > self.first + 1:
            self.dropped += 1
            self.emit(self.pop(), tally, out)
        else:
            return False
        tally.given_up += <size_t>len(out) - before
        return True

    cdef int observe_client(self, Message message, bint after_loss, int64_t answers_lost, Tally tally, list out) except -1:
        """Infer from a request behind a loss, or beside another outstanding one, how its client behaves.

        Decide the pairs that this request settles.
        """
        cdef bint fresh = message.peer_ack > self.newest_request_ack
        cdef bint waits = len(self.waiting) != 0
        cdef Message response
        if message.peer_ack < 0:
            return 0
        if not fresh:
            self.saw_pipelining = self.saw_pipelining or self.newest_request_ack >= 0   # the client received no bytes in between
            self.pipelining_proven = self.pipelining_proven or self.newest_request_ack >= 0
            self.sends_on = self.sends_on or (self.newest_request_ack >= 0 and not message.anomalies & FOUND)
        elif self.answering is not None:
            response = self.answering.response
            if response.peer_ack <= message.start and message.peer_ack <= response.start + <int64_t>response.bytes:
                self.saw_pipelining = self.saw_sliding = self.pipelining_proven = True      # sent with a response half received
        elif waits and not answers_lost:
            self.saw_pipelining = True
            self.saw_sliding = self.saw_sliding or (self.in_order and not self.oldest().after_loss)  # sent after some responses
        if after_loss and self.acked_by_responses < message.start - BLANK and self.in_order \
                and answers_lost < SHORTEST * (<int64_t>len(self.waiting) - self.first + 1) \
                and not (self.midstream and self.flow.transactions == 0):
            self.saw_pipelining = self.pipelining_proven = True     # the lost requests had no response when the client sent this
        if fresh and self.saw_pipelining and self.order_in_doubt():
            if self.looks_like_turns():
                self.adopt_turns(message.peer_ack, tally, out)
            elif not self.saw_sliding:
                self.pair_by_counting(message.peer_ack, after_loss, answers_lost > 0, False, tally, out)
        return 0

    cdef bint order_in_doubt(self) except -1:
        """Return whether order does not decide the request of the next response."""
        return not self.in_order or self.held_responses is not None or (len(self.waiting) != 0 and self.oldest().after_loss)

    cdef bint expects(self, int64_t start) except -1:
        """Return whether the oldest waiting request acknowledges all bytes of the server before this offset, and no more."""
        return len(self.waiting) != 0 and self.oldest().request.peer_ack == start

    cdef bint passed_over(self) except -1:
        """Return whether the client took bytes for a response that were none, because it sent another request."""
        return len(self.waiting) > self.first + 1 \
            and (<Transaction>self.waiting[-1]).request.peer_ack > self.oldest().request.peer_ack

    cdef int run_ahead(self, Transaction transaction, bint kept) except -1:
        """Note a response that acknowledges undelivered bytes of the client, because its request may come late.

        kept: the response waits for this request.
        """
        self.ahead_to = max(self.ahead_to, transaction.response.peer_ack)
        self.ahead_from = transaction.response.start
        if kept:
            transaction.request_done = False
            self.keep(transaction)
        return 0

    cdef bint join(self, Message message, bint after_loss, Tally tally, list out) except -1:
        """Match a late request with the response before it; return False if there is none, so that the request waits.

        Without a loss, order decides. Behind a loss the numbers decide, if they leave only one possibility. A request whose
        response may have been reported without it waits for no other response.
        """
        cdef Transaction transaction = self.kept()
        cdef int64_t request_end = message.head_end + (<int64_t>message.content_length if message.has_length else 0)
        cdef bint ordered = self.in_order and not after_loss and message.start >= self.unpaired_to, exact
        cdef Message response
        if transaction is not None:
            response = transaction.response
            exact = response.peer_ack <= request_end + BLANK and not message.chunked \
                and (ordered or message.peer_ack == response.start)
            if response.peer_ack <= message.start or message.peer_ack > response.start or not (ordered or exact) \
                    or message.method_number == METHOD_CONNECT or (message.method_number == METHOD_HEAD and response.body_bytes):
                self.report_kept(END_OF_TIME, tally, out)    # the last two: the reader framed the response wrongly
                transaction = None
            else:
                if self.tentative is not None:
                    self.review_tentative(message, tally, out)
                self.proven = self.proven and ordered and not 0 <= message.peer_ack < self.begins
                transaction.pairing = UNCERTAIN if not self.proven else VERIFIED if exact else ORDERED
                if not ordered:
                    self.tentative = transaction
                self.drop_kept(False)
        if transaction is None:
            if message.peer_ack > self.ahead_from:
                return False
            self.in_order = self.proven = False
            transaction = begin(self.flow, REQUEST_ONLY)
            transaction.response_done = True
        transaction.request = message
        if self.newest_request_ack >= 0 and message.peer_ack <= self.newest_request_ack:
            self.saw_pipelining = self.pipelining_proven = True
        self.burst_size = 1 if message.peer_ack > self.newest_request_ack else self.burst_size + 1
        self.newest_request_ack = message.peer_ack
        self.asking = transaction
        tally.requests[message.method_number] += 1
        return True

    cdef int report_kept(self, uint64_t before_ns, Tally tally, list out) except -1:
        """Report kept responses that began before this time without their requests."""
        cdef Transaction transaction = self.kept()
        while transaction is not None and transaction.response.first_ns < before_ns:
            self.drop_kept(False)
            self.unpaired_to = transaction.response.peer_ack
            transaction.request_done = True
            if transaction.response_done:
                self.emit(transaction, tally, out)
            transaction = self.kept()
        return 0

    cdef int request_end(self, Tally tally, list out) except -1:
        """End the request being read."""
        cdef Transaction transaction = self.asking
        self.asking = None
        if transaction is None:
            return 0
        transaction.request_done = True
        self.requests_end = transaction.request.start + <int64_t>transaction.request.bytes
        tally.body_request += transaction.request.body_bytes
        if transaction.response_done and transaction is not self.tentative:
            self.emit(transaction, tally, out)
        return 0

    cdef Transaction response_head(self, Message message, bint after_loss, int64_t unfinished, Tally tally, list out):
        """Begin a response; return its transaction, with the request if that is known.

        unfinished: start of a request with an unfinished head, in part acknowledged by the server; -1: there is none. If
        no other request waits, this one joins the response later. An informational response leaves the transaction waiting;
        101 is final (RFC 9110 section 15.2).
        """
        cdef Transaction transaction = None
        cdef bint final = message.status < 100 or message.status >= 200 or message.status == 101, guess = False
        if self.begins < 0:
            self.begins = message.start
        if self.tentative is not None:
            self.review_tentative(message, tally, out)
        if after_loss and not (message.start == self.settled_to and self.expects(message.start)):
            self.in_order = False
        if 1 <= message.status // 100 <= 5:
            tally.responses[message.status // 100 - 1] += 1
        if not self.order_in_doubt():
            transaction = self.next_in_order(message)
        elif not self.saw_pipelining:
            transaction = self.pair_by_turn(message, tally, out)
            guess = transaction is not None and not self.proven
        else:
            return self.hold_response(message, after_loss, final)
        if not final:
            if transaction is not None:
                transaction.informational = with_status(transaction.informational, message)
            self.answering = None
            return transaction
        self.acked_by_responses = max(self.acked_by_responses, message.peer_ack)
        if transaction is None:
            transaction = begin(self.flow, RESPONSE_ONLY)
            transaction.request_done = (
                unfinished < 0 or self.dropped or self.early is not None or self.ahead is not None or self.waiting)
            self.dropped -= self.dropped > 0
            self.proven = self.proven and message.peer_ack >= 0     # else its request may come later, with others
            if not transaction.request_done:
                self.early = transaction
                self.early_start = unfinished
        else:
            self.pop()
            if guess:
                self.tentative = transaction
        transaction.response = message
        self.answering = transaction
        return transaction

    cdef Transaction next_in_order(self, Message response):
        """Return the oldest request, paired by order as no bytes are lost; None if the server cannot have received it."""
        cdef Transaction first, second
        if not self.waiting or self.dropped:
            return None
        first = self.oldest()
        if response.peer_ack >= 0 and response.peer_ack <= first.request.start:
            return None
        second = self.waiting[self.first + 1] if len(self.waiting) > self.first + 1 else None
        self.proven = self.proven and not 0 <= first.request.peer_ack < self.begins     # else others were not captured
        first.pairing = UNCERTAIN if not self.proven else VERIFIED if alone(first, second, response) else ORDERED
        if first.request.complete and response.peer_ack > known_end(first.request) + BLANK:
            self.saw_pipelining = self.sends_on = self.pipelining_proven = True     # the server had more requests before
        return first

    cdef Transaction pair_by_turn(self, Message response, Tally tally, list out):
        """Return the newest request that the server had, because bytes are lost and the client takes turns.

        Return None if the server had a newer request.
        """
        cdef Py_ssize_t at = self.newest(response.peer_ack, response.start)
        cdef Transaction transaction
        cdef Message request
        cdef bint within, exact, opening, explained
        if at < 0:
            return None
        transaction = self.waiting[at]
        request = transaction.request
        explained = not transaction.after_loss or self.acked_by_responses >= request.start - BLANK \
            or (transaction.index == 0 and self.acked_by_responses < 0 and not request.complete)    # it begins with a cut head
        opening = response.start == request.peer_ack    # it is the first response behind this request
        within = response.peer_ack <= known_end(request) + BLANK            # it had no newer request
        exact = within and (opening or transaction.informational is not None)
        self.proven = self.proven and within and self.oldest() is transaction and (not transaction.after_loss or (
            opening and explained and not (request.anomalies | response.anomalies) & RESYNCHRONISED and not self.flow.midstream))
        while self.oldest() is not transaction:
            self.emit(self.pop(), tally, out)           # its response was lost
        if not self.proven and not exact and not (opening and explained):
            self.emit(self.pop(), tally, out)           # the response of this request was lost, too
            return None
        self.saw_pipelining = not exact and request.complete
        self.pipelining_proven = self.pipelining_proven or self.saw_pipelining
        self.in_order = True
        self.dropped = 0
        transaction.after_loss = False
        transaction.pairing = VERIFIED if self.proven else UNCERTAIN
        return transaction

    cdef int review_tentative(self, Message message, Tally tally, list out) except -1:
        """Confirm the last pair, which was a guess, or separate it, as the start of another message shows.

        Keep it as a guess if its response has not ended, and a request acknowledges lost bytes, which may hold that end.
        """
        cdef Message response = self.tentative.response
        cdef bint ended = self.tentative.response_done
        if not ended and (not message.is_request or response.framing not in (BY_LENGTH, BY_CHUNKS)):
            return self.separate_tentative()
        if message.is_request and message.peer_ack < known_end(response) + (not ended and response.framing == BY_CHUNKS):
            return self.separate_tentative()            # the client sent it within the response
        if not message.is_request and message.peer_ack <= response.peer_ack:
            return self.separate_tentative()            # the server had no new request, so it answers another one
        return self.confirm_tentative(END_OF_TIME, tally, out)

    cdef int separate_tentative(self) except -1:
        """Separate the last pair, a guess that its client or its server has contradicted."""
        cdef Transaction request_side = self.tentative, response_side = separate(self.tentative)
        self.tentative = None
        if self.answering is request_side:
            self.answering = response_side
        self.wait_again(request_side)
        self.hold_back(response_side)
        self.in_order = False
        self.saw_pipelining = self.pipelining_proven = True
        return 0

    cdef int confirm_tentative(self, uint64_t before_ns, Tally tally, list out) except -1:
        """Report the last pair if its response ended before this time: its client continues as expected, or sends no more."""
        cdef Transaction transaction = self.tentative
        if not transaction.response_done or transaction.response.last_ns >= before_ns:
            return 0
        if self.waiting and self.oldest().request.peer_ack < known_end(transaction.response):
            return self.separate_tentative()            # the next request came before this end was known
        self.tentative = None
        if transaction.request_done:
            self.emit(transaction, tally, out)
        return 0

    cdef Transaction hold_response(self, Message message, bint after_loss, bint final):
        """Hold a response to a client that pipelines, behind a loss; pair_by_counting() decides its request later."""
        cdef Transaction transaction = None
        self.in_order = self.proven = False
        self.answering = None
        if self.dropped and self.waiting:
            self.oldest().after_loss = True         # requests before it are still without a response
        self.dropped = 0
        if final:
            self.acked_by_responses = max(self.acked_by_responses, message.peer_ack)
            transaction = held_transaction(self.flow, after_loss)
            transaction.response = message
            transaction.informational = self.informational
            self.informational = None
            self.hold_back(transaction)
            self.answering = transaction
        else:
            self.informational = with_status(self.informational, message)
        return transaction

    cdef int follow_turns(self, Message message) except -1:
        """Add the last exchange to the turns if it was one, because another request begins.

        After enough turns of a slow client, no response is outstanding. Then the counts of both sides prove pairs again.
        """
        cdef bint held = self.held_responses is not None
        if self.turns is None:
            self.turns = Turns.__new__(Turns)
        if held and self.waiting and self.burst_size == 1:
            self.turns.note(self.waiting[-1], self.held_responses[-1])
        elif held or self.waiting or self.answering is not None:
            self.turns.whole = False
        self.turns.add(message)
        if not held and self.turns.odds >= PROOF:
            self.proven = True
            self.turns = None
        return 0

    cdef bint looks_like_turns(self) except -1:
        """Return whether the last exchanges of a client that counts as pipelining look like taking turns."""
        return self.turns is not None and self.held_responses is not None and self.turns.count >= ENOUGH_TURNS \
            and (not self.pipelining_proven or self.turns.odds >= UNLIKELY)

    cdef int adopt_turns(self, int64_t until, Tally tally, list out) except -1:
        """Match the last exchanges, because the client takes turns; from here on order decides."""
        cdef Py_ssize_t count = min(<Py_ssize_t>self.turns.count, len(self.held_responses), len(self.waiting) - self.first)
        cdef PipelineBatch batch = PipelineBatch(self.waiting[self.first:], self.held_responses, -1, False, False)
        if not batch.match():               # counted from the end, because no request is outstanding now
            batch.pairs = list(zip(self.waiting[-count:], self.held_responses[-count:]))
        batch.pair()
        self.report_all(tally, out)
        self.in_order = True
        self.settled_to = until
        self.saw_pipelining = self.sends_on = self.saw_sliding = self.pipelining_proven = False
        self.batch_evidence = 0
        return 0

    cdef int pair_by_counting(self, int64_t until, bint requests_lost, bint responses_lost, bint last, Tally tally,
                              list out) except -1:
        """Match the held messages by counting, because a batch begins. Its client had the server's bytes up to `until`.

        So the server answered the held requests before. requests_lost, responses_lost: behind the last held request (response),
        others may be lost. last: the connection has ended.
        """
        cdef list requests, responses, batches
        cdef PipelineBatch batch
        self.batch_evidence += batch_evidence_of(
            self.waiting, self.first, self.burst_size, self.held_responses, requests_lost, responses_lost)
        if not last and (self.saw_sliding or self.batch_evidence < ENOUGH):
            return 0                        # no evidence yet that its batches end
        requests = self.waiting[self.first:]
        responses = self.held_responses if self.held_responses is not None else []
        batches = batches_of(requests, responses, until, requests_lost, responses_lost)
        if self.batch_evidence >= ENOUGH and not self.saw_sliding:
            for batch in batches:
                if not batch.match():
                    self.saw_sliding = True
                    break
        if last and (self.saw_sliding or self.batch_evidence < ENOUGH):      # at the end, no request is outstanding
            batch = PipelineBatch(requests, responses, -1, requests_lost, responses_lost)
            batches = [batch] if batch.match() else []
        if not last and self.saw_sliding:
            return 0
        for batch in batches:
            batch.pair()
        self.report_all(tally, out)
        self.in_order = True
        self.settled_to = until
        return 0

    cdef int report_all(self, Tally tally, list out) except -1:
        """Report the waiting and held messages as they are."""
        cdef Transaction transaction
        self.dropped = 0
        self.informational = None
        for transaction in self.take_all():
            if transaction.held:
                if transaction.response is not None:
                    transaction.index = self.flow.transactions
                    self.flow.transactions += 1
                    transaction.held = False
                    if transaction.response_done:
                        self.emit(transaction, tally, out)
            elif transaction.response is None or transaction.response_done:
                self.emit(transaction, tally, out)
            else:
                self.answering = transaction
        return 0

    cdef int retract(self, bint request, int64_t end) except -1:
        """Remove a message that was text in a body, if it still waits.

        A search after a loss found it, and no message follows where it ended.
        """
        cdef Transaction transaction
        if request and self.waiting and self.asking is None:
            transaction = self.waiting[-1]
            if transaction.request.anomalies & FOUND and transaction.request.start + <int64_t>transaction.request.bytes == end:
                self.retracted += 1
                self.pop_newest()
        elif not request and self.held_responses is not None:
            transaction = self.held_responses[-1]
            if transaction.response.anomalies & FOUND \
                    and transaction.response.start + <int64_t>transaction.response.bytes == end:
                self.retracted += 1
                self.drop_held()
        return 0

    cdef int disown(self) except -1:
        """Reject the response being read, which was text in a body; a request paired with it waits again."""
        cdef Transaction transaction = self.answering
        self.answering = None
        if transaction is None:
            return 0
        self.retracted += 1
        if transaction is self.early:
            self.early = None
        if self.ahead is not None and self.ahead[-1] is transaction:
            self.drop_kept(True)
        elif transaction.held:
            self.drop_held()
        elif transaction.request is not None:
            transaction.response = None
            self.in_order = self.proven = False
            if transaction is self.tentative:
                self.tentative = None
            self.wait_again(transaction)
        return 0

    cdef int response_end(self, Tally tally, list out) except -1:
        """End the response being read; an informational response ends no transaction."""
        cdef Transaction transaction = self.answering
        self.answering = None
        if transaction is None:
            return 0
        transaction.response_done = True
        if not self.proven and not transaction.held and self.turns is not None:
            self.turns.note(transaction, transaction)
        tally.body_response += transaction.response.body_bytes
        if transaction.request_done and not transaction.held and transaction is not self.tentative:
            self.emit(transaction, tally, out)
        return 0

    cdef int mark(self, bint requests, int64_t start, int64_t stop, uint64_t anomalies) except -1:
        """Mark the messages of one side that overlap the bytes from `start` to `stop`, if their events have not left yet."""
        cdef Transaction transaction
        cdef Message message
        for transaction in (self.answering, self.asking, self.early, self.tentative):
            message = None if transaction is None else transaction.request if requests else transaction.response
            if message is not None and message.start < stop and start < message.start + <int64_t>message.bytes:
                message.anomalies |= anomalies
        return self.touch(requests, start, stop, anomalies)

    cdef int emit(self, Transaction transaction, Tally tally, list out) except -1:
        if transaction is self.asking:
            self.asking = None
        if transaction.response is None:
            transaction.pairing = REQUEST_ONLY
        tally.pairings[<int>transaction.pairing] += 1
        out.append(transaction)
        return 0

    cdef int finish(self, bint requests_lost, bint responses_lost, Tally tally, list out) except -1:
        """End the connection, and report the waiting messages. The `lost` ones: that side may lack messages at its end."""
        cdef Transaction asking = self.asking, answering = self.answering, last
        self.forsake(tally, out)
        if self.ahead is not None:
            self.report_kept(END_OF_TIME, tally, out)
        if self.tentative is not None:
            self.confirm_tentative(END_OF_TIME, tally, out)
            self.tentative = None
        if self.held_responses is not None and self.waiting:
            last = self.held_responses[-1]
            responses_lost = responses_lost or last.response.close or not last.response.complete
            self.pair_by_counting(END_OF_ALL, requests_lost, responses_lost, True, tally, out)
        tally.retracted += self.retracted
        self.retracted = 0
        self.asking = self.answering = None
        if asking is not None and asking.response is not None:
            self.emit(asking, tally, out)
        if answering is not None and answering is not asking and not answering.held:
            self.emit(answering, tally, out)
        return self.report_all(tally, out)
