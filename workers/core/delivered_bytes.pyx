# cython: language_level=3
"""History: the recently delivered bytes of all streams of a data path, without a copy.

In-order payload lies in the batch that brought it. History keeps the last KEPT batches alive, and for each delivered piece
a 32-byte note of where its bytes lie; the notes of a stream form a chain, newest first. A retransmission of delivered bytes
is compared with the pieces that the chain still reaches. That costs some 5 ns per delivered piece. An attack that sends
another version of a request must come within these batches and pieces; later its bytes count as a duplicate.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp

from appliance.ipc.frame_batch cimport KEPT
from appliance.native.prefetch cimport claim
from appliance.native.zeroed cimport free_pages, zeroed_pages

from collections import deque

cdef enum:
    CLAIMED = 16                # pieces until a place of the ring is written: time enough to prefetch it
    OWNED_BYTES = 4 << 20       # of pieces that arrived out of order, which own their bytes
    OWNED_PIECES = 4096
    STEPS = 1024                # along a chain: bounds the work that one segment can cause


cdef class History:
    def __cinit__(self):
        self.ring = <Past*>zeroed_pages(PIECES, sizeof(Past))
        if self.ring == NULL:
            raise MemoryError
        self.oldest = self.oldest_owned = 1
        self.batches = deque()
        self.owned = deque()

    def __dealloc__(self):
        if self.ring != NULL:
            for serial in self.owned:
                free(<void*>self.ring[<uint64_t>serial & (PIECES - 1)].data)
        free_pages(self.ring, PIECES, sizeof(Past))

    cdef uint64_t remember(self, uint64_t before, int64_t offset, const uint8_t* data, uint32_t length) noexcept:
        """Record a delivered piece that lies in the batch being read; return its serial."""
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
        """Free the oldest piece that owns its bytes."""
        cdef uint64_t serial = self.owned.popleft()
        cdef Past* past = &self.ring[serial & (PIECES - 1)]
        free(<void*>past.data)
        past.data = NULL
        past.owned = False
        self.owned_bytes -= past.length
        self.oldest_owned = serial + 1
        return 0

    cdef uint64_t adopt(self, uint64_t before, int64_t offset, uint8_t* data, uint32_t length) except 0:
        """Record a delivered piece and own its malloc'd bytes, which stay readable until the next adopt(); return its serial."""
        cdef uint64_t serial = self.remember(before, offset, data, length)
        self.ring[serial & (PIECES - 1)].owned = True
        self.owned.append(serial)
        self.owned_bytes += length
        while self.owned_bytes > OWNED_BYTES + length or len(self.owned) > OWNED_PIECES:
            self.forget_owned()
        return serial

    cdef uint32_t differing(self, uint64_t last, int64_t offset, const uint8_t* data, uint32_t length,
                            int64_t* start, int64_t* stop) noexcept:
        """Return how many bytes of data[0:length] lie in ranges delivered with other content; set start and stop to their span.

        last: the stream's newest piece. Without a difference, start and stop keep their values.
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
        """Keep a new batch: its bytes stay readable while it is among the last KEPT ones."""
        self.batches.append((message, self.serial + 1, []))
        if len(self.batches) > KEPT:
            self.batches.popleft()
            self.oldest = self.batches[0][1]
        return 0

    cdef int hold(self, data) except -1:
        """Keep these bytes as long as the batch being read, because pieces delivered meanwhile may lie in them."""
        self.batches[-1][2].append(data)
        return 0
