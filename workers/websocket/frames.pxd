# cython: language_level=3
"""FrameReader: the frames of one side of a WebSocket connection, skipped by their length."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from workers.core.counters cimport Tally

cdef enum:
    LONGEST_HEADER = 14         # RFC 6455 section 5.2
    SLICE = 4096                # unmasked bytes that the inflater takes at once


cdef enum State:
    HEADER                      # at a frame header, or in it
    PAYLOAD
    LOST                        # a gap hides the place of the next frame
    BROKEN                      # no byte is a frame any more

cdef enum Opcode:
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


cdef enum Anomaly:              # bits, in the order of stats.WEBSOCKET_ANOMALIES
    RESERVED_BITS = 1 << 0
    RESERVED_OPCODE = 1 << 1
    MASKED_WRONG = 1 << 2
    LENGTH_NOT_MINIMAL = 1 << 3
    LENGTH_INVALID = 1 << 4
    CONTROL_TOO_LONG = 1 << 5
    CONTROL_FRAGMENTED = 1 << 6
    CONTINUATION_ALONE = 1 << 7
    MESSAGE_INTERRUPTED = 1 << 8
    BAD_CLOSE_CODE = 1 << 9
    FRAME_AFTER_CLOSE = 1 << 10
    DECODING_FAILED = 1 << 11
    DECODING_LIMIT = 1 << 12


cdef struct Counts:             # of one side so far
    uint64_t messages           # whole ones
    uint64_t text               # begun
    uint64_t binary
    uint64_t ping
    uint64_t pong
    uint64_t fragments          # continuation frames
    uint64_t bytes              # payload of text, binary and continuation frames
    uint64_t decoded            # … with permessage-deflate undone
    uint64_t masked_wrong       # frames
    uint64_t missing            # bytes that were not captured
    uint32_t anomalies          # Anomaly
    uint16_t close_code         # of a Close frame; NO_CODE if that has none
    uint8_t coded               # … and whether it is known
    uint8_t closed              # it sent a Close frame
    uint8_t compressed          # a message had RSV1


cdef class FrameReader:
    cdef Counts counts
    cdef Counts found           # since a place that may be a frame header, while `trying`
    cdef object inflater        # MessageInflater, from the first compressed message on; None: none is wanted
    cdef object inflaters       # its maker; None: contents are not wanted, or no longer known
    cdef uint8_t* gathered      # SLICE bytes for it; NULL: none yet
    cdef uint32_t gathered_size
    cdef uint64_t left          # bytes of the payload that still come
    cdef uint64_t at            # place in the payload
    cdef uint8_t[LONGEST_HEADER] header
    cdef uint8_t[4] mask
    cdef uint8_t[2] code        # first bytes of a Close frame's payload
    cdef uint8_t have           # bytes of the header so far
    cdef uint8_t state          # State
    cdef uint8_t opcode         # of the present frame
    cdef uint8_t fin
    cdef uint8_t masked
    cdef uint8_t masks          # the side must mask: it is the client
    cdef uint8_t deflate        # permessage-deflate was agreed on, or that is not known
    cdef uint8_t open           # a message has begun and not ended
    cdef uint8_t deflated       # … and is compressed
    cdef uint8_t trying         # frames since a possible header, plus 1; 0: the place of frames is known
    cdef uint8_t from_start     # the possible header began the piece being read
    cdef uint8_t blind          # bytes of the code of a Close frame are missing
    cdef uint8_t lossless       # every frame so far was read

    cdef Counts* current(self) noexcept
    cdef int read(self, const uint8_t* p, size_t size, Tally tally) except -1
    cdef int take(self, const uint8_t* p, size_t count, Tally tally) except -1
    cdef bint complete(self, bint ended) noexcept
    cdef int lose(self, int64_t count, Tally tally) except -1
    cdef bint begin_frame(self, const uint8_t* head, Tally tally) except -1
    cdef bint plausible(self, const uint8_t* head, uint64_t length) noexcept
    cdef int end_frame(self, Tally tally) except -1
    cdef int count_found(self, Tally tally) noexcept
    cdef int desync(self, Tally tally) except -1
    cdef int unmask(self, const uint8_t* p, size_t size, Tally tally) except -1
    cdef int inflate(self, bint last, Tally tally) except -1
    cdef int give_up(self, Tally tally) except -1
    cdef int forget(self) noexcept


cdef FrameReader frame_reader(bint masks, bint deflate, inflaters)
