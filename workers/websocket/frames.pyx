# cython: language_level=3
"""FrameReader: the frames of one side of a WebSocket connection (RFC 6455 section 5).

It looks at headers, skips payloads by their length, and copies nothing but a header that lies in several pieces. Only where
the contents of compressed messages are wanted does it unmask them, for a MessageInflater (RFC 7692).

A gap inside a payload is skipped exactly. Any other gap hides where the next frame begins. From then on the reader searches at
the start of each piece for a header that this side could have sent, a FIN frame of a known kind with a minimal length. It
believes the header if frames follow one another from there to the end of the piece, or if it is the first of THREE. Without a
gap it searches for none, so that a division into segments changes nothing: an impossible length ends the reading of its side.

Length proof: read() reads below p + size only. A header is complete in `head` before begin_frame() reads it.
"""
cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from workers.core.counters cimport Tally

cdef enum:
    THREE = 3                   # headers in a chain that make up for an end inside a piece
    NO_CODE = 1005              # RFC 6455 section 7.4.1: the Close frame has no code


cdef inline uint32_t header_size(const uint8_t* head) noexcept nogil:
    """Return the size of a header by its first two bytes."""
    cdef uint32_t length = head[1] & 127
    return 2 + (2 if length == 126 else 8 if length == 127 else 0) + (4 if head[1] & 128 else 0)


cdef inline bint is_reserved(uint16_t code) noexcept nogil:
    """Return whether a Close frame may not have this code (RFC 6455 section 7.4)."""
    return code < 1000 or code >= 5000 or code == 1004 or code == NO_CODE or code == 1006 or code == 1015


cdef FrameReader frame_reader(bint masks, bint deflate, inflaters):
    """Return the reader of a side. masks: it is the client. deflate: its messages may be compressed.

    inflaters: makes the MessageInflater of its compressed messages; None: their contents are not wanted.
    """
    cdef FrameReader reader = FrameReader.__new__(FrameReader)
    reader.masks = masks
    reader.deflate = deflate
    reader.inflaters = inflaters
    reader.lossless = True
    return reader


