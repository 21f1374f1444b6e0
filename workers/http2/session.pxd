# cython: language_level=3
"""Session: an Http2Connection with what the worker knows beside it: counters, limits, the Flow of its events."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from workers.core.context cimport Context
from workers.core.counters cimport Tally
from workers.core.waiting_budget cimport Holder
from workers.http2.connection cimport Http2Connection
from workers.http2.exchange cimport Exchange
from workers.tcp.stream cimport Piece


cdef class Session(Holder):
    cdef Http2Connection connection
    cdef uint32_t inside        # tunnels in its streams that are reading: none of the streams may end meanwhile
    cdef uint64_t begun         # messages of the connection that are counted as started
    cdef uint64_t streams       # of it that are counted as open
    cdef uint64_t skipped       # bytes that its readers have passed over and that are counted
    cdef uint64_t partial       # bytes of it that are counted in Tally.head_bytes
    cdef uint64_t tables        # … in Tally.table_bytes
    cdef uint64_t[2] seen_ns    # by side: time stamp of its latest piece

    cdef int take(self, int side, const Piece* piece, Context cx) except -1
    cdef int take_part(self, int side, const Piece* piece, uint64_t start, uint64_t stop) except -1
    cdef int skip(self, int side, uint64_t count, Context cx) except -1
    cdef int close(self, int side, Context cx) except -1
    cdef int mark(self, int side, int64_t start, int64_t stop, int marks) except -1
    cdef int report_ended(self, Context cx) except -1
    cdef int forget_partial(self, uint64_t ts_ns) except -1
    cdef int count(self, Tally tally) except -1
    cdef int hand_out(self, Tally tally, list out) except -1
    cdef int count_exchange(self, Exchange exchange, Tally tally) except -1
    cdef int finish(self, Context cx) except -1
    cdef int abandon(self, Context cx) except -1
    cdef int leave(self, Tally tally) noexcept
