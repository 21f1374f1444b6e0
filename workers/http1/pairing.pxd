# cython: language_level=3
"""Pairer: pairs each response with its request."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from workers.http1.message cimport Message
from workers.core.counters cimport Tally
from workers.http1.transaction cimport Transaction, Turns
from workers.http1.waiting_messages cimport Waiting


cdef class Pairer(Waiting):
    cdef int64_t ahead_to               # highest acknowledgement of undelivered bytes by a response without a request; -1: none
    cdef int64_t ahead_from             # … where the newest of these responses starts
    cdef list informational             # informational responses before the next final one
    cdef Transaction asking             # the transaction whose request is being read
    cdef Transaction early              # a response that came before the head of its request had ended
    cdef int64_t early_start            # … where that request begins
    cdef Transaction answering          # the transaction whose response is being read; None during an informational one
    cdef int64_t unpaired_to            # … the highest acknowledgement of kept responses that left without a request
    cdef uint64_t since_ns              # time when the first message began
    cdef Transaction tentative          # the last pair, if it waits for the client's next message as a proof; None: there is none
    cdef bint midstream                 # the client's first bytes were not captured
    cdef bint in_order                  # no response can be lost since the last paired one
    cdef bint proven                    # the oldest waiting request is the oldest one that the server has yet to answer
    cdef uint32_t dropped               # requests given up earlier, which the server answers before those in `waiting`
    cdef bint requests_given_up         # … before the next request, while order did not decide
    cdef int64_t acked_by_responses     # highest offset of the client's bytes that a response acknowledges; -1: none yet
    cdef int64_t begins                 # where the first captured response starts; -1: none yet
    cdef int64_t newest_request_ack     # peer_ack of the newest request
    cdef int64_t requests_end           # offset behind the last whole request
    cdef int64_t settled_to             # all responses before this offset are settled
    cdef uint32_t burst_size            # requests since the client last waited
    cdef uint64_t retracted             # rejected messages that the tally does not yet count
    cdef bint saw_pipelining            # the client has sent a request without waiting for a response
    cdef bint sends_on                  # … and that request was no text in a body
    cdef uint32_t batch_evidence        # … evidence that it does so, and then waits for all responses
    cdef bint saw_sliding               # … and does not wait for all responses
    cdef Turns turns                    # the last exchanges, while order is in doubt and they look like turns
    cdef bint pipelining_proven         # the capture shows that it pipelines; a missing response only suggests it

    cdef int request_head(self, Message message, bint after_loss, int64_t answers_lost, Tally tally, list out) except -1
    cdef bint pair_early_response(self, Message message, bint after_loss, Tally tally, list out) except -1
    cdef int forsake(self, Tally tally, list out) except -1
    cdef int observe_client(self, Message message, bint after_loss, int64_t answers_lost, Tally tally, list out) except -1
    cdef bint order_in_doubt(self) except -1
    cdef bint expects(self, int64_t start) except -1
    cdef bint passed_over(self) except -1
    cdef int run_ahead(self, Transaction transaction, bint kept) except -1
    cdef bint join(self, Message message, bint after_loss, Tally tally, list out) except -1
    cdef int report_kept(self, uint64_t before_ns, Tally tally, list out) except -1
    cdef int request_end(self, Tally tally, list out) except -1
    cdef Transaction response_head(self, Message message, bint after_loss, int64_t unfinished, Tally tally, list out)
    cdef Transaction next_in_order(self, Message response)
    cdef Transaction pair_by_turn(self, Message response, Tally tally, list out)
    cdef int review_tentative(self, Message message, Tally tally, list out) except -1
    cdef int separate_tentative(self) except -1
    cdef int confirm_tentative(self, uint64_t before_ns, Tally tally, list out) except -1
    cdef Transaction hold_response(self, Message message, bint after_loss, bint final)
    cdef int follow_turns(self, Message message) except -1
    cdef bint looks_like_turns(self) except -1
    cdef int adopt_turns(self, int64_t until, Tally tally, list out) except -1
    cdef int pair_by_counting(
        self, int64_t until, bint requests_lost, bint responses_lost, bint last, Tally tally, list out) except -1
    cdef int retract(self, bint request, int64_t end) except -1
    cdef int report_all(self, Tally tally, list out) except -1
    cdef int disown(self) except -1
    cdef int response_end(self, Tally tally, list out) except -1
    cdef int mark(self, bint requests, int64_t start, int64_t stop, uint64_t anomalies) except -1
    cdef int emit(self, Transaction transaction, Tally tally, list out) except -1
    cdef int finish(self, bint requests_lost, bint responses_lost, Tally tally, list out) except -1
