# cython: language_level=3
"""Waiting: the requests of one connection without a response, and the responses whose request is not known yet.

Each list is in the order of its side's bytes, so a binary search finds a place in it. A listed message is charged
to the connection and to the worker's total. Over the limit, in_flight selects the connection that gives up its oldest.
"""
cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

from workers.http1.message cimport Message
from workers.http1.transaction cimport Transaction

cdef enum:
    FEW = 32                    # places in front of a list that are not worth moving the others for
    OBJECTS = 600               # bytes of a transaction and a message, with the head's bytes object
    LENGTH = 40                 # … of each further Content-Length
    LOOKED_AT = 64              # requests that newest() examines one by one

cdef enum Key:                  # the sort key of a list
    REQUEST_START
    REQUEST_ACK
    RESPONSE_START


cdef Py_ssize_t place_of(list items, Py_ssize_t first, Py_ssize_t stop, Key key, int64_t least) except -1:
    """Return the first place whose key is at least `least`; the list is in the order of that key."""
    cdef Py_ssize_t middle
    cdef Transaction transaction
    cdef int64_t value
    while first < stop:
        middle = (first + stop) // 2
        transaction = items[middle]
        value = transaction.response.start if key == RESPONSE_START else (
            transaction.request.start if key == REQUEST_START else transaction.request.peer_ack)
        if value < least:
            first = middle + 1
        else:
            stop = middle
    return first


cdef int touch_in(list items, Py_ssize_t first, bint requests, int64_t start, int64_t stop, uint64_t anomalies) except -1:
    """Mark the messages of a list that overlap the bytes from `start` to `stop`."""
    cdef Py_ssize_t at = place_of(items, first, len(items), REQUEST_START if requests else RESPONSE_START, stop)
    cdef Transaction transaction
    cdef Message message
    while at > first:
        at -= 1
        transaction = items[at]
        message = transaction.request if requests else transaction.response
        if message.start + <int64_t>message.bytes <= start:
            break
        message.anomalies |= anomalies
    return 0


@cython.no_gc
cdef class Waiting(Holder):
    """The lists of waiting messages, and the bytes that they are charged with."""

    cdef int charge(self, Transaction transaction, Message message) except -1:
        """Charge the connection and the worker for a transaction that enters a list with this message."""
        cdef uint32_t weight = OBJECTS + <uint32_t>len(message.head)
        if message.other_lengths is not None:
            weight += LENGTH * <uint32_t>len(message.other_lengths)
        transaction.weight = weight
        self.held += weight
        self.tally.waiting_bytes += weight
        return 0

    cdef int discharge(self, Transaction transaction) noexcept:
        """Take the charge of a transaction that leaves its list back."""
        self.held -= transaction.weight
        self.tally.waiting_bytes -= transaction.weight
        transaction.weight = 0
        return 0

    cdef int wait(self, Transaction transaction) except -1:
        """Append the newest request, which waits for its response."""
        self.charge(transaction, transaction.request)
        self.waiting.append(transaction)
        return 0

    cdef int wait_again(self, Transaction transaction) except -1:
        """Put a request back before the others, because it has lost its response."""
        self.charge(transaction, transaction.request)
        if self.first:
            self.first -= 1
            self.waiting[self.first] = transaction
        else:                   # at most once for each time that pop() moves the others
            self.waiting.insert(0, transaction)
        return 0

    cdef Transaction oldest(self):
        return self.waiting[self.first]

    cdef Transaction pop(self):
        """Remove the oldest waiting request and return it."""
        cdef Transaction transaction
        if len(self.waiting) == self.first + 1:
            return self.pop_newest()
        transaction = self.waiting[self.first]
        self.waiting[self.first] = None
        self.first += 1
        if self.first >= FEW and 2 * self.first > len(self.waiting):
            del self.waiting[:self.first]
            self.first = 0
        self.discharge(transaction)
        return transaction

    cdef Transaction pop_newest(self):
        """Remove the newest waiting request and return it."""
        cdef Transaction transaction = self.waiting.pop()
        if self.first == len(self.waiting) and self.first:
            del self.waiting[:]
            self.first = 0
        self.discharge(transaction)
        return transaction

    cdef Py_ssize_t newest(self, int64_t before, int64_t acknowledged) except -2:
        """Return the place of the newest request that begins before an offset and acknowledges at most `acknowledged`.

        Return -1 if there is none. Acknowledgements may go back a little where the sender retransmits segments. Where they
        do so over many requests, the search may find an older request.
        """
        cdef Py_ssize_t at = place_of(self.waiting, self.first, len(self.waiting), REQUEST_START, before)
        cdef Py_ssize_t end = max(self.first, at - LOOKED_AT)
        cdef Transaction transaction
        while at > end:
            at -= 1
            transaction = self.waiting[at]
            if transaction.request.peer_ack <= acknowledged:
                return at
        at = place_of(self.waiting, self.first, end, REQUEST_ACK, acknowledged + 1)
        return at - 1 if at > self.first else -1

    cdef int hold_back(self, Transaction transaction) except -1:
        """Append the newest response, whose request is decided later."""
        self.charge(transaction, transaction.response)
        if self.held_responses is None:
            self.held_responses = []
        self.held_responses.append(transaction)
        return 0

    cdef int drop_held(self) except -1:
        """Remove the newest held response, because it was no response."""
        self.discharge(self.held_responses.pop())
        if not self.held_responses:
            self.held_responses = None
        return 0

    cdef list take_all(self):
        """Empty `waiting` and `held_responses`; return their transactions, requests first."""
        cdef list both = self.waiting[self.first:]
        cdef Transaction transaction
        if self.held_responses is not None:
            both += self.held_responses
        for transaction in both:
            self.discharge(transaction)
        del self.waiting[:]
        self.first = 0
        self.held_responses = None
        return both

    cdef int keep(self, Transaction transaction) except -1:
        """Keep the newest response for a request that may come late."""
        self.charge(transaction, transaction.response)
        if self.ahead is None:
            self.ahead = []
            self.ahead_first = 0
        self.ahead.append(transaction)
        return 0

    cdef Transaction kept(self):
        """Return the oldest kept response; None if there is none."""
        return self.ahead[self.ahead_first] if self.ahead is not None else None

    cdef int drop_kept(self, bint newest) except -1:
        """Remove the newest kept response, or the oldest one."""
        if newest:
            self.discharge(self.ahead.pop())
        else:
            self.discharge(self.ahead[self.ahead_first])
            self.ahead[self.ahead_first] = None
            self.ahead_first += 1
        if self.ahead_first == len(self.ahead):
            self.ahead = None
        elif self.ahead_first >= FEW and 2 * self.ahead_first > len(self.ahead):
            del self.ahead[:self.ahead_first]
            self.ahead_first = 0
        return 0

    cdef int touch(self, bint requests, int64_t start, int64_t stop, uint64_t anomalies) except -1:
        """Mark the messages of one side that overlap the bytes from `start` to `stop`."""
        if requests:
            return touch_in(self.waiting, self.first, True, start, stop, anomalies)
        if self.held_responses is not None:
            touch_in(self.held_responses, 0, False, start, stop, anomalies)
        if self.ahead is not None:
            touch_in(self.ahead, self.ahead_first, False, start, stop, anomalies)
        return 0
