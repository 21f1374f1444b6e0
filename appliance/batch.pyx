# cython: language_level=3
"""Reading a batch. Layout: batch.pxd; written by appliance.shard.Sharder."""
import struct
from typing import NamedTuple

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from appliance.cache cimport LINE, fetch, prefetch

KEPT_BATCHES = KEPT
CUMULATIVE = struct.Struct("<QQ")
CUMULATIVE_AT = 16              # offset of sequence and cumulative in Header

cdef enum:
    PARSED = 448                # bytes of a frame: most headers and HTTP heads end before; bodies are handed on in one piece


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


class BadBatch(ValueError):
    """The bytes are not a batch of this version: two versions of the appliance run side by side, or memory was damaged."""


def header(message not None):
    """The BatchHeader of a received message (any contiguous bytes); BadBatch if it is none."""
    cdef BatchReader reader = BatchReader()
    reader.open(message)
    return BatchHeader(reader.header.epoch, reader.header.sequence, reader.header.frames, reader.header.cumulative,
                       reader.header.capture, bool(reader.header.flags & FLAG_END), reader.header.sealed_ns,
                       reader.header.length)


def stamp(message not None, sequence, cumulative):
    """Writes the two numbers that the sender knows only when it sends: the link's sequence and frames sent before."""
    CUMULATIVE.pack_into(message, CUMULATIVE_AT, sequence, cumulative)


cdef class BatchReader:
    """Walks the frames of one message; hands out pointers into it, valid while the message lives."""

    cdef int open(self, message) except -1:
        self.message = message
        if self.message.shape[0] < HEADER_BYTES:
            raise BadBatch(f"a batch has at least {HEADER_BYTES} bytes, not {self.message.shape[0]}")
        self.data = &self.message[0]
        memcpy(&self.header, self.data, sizeof(Header))
        if memcmp(self.header.magic, b"HCB1", 4) != 0:
            raise BadBatch("a batch starts with HCB1")
        if self.header.length != <size_t>self.message.shape[0]:
            raise BadBatch(f"the batch says {self.header.length} bytes and has {self.message.shape[0]}")
        self.at = HEADER_BYTES
        self.left = self.header.frames
        self.ahead_at = self.at
        self.ahead_left = self.left
        return 0

    cdef uint64_t peek(self) noexcept nogil:
        """The flow hash of the next record on a way of its own, ahead of next(), which checks; 0 behind the last."""
        cdef Record record
        cdef uint32_t room = self.header.length - self.ahead_at
        if self.ahead_left == 0 or room < RECORD_BYTES:
            return 0
        memcpy(&record, self.data + self.ahead_at, sizeof(Record))
        if record.caplen > room - RECORD_BYTES:
            self.ahead_left = 0
            return 0
        # What will be parsed; another core has written it.
        fetch(self.data + self.ahead_at + LINE, <int>min(record.caplen, PARSED) // LINE)
        self.ahead_at += RECORD_BYTES + min((record.caplen + 7) & ~<uint32_t>7, room - RECORD_BYTES)
        self.ahead_left -= 1
        prefetch(self.data + self.ahead_at)     # the next record, which nothing but this one tells where it is
        prefetch(self.data + self.ahead_at + RECORD_BYTES)
        return record.hash

    cdef const uint8_t* next(self, Record* out) except? NULL:
        """The next frame's bytes and its Record, or NULL after the last.

        Length proof: on return, `caplen` bytes are readable at the result, net + 20 <= tcp and tcp + 20 <= caplen.
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
        if out.caplen > room or <uint32_t>out.tcp + 20 > out.caplen or <uint32_t>out.net + 20 > out.tcp:
            raise BadBatch("a record points beyond its frame")
        frame = self.data + self.at + RECORD_BYTES
        if frame[out.net] >> 4 == 6 and <uint32_t>out.net + 40 > out.tcp:
            raise BadBatch("a record points beyond its frame")
        self.at += RECORD_BYTES + min((out.caplen + 7) & ~<uint32_t>7, room)
        self.left -= 1
        return frame


def frames(message not None):
    """[(ts_ns, wirelen, frame bytes)] of a batch: copies, for tests and tools."""
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
