# cython: language_level=3
"""Application reads the bytes of a connection. Transport is its view of the connection below it.

A connection owns one application and calls it. An application that identifies another protocol replaces itself by
Transport.become(), and then passes its unused bytes to the new one. The old one lives
until it returns, because all calls go through pass_data(), pass_gap(), pass_end() or a reference of their own.

    on_open     a segment of this side has proven the half-open connection
    on_data     the next bytes of a side, in order; piece.missing unknown ones follow by on_gap
    on_gap      the next `count` bytes of a side are lost
    on_conflict two copies of delivered bytes of a side differ
    on_end      the side has ended; by_fin: its FIN was acknowledged
    on_time     time has passed while waits() was true
    on_close    the connection has ended, after both sides

Bytes of a piece are valid during the call. Every call may come in any order that TCP allows: a side may end before its first
byte, and a gap may come first.
"""
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t

from workers.core.context cimport Context
from workers.core.flow cimport Flow
from workers.tcp.stream cimport Piece


@cython.no_gc
cdef class Application:
    """The base of all applications: it ignores every call."""

    cdef int prefetch(self, int step) noexcept:
        """Prefetch memory for a segment that comes soon, in three steps."""
        return 0

    cdef int on_open(self, int side, Context cx) except -1:
        return 0

    cdef int on_data(self, int side, const Piece* piece, Context cx) except -1:
        return 0

    cdef int recall(self, int side, const Piece* piece, Context cx) except -1:
        """Read the first bytes of a side, which the application before has taken and counted."""
        return 0

    cdef int on_gap(self, int side, int64_t count, Context cx) except -1:
        return 0

    cdef int on_conflict(self, int side, int64_t start, int64_t stop, int marks, Context cx) except -1:
        return 0

    cdef int on_end(self, int side, bint by_fin, Context cx) except -1:
        return 0

    cdef int on_time(self, Context cx) except -1:
        return 0

    cdef int on_close(self, Context cx) except -1:
        return 0

    cdef bint waits(self) noexcept:
        """Return whether it has a timeout. The connection asks only while Transport.unsettled is set."""
        return False

    cdef bint awaits_end(self, int side) noexcept:
        """Return whether the application needs the end of this side, even without an acknowledged FIN."""
        return False


cdef class Applications:
    """The maker of the first application of each connection of a table."""

    cdef Application first(self):
        """Return the first application of a connection."""
        return Application.__new__(Application)

    cdef int closed(self, Transport transport, Context cx) except -1:
        """Count a connection that has ended. Without any bytes it had no application."""
        return 0


@cython.no_gc
cdef class Transport:
    """The connection below an application: its key, both streams, and the acknowledgements of each side."""

    def __cinit__(self):
        self.heard[LOW] = self.heard[HIGH] = -1
        self.begun_ns = <uint64_t>-1

    cdef int become(self, Application application) except -1:
        """Give the bytes that come from now on to this application."""
        application.transport = <PyObject*>self
        application.streams = self.streams
        application.heard = self.heard
        application.turn = self.turn
        self.application = application
        return 0

    cdef Flow flow_of(self, bint client_low):
        """Return the Flow of events whose client is the lower endpoint, or is not.

        All events of a connection are numbered together, whatever their protocols and clients.
        """
        cdef Flow before = self.flow
        if before is not None and before.client_low == client_low:
            return before
        return self.flow_anew(client_low)

    cdef Flow flow_anew(self, bint client_low):
        """Return a new Flow for the events from now on, which goes on with the numbering of the one before."""
        cdef Flow before = self.flow, flow = Flow.__new__(Flow)
        flow.key = self.key
        flow.begun_ns = self.begun_ns
        flow.capture = self.capture
        flow.shed = self.shed
        flow.turns = self.turns
        flow.again = self.again
        flow.client_low = client_low
        flow.midstream = self.streams[LOW].midstream or self.streams[HIGH].midstream
        if before is not None:
            flow.transactions = before.transactions
            flow.taken = before.taken
        self.flow = flow
        return flow

    cdef bint joined(self, int side) noexcept:
        """Return whether its application reads this side from the middle on. The first byte of a tunnel is known."""
        return self.streams[side].midstream and not self.depth

    cdef bint is_tcp(self) noexcept:
        """Return whether its streams are those of TCP, with numbers of their own, and not inside of another protocol."""
        return False

    cdef int pass_data(self, int side, const Piece* piece, Context cx) except -1:
        """Deliver a piece to the present application, which may replace itself during the call."""
        cdef Application application = self.application     # this reference keeps its memory until it returns
        return application.on_data(side, piece, cx)

    cdef int pass_gap(self, int side, int64_t count, Context cx) except -1:
        """Report a gap to the present application, which may replace itself during the call."""
        cdef Application application = self.application
        return application.on_gap(side, count, cx)

    cdef int pass_end(self, int side, bint by_fin, Context cx) except -1:
        """Report the end of a side to the present application, which may replace itself during the call."""
        cdef Application application = self.application
        return application.on_end(side, by_fin, cx)
