# cython: language_level=3
"""Http1: the application that reads HTTP/1 messages; its transactions go to the context."""
from libc.stdint cimport int64_t, uint32_t

from workers.core.context cimport Context
from workers.http1.message_reader cimport Input, MessageReader, Step
from workers.http1.message cimport Message
from workers.http1.pairing cimport Pairer
from workers.http1.second_reading cimport SecondReading
from workers.http1.transaction cimport Transaction
from workers.tcp.application cimport Application
from workers.tcp.stream cimport Piece


cdef class Http1(Application):
    cdef MessageReader low      # the reader of each side, from its first byte on
    cdef MessageReader high
    cdef Pairer pairer          # once a reader has found HTTP
    cdef int client             # the side that sends requests; -1: no side has sent a message yet
    cdef bint[2] begun          # a reader has read a head
    cdef int64_t[2] ended       # offset behind the last message, or of the first byte; -1: no byte yet
    cdef int64_t[2] weak        # start of a last message whose proof is weak; -1: there is none
    cdef int64_t[2] weak_ack    # … the offset that its frame acknowledged
    cdef bint may_lack_body     # the response being read came before the head of its request, a HEAD, had ended
    cdef uint32_t bombs         # bodies that reached a limit of their own
    cdef bint[2] body_open      # the end of its last message's body is unknown
    cdef bint refused           # a final response came before any body byte of the request being read
    cdef SecondReading second   # … and the following bytes may be no body; None: there is no doubt
    cdef bint over              # a tunnel begins: HTTP ends on this connection
    cdef Message preface        # … at this preface of HTTP/2; None: it was none
    cdef Message last           # … behind this response
    cdef Message asked          # … to this request; None: it is not known
    cdef int last_index         # … the number of their transaction

    cdef MessageReader reader(self, int side)
    cdef MessageReader new_reader(self, int side)
    cdef int beside(self, int side, int kind, int64_t start) except -1
    cdef int pass_on(self, int side, const Piece* piece, const Input* source, Context cx) except -1
    cdef int handle_step(self, int side, MessageReader reader, Step step, Context cx) except -1
    cdef int flush(self, int side, MessageReader reader, Context cx) except -1
    cdef int limit_gathered(self, int side, MessageReader reader, Context cx) except -1
    cdef bint reread(self, int side, MessageReader reader, Input* source, const Piece* piece, Context cx) except -1
    cdef int adopt(self, Context cx) except -1
    cdef int drop(self, Context cx) except -1
    cdef int begin_request(self, int side, Message message, bint after_loss, Context cx) except -1
    cdef int note_other_protocol(self, MessageReader reader, MessageReader other, Context cx) except -1
    cdef int end_early_response(self, Context cx) except -1
    cdef int expect_another(self, MessageReader reader, const Input* source) except -1
    cdef int64_t unfinished(self, int64_t heard) except -2
    cdef int end_search(self, int side, MessageReader reader, Context cx) except -1
    cdef bint confirm(self, int side, MessageReader reader, const Piece* piece) except -1
    cdef bint believe_for_now(self, int side, MessageReader reader) noexcept
    cdef bint refuted(self, int side, MessageReader reader, const Input* source, const Piece* piece) except -1
    cdef int find_http2(self, int side, MessageReader reader, Context cx) except -1
    cdef int head(self, int side, MessageReader reader, Context cx) except -1
    cdef int weigh(self, Context cx) except -1
    cdef int end(self, int side, MessageReader reader, Context cx) except -1
    cdef int tunnel(self, Transaction transaction, Message response, Context cx) except -1
    cdef int stop(self, Context cx) except -1
    cdef int enter_successor(self, int64_t client_at, Context cx) except -1
    cdef bint unsure(self, int side) except -1
    cdef int doubt_body(self, int side, Message request, Context cx) except -1
