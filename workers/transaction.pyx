# cython: language_level=3
"""Transaction: a request with its response. Batch: requests and responses that can be paired by counting them."""
cimport cython
from libc.stdint cimport int64_t

from workers.message cimport Message


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


cdef Transaction begin(Flow flow, Pairing pairing):
    cdef Transaction transaction = Transaction.__new__(Transaction)
    transaction.flow = flow
    transaction.index = flow.transactions
    transaction.pairing = pairing
    flow.transactions += 1
    return transaction


@cython.final
cdef class Batch:
    """Requests that were sent together, and the responses that came before the next ones."""

    def __init__(self, list asked, list said, int64_t start, bint asked_lost, bint said_lost):
        self.asked = asked
        self.said = said
        self.start = start
        self.asked_lost = asked_lost
        self.said_lost = said_lost

    cdef bint behind_loss(self, Py_ssize_t place) except -1:
        """May responses of this batch be missing before that one?"""
        cdef Transaction one = self.said[place]
        return one.after_loss and not (place == 0 and one.response.start == self.start)

    cdef bint whole(self) except -1:
        """Is there a response to each request, and nothing missing?"""
        cdef Py_ssize_t place
        if len(self.asked) != len(self.said) or self.asked_lost or self.said_lost:
            return False
        for place in range(len(self.said)):
            if (<Transaction>self.asked[place]).after_loss or self.behind_loss(place) \
                    or not (<Transaction>self.said[place]).response.complete:
                return False
        return True

    cdef bint match(self) except -1:
        """Finds pairs from the begin up to the first loss, from the end back to the last. False: the numbers contradict."""
        cdef Py_ssize_t asked = len(self.asked), said = len(self.said), most = min(asked, said), front = 0, back = 0
        cdef Transaction request, response
        cdef list pairs = []
        while front < most and self.start >= 0:
            request, response = self.asked[front], self.said[front]
            if request.after_loss or self.behind_loss(front):
                break
            pairs.append((request, response))
            front += 1
            if not response.response.complete:          # more may stand in what could not be framed
                break
        if not self.asked_lost and not self.said_lost:
            if self.start >= 0 and front == most and asked != said and (
                    front == 0 or (<Transaction>self.said[front - 1]).response.complete):
                return False                        # nothing was lost, and yet there are more of one
            while front + back < most:
                request, response = self.asked[asked - back - 1], self.said[said - back - 1]
                if not response.response.complete:
                    break
                pairs.append((request, response))
                back += 1
                if request.after_loss or self.behind_loss(said - back):
                    break
        for request, response in pairs:
            if 0 <= response.response.peer_ack < request.request.head_end:
                return False
        self.pairs = pairs
        return True

    cdef int pair(self) except -1:
        """Gives the requests the responses that match() has found."""
        cdef Transaction request, response
        for request, response in self.pairs:
            request.response = response.response
            request.informational = response.informational
            request.pairing = UNCERTAIN
            request.response_done = response.response_done
            response.response = None
        return 0
