# cython: language_level=3
"""The header of an HTTP/2 frame (RFC 9113 sections 4.1 and 6), and chains of them."""
from libc.stdint cimport uint8_t, uint32_t

cdef enum:
    FRAME_HEADER = 9            # bytes
    DEFAULT_FRAME_SIZE = 16384  # RFC 9113 section 6.5.2
    MAX_STREAM = 0x7FFFFFFF
    MAX_SEARCHED = 1 << 16      # bytes held while frame headers are looked for
    JOINS = 6                   # weight of frame headers in a row that shows HTTP/2 in the middle: three usual ones


cdef enum FrameType:            # RFC 9113 section 6
    DATA
    HEADERS
    PRIORITY
    RST_STREAM
    SETTINGS
    PUSH_PROMISE
    PING
    GOAWAY
    WINDOW_UPDATE
    CONTINUATION
    FRAME_TYPES                 # one more than the last


cdef enum:                      # flags
    END_STREAM = 0x1            # of DATA and HEADERS
    ACK = 0x1                   # of SETTINGS and PING
    END_HEADERS = 0x4
    PADDED = 0x8
    PRIORITY_FLAG = 0x20


cdef inline uint32_t u24(const uint8_t* p) noexcept nogil:
    return <uint32_t>p[0] << 16 | <uint32_t>p[1] << 8 | p[2]


cdef inline uint32_t u32(const uint8_t* p) noexcept nogil:
    return <uint32_t>p[0] << 24 | <uint32_t>p[1] << 16 | <uint32_t>p[2] << 8 | p[3]


cdef bint may_stand_on(uint8_t type, uint32_t stream) noexcept nogil
cdef bint plausible(const uint8_t* p, bint from_client, uint32_t highest, uint32_t max_frame_size) noexcept nogil
cdef int chain_of_frames(const uint8_t* p, size_t size, bint from_client, uint32_t highest, uint32_t max_frame_size,
                         int enough, size_t* decided_at) noexcept nogil
