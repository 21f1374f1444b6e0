# cython: language_level=3
"""Pairer: which response answers which request."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from workers.limits cimport Limits
from workers.message cimport Message
from workers.tally cimport Tally
from workers.transaction cimport Flow, Transaction


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
    cdef bint turned            # … and once to have got the answer to the only one that was outstanding
    cdef bint sends_on          # … and that was no text in a body
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
    cdef int disown(self) except -1
    cdef int response_end(self, Tally tally, list out) except -1
    cdef int emit(self, Transaction transaction, Tally tally, list out) except -1
    cdef int finish(self, bint asked_lost, bint said_lost, Tally tally, list out) except -1
