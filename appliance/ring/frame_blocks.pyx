# cython: language_level=3
"""Batches of frames as blocks of a pcapng file, and the entries of its index.

    an entry = number u32 | offset u32       of a connection, and of its block in the file, in units of four bytes

The number is a keyed hash of addresses, ports and transport, without VLANs: an event says how many of these its
connection has, but not always which. Number 0 is an interface. Every frame of a batch has a segment or a datagram, and so
a connection. A datagram reassembled from fragments has lost its link header: it gets an Ethernet
header without addresses, with the VLANs that it came with.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from appliance.ipc.frame_batch cimport RECORD_BYTES, RECORD_REASSEMBLED, BatchReader, Record
from appliance.wire.flow_key cimport UDP_FLOW, FlowKey, HashKey, flow_hash, flow_key, hash_key

from appliance.wire.tcp_locator import find

cdef enum:
    PACKET = 6                  # Enhanced Packet Block
    HEAD = 28                   # bytes of one in front of the frame
    TAIL = 4
    TAGS = 3                    # VLANs of a record
    ETHERNET = 14               # bytes of a header without tags
    TAG = 4
    MORE = 40                   # most bytes by which the block of a frame is longer than its record: an Ethernet header
    WORDS = 1024                # of the filter of numbers
    LINK_BYTES = 26             # of an Ethernet header with all tags

TAKEN = ("found", "datagram")   # verdicts of frames that a batch has


cdef uint32_t number_of(const HashKey* key, const uint8_t* ip, const uint8_t* transport, uint64_t vlans) noexcept nogil:
    """Return the number of a connection, never 0. As flow_key, for what is readable."""
    cdef FlowKey flow
    cdef uint64_t hash
    flow_key(ip, transport, vlans & UDP_FLOW, &flow)
    hash = flow_hash(key, &flow)
    return max(<uint32_t>hash, <uint32_t>1)


def connection_number(bytes key not None, bytes source not None, bytes destination not None, bint udp):
    """Return the number of a connection in an index with this key. source, destination: address and port, packed."""
    cdef HashKey secret = hash_key(key)
    cdef uint8_t[40] ip
    cdef Py_ssize_t size = len(source) - 2
    if size not in (4, 16) or len(destination) != len(source):
        raise ValueError("an address has 4 or 16 bytes, and a port has 2")
    memset(ip, 0, sizeof(ip))
    ip[0] = 0x40 if size == 4 else 0x60
    memcpy(&ip[12 if size == 4 else 8], <const uint8_t*>source, size)
    memcpy(&ip[16 if size == 4 else 24], <const uint8_t*>destination, size)
    ports = source[size:] + destination[size:]
    return number_of(&secret, ip, <const uint8_t*><bytes>ports, UDP_FLOW if udp else 0)


def number_of_frame(bytes key not None, int link_type, bytes frame not None, wirelen):
    """Return the number of the connection of a frame, or None if it has no segment and no datagram."""
    cdef HashKey secret = hash_key(key)
    verdict, net, at, _, _ = find(link_type, frame, wirelen, quic=True, udp=True)
    if verdict not in TAKEN:
        return None
    return number_of(&secret, <const uint8_t*>frame + <int>net, <const uint8_t*>frame + <int>at,
                     UDP_FLOW if verdict == "datagram" else 0)


def offsets_of(entries not None, numbers not None):
    """Return [(offset in the file, number)] of the blocks with one of these numbers, in their order.

    entries: bytes of an index behind its header; an unfinished entry at their end counts as none.
    """
    cdef uint64_t[WORDS] bits            # by the low bits of a number: most entries end here
    cdef Py_buffer view
    cdef const uint32_t* entry
    cdef Py_ssize_t count, place
    cdef uint32_t number
    memset(bits, 0, sizeof(bits))
    wanted = frozenset(numbers)
    for one in wanted:
        number = one
        bits[number // 64 % WORDS] |= <uint64_t>1 << (number % 64)
    found = []
    PyObject_GetBuffer(entries, &view, PyBUF_SIMPLE)
    try:
        entry = <const uint32_t*>view.buf
        count = view.len // 8
        for place in range(count):
            number = entry[2 * place]
            if bits[number // 64 % WORDS] >> (number % 64) & 1 and number in wanted:
                found.append((<uint64_t>entry[2 * place + 1] * 4, number))
    finally:
        PyBuffer_Release(&view)
    return found


cdef class FrameBlocks:
    """Blocks and entries of one file, collected until they are taken.

    key: of the index, 16 bytes. at: the length of the file so far.
    """

    cdef HashKey key
    cdef uint8_t* blocks
    cdef size_t used
    cdef size_t room
    cdef uint32_t* entries
    cdef size_t count
    cdef size_t entry_room
    cdef uint64_t start             # place in the file of the first collected byte
    cdef readonly uint64_t first_ns     # the earliest and the latest frame of all; 0 without any
    cdef readonly uint64_t last_ns

    def __init__(self, bytes key not None, uint64_t at=0, uint64_t first_ns=0, uint64_t last_ns=0):
        self.key = hash_key(key)
        self.start = at
        self.first_ns = first_ns
        self.last_ns = last_ns

    def __dealloc__(self):
        free(self.blocks)
        free(self.entries)

    cdef int reserve(self, size_t more, size_t more_entries) except -1:
        cdef void* grown
        if self.used + more > self.room:
            grown = realloc(self.blocks, 2 * (self.used + more))
            if grown == NULL:
                raise MemoryError
            self.blocks = <uint8_t*>grown
            self.room = 2 * (self.used + more)
        if self.count + more_entries > self.entry_room:
            grown = realloc(self.entries, 16 * (self.count + more_entries))
            if grown == NULL:
                raise MemoryError
            self.entries = <uint32_t*>grown
            self.entry_room = 2 * (self.count + more_entries)
        return 0

    cdef int enter(self, uint32_t number) noexcept nogil:
        """Enter the block that begins here. There is room for the entry."""
        self.entries[2 * self.count] = number
        self.entries[2 * self.count + 1] = <uint32_t>((self.start + self.used) // 4)
        self.count += 1
        return 0

    @property
    def length(self):
        """Return the length of the file with what is collected."""
        return self.start + self.used

    @property
    def collected(self):
        """Return how many bytes of blocks are collected."""
        return self.used

    def add(self, bytes block not None, number=None):
        """Add a whole block, as it is. number: the one of its entry."""
        self.reserve(len(block), 1)
        if number is not None:
            self.enter(number)
        memcpy(self.blocks + self.used, <const uint8_t*>block, len(block))
        self.used += len(block)

    def add_batch(self, message not None, uint32_t interface, uint32_t reassembled, uint32_t share=0):
        """Add the frames of a batch, and return how many, and their bytes.

        interface: its number in the file, and that of reassembled datagrams. share: connections to leave out, in 256ths
        of all; the hash of a connection decides, so that all of its frames stay or none.
        """
        cdef BatchReader reader = BatchReader()
        cdef Record record
        cdef const uint8_t* frame
        cdef uint8_t* out
        cdef uint8_t[LINK_BYTES] link
        cdef uint32_t size, front, padded, on, most, kept = 0
        cdef uint32_t[2] head
        cdef uint64_t kept_bytes = 0
        reader.open(message)
        # The block of a frame is shorter than its record, but for the header of a reassembled datagram.
        most = reader.header.length // RECORD_BYTES      # the batch is short if it says more
        self.reserve(reader.header.length + <size_t>most * MORE, most)
        while True:
            frame = reader.next(&record)
            if frame == NULL:
                break
            if (record.hash & 0xFF) < share:
                continue
            front = 0
            if record.vlans & RECORD_REASSEMBLED:
                front = ethernet_header(link, frame, &record)
            size = front + record.caplen
            padded = (size + 3) & ~<uint32_t>3
            self.enter(number_of(&self.key, frame + record.net, frame + record.tcp, record.vlans))
            out = self.blocks + self.used
            head[0] = PACKET
            head[1] = HEAD + padded + TAIL
            memcpy(out, head, 8)
            on = reassembled if front else interface
            memcpy(out + 8, &on, 4)
            head[0] = <uint32_t>(record.ts_ns >> 32)
            head[1] = <uint32_t>record.ts_ns
            memcpy(out + 12, head, 8)
            head[0] = size
            head[1] = front + record.wirelen
            memcpy(out + 20, head, 8)
            memcpy(out + HEAD, link, front)
            memcpy(out + HEAD + front, frame, record.caplen)
            memset(out + HEAD + size, 0, padded - size)
            size = HEAD + padded + TAIL
            memcpy(out + HEAD + padded, &size, 4)
            self.used += size
            kept += 1
            kept_bytes += record.caplen
            if record.ts_ns > self.last_ns:
                self.last_ns = record.ts_ns
            if record.ts_ns < self.first_ns or self.first_ns == 0:
                self.first_ns = record.ts_ns
        return kept, kept_bytes

    def take(self):
        """Return the collected blocks and entries, and begin anew behind them."""
        blocks = PyBytes_FromStringAndSize(<const char*>self.blocks, self.used)
        entries = PyBytes_FromStringAndSize(<const char*>self.entries, 8 * self.count)
        self.start += self.used
        self.used = self.count = 0
        return blocks, entries


cdef uint32_t ethernet_header(uint8_t* out, const uint8_t* ip, const Record* record) noexcept nogil:
    """Write an Ethernet header for a datagram, and return its bytes. Behind a tunnel, the tags are the inner frame's."""
    cdef uint32_t size = ETHERNET - 2
    cdef uint64_t tag
    cdef int place
    memset(out, 0, size)
    for place in range(TAGS if record.net == 0 else 0):
        tag = record.vlans >> (16 * place) & 0xFFFF
        if tag & 0x8000:
            out[size] = 0x81
            out[size + 1] = 0
            out[size + 2] = <uint8_t>(tag >> 8 & 0x0F)
            out[size + 3] = <uint8_t>tag
            size += TAG
    out[size] = 0x08 if ip[0] >> 4 == 4 else 0x86
    out[size + 1] = 0x00 if ip[0] >> 4 == 4 else 0xDD
    return size + 2
