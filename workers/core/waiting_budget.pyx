# cython: language_level=3
"""InFlight: a budget for the messages of all connections of a worker that wait for their other half.

Over the limit, one of the connections that hold most bytes drops its oldest message. So a client that sends requests without
end takes no room from others. Connections stand on shelves by the power of two of the bytes they hold. A connection moves to a
higher shelf at once, and to a lower one only when make_room() visits it. Most connections hold little, and stand on no shelf.
"""
cimport cython
from libc.stdint cimport uint64_t

from workers.core.counters cimport Tally

from collections import OrderedDict


cdef int bits_of(uint64_t value) noexcept:
    """Return how many binary digits a number has."""
    cdef int bits = 0
    while value:
        value >>= 1
        bits += 1
    return bits


@cython.no_gc
cdef class Holder:
    """The waiting messages of one connection."""

    def __cinit__(self):
        self.file_at = LEAST

    cdef bint give_up(self, Tally tally, list out) except -1:
        """Drop the oldest waiting message. Return False if none may be dropped."""
        return False


@cython.final
cdef class InFlight:
    """The connections that hold at least LEAST bytes of waiting messages."""

    def __init__(self):
        self.shelves = [OrderedDict() for _ in range(SHELVES)]

    cdef int file(self, Holder holder) except -1:
        """Put a connection on the shelf for the bytes that it holds now."""
        cdef int shelf = bits_of(holder.held)
        self.leave(holder)
        if holder.held >= LEAST:
            self.shelves[shelf][holder] = None
            holder.shelf = shelf
            holder.file_at = <uint64_t>1 << shelf
            self.top = max(self.top, shelf)
        return 0

    cdef int leave(self, Holder holder) except -1:
        """Remove a connection from its shelf."""
        if holder.shelf:
            del self.shelves[holder.shelf][holder]
            holder.shelf = 0
            holder.file_at = LEAST
        return 0

    cdef int make_room(self, uint64_t limit, Tally tally, list out) except -1:
        """Drop the oldest messages of the connections that hold most, until at most `limit` bytes wait or no shelf has any."""
        cdef Holder holder
        while tally.waiting_bytes > limit and self.top:
            if not self.shelves[self.top]:
                self.top -= 1
                continue
            holder = next(iter(self.shelves[self.top]))
            if bits_of(holder.held) != self.top:
                self.file(holder)
            elif not holder.give_up(tally, out):
                self.leave(holder)
        return 0
