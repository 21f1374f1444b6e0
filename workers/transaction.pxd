# cython: language_level=3
"""Transaction: a request with its response. Pairer: which response answers which request."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from appliance.flow cimport FlowKey
from workers.limits cimport Limits
from workers.message cimport Message
from workers.tally cimport Tally


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
    cdef bint after_loss        # requests before this one may have been lost


cdef class Pairer:
    cdef Flow flow
    cdef list waiting           # [Transaction] without a response, oldest first
    cdef Transaction asking     # its request is being read
    cdef Transaction answering  # its response is being read; None while that is an informational one
    cdef bint responses_lost    # responses may have been lost since the oldest waiting request
    cdef int64_t doubt_from     # index of the first request behind lost ones whose answers may still come; -1: none
    cdef int64_t answered       # peer_ack of the last response whose request was not captured; -1: none
    cdef bint pipelines         # its client was seen to send a request without waiting for an answer

    cdef int request_head(self, Message message, bint after_loss, Limits limits, Tally tally, list out) except -1
    cdef int request_end(self, Tally tally, list out) except -1
    cdef Transaction response_head(self, Message message, bint after_loss, Tally tally, list out)
    cdef int response_end(self, Tally tally, list out) except -1
    cdef Transaction choose(self, Message response, Tally tally, list out)
    cdef int emit(self, Transaction transaction, Tally tally, list out) except -1
    cdef int finish(self, Tally tally, list out) except -1


cdef bint opens_tunnel(Message response, Message request) noexcept
