# cython: language_level=3
"""Counts of a connection for its flow events.

Every frame adds to 12 bytes of its side in the connection. A Past holds the counts that few connections need, and is
allocated at the first need: totals of connections with several events, and losses.
"""
from libc.stdlib cimport calloc
from libc.string cimport memset


cdef Past* past_of(Past** place) except NULL:
    """Return the Past, and make it if there is none. Its connection frees it."""
    if place[0] == NULL:
        place[0] = <Past*>calloc(1, sizeof(Past))
        if place[0] == NULL:
            raise MemoryError
    return place[0]


cdef int spill(Counts* counts, int side, Past** place) except -1:
    """Empty the counts of a side into the Past."""
    cdef Amount* spilled = &past_of(place).spilled[side]
    spilled.packets += counts[side].packets
    spilled.payload += counts[side].payload
    spilled.overhead += counts[side].overhead
    memset(&counts[side], 0, sizeof(Counts))
    return 0
