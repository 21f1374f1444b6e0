# cython: language_level=3
"""SecondReading: the requests that may stand in the place of a body."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from workers.core.context cimport Context
from workers.http1.resync cimport Input
from workers.http1.message_reader cimport MessageReader
from workers.http1.message cimport Message
from workers.tcp.stream cimport Piece
from workers.core.counters cimport Tally


cdef enum Ruling:
    UNDECIDED
    BODY                        # the bytes are the body that the request announced
    REQUESTS                    # the client left the body out


cdef class SecondReading:
    cdef MessageReader reader   # of the bytes as requests
    cdef Tally tally            # counts of this reading, apart from the worker's
    cdef list requests          # [Message] that it has read; the last one may be unfinished
    cdef int64_t head_end       # offset behind the first head among them; -1: that is incomplete
    cdef int64_t body_end       # … behind the announced body; of a chunked one, of its first byte
    cdef bint chunks            # … the body is chunked: no request begins like a chunk
    cdef uint64_t last_ns       # time of the last byte of the head before the body
    cdef bytes beyond           # the first bytes behind the announced body, without blank lines
    cdef list held              # [(bytes, offset, ns, acknowledged)]: the last byte of that body, and the bytes behind it
    cdef size_t held_bytes
    cdef size_t weight          # bytes that the requests are charged with
    cdef uint32_t bombs         # bodies of the connection that reached a limit
    cdef bint closed            # the client has ended its direction

    cdef Ruling take(self, MessageReader counts, Input* source, const Piece* piece, Context cx) except <Ruling>-1
    cdef Ruling read(self, Input* source, Context cx) except <Ruling>-1
    cdef bint too_many(self, Message message, Context cx) except -1
    cdef Ruling read_on(self, Input* source, Context cx) except <Ruling>-1
    cdef Ruling look_beyond(self, const Input* source, size_t count) except <Ruling>-1
    cdef int hold_input(self, const Input* source, const Piece* piece, Tally tally) except -1
    cdef int first_held(self, Piece* piece) except -1
    cdef int take_back(self, Message request, Context cx) except -1
    cdef int give_up(self, Tally tally) except -1
    cdef int let_go(self, Tally tally) noexcept
