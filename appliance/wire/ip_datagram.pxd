# cython: language_level=3
"""A datagram during its reassembly."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from appliance.wire.ip_fragment cimport MAX_LENGTH, Fragment, Key

cdef enum:
    MAX_WHOLE = 40 + MAX_LENGTH     # an IPv6 header is not part of its payload length


cdef enum State:
    FREE
    WAITING                 # for more
    DISCARDED               # remembered without its bytes
    COMPLETE                # remembered with them


cdef struct Piece:          # payload bytes start to end of a datagram stand at `at` of its buffer
    uint32_t at
    uint16_t start
    uint16_t end


cdef struct Datagram:
    Key key
    uint64_t since_ns       # when its first fragment came; once complete, when it did
    uint8_t* buffer         # head and payload in order of arrival: never more than came
    Piece* pieces           # sorted, none overlaps
    uint32_t capacity       # bytes
    uint32_t used
    uint32_t room           # pieces
    uint32_t count
    uint32_t fragments      # that came and have no outcome yet
    uint32_t covered        # bytes of payload
    uint32_t end            # length of the payload; 0 while the last fragment has not come
    uint32_t head_at
    uint32_t head_length    # 0 while the first fragment has not come
    uint32_t chain          # links are numbers of datagrams, 0 for none
    uint32_t older
    uint32_t younger
    uint8_t state           # a State
    uint8_t reason          # Outcome of every fragment of a datagram that was discarded
    uint8_t proto           # of the first fragment
    bint ambiguous


cdef uint32_t first_piece(const Datagram* datagram, uint32_t start) noexcept nogil
cdef bint differs(const Datagram* datagram, const Piece* piece, const Fragment* fragment) noexcept nogil
cdef bint same_piece(const Datagram* datagram, const Piece* piece, const Fragment* fragment) noexcept nogil
cdef bint repeats(const Datagram* datagram, const Fragment* fragment) noexcept nogil
cdef bint denies_end(const Datagram* datagram, const Fragment* fragment) noexcept nogil
cdef void fill(Datagram* datagram, uint32_t place, const Fragment* fragment) noexcept nogil
cdef uint32_t write_whole(const Datagram* datagram, uint8_t* out) noexcept nogil
