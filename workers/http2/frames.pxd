# cython: language_level=3
"""FrameReader: one direction of an HTTP/2 connection, bytes in, frames out (RFC 9113 section 4)."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from workers.http2.buffer cimport Buffer
from workers.http2.frame_header cimport FRAME_HEADER, FRAME_TYPES

cdef enum:
    PREFACE_SIZE = 24
    MAX_SMALL = 256             # bytes kept of a SETTINGS, RST_STREAM or GOAWAY frame; what is behind them is passed over


cdef enum FrameStep:
    NEED_MORE                   # the input is used up
    BODY                        # bytes of DATA: body, body_bytes; missing of them were lost, then body is NULL
    BLOCK                       # a header block: block, block_size; not block_whole: the rest, `missing` bytes or more, is lost
    BLOCK_LOST                  # `missing` bytes of a block's frames that cannot be read
    CONTROL                     # a SETTINGS, RST_STREAM or GOAWAY frame: small, small_size
    PASSED                      # another frame has begun
    RESUMED                     # reading goes on behind lost_bytes


cdef enum FrameState:
    IN_PREFACE
    IN_HEADER
    IN_FRAME                    # its header is read, nothing was done about it
    IN_PAD_LENGTH
    IN_BODY
    IN_PADDING                  # of DATA
    IN_PREFIX                   # of a header block: padding length, priority, promised stream
    IN_BLOCK
    IN_SMALL
    IN_PASSED
    SEARCHING                   # for frame headers, behind a loss or a late join


cdef struct Input:              # what is left of a piece of in-order bytes
    const uint8_t* p
    const uint8_t* end
    uint64_t ts_ns


cdef struct Held:               # bytes held that came at one time
    uint64_t end                # of them, counted from the first byte that a search has ever held
    uint64_t ts_ns


cdef class FrameReader:
    cdef FrameState state
    cdef bint from_client
    cdef bint begun             # a frame was read
    cdef uint8_t tentative      # … behind a search: frame headers that must still be plausible, else the search continues
    cdef uint32_t max_frame_size            # that the other side allows
    cdef uint32_t highest       # stream id seen so far
    cdef uint8_t[PREFACE_SIZE] header       # of the frame being read, or the preface
    cdef uint32_t header_size               # bytes of it so far
    # the frame
    cdef uint8_t type
    cdef uint8_t flags
    cdef uint32_t stream
    cdef uint32_t length
    cdef uint32_t remaining     # bytes of its payload still to come
    cdef uint32_t padding       # of these, at its end
    cdef uint32_t wire_bytes    # of frames, with their headers, since its owner set it to 0
    cdef uint64_t frame_ns      # time of its first byte
    cdef uint64_t at_ns         # … of the bytes of the last step
    # what a step tells
    cdef const uint8_t* body    # valid until the next step
    cdef uint64_t body_bytes
    cdef uint64_t missing       # of body_bytes; or bytes that the frames of a block lack
    cdef bint body_inexact      # padding of this frame may be among it
    cdef bint stream_ends       # with this step
    cdef const uint8_t* block   # valid until the next step
    cdef size_t block_size
    cdef bint block_whole
    cdef uint32_t block_of      # the stream that it came on
    cdef uint8_t[MAX_SMALL] small
    cdef uint32_t small_size
    cdef uint64_t lost_bytes    # since framing was lost: missing, and passed over
    # the header block being read
    cdef uint32_t block_stream  # 0: none is
    cdef uint32_t promised      # the stream that a PUSH_PROMISE announces; 0: it is of a HEADERS frame
    cdef uint64_t block_ns      # time of its first byte
    cdef bint block_ends_stream
    cdef bint block_cut         # a part of it is unreadable; a BLOCK step told the rest
    cdef uint32_t prefix_size   # bytes of padding length, priority and promised stream still to come
    cdef Buffer gathered        # of a block over several pieces or frames
    cdef size_t limit           # of a block, in bytes
    # while searching
    cdef bint joining           # nothing has shown yet that this is HTTP/2
    cdef Buffer found
    cdef size_t candidate       # the first place in it that is not refuted
    cdef size_t decided_at      # bytes that must be held to decide on it
    cdef size_t replay          # of found, bytes that were read since the search ended
    cdef bint replaying
    cdef Buffer times           # of the bytes in found: Held, in their order
    cdef size_t time_at         # the first of these that is not replayed
    cdef uint64_t found_at      # bytes that have left found
    # counters
    cdef uint64_t[FRAME_TYPES + 1] frames   # by type; the last: of unknown types
    cdef uint64_t violations    # frames that RFC 9113 forbids
    cdef bint on_stream_0       # … one that must be of a stream, and is of none
    cdef bint split             # the block goes on in CONTINUATION, though there was room in its frame
    cdef bint too_long          # the block is longer than the limit
    cdef uint64_t skipped_bytes     # passed over by searches
    cdef uint64_t searches

    cdef int start(self, bint preface) noexcept
    cdef int join(self) noexcept
    cdef FrameStep step(self, Input* source) except <FrameStep>-1
    cdef FrameStep parse(self, Input* source) except <FrameStep>-1
    cdef FrameStep dispatch(self) except <FrameStep>-1
    cdef FrameStep read_body(self, Input* source) except <FrameStep>-1
    cdef FrameStep read_block(self, Input* source) except <FrameStep>-1
    cdef FrameStep gap(self, uint64_t count) except <FrameStep>-1
    cdef FrameStep forget(self) except <FrameStep>-1
    cdef FrameStep close(self) except <FrameStep>-1
    cdef FrameStep cut_block(self, uint64_t missing) except <FrameStep>-1
    cdef int search_again(self, uint64_t lost) noexcept
    cdef bint search(self, Input* source) except -1
    cdef int hold(self, const uint8_t* p, size_t size, uint64_t ts_ns) except -1
    cdef int drop_held(self, size_t size) noexcept
    cdef int held_input(self, Input* source) noexcept
    cdef int end_frame(self) noexcept
    cdef size_t allocated(self) noexcept
