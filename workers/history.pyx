# cython: language_level=3
"""The recent past of all streams of a data path: no copy is made for it.

In-order payload lies in the batch that brought it. The last KEPT batches are kept alive, and each delivered piece
leaves a 32-byte note of where its bytes lie; the notes of a stream form a chain, newest first. A retransmission of bytes
that are already delivered is compared with what the chain still reaches. That costs some 5 ns per delivered piece; an
attack that sends another version of a request must come within these batches and pieces, or its bytes can only be
called a duplicate.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp

from appliance.batch cimport KEPT
from appliance.cache cimport claim

from collections import deque

cdef enum:
    CLAIMED = 16                # pieces until a place of the ring is written: time enough to bring it here
    OWNED_BYTES = 4 << 20       # of pieces that had waited, which have bytes of their own
    OWNED_PIECES = 4096
    STEPS = 1024                # along a chain: bounds the work that one segment can ask for


cdef class History:
    def __cinit__(self):
        self.ring = <Past*>calloc(PIECES, sizeof(Past))
        if self.ring == NULL:
            raise MemoryError
        self.oldest = self.oldest_owned = 1
        self.batches = deque()
        self.owned = deque()

    def __dealloc__(self):
        if self.ring != NULL:
            for serial in self.owned:
                free(<void*>self.ring[<uint64_t>serial & (PIECES - 1)].data)
        free(self.ring)

    cdef uint64_t remember(self, uint64_t before, int64_t offset, const uint8_t* data, uint32_t length) noexcept:
        """Notes a delivered piece that lies in the batch being read; its serial."""
        cdef Past* past
        self.serial += 1
        past = &self.ring[self.serial & (PIECES - 1)]
        claim(&self.ring[(self.serial + CLAIMED) & (PIECES - 1)], 1)
        if past.owned:
            self.forget_owned()
        past.offset = offset
        past.data = data
        past.before = before
        past.length = length
        past.owned = False
        return self.serial

    cdef int forget_owned(self) noexcept:
        """The ring has come round to a piece with bytes of its own: the oldest of these."""
        cdef uint64_t serial = self.owned.popleft()
        cdef Past* past = &self.ring[serial & (PIECES - 1)]
        free(<void*>past.data)
        past.data = NULL
        past.owned = False
        self.owned_bytes -= past.length
        self.oldest_owned = serial + 1
        return 0

    cdef uint64_t adopt(self, uint64_t before, int64_t offset, uint8_t* data, uint32_t length) except 0:
        """Notes a delivered piece and takes over its malloc'd bytes, which stay readable until the next adopt()."""
        cdef uint64_t serial = self.remember(before, offset, data, length)
        self.ring[serial & (PIECES - 1)].owned = True
        self.owned.append(serial)
        self.owned_bytes += length
        while self.owned_bytes > OWNED_BYTES + length or len(self.owned) > OWNED_PIECES:
            self.forget_owned()
        return serial

    cdef uint32_t differing(self, uint64_t last, int64_t offset, const uint8_t* data, uint32_t length,
                            int64_t* start, int64_t* stop) noexcept:
        """Of data[0:length], bytes in ranges that were delivered with other content, from start to stop.

        last: the stream's newest piece. start and stop are left alone if there are none.
        """
        cdef Past* past
        cdef int64_t low, high
        cdef uint32_t found = 0
        cdef int steps = 0
        while last and self.serial - last < PIECES and steps < STEPS:
            past = &self.ring[last & (PIECES - 1)]
            if past.data == NULL or last < (self.oldest_owned if past.owned else self.oldest):
                break
            low = max(offset, past.offset)
            high = min(offset + length, past.offset + past.length)
            if low < high and memcmp(past.data + (low - past.offset), data + (low - offset), high - low) != 0:
                start[0] = low
                stop[0] = max(stop[0], high) if found else high
                found += <uint32_t>(high - low)
            if past.offset <= offset:
                break
            last = past.before
            steps += 1
        return found

    cdef int keep(self, message) except -1:
        """A batch begins: its bytes stay readable while it is among the last ones."""
        self.batches.append((message, self.serial + 1, []))
        if len(self.batches) > KEPT:
            self.batches.popleft()
            self.oldest = self.batches[0][1]
        return 0

    cdef int hold(self, data) except -1:
        """Pieces that are delivered while a batch is read may also lie in these bytes: they live as long as the batch."""
        self.batches[-1][2].append(data)
        return 0
