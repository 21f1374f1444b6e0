# cython: language_level=3
"""Transaction: a request with its response. PipelineBatch: requests and responses that counting can pair."""
cimport cython
from libc.stdint cimport int64_t, uint32_t

from workers.core.flow cimport Flow
from workers.http1.message cimport BY_LENGTH, EARLY_RESPONSE, Message


@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class Transaction:
    pass


cdef enum:
    MOST_INFORMATIONAL = 16     # the most informational responses that an event lists
    SLOWER = 2                  # least ratio of the client's wait to its server's response time that counts as evidence
    MOST = 1000                 # … and the ratio beyond which it counts for no more
    RESOLUTION_NS = 1000000     # a time stamp may be wrong by this much


cdef int64_t known_end(Message message) noexcept:
    """Return the offset behind the bytes that certainly belong to the message."""
    cdef int64_t end = message.start + <int64_t>message.bytes
    if message.complete:
        return end
    if message.framing == BY_LENGTH:
        return message.head_end + <int64_t>message.content_length
    return end - <int64_t>message.missing       # a gap that ended the message may hold other ones


cdef bint alone(Transaction first, Transaction second, Message response) noexcept:
    """Return whether the acknowledgements leave only `first` as the request of this response."""
    if response.peer_ack < 0:
        return False
    if response.peer_ack <= known_end(first.request) + BLANK:
        return True
    if second is None or second.after_loss:
        return False            # the server had more requests than were captured
    return response.peer_ack < second.request.head_end or second.request.peer_ack > response.start


cdef list batches_of(list requests, list responses, int64_t until, bint requests_lost, bint responses_lost):
    """Return the batches: requests sent burst_size, with the responses before the next requests.

    until: the bytes of the server that the next request acknowledges.
    """
    cdef list batches = []
    cdef Py_ssize_t i = 0, j = 0, k, n
    cdef int64_t start, stop
    while i < len(requests):
        start = (<Transaction>requests[i]).request.peer_ack
        k = i
        while k < len(requests) and (<Transaction>requests[k]).request.peer_ack <= start:
            k += 1
        stop = (<Transaction>requests[k]).request.peer_ack if k < len(requests) else until
        while j < len(responses) and (<Transaction>responses[j]).response.start < start:
            j += 1
        n = j
        while n < len(responses) and (<Transaction>responses[n]).response.start < stop:
            n += 1
        batches.append(PipelineBatch(
            requests[i:k], responses[j:n], start,
            (<Transaction>requests[k]).after_loss if k < len(requests) else requests_lost,
            (<Transaction>responses[n]).after_loss if n < len(responses) else responses_lost))
        i, j = k, n
    return batches


cdef uint32_t batch_evidence_of(
        list waiting, Py_ssize_t first, uint32_t burst_size, list held_responses, bint requests_lost,
        bint responses_lost) except? 0:
    """Return the evidence of the last batch that its client waits for all responses; 0 if there is none.

    A batch is evidence if the server answered all of it. burst_size: number of requests since the client last waited. The
    batch has at most this many requests, whatever they acknowledge.
    """
    cdef Py_ssize_t end = len(waiting), i = end, j = len(held_responses) if held_responses is not None else 0, count
    cdef int64_t start
    if i == first or j == 0:
        return 0
    start = (<Transaction>waiting[i - 1]).request.peer_ack
    while i > first and end - i < <Py_ssize_t>burst_size and (<Transaction>waiting[i - 1]).request.peer_ack >= start:
        i -= 1
    count = end - i
    j -= count                  # the batch has as many responses, and no other response
    if count < 2 or j < 0 or (<Transaction>held_responses[j]).response.start < start \
            or (j and (<Transaction>held_responses[j - 1]).response.start >= start) \
            or not PipelineBatch(waiting[i:], held_responses[j:], start, requests_lost, responses_lost).whole():
        return 0
    return <uint32_t>((count - 1) ** 2)


cdef bint opens_tunnel(Message response, Message request) noexcept:
    """Return whether HTTP ends behind this response (RFC 9110 sections 9.3.6 and 15.2.2)."""
    return response.status == 101 or (
        request is not None and request.method_number == METHOD_CONNECT and 200 <= response.status < 300)


cdef bytes field_of(Message message, bytes name):
    """Return the value of the first non-empty field of this name in lower case, b"" if there is none."""
    for line in message.head.split(b"\n")[1:]:
        found, _, value = line.partition(b":")
        if found.strip().lower() == name and value.strip():
            return value.strip()
    return b""


cdef bytes tunnel_protocol(Message request, Message response):
    """Return the protocol of the tunnel: "connect", or the first one of the Upgrade field (RFC 9110 section 7.8)."""
    cdef bytes value
    if response.status != 101:
        return b"connect"
    value = field_of(response, b"upgrade")
    if not value and request is not None:
        value = field_of(request, b"upgrade")
    return value.split(b",")[0].strip().lower() if value else b"unknown"


cdef Transaction begin(Flow flow, Pairing pairing):
    cdef Transaction transaction = Transaction.__new__(Transaction)
    transaction.flow = flow
    transaction.index = flow.transactions
    transaction.pairing = pairing
    flow.transactions += 1
    return transaction


cdef Transaction held_transaction(Flow flow, bint after_loss):
    """Return the transaction of a response whose request is decided later."""
    cdef Transaction transaction = Transaction.__new__(Transaction)
    transaction.flow = flow
    transaction.pairing = RESPONSE_ONLY
    transaction.request_done = transaction.held = True
    transaction.after_loss = after_loss
    return transaction


