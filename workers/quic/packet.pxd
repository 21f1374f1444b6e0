# cython: language_level=3
"""The headers of QUIC packets."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from workers.tls.hello cimport Span


cdef enum Kind:                  # the first four as LongKind in appliance/wire/quic_header.pxd
    INITIAL
    ZERO_RTT
    HANDSHAKE
    RETRY
    NEGOTIATION                 # of versions
    SHORT                       # a short header: what is sent once the keys are made
    UNKNOWN                     # a long header of a version that is not known
    NO_PACKET


cdef struct Packet:
    Kind kind
    uint32_t version
    const uint8_t* p            # its first byte
    uint32_t size               # up to the next packet of the datagram
    uint32_t number_at          # where its packet number begins
    Span target                 # destination connection id
    Span source                 # source connection id


cdef int parse_packet(const uint8_t* p, uint32_t size, Packet* out) noexcept nogil
cdef bint varint(const uint8_t** p, const uint8_t* end, uint64_t* out) noexcept nogil