@cython.final
@cython.no_gc
cdef class FrameReader:
    def __dealloc__(self):
        free(self.gathered)

    cdef Counts* current(self) noexcept:
        return &self.found if self.trying else &self.counts

    cdef int read(self, const uint8_t* p, size_t size, Tally tally) except -1:
        """Read the next bytes of the side."""
        cdef const uint8_t* end = p + size
        cdef const uint8_t* head
        cdef size_t count
        cdef uint32_t need
        if self.state == LOST and size:
            self.state = HEADER
            self.have = 0
            self.trying = self.from_start = True
            memset(&self.found, 0, sizeof(Counts))
        while p < end:
            if self.state == HEADER:
                if self.have == 0 and end - p >= 2 and end - p >= header_size(p):
                    head = p
                    p += header_size(p)
                else:
                    self.header[self.have] = p[0]
                    self.have += 1
                    p += 1
                    need = header_size(self.header) if self.have >= 2 else 2
                    if self.have < need:
                        continue
                    head = self.header
                self.have = 0
                if not self.begin_frame(head, tally):
                    return self.desync(tally) if self.trying else self.give_up(tally)
            elif self.state == PAYLOAD:
                count = <size_t>min(<uint64_t>(end - p), self.left)
                self.take(p, count, tally)
                p += count
                if self.left == 0:
                    self.end_frame(tally)
            else:
                return 0
        if self.trying > 1 and self.from_start and self.state == HEADER and self.have == 0:
            self.count_found(tally)
        self.from_start = False
        return 0

    cdef int take(self, const uint8_t* p, size_t count, Tally tally) except -1:
        """Take bytes of a payload."""
        cdef size_t i
        if self.opcode <= BINARY:
            self.current().bytes += count
            if self.inflaters is not None:
                if self.deflated:
                    self.unmask(p, count, tally)
                else:
                    self.current().decoded += count
        elif self.opcode == CLOSE and self.at < 2:
            for i in range(min(count, <size_t>(2 - self.at))):
                self.code[self.at + i] = p[i] ^ (self.mask[(self.at + i) & 3] if self.masked else 0)
        self.at += count
        self.left -= count
        return 0

    cdef bint begin_frame(self, const uint8_t* head, Tally tally) except -1:
        """Begin the frame with this whole header. Return False if its payload has no possible end."""
        cdef Counts* counts
        cdef uint8_t first = head[0]
        cdef uint64_t length = head[1] & 127
        cdef uint32_t i, size = 2, odd = 0
        cdef bint data
        if length == 126:
            length = <uint64_t>head[2] << 8 | head[3]
            size = 4
            odd |= LENGTH_NOT_MINIMAL * (length < 126)
        elif length == 127:
            length = 0
            for i in range(2, 10):
                length = length << 8 | head[i]
            size = 10
            odd |= LENGTH_NOT_MINIMAL * (length < 65536)
        if self.trying:
            if odd or not self.plausible(head, length):
                return False
            if self.trying == THREE:
                self.count_found(tally)
            else:
                self.trying += 1
        counts = self.current()
        if length >> 63:
            counts.anomalies |= LENGTH_INVALID
            return False
        self.opcode = first & 15
        self.fin = first >> 7
        self.masked = head[1] >> 7
        if self.masked:
            memcpy(self.mask, head + size, 4)
        self.left = length
        self.at = self.blind = 0
        if self.masked != self.masks:
            odd |= MASKED_WRONG
            counts.masked_wrong += 1
        odd |= FRAME_AFTER_CLOSE * counts.closed
        data = self.opcode <= BINARY
        if first & 0x30 or (first & 0x40 and not (self.deflate and (self.opcode == TEXT or self.opcode == BINARY))):
            odd |= RESERVED_BITS
        if not data and self.opcode >= CLOSE:
            odd |= CONTROL_TOO_LONG * (length > 125) | CONTROL_FRAGMENTED * (not self.fin)
        if self.opcode == CONTINUATION:
            odd |= CONTINUATION_ALONE * (not self.open and self.lossless)
            counts.fragments += 1
        elif data:
            odd |= MESSAGE_INTERRUPTED * self.open
            self.open = True
            self.deflated = first & 0x40 != 0
            counts.compressed |= self.deflated
            counts.text += self.opcode == TEXT
            counts.binary += self.opcode == BINARY
            if self.deflated and self.inflaters is not None and self.inflater is None:
                self.inflater = self.inflaters.begin()
                if self.inflater is None:
                    counts.anomalies |= DECODING_LIMIT
                    self.forget()
        elif self.opcode == PING:
            counts.ping += 1
        elif self.opcode == PONG:
            counts.pong += 1
        elif self.opcode != CLOSE:
            odd |= RESERVED_OPCODE
        counts.anomalies |= odd
        tally.websocket_frames += not self.trying
        self.state = PAYLOAD
        if length == 0:
            self.end_frame(tally)
        return True

    cdef bint plausible(self, const uint8_t* head, uint64_t length) noexcept:
        """Return whether a header that was searched for may be one: a whole message or control frame, masked as it must be."""
        cdef uint8_t opcode = head[0] & 15
        if not head[0] & 0x80 or head[0] & 0x30 or head[1] >> 7 != self.masks or length >> 32:
            return False
        if opcode == TEXT or opcode == BINARY:
            return not head[0] & 0x40 or self.deflate
        return CLOSE <= opcode <= PONG and not head[0] & 0x40 and length <= 125 and not (opcode == CLOSE and length == 1)

    cdef int end_frame(self, Tally tally) except -1:
        """End the present frame: its payload is over."""
        cdef Counts* counts = self.current()
        self.state = HEADER
        if self.opcode <= BINARY:
            if self.fin:
                if self.open:
                    counts.messages += 1
                    tally.websocket_messages += not self.trying
                    if self.deflated and self.inflaters is not None:
                        self.inflate(True, tally)
                self.open = self.deflated = False
        elif self.opcode == CLOSE and not counts.closed:
            counts.closed = True
            if self.at == 0:
                counts.close_code = NO_CODE
                counts.coded = True
            elif self.at == 1:
                counts.anomalies |= BAD_CLOSE_CODE
            elif not self.blind:
                counts.close_code = <uint16_t>(self.code[0] << 8 | self.code[1])
                counts.coded = True
                counts.anomalies |= BAD_CLOSE_CODE * is_reserved(counts.close_code)
        return 0

    cdef int lose(self, int64_t count, Tally tally) except -1:
        """Skip bytes that were not captured."""
        cdef Counts* counts
        cdef uint64_t known = min(<uint64_t>count, self.left)
        self.counts.missing += count
        if self.state == BROKEN:
            return 0
        if self.state == PAYLOAD:
            counts = self.current()
            if self.opcode <= BINARY:
                counts.bytes += known
                if self.deflated:
                    self.forget()
                elif self.inflaters is not None:
                    counts.decoded += known
            elif self.at < 2:
                self.blind = True
            self.at += known
            self.left -= known
            self.from_start = False
            if self.left == 0:
                self.end_frame(tally)
            if known == <uint64_t>count:
                return 0
        return self.desync(tally)

    cdef bint complete(self, bint ended) noexcept:
        """Return whether every frame was read, or its size is known. ended: no more bytes follow."""
        return self.lossless and not (ended and (self.state == PAYLOAD or self.have))

    cdef int desync(self, Tally tally) except -1:
        """Search for the next frame from now on."""
        if self.trying:
            self.trying = 0
        elif self.state != LOST:
            tally.websocket_losses += 1
        if self.deflate:
            self.forget()
        self.lossless = False
        self.state = LOST
        self.left = 0
        self.open = self.deflated = False
        return 0

    cdef int give_up(self, Tally tally) except -1:
        """Stop reading, because it is not known where a frame begins, and no gap is the reason."""
        self.desync(tally)
        self.state = BROKEN
        return 0

    cdef int count_found(self, Tally tally) noexcept:
        """Count what was found since a possible header."""
        cdef Counts* found = &self.found
        cdef Counts* counts = &self.counts
        self.trying = 0
        counts.messages += found.messages
        counts.text += found.text
        counts.binary += found.binary
        counts.ping += found.ping
        counts.pong += found.pong
        counts.fragments += found.fragments
        counts.bytes += found.bytes
        counts.decoded += found.decoded
        counts.compressed |= found.compressed
        counts.anomalies |= found.anomalies
        if found.closed and not counts.closed:
            counts.closed = True
            counts.close_code = found.close_code
            counts.coded = found.coded
        tally.websocket_messages += found.messages
        tally.websocket_resyncs += 1
        return 0

    cdef int unmask(self, const uint8_t* p, size_t size, Tally tally) except -1:
        """Gather bytes of a compressed message for the inflater."""
        cdef size_t i
        cdef uint64_t at = self.at
        if self.gathered == NULL:
            self.gathered = <uint8_t*>malloc(SLICE)
            if self.gathered == NULL:
                raise MemoryError
        for i in range(size):
            self.gathered[self.gathered_size] = p[i] ^ (self.mask[(at + i) & 3] if self.masked else 0)
            self.gathered_size += 1
            if self.gathered_size == SLICE:
                self.inflate(False, tally)
                if self.inflaters is None:
                    return 0
        return 0

    cdef int inflate(self, bint last, Tally tally) except -1:
        """Give the gathered bytes to the inflater. last: the message ends with them."""
        cdef int64_t made
        data = PyBytes_FromStringAndSize(<char*>self.gathered, self.gathered_size) if self.gathered_size else b""
        self.gathered_size = 0
        made = self.inflater.take(data, last)
        if made >= 0:
            self.counts.decoded += made
            return 0
        self.counts.anomalies |= DECODING_LIMIT if made == -2 else DECODING_FAILED
        return self.forget()

    cdef int forget(self) noexcept:
        """Stop decoding: later messages may refer to unknown content."""
        self.inflater = self.inflaters = None
        self.gathered_size = 0
        free(self.gathered)
        self.gathered = NULL
        return 0