cdef Transaction separate(Transaction pair):
    """Take the response out of a pair that was a guess; return the transaction of the response."""
    cdef Transaction other = held_transaction(pair.flow, True)
    other.response, pair.response = pair.response, None
    other.informational, pair.informational = pair.informational, None
    other.response_done, pair.response_done = pair.response_done, False
    pair.after_loss = True
    return other


cdef list with_status(list informational, Message message):
    """Return the list of informational responses with one more; None stands for an empty list."""
    if informational is None:
        return [message.status]
    if len(informational) < MOST_INFORMATIONAL:
        informational.append(message.status)
    return informational


@cython.final
cdef class PipelineBatch:
    """Requests that their client sent burst_size, and the responses before its next requests."""

    def __init__(self, list requests, list responses, int64_t start, bint requests_lost, bint responses_lost):
        self.requests = requests
        self.responses = responses
        self.start = start
        self.requests_lost = requests_lost
        self.responses_lost = responses_lost

    cdef bint behind_loss(self, Py_ssize_t place) except -1:
        """Return whether responses of this batch may be missing before that one."""
        cdef Transaction one = self.responses[place]
        return one.after_loss and not (place == 0 and one.response.start == self.start)

    cdef bint whole(self) except -1:
        """Return whether each request has a response, and no message is missing."""
        cdef Py_ssize_t place
        if len(self.requests) != len(self.responses) or self.requests_lost or self.responses_lost:
            return False
        for place in range(len(self.responses)):
            if (<Transaction>self.requests[place]).after_loss or self.behind_loss(place) \
                    or not (<Transaction>self.responses[place]).response.complete:
                return False
        return True

    cdef bint match(self) except -1:
        """Find pairs from the beginning up to the first loss, and from the end back to the last loss.

        Return False if the numbers of requests and responses contradict each other.
        """
        cdef Py_ssize_t request_count = len(self.requests), response_count = len(self.responses)
        cdef Py_ssize_t most = min(request_count, response_count), front = 0, back = 0
        cdef Transaction request, response
        cdef list pairs = []
        while front < most and self.start >= 0:
            request, response = self.requests[front], self.responses[front]
            if request.after_loss or self.behind_loss(front):
                break
            pairs.append((request, response))
            front += 1
            if not response.response.complete:          # the unframed bytes may hold more responses
                break
        if not self.requests_lost and not self.responses_lost:
            if self.start >= 0 and front == most and request_count != response_count and (
                    front == 0 or (<Transaction>self.responses[front - 1]).response.complete):
                return False                        # no message is missing, and yet the counts differ
            while front + back < most:
                request, response = self.requests[request_count - back - 1], self.responses[response_count - back - 1]
                if not response.response.complete:
                    break
                pairs.append((request, response))
                back += 1
                if request.after_loss or self.behind_loss(response_count - back):
                    break
        for request, response in pairs:
            if 0 <= response.response.peer_ack <= request.request.start:
                return False
        self.pairs = pairs
        return True

    cdef int pair(self) except -1:
        """Assign to the requests the responses that match() found."""
        cdef Transaction request, response
        for request, response in self.pairs:
            request.response = response.response
            if 0 <= request.response.peer_ack < request.request.head_end:
                request.response.anomalies |= EARLY_RESPONSE
            request.informational = response.informational
            request.pairing = UNCERTAIN
            request.response_done = response.response_done
            response.response = None
        return 0


@cython.final
@cython.no_gc
cdef class Turns:
    """The last exchanges of a client that the pairing treats as pipelining, but that seems to take turns.

    Such an exchange has three acknowledgements. The request acknowledges exactly the bytes before its response. The response
    acknowledges exactly the request. The next request acknowledges exactly that response. A client that sends on with one
    response outstanding looks the same if its server is slow. So a client that has pipelined must also be much slower than
    its server, because an outstanding response would have arrived in between. If both delays are random, no response
    arrives in between with a chance of 1 / (1 + the client's time / the server's). A time stamp may be wrong, so no exchange
    counts for more than 1 in MOST.
    """

    cdef int note(self, Transaction of_request, Transaction of_response) except -1:
        """Note an exchange; whether it was a turn depends on the next request."""
        cdef Message request = of_request.request, response = of_response.response
        self.whole = False
        if request is None or not request.complete or not response.complete or of_request.after_loss \
                or request.peer_ack != response.start \
                or not known_end(request) <= response.peer_ack <= known_end(request) + BLANK:
            return 0
        self.whole = True
        self.from_ack = request.peer_ack
        self.asked_to = known_end(request)
        self.answered_to = response.start + <int64_t>response.bytes
        self.began_ns = request.first_ns
        self.asked_ns = request.last_ns
        self.answer_ns = response.first_ns
        self.done_ns = response.last_ns
        return 0

    cdef int add(self, Message following) except -1:
        """Add the noted exchange, which is over because another request begins."""
        cdef double slower = 0
        cdef bint follows
        if not self.whole or following.start > self.asked_to + BLANK or following.peer_ack != self.answered_to:
            self.whole = False
            self.count = 0
            self.odds = 1
            return 0
        self.whole = False
        follows = self.count != 0 and self.from_ack == self.end
        if follows and self.began_ns > self.ended_ns and self.answer_ns >= self.asked_ns:
            slower = <double>(self.began_ns - self.ended_ns) / (self.answer_ns - self.asked_ns + RESOLUTION_NS)
        self.odds = self.odds * (1 + min(slower, MOST)) if slower >= SLOWER else 1
        self.count = self.count + 1 if follows else 1
        self.end = self.answered_to
        self.ended_ns = self.done_ns
        return 0
