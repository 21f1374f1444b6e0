# cython: language_level=3
"""Read a batch. Layout: frame_batch.pxd; written by appliance.capture.sharder.Sharder."""
import struct
from typing import NamedTuple

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from appliance.native.prefetch cimport LINE, fetch, prefetch

KEPT_BATCHES = KEPT
CUMULATIVE = struct.Struct("<QQ")
CUMULATIVE_AT = 16              # offset of sequence and cumulative in Header

cdef enum:
    PARSED = 448                # bytes of a frame that are prefetched: most headers and HTTP heads are shorter


class BatchHeader(NamedTuple):
    """The header of a batch as Python sees it; fields as in batch.pxd."""

    epoch: int
    sequence: int
    frames: int
    cumulative: int
    capture: int
    end: bool
    sealed_ns: int
    length: int
    link_type: int
    reassembled: bool


class BadBatch(ValueError):
    """The bytes are not a batch of this version: two versions of the appliance run together, or memory is damaged."""


def header(message not None):
    """Return the BatchHeader of a received message (any contiguous bytes). Raises BadBatch."""
    cdef BatchReader reader = BatchReader()
    reader.open(message)
    return BatchHeader(reader.header.epoch, reader.header.sequence, reader.header.frames, reader.header.cumulative,
                       reader.header.capture, bool(reader.header.flags & FLAG_END), reader.header.sealed_ns,
                       reader.header.length, reader.header.link_type, bool(reader.header.flags & FLAG_REASSEMBLED))


def stamp(message not None, sequence, cumulative):
    """Write the two numbers known only at sending: the link's sequence, and the frames sent before."""
    CUMULATIVE.pack_into(message, CUMULATIVE_AT, sequence, cumulative)


cdef class BatchReader:
    """Iterates over the frames of one message, as pointers into it that are valid while the message lives."""

    def __dealloc__(self):
        self.close()

    cdef int close(self) noexcept:
        """Release the open message, if there is one."""
        if self.message.buf != NULL:
            PyBuffer_Release(&self.message)
            self.message.buf = NULL
        return 0

    cdef int open(self, message) except -1:
        self.close()
        PyObject_GetBuffer(message, &self.message, PyBUF_SIMPLE)
        if self.message.len < HEADER_BYTES:
            raise BadBatch(f"a batch has at least {HEADER_BYTES} bytes, not {self.message.len}")
        self.data = <const uint8_t*>self.message.buf
        memcpy(&self.header, self.data, sizeof(Header))
        if memcmp(self.header.magic, b"HCB1", 4) != 0:
            raise BadBatch("a batch starts with HCB1")
        if self.header.length != <size_t>self.message.len:
            raise BadBatch(f"the batch says {self.header.length} bytes and has {self.message.len}")
        self.at = HEADER_BYTES
        self.left = self.header.frames
        self.ahead_at = self.at
        self.ahead_left = self.left
        return 0

    cdef uint64_t peek(self) noexcept nogil:
        """Return the flow hash of the next record, from a read position ahead of next(), which checks; 0 at the end."""
        cdef Record record
        cdef uint32_t room = self.header.length - self.ahead_at
        if self.ahead_left == 0 or room < RECORD_BYTES:
            return 0
        memcpy(&record, self.data + self.ahead_at, sizeof(Record))
        if record.caplen > room - RECORD_BYTES:
            self.ahead_left = 0
            return 0
        # The parser will read these lines, and another core has written them.
        fetch(self.data + self.ahead_at + LINE, <int>min(record.caplen, PARSED) // LINE)
        self.ahead_at += RECORD_BYTES + min((record.caplen + 7) & ~<uint32_t>7, room - RECORD_BYTES)
        self.ahead_left -= 1
        prefetch(self.data + self.ahead_at)     # the next record; only this one tells its place
        prefetch(self.data + self.ahead_at + RECORD_BYTES)
        return record.hash

    cdef const uint8_t* next(self, Record* out) except? NULL:
        """Return the next frame's bytes and its Record, or NULL after the last.

        Length proof: on return, `caplen` bytes are readable at the result, net + 20 <= tcp and tcp + 20 <= caplen; of a UDP
        datagram tcp + 8 <= caplen.
        """
        cdef uint32_t room = self.header.length - self.at
        cdef const uint8_t* frame
        if self.left == 0:
            if room != 0:
                raise BadBatch(f"{room} bytes stand behind the last record")
            return NULL
        if room < RECORD_BYTES:
            raise BadBatch("a record is cut off")
        memcpy(out, self.data + self.at, sizeof(Record))
        room -= RECORD_BYTES
        if out.caplen > room or <uint32_t>out.net + 20 > out.tcp or <uint32_t>out.tcp + 20 > out.caplen and (
                not out.vlans & RECORD_UDP or <uint32_t>out.tcp + 8 > out.caplen):
            raise BadBatch("a record points beyond its frame")
        frame = self.data + self.at + RECORD_BYTES
        if frame[out.net] >> 4 == 6 and <uint32_t>out.net + 40 > out.tcp:
            raise BadBatch("a record points beyond its frame")
        self.at += RECORD_BYTES + min((out.caplen + 7) & ~<uint32_t>7, room)
        self.left -= 1
        return frame


def frames(message not None):
    """Return [(ts_ns, wirelen, frame bytes)] of a batch: copies, for tests and tools."""
    cdef BatchReader reader = BatchReader()
    cdef Record record
    cdef const uint8_t* frame
    reader.open(message)
    out = []
    while True:
        frame = reader.next(&record)
        if frame == NULL:
            return out
        out.append((record.ts_ns, record.wirelen, frame[:record.caplen]))
