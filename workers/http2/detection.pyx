# cython: language_level=3
"""Recognise HTTP/2 by its preface, or in the middle by frame headers that follow each other (RFC 9113 sections 3.4, 4.1).

Three plausible frame headers in a row make some 100 fixed bits. A pseudo-header in one of their header blocks says which side
sends: its field is in the static table, or a literal, so that no earlier block is needed to read it.
"""
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp

from workers.http2.frame_header cimport (
    DEFAULT_FRAME_SIZE, END_HEADERS, FRAME_HEADER, HEADERS, JOINS, PADDED, PRIORITY_FLAG, chain_of_frames,
)
from workers.http2.frames cimport PREFACE_SIZE
from workers.http2.header_list cimport ANY_SECTION, STATUS_BIT, HeaderList
from workers.http2.hpack cimport HpackDecoder

cdef enum:
    LOOKED_AT = 1 << 16         # bytes

SPEAKERS = ("none", "client", "server", "either")

cdef const char* PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
cdef HeaderList scratch = HeaderList(4096)


cdef bint begins_preface(const uint8_t* p, size_t size, bint* whole) noexcept nogil:
    """Return whether bytes are the client's connection preface or its beginning; whole: the whole preface."""
    whole[0] = size >= PREFACE_SIZE
    return size > 0 and memcmp(p, PREFACE, min(size, <size_t>PREFACE_SIZE)) == 0


cdef Speaker speaker_of(const uint8_t* p, size_t size) except *:
    """Return which side sends these bytes, the first ones seen of a direction; they may begin inside a frame."""
    cdef size_t at = 0, decided_at = 0, block, end
    cdef uint32_t length
    cdef uint8_t flags
    cdef HpackDecoder decoder
    size = min(size, <size_t>LOOKED_AT)
    while chain_of_frames(p + at, size - at, False, 0, DEFAULT_FRAME_SIZE, JOINS, &decided_at) <= 0:
        at += 1
        if at + FRAME_HEADER > size:
            return NOT_HTTP2
    decoder = HpackDecoder(True)
    while at + FRAME_HEADER <= size and chain_of_frames(p + at, size - at, False, 0, DEFAULT_FRAME_SIZE, 1, &decided_at) == 1:
        length = <uint32_t>p[at] << 16 | <uint32_t>p[at + 1] << 8 | p[at + 2]
        flags = p[at + 4]
        block = at + FRAME_HEADER
        end = block + length
        if end > size:
            break
        if p[at + 3] == HEADERS and flags & END_HEADERS:
            if flags & PADDED and length:
                end = max(block + 1, end - p[block]) if p[block] < length else block + 1
                block += 1
            if flags & PRIORITY_FLAG:
                block += 5
            if block < end:
                scratch.clear()
                decoder.decode(p + block, end - block, ANY_SECTION, True, scratch)
                if scratch.pseudo and not scratch.malformed:
                    return SERVER_SPEAKS if scratch.pseudo & STATUS_BIT else CLIENT_SPEAKS
        at += FRAME_HEADER + length
    return EITHER_SPEAKS


def speaker(bytes data not None):
    """Return which side sends these bytes: none (not HTTP/2), client, server or either."""
    return SPEAKERS[<int>speaker_of(<const uint8_t*>data, len(data))]
