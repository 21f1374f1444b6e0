# cython: language_level=3
from libc.stdint cimport uint8_t

from appliance.batch cimport Record

cdef enum Checksum:             # two bits of Record.vlans
    UNVERIFIED                  # part of the segment was not captured
    GOOD
    OFFLOADED                   # left to the network card by this host's own stack, or merged by it (GRO)
    BAD


cdef Checksum verify(const uint8_t* frame, const Record* record) noexcept nogil
