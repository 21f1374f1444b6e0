# cython: language_level=3
"""InFlight: the bytes of messages that wait for their other half, over all connections of a worker."""
from libc.stdint cimport uint64_t

from workers.core.counters cimport Tally

cdef enum:
    SHELVES = 65                # by number of bits: a shelf holds the connections between a power of two and the next
    LEAST = 4096                # bytes of one connection that InFlight never drops


cdef class Holder:
    cdef uint64_t held          # bytes of its waiting messages
    cdef uint64_t file_at       # … from which on it belongs on a higher shelf
    cdef int shelf              # 0: on none

    cdef bint give_up(self, Tally tally, list out) except -1


cdef class InFlight:
    cdef list shelves           # [{Holder: None}] in order of arrival, by the number of bits of `held`
    cdef int top                # no higher shelf has any

    cdef int file(self, Holder holder) except -1
    cdef int leave(self, Holder holder) except -1
    cdef int make_room(self, uint64_t limit, Tally tally, list out) except -1
