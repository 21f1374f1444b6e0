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
    cdef bint after_loss        # messages of its side before this one may have been lost
    cdef bint held              # a response whose request is decided later


cdef class Pairer:
    cdef Flow flow
    cdef list waiting           # [Transaction] without a response, oldest first, from place `first` on
    cdef Py_ssize_t first
    cdef list loose             # [Transaction] held responses, oldest first; None while there are none
    cdef list interim           # informational ones before the next of them
    cdef Transaction asking     # its request is being read
    cdef Transaction answering  # its response is being read; None while that is an informational one
    cdef bint midstream         # the client's first bytes were not captured
    cdef bint in_order          # no response can have been lost since the last one that was paired
    cdef uint32_t dropped       # requests that are answered before those in `waiting`: there were too many
    cdef int64_t answered       # how far the responses acknowledge the client's bytes; -1: none yet
    cdef int64_t asked_ack      # peer_ack of the newest request
    cdef int64_t asked_to       # offset behind the last whole request
    cdef int64_t fresh_from     # all responses before this offset were settled
    cdef uint32_t together      # requests since the client last waited
    cdef uint64_t retracted     # messages that were taken back, and the tally does not know of yet
    cdef bint pipelines         # its client was seen to send a request without waiting for an answer
    cdef uint32_t proofs        # … so many times, and to wait for all answers then
    cdef bint slides            # … and not to wait for all

    cdef int request_head(self, Message message, bint after_loss, int64_t answers_lost, Limits limits, Tally tally,
                          list out) except -1
    cdef int study(self, Message message, bint after_loss, int64_t answers_lost, Tally tally, list out) except -1
    cdef int make_room(self, Tally tally, list out) except -1
    cdef bint doubt(self) except -1
    cdef Transaction oldest(self)
    cdef Transaction pop(self)
    cdef int request_end(self, Tally tally, list out) except -1
    cdef Transaction response_head(self, Message message, bint after_loss, Tally tally, list out)
    cdef Transaction next_in_order(self, Message response)
    cdef Transaction turn(self, Message response, Tally tally, list out)
    cdef Transaction hold(self, Message message, bint after_loss, bint final)
    cdef int settle(self, int64_t until, bint asked_lost, bint said_lost, bint last, Tally tally, list out) except -1
    cdef int retract(self, bint request, int64_t end) except -1
    cdef int release(self, Tally tally, list out) except -1
    cdef int response_end(self, Tally tally, list out) except -1
    cdef int emit(self, Transaction transaction, Tally tally, list out) except -1
    cdef int finish(self, bint asked_lost, bint said_lost, Tally tally, list out) except -1


cdef class Batch:
    cdef list asked
    cdef list said
    cdef int64_t start          # how many bytes of the server their client had; -1: they are all that is left
    cdef bint asked_lost        # behind the last request, others may be missing
    cdef bint said_lost         # behind the last response

    cdef bint behind_loss(self, Py_ssize_t place) except -1
    cdef bint whole(self) except -1
    cdef bint pair(self) except -1


cdef bint opens_tunnel(Message response, Message request) noexcept
