# cython: language_level=3
"""Transaction: a request with its response. PipelineBatch: requests and responses that counting can pair."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from workers.http1.message cimport Message
from workers.core.flow cimport Flow


cdef enum:
    METHOD_HEAD = 1             # places in stats.METHODS
    METHOD_CONNECT = 5


cdef enum:
    BLANK = 8                   # bytes of blank lines between two requests, at most


cdef enum Pairing:              # by stats.PAIRINGS
    ORDERED
    VERIFIED
    UNCERTAIN
    REQUEST_ONLY
    RESPONSE_ONLY


cdef class Transaction:
    cdef Flow flow
    cdef Message request
    cdef Message response
    cdef list informational     # status codes of 1xx responses before the final one
    cdef uint32_t index
    cdef uint32_t weight        # bytes that waiting_messages charges for it while it waits
    cdef Pairing pairing
    cdef bint request_done
    cdef bint response_done
    cdef bint after_loss        # the capture may have lost messages of its side before this one
    cdef bint held              # a response whose request is decided later


cdef class PipelineBatch:
    cdef list requests
    cdef list responses
    cdef int64_t start          # bytes of the server that the client had; -1: the batch is everything that is left
    cdef bint requests_lost        # messages behind the last request may be missing
    cdef bint responses_lost         # … behind the last response
    cdef list pairs             # (request, response) pairs that match() found

    cdef bint behind_loss(self, Py_ssize_t place) except -1
    cdef bint whole(self) except -1
    cdef bint match(self) except -1
    cdef int pair(self) except -1


cdef class Turns:
    cdef uint32_t count         # exchanges in a row that look like those of a client that takes turns
    cdef int64_t end            # where the response of the last one ends
    cdef uint64_t ended_ns      # time when it ended
    cdef double odds            # one in this many: the chance of their times if a response was outstanding throughout
    cdef bint whole             # an exchange is noted, and its numbers are those of a turn:
    cdef int64_t from_ack       # … the server's bytes that its client had before
    cdef int64_t asked_to       # … where its request ends
    cdef int64_t answered_to    # … where its response ends
    cdef uint64_t began_ns      # … time when the request began
    cdef uint64_t asked_ns      # … when it ended
    cdef uint64_t answer_ns     # … when the response began
    cdef uint64_t done_ns       # … when it ended

    cdef int note(self, Transaction of_request, Transaction of_response) except -1
    cdef int add(self, Message following) except -1


cdef int64_t known_end(Message message) noexcept
cdef bint alone(Transaction first, Transaction second, Message response) noexcept
cdef list batches_of(list requests, list responses, int64_t until, bint requests_lost, bint responses_lost)
cdef uint32_t batch_evidence_of(
    list waiting, Py_ssize_t first, uint32_t burst_size, list held_responses, bint requests_lost, bint responses_lost) except? 0
cdef Transaction begin(Flow flow, Pairing pairing)
cdef Transaction held_transaction(Flow flow, bint after_loss)
cdef Transaction separate(Transaction pair)
cdef list with_status(list informational, Message message)
cdef bint opens_tunnel(Message response, Message request) noexcept
cdef bytes field_of(Message message, bytes name)
cdef bytes tunnel_protocol(Message request, Message response)
