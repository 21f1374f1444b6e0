# cython: language_level=3
"""Share: a limit on each connection's events, so that one connection cannot displace the others' events.

A client can make many bytes of events from few bytes of requests. Where the feed falls behind, the worker drops whole
bodies of events, of every connection in them. So a connection may occupy only a part of the room that the backlog still
has: the fuller the backlog, the smaller the part. Any number of greedy connections leave some room for the rest (a dynamic
threshold, as switches use it for their queues). A rate limit in bytes a second applies as well, even if the feed keeps up.

The numbers of the bodies that hold its events give a connection's part of the backlog. Share counts the bodies up to a
number together, and releases them when the feed has received the last of them. So the count never understates the part.
"""
from libc.stdint cimport int64_t, uint64_t

cdef enum:
    SECOND_NS = 1000000000


cdef class Share:
    """Off until the first update(): a run over a file refuses no event, and every link waits."""

    def configure(self, double part, int64_t rate):
        """Set the limits. part: of the room that is left. rate: bytes a second."""
        self.part = part
        self.rate = rate

    def update(self, uint64_t room, uint64_t gone):
        """Record the backlog's state. room: bytes that fit. gone: bodies, of those made, that the feed has received."""
        self.on = True
        self.room = room
        self.gone = gone

    def end(self):
        """Stop refusing events: from now on the worker waits for the feed."""
        self.on = False

    cdef bint refuses(self, Taken* taken, uint64_t made) noexcept nogil:
        """Return whether a connection is over its share. made: bytes of events that are not on their way yet."""
        cdef int64_t passed
        if not self.on:
            return False
        if taken.early_to < self.gone:
            taken.early, taken.early_to, taken.late = taken.late, taken.late_to, 0
            if taken.early_to < self.gone:
                taken.early = 0
        if <double>(taken.early + taken.late) > self.part * <double>(self.room - made if self.room > made else 0):
            return True
        if taken.paid_ns == 0:
            taken.credit = self.rate
        elif self.now > taken.paid_ns:
            passed = <int64_t>min(self.now - taken.paid_ns, <uint64_t>SECOND_NS)
            taken.credit = min(self.rate, taken.credit + <int64_t>(<double>self.rate * <double>passed / SECOND_NS))
        taken.paid_ns = max(self.now, taken.paid_ns, <uint64_t>1)
        return taken.credit <= 0

    cdef void add(self, Taken* taken, uint64_t length) noexcept nogil:
        """Count an event of a connection in the body that grows. length: its bytes."""
        taken.late += length
        taken.late_to = self.number
        taken.credit -= <int64_t>length
