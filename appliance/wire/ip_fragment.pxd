# cython: language_level=3
"""One fragment of a datagram."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from appliance.wire.location cimport Location

cdef enum:
    MAX_LENGTH = 65535      # of an IPv4 datagram, and of what follows an IPv6 header


cdef enum Outcome:          # the outcome of one fragment; order as appliance.stats.FRAGMENT_OUTCOMES
    MERGED                  # it, or another copy of it, is part of a datagram that completed
    TIMEOUT                 # the other fragments of its datagram did not arrive in time
    EVICTED                 # evicted for younger ones at a limit
    TOO_SHORT               # no payload, or a piece before the last whose length is no multiple of 8
    TOO_LONG                # it reaches past 65,535 bytes: ping of death
    TRUNCATED               # its end was not captured
    OVERLAPPING             # IPv6: of a datagram with an overlap (RFC 5722)
    INCONSISTENT            # it contradicts the end of its datagram
    TOO_MANY                # of a datagram in more than MAX_FRAGMENTS pieces
    OUTCOMES_END
    GOOD                    # not an outcome: it goes on


cdef struct Key:            # 48 bytes, no padding: hashed and compared as plain memory
    uint64_t source[2]      # as in a FlowKey, but the direction matters
    uint64_t target[2]
    uint64_t vlans
    uint32_t id
    uint16_t proto          # IPv4 only: in IPv6 fragments of one datagram may differ in it (RFC 8200 section 4.5)
    uint16_t family


cdef struct Fragment:       # one fragment as its headers tell; the pointers lie in the frame
    Key key
    const uint8_t* head     # the headers that every fragment repeats
    const uint8_t* payload
    uint32_t head_length
    uint32_t next_at        # IPv6: offset in head of the field that says what follows
    uint32_t start          # place of the payload in the datagram's payload: start < end <= 65,535
    uint32_t end
    uint8_t proto           # the protocol of the payload, as the fragment has it
    bint more               # not the last one


cdef Outcome read_fragment(const uint8_t* frame, uint32_t caplen, const Location* place, Fragment* out) noexcept nogil
