# cython: language_level=3
"""Tell a frame header of HTTP/2 from other bytes, where framing is lost or not yet found (RFC 9113 sections 4.1 and 6).

One header proves little: a chain of them, each at the distance that the one before gives, does.
"""
from libc.stdint cimport uint8_t, uint32_t

cdef enum:
    TINY = 4                    # bytes of a payload, under which a header weighs half: it is mostly zeros
    NEAR = 1 << 16              # stream ids of neighbouring frames

# By FrameType: flags that are defined, the fixed length of the payload (0: any), on which streams (1: 0 only, 2: others, 3: any).
cdef uint8_t* FLAGS = [0x09, 0x2D, 0x00, 0x00, 0x01, 0x0C, 0x01, 0x00, 0x00, 0x04]
cdef uint8_t* LENGTHS = [0, 0, 5, 4, 0, 0, 8, 0, 4, 0]
cdef uint8_t* STREAMS = [2, 2, 2, 2, 1, 2, 1, 1, 3, 2]


cdef bint may_stand_on(uint8_t type, uint32_t stream) noexcept nogil:
    """Return whether a frame of this type, below FRAME_TYPES, may stand on this stream."""
    return STREAMS[type] & (2 if stream else 1) != 0


cdef bint plausible(const uint8_t* p, bint from_client, uint32_t highest, uint32_t max_frame_size) noexcept nogil:
    """Return whether nine bytes may be a frame header of this direction. highest: the stream id that it may have; 0: any."""
    cdef uint32_t length = u24(p), stream = u32(p + 5)
    cdef uint8_t type = p[3], flags = p[4]
    if type >= FRAME_TYPES or stream >> 31 or flags & ~FLAGS[type] or length > max_frame_size:
        return False
    if not may_stand_on(type, stream):
        return False
    if LENGTHS[type] and length != LENGTHS[type]:
        return False
    if type == SETTINGS and (length % 6 or flags & ACK and length) or type == GOAWAY and length < 8 \
            or type == PUSH_PROMISE and (from_client or length < 4):
        return False
    if type == HEADERS and length == 0 and flags & END_HEADERS \
            or type == DATA and length == 0 and not flags & END_STREAM:
        return False
    if (type == HEADERS or type == DATA) and from_client and not stream & 1:
        return False
    return type == PRIORITY or highest == 0 or stream <= highest


cdef int chain_of_frames(const uint8_t* p, size_t size, bint from_client, uint32_t highest, uint32_t max_frame_size,
                         int enough, size_t* decided_at) noexcept nogil:
    """Return 1 if plausible frame headers of weight `enough` follow each other from p, 0 if not.

    -1: it takes decided_at[0] bytes to decide.

    A header weighs 2, one of a tiny payload of any length 1. highest: as of plausible(); while it is unknown, the stream ids must
    be near each other, and one frame must be more than DATA without flags: binary formats full of zeros look like these.
    """
    cdef size_t at = 0
    cdef int weight = 0
    cdef uint32_t unfinished = 0, stream, near = 0
    cdef bint telling = highest != 0
    cdef uint8_t type
    while weight < enough or not telling:
        if at + FRAME_HEADER > MAX_SEARCHED:
            return 0
        if size < at + FRAME_HEADER:
            decided_at[0] = at + FRAME_HEADER
            return -1
        if not plausible(p + at, from_client, highest, max_frame_size):
            return 0
        type = p[at + 3]
        stream = u32(p + at + 5)
        telling = telling or type != DATA or p[at + 4]
        if highest == 0 and stream:
            near = near or stream
            if max(stream, near) - min(stream, near) > NEAR:
                return 0
        # RFC 9113 section 6.10: nothing stands between the frames of a header block.
        if unfinished and (type != CONTINUATION or u32(p + at + 5) != unfinished) \
                or at and not unfinished and type == CONTINUATION:
            return 0
        unfinished = 0
        if (type == HEADERS or type == PUSH_PROMISE or type == CONTINUATION) and not p[at + 4] & END_HEADERS:
            unfinished = u32(p + at + 5)
        weight += 2 if LENGTHS[type] or u24(p + at) >= TINY else 1
        at += FRAME_HEADER + u24(p + at)
    return 1
