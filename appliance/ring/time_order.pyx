# cython: language_level=3
"""Packet blocks of several files in the order of their times.

A capture fills a batch for each worker, and the batches lie behind each other in the ring. Files in, one section out:
frames later than `until_ns` wait for those of the next file.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, qsort, realloc
from libc.string cimport memcpy

from appliance.ring.pcapng import ENHANCED_PACKET, INTERFACE

cdef enum:
    LEAST = 12                  # bytes of a block
    HEAD = 32                   # of a packet block without a frame
    MOST_INTERFACES = 4096      # of a file; frames of others are left out

cdef struct Block:
    uint64_t ts_ns
    uint64_t place              # order among blocks of the same time
    const uint8_t* start
    uint32_t size
    uint32_t interface          # in the section that comes out


cdef int compare(const void* one, const void* other) noexcept nogil:
    cdef const Block* a = <const Block*>one
    cdef const Block* b = <const Block*>other
    if a.ts_ns != b.ts_ns:
        return -1 if a.ts_ns < b.ts_ns else 1
    return -1 if a.place < b.place else 1


cdef class TimeOrder:
    """Blocks wait here until their turn."""

    cdef bytes waiting              # packet blocks with the numbers of interfaces that come out
    cdef dict interfaces            # block of an interface: its number
    cdef Block* blocks
    cdef size_t count
    cdef size_t room

    def __cinit__(self):
        self.waiting = b""
        self.interfaces = {}

    def __dealloc__(self):
        free(self.blocks)

    cdef int collect(self, const uint8_t* start, uint32_t size, uint32_t interface) except -1:
        cdef Block* block
        cdef uint32_t[2] time
        if self.count == self.room:
            block = <Block*>realloc(self.blocks, 2 * (self.room + 512) * sizeof(Block))
            if block == NULL:
                raise MemoryError
            self.blocks = block
            self.room = 2 * (self.room + 512)
        memcpy(time, start + 12, 8)
        block = &self.blocks[self.count]
        block.ts_ns = <uint64_t>time[0] << 32 | time[1]
        block.place = self.count
        block.start = start
        block.size = size
        block.interface = interface
        self.count += 1
        return 0

    def add(self, bytes data not None, uint64_t until_ns):
        """Add the whole blocks of a file; return all frames up to a time, with the interfaces that are new."""
        cdef uint32_t[MOST_INTERFACES] numbers
        cdef uint32_t[2] head
        cdef uint32_t number, known = 0
        cdef const uint8_t* start = <const uint8_t*>PyBytes_AS_STRING(data)
        cdef const uint8_t* end = start + len(data)
        cdef const uint8_t* kept = <const uint8_t*>PyBytes_AS_STRING(self.waiting)
        cdef const uint8_t* kept_end = kept + len(self.waiting)
        made = []
        self.count = 0
        while kept < kept_end:
            memcpy(head, kept, 8)
            memcpy(&number, kept + 8, 4)
            self.collect(kept, head[1], number)
            kept += head[1]
        while end - start >= LEAST:
            memcpy(head, start, 8)
            if head[1] < LEAST or head[1] > <size_t>(end - start):
                break
            if head[0] == <uint32_t>INTERFACE and known < MOST_INTERFACES:
                block = PyBytes_FromStringAndSize(<const char*>start, head[1])
                if block not in self.interfaces:
                    self.interfaces[block] = len(self.interfaces)
                    made.append(block)
                numbers[known] = self.interfaces[block]
                known += 1
            elif head[0] == <uint32_t>ENHANCED_PACKET and head[1] >= HEAD:
                memcpy(&number, start + 8, 4)
                if number < known:
                    self.collect(start, head[1], numbers[number])
            start += head[1]
        made.append(self.sorted(until_ns))
        return b"".join(made)

    cdef bytes sorted(self, uint64_t until_ns):
        """Return the collected blocks up to a time, by time; the others wait."""
        cdef size_t place, now = 0, size = 0, later = 0
        qsort(self.blocks, self.count, sizeof(Block), compare)
        for place in range(self.count):
            if self.blocks[place].ts_ns <= until_ns:
                now = place + 1
                size += self.blocks[place].size
            else:
                later += self.blocks[place].size
        out = self.copied(0, now, size)
        self.waiting = self.copied(now, self.count, later)
        return out

    cdef bytes copied(self, size_t first, size_t last, size_t size):
        cdef bytes out = PyBytes_FromStringAndSize(NULL, size)
        cdef uint8_t* at = <uint8_t*>PyBytes_AS_STRING(out)
        cdef size_t place
        for place in range(first, last):
            memcpy(at, self.blocks[place].start, self.blocks[place].size)
            memcpy(at + 8, &self.blocks[place].interface, 4)
            at += self.blocks[place].size
        return out
