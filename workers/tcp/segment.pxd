# cython: language_level=3
"""Segment: the TCP header of a frame and the range of its payload, as values. RFC 9293 section 3.1."""
from libc.stdint cimport int8_t, uint8_t, uint16_t, uint32_t, uint64_t

from appliance.ipc.frame_batch cimport Record

cdef enum:
    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    ACK = 0x10
    URG = 0x20
    NO_SCALE = -1               # a SYN without the window scale option


cdef struct Segment:
    const uint8_t* payload      # `captured` bytes readable, inside the batch
    uint32_t captured           # payload bytes that were captured
    uint32_t length             # payload bytes on the wire; the rest was cut off by the snapshot length
    uint32_t seq
    uint32_t ack
    uint32_t fingerprint        # equal in two copies of one frame, and hardly ever otherwise; 0: unknown
    uint16_t window             # as in the header: not scaled
    uint8_t flags
    int8_t scale                # of a SYN: its window scale (RFC 7323 section 2.2), or NO_SCALE
    bint stamped                # it has the time stamp option (RFC 7323 section 3)
    uint32_t stamp              # and its sender's value in it
    bint ambiguous              # made of fragments that contradicted each other
    uint64_t ts_ns


cdef bint read_segment(const uint8_t* frame, const Record* record, Segment* out) noexcept nogil
