# cython: language_level=3
from libc.stdint cimport uint8_t, uint32_t

cdef enum Checksum:             # two bits of Record.vlans
    UNVERIFIED                  # part of the segment was not captured
    GOOD
    OFFLOADED                   # left to the network card by this host's own stack, or merged by it (GRO)
    BAD


cdef Checksum verify(const uint8_t* frame, uint32_t net, uint32_t tcp, uint32_t caplen,
                     uint32_t tcp_length) noexcept nogil
