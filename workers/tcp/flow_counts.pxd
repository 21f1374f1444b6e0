# cython: language_level=3
"""Counts of a connection for its flow events: those since the last event lie in the connection, all others beside it."""
from libc.stdint cimport uint32_t, uint64_t

from workers.core.counters cimport Tally

cdef enum:
    FULL = 31                   # bits of a count: spill() empties it before it overflows
    LONGEST_FRAME = 1 << 30     # bytes on the wire; a file may claim more


cdef struct Counts:             # of one side since the last flow event, without what spill() took
    uint32_t packets
    uint32_t payload            # captured bytes
    uint32_t overhead           # the other bytes of its frames on the wire


cdef struct Amount:
    uint64_t packets
    uint64_t payload
    uint64_t overhead


cdef struct Past:               # of a connection with several events, losses or retransmissions
    Amount[2] reported          # by side, in earlier events
    Amount[2] spilled           # since the last event
    uint64_t[2] repeated        # bytes that came again
    uint64_t[2] missing
    uint64_t due_ns             # clock when the last event was due
    uint64_t handshake_ns       # of a handshake too long for the connection's own field; 0: unknown
    uint32_t events
    uint32_t transactions       # … and those begun before the last of them


cdef Past* past_of(Past** place) except NULL
cdef int spill(Counts* counts, int side, Past** place) except -1


cdef inline int count(Counts* counts, int side, Past** place, uint32_t captured, uint32_t wirelen, Tally tally) except -1:
    """Count a frame of this side."""
    cdef uint32_t wire = min(wirelen, <uint32_t>LONGEST_FRAME)
    cdef Counts* mine = &counts[side]
    mine.packets += 1
    mine.payload += captured
    mine.overhead += wire - captured if wire > captured else 0
    tally.flow_open += captured
    if (mine.packets | mine.payload | mine.overhead) >> FULL:
        spill(counts, side, place)
    return 0
