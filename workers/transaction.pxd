# cython: language_level=3
"""Transaction: a request with its response. Batch: requests and responses that can be paired by counting them."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from appliance.flow cimport FlowKey
from workers.message cimport Message


cdef enum:
    METHOD_HEAD = 1             # places in stats.METHODS
    METHOD_CONNECT = 5


cdef enum Pairing:              # names in tally.pyx, in this order
    ORDERED
    VERIFIED
    UNCERTAIN
    REQUEST_ONLY
    RESPONSE_ONLY


cdef class Flow:                # what an event says about its connection
    cdef FlowKey key
    cdef int capture            # which interface it was first seen on
    cdef bint client_low        # the client is the lower endpoint of the key
    cdef bint midstream
    cdef int shed               # share of the new flows that was left out when it began, in 256ths
    cdef uint32_t transactions  # begun so far
    cdef bytes json             # the encoder's rendering of all this, made once
    cdef uint64_t[2] identity   # the encoder's digest of the endpoints, for event ids


cdef class Transaction:
    cdef Flow flow
    cdef Message request
    cdef Message response
    cdef list informational     # status codes of 1xx responses before the final one
    cdef uint32_t index
    cdef Pairing pairing
    cdef bint request_done
    cdef bint response_done
    cdef bint after_loss        # messages of its side before this one may have been lost
    cdef bint held              # a response whose request is decided later


cdef class Batch:
    cdef list asked
    cdef list said
    cdef int64_t start          # how many bytes of the server their client had; -1: they are all that is left
    cdef bint asked_lost        # behind the last request, others may be missing
    cdef bint said_lost         # behind the last response
    cdef list pairs             # (request, response): what match() found

    cdef bint behind_loss(self, Py_ssize_t place) except -1
    cdef bint whole(self) except -1
    cdef bint match(self) except -1
    cdef int pair(self) except -1


cdef Transaction begin(Flow flow, Pairing pairing)
cdef bint opens_tunnel(Message response, Message request) noexcept
