# cython: language_level=3
"""The blocks of a pcapng capture. libpcap refuses files whose interfaces differ in link type or snap length.

Sections may differ in byte order; each interface has its own link type, snap length and clock. Frames are passed on
without a copy, in the buffer. PcapngReader without a frame are skipped by their length.

Memory safety: dispatch() has proven that a whole block of `length` bytes is readable, and each function compares with
it before it reads. Format: draft-ietf-opsawg-pcapng, sections 3 and 4.
"""
cimport cython
from cpython.buffer cimport PyBUF_WRITE
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove
from posix.types cimport off_t
from posix.unistd cimport pread

from appliance.pcap.libpcap cimport pcap_pkthdr, u_char
from appliance.pcap.savefile_reader cimport frame_taker

import os

from appliance.pcap.errors import NotACapture, PcapError, TruncatedCapture

cdef enum:
    SECTION = 0x0A0D0D0A
    INTERFACE = 1
    OLD_PACKET = 2
    SIMPLE_PACKET = 3
    ENHANCED_PACKET = 6
    SECRETS = 10
    SECRETS_BYTES = 20          # of a block with none
    TLS_KEY_LOG = 0x544C534B
    BYTE_ORDER = 0x1A2B3C4D
    BYTE_ORDER_SWAPPED = 0x4D3C2B1A
    BLOCK = 12                  # bytes of a block without a body: type, length, length
    SECTION_BYTES = 28
    INTERFACE_BYTES = 20
    PIECE = 256 << 10           # bytes read at a time
    LONGEST = 16 << 20          # bytes of a block with a frame, as in libpcap
    MOST_INTERFACES = 1 << 16   # of a section
    IF_TSRESOL = 9
    IF_TSOFFSET = 14
    NANO_DIGITS = 9
    SECOND_NS = 1000000000

# LINKTYPE_ values of files that libpcap has another DLT_ value for on Linux (tcpdump.org/linktypes.html)
DLT = {100: 11, 101: 12, 102: 15, 103: 16, 106: 19}

cdef uint64_t TENS[20]
TENS[0] = 1
for _digit in range(1, 20):
    TENS[_digit] = TENS[_digit - 1] * 10


cdef inline uint32_t swap(uint32_t value) noexcept nogil:
    return value >> 24 | (value >> 8 & 0xff00) | (value << 8 & 0xff0000) | value << 24


@cython.final
cdef class PcapngReader:
    """Read the blocks of one capture in order. descriptor: of a plain file, read from `offset` on; or -1 and
    more_of(buffer), which reads a stream. on_link(link_type) is called before the first frame of another link type.
    on_secrets(text) is called with each TLS key log, before the frames behind it."""

    def __init__(self, str source not None, int descriptor, uint64_t offset, more_of, on_link, on_secrets=None):
        self.offset = offset
        self.source = source
        self.link_type = -1
        self.descriptor = descriptor
        self.more_of = more_of
        self.on_link = on_link
        self.on_secrets = on_secrets
        self.seen = []
        self.size = PIECE
        self.buffer = <u_char*>malloc(self.size)
        if self.buffer == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.buffer)
        free(self.interfaces)

    def begin(self, bytes first not None=b""):
        """Read on to the first interface. first: what was read of the stream already, at most a block's head.

        Returns its link type; -1 if the capture has none.
        """
        memcpy(self.buffer, <const char*>first, len(first))
        self.end = len(first)
        while self.count == 0:
            try:
                if self.dispatch(0, NULL, NULL) < 0:
                    return -1
            except PcapError as fault:
                raise NotACapture(str(fault)) from None
        return self.interfaces[0].link_type

    cdef int dispatch(self, int limit, frame_taker taker, u_char* user) except -2:
        """Give up to `limit` frames to the callback, with nanoseconds as the fraction of the time; how many there were.

        -1 at the end. limit 0: one block, which must hold no frame. Raises TruncatedCapture, PcapError.
        """
        cdef int count = 0
        cdef uint32_t kind, length
        cdef u_char* block
        while count < limit or limit == 0:
            if self.discarding:
                self.discard(self.discarding)
            if self.end - self.here < BLOCK and not self.more(BLOCK):
                if self.end != self.here:
                    raise TruncatedCapture(f"{self.source}: truncated in the head of a block, at byte {self.offset:,}")
                return count if count else -1
            block = self.buffer + self.here
            kind = self.u32(block)
            if kind == SECTION:
                memcpy(&length, block + 8, 4)
                if length != <uint32_t>BYTE_ORDER and length != <uint32_t>BYTE_ORDER_SWAPPED:
                    raise self.odd("a section without a byte order")
                self.swapped = length == <uint32_t>BYTE_ORDER_SWAPPED
            elif not self.in_section:
                raise self.odd("no section begins")
            length = self.u32(block + 4)
            if length < BLOCK or length & 3:
                raise self.odd(f"a block of {length:,} bytes")
            if limit == 0 and kind in (OLD_PACKET, SIMPLE_PACKET, ENHANCED_PACKET):
                raise self.odd("a frame before the first interface")
            if kind not in (SECTION, INTERFACE, OLD_PACKET, SIMPLE_PACKET, ENHANCED_PACKET) and length > PIECE \
                    and (kind != SECRETS or self.on_secrets is None or length > LONGEST):
                self.discarding = length
                self.offset += length
                if limit == 0:
                    return 0
                continue
            if length > LONGEST:
                raise self.odd(f"a block of {length:,} bytes; at most {LONGEST:,} can be read")
            if self.end - self.here < length and not self.more(length):
                raise TruncatedCapture(f"{self.source}: truncated in a block of {length:,} bytes, at byte {self.offset:,}")
            block = self.buffer + self.here
            if self.u32(block + length - 4) != length:
                raise self.odd("the two lengths of a block differ")
            if kind == ENHANCED_PACKET or kind == SIMPLE_PACKET or kind == OLD_PACKET:
                count += 1
                self.packet(kind, block, length, taker, user)
            elif kind == SECTION:
                self.section(block, length)
            elif kind == INTERFACE:
                self.interface(block, length)
            elif kind == SECRETS and self.on_secrets is not None:
                self.secrets(block, length)
            self.here += length
            self.offset += length
            if limit == 0:
                return 0
        return count

    cdef int section(self, const u_char* block, uint32_t length) except -1:
        cdef uint32_t major, minor
        if length < SECTION_BYTES:
            raise self.odd(f"the head of a section of {length} bytes")
        major = self.u16(block + 12)
        minor = self.u16(block + 14)
        if major != 1 or minor not in (0, 2):       # some writers write 1.2 for 1.0
            raise self.odd(f"version {major}.{minor} of pcapng is unknown")
        self.in_section = True
        self.count = 0
        return 0

    cdef int secrets(self, const u_char* block, uint32_t length) except -1:
        """Pass on the TLS secrets of a block. Secrets of other protocols are skipped."""
        cdef uint32_t size
        if length < SECRETS_BYTES:
            raise self.odd(f"a block of secrets of {length} bytes")
        size = self.u32(block + 12)
        if size > length - SECRETS_BYTES:
            raise self.odd(f"{size:,} bytes of secrets in a block of {length:,}")
        if self.u32(block + 8) == TLS_KEY_LOG:
            self.on_secrets(PyBytes_FromStringAndSize(<const char*>block + 16, size))
        return 0

    cdef int interface(self, const u_char* block, uint32_t length) except -1:
        cdef Interface* made
        cdef void* room
        cdef uint32_t at = INTERFACE_BYTES - 4
        cdef uint32_t code, size
        cdef uint64_t shift
        if length < INTERFACE_BYTES:
            raise self.odd(f"the description of an interface of {length} bytes")
        if self.count == MOST_INTERFACES:
            raise self.odd(f"more than {MOST_INTERFACES:,} interfaces in a section")
        if self.count == self.capacity:
            self.capacity = max(<uint32_t>16, 2 * self.capacity)
            room = realloc(self.interfaces, self.capacity * sizeof(Interface))
            if room == NULL:
                raise MemoryError
            self.interfaces = <Interface*>room
        made = &self.interfaces[self.count]
        made.link_type = DLT.get(self.u16(block + 8), self.u16(block + 8))
        made.snaplen = self.u32(block + 12)
        made.binary, made.digits, made.offset_s = False, 6, 0
        while at + 8 <= length:         # an option has 4 bytes, and the block's last length comes behind them
            code, size = self.u16(block + at), self.u16(block + at + 2)
            at += 4
            if code == 0:
                break
            if size > length - 4 - at:
                raise self.odd("an option of an interface is longer than its block")
            if code == IF_TSRESOL and size >= 1:
                made.binary = block[at] >> 7
                made.digits = block[at] & 0x7f
                if made.digits > (63 if made.binary else 19):
                    raise self.odd(f"the clock of an interface has the unknown resolution {block[at]}")
            elif code == IF_TSOFFSET and size >= 8:
                shift = self.u32(block + at + (4 if not self.swapped else 0))
                shift = shift << 32 | self.u32(block + at + (0 if not self.swapped else 4))
                made.offset_s = <int64_t>shift
            at += (size + 3) & ~<uint32_t>3
        self.count += 1
        if made.link_type not in self.seen:
            self.seen.append(made.link_type)
        return 0

    cdef int packet(self, uint32_t kind, u_char* block, uint32_t length, frame_taker taker, u_char* user) except -1:
        cdef pcap_pkthdr header
        cdef Interface* made
        cdef uint32_t number = 0
        cdef uint32_t head = 28
        cdef uint32_t captured, wire
        cdef uint64_t time = 0
        cdef uint64_t whole, part
        if length < (16 if kind == SIMPLE_PACKET else 32):
            raise self.odd(f"a frame's block of {length} bytes")
        if kind == SIMPLE_PACKET:
            head = 12
            wire = self.u32(block + 8)
            captured = min(wire, length - 16)
        else:
            number = self.u32(block + 8) if kind == ENHANCED_PACKET else self.u16(block + 8)
            time = <uint64_t>self.u32(block + 12) << 32 | self.u32(block + 16)
            captured = self.u32(block + 20)
            wire = self.u32(block + 24)
        if number >= self.count:
            raise self.odd(f"a frame of interface {number}, which has no description")
        made = &self.interfaces[number]
        if kind == SIMPLE_PACKET and made.snaplen:
            captured = min(captured, made.snaplen)
        if captured > length - head - 4:
            raise self.odd(f"a frame of {captured:,} bytes in a block of {length:,}")
        if made.binary:
            whole = time >> made.digits
            part = time - (whole << made.digits)
            if made.digits > 34:        # part * SECOND_NS has to fit
                part >>= made.digits - 34
            part = part * SECOND_NS >> min(<int>made.digits, 34)
        else:
            whole = time // TENS[made.digits]
            part = time - whole * TENS[made.digits]
            if made.digits <= NANO_DIGITS:
                part *= TENS[NANO_DIGITS - made.digits]
            else:
                part //= TENS[made.digits - NANO_DIGITS]
        header.ts.tv_sec = <int64_t>(whole + <uint64_t>made.offset_s)
        header.ts.tv_usec = <int64_t>part
        header.caplen = captured
        header.len = wire
        if made.link_type != self.link_type:
            self.link_type = made.link_type
            self.on_link(made.link_type)
        taker(user, &header, block + head)
        return 0

    cdef bint more(self, size_t wanted) except -1:
        """Read until `wanted` bytes of the block are present, at most LONGEST. Return False if there are fewer."""
        cdef ssize_t count
        cdef size_t room = max(wanted, <size_t>PIECE)
        cdef void* grown
        cdef object place
        memmove(self.buffer, self.buffer + self.here, self.end - self.here)
        self.end -= self.here
        self.here = 0
        if room > self.size:
            grown = realloc(self.buffer, room)
            if grown == NULL:
                raise MemoryError
            self.buffer, self.size = <u_char*>grown, room
        while self.end < wanted:
            if self.descriptor >= 0:
                count = pread(self.descriptor, self.buffer + self.end, self.size - self.end, <off_t>(self.offset + self.end))
                if count < 0 and errno != EINTR:
                    raise PcapError(f"{self.source}: {os.strerror(errno)}")
            else:
                place = PyMemoryView_FromMemory(<char*>(self.buffer + self.end), self.size - self.end, PyBUF_WRITE)
                try:
                    count = self.more_of(place)
                finally:
                    place.release()     # the buffer may move, or go
            if count == 0:
                return False
            self.end += max(count, <ssize_t>0)
        return True

    cdef int discard(self, uint64_t size) except -1:
        """Pass over the rest of a long block."""
        cdef uint64_t there = min(size, <uint64_t>(self.end - self.here))
        self.here += there
        self.discarding -= there
        if self.discarding > 1 and self.descriptor >= 0:        # pread continues behind it, with its last byte
            self.here = self.end = 0
            self.offset -= 1
            self.discarding = 1
            if not self.more(1):
                raise TruncatedCapture(f"{self.source}: truncated in a long block, before byte {self.offset + 1:,}")
            self.here, self.discarding = 1, 0
            self.offset += 1
        while self.discarding:
            self.here = self.end = 0
            if not self.more(1):
                raise TruncatedCapture(f"{self.source}: truncated in a long block, at byte {self.offset:,}")
            there = min(self.discarding, <uint64_t>self.end)
            self.here = there
            self.discarding -= there
        return 0

    cdef odd(self, reason):
        return PcapError(f"{self.source}: invalid pcapng at byte {self.offset:,}: {reason}")

    cdef uint32_t u32(self, const u_char* at) noexcept:
        cdef uint32_t value
        memcpy(&value, at, 4)
        return swap(value) if self.swapped else value

    cdef uint32_t u16(self, const u_char* at) noexcept:
        return <uint32_t>at[0] << 8 | at[1] if self.swapped else <uint32_t>at[1] << 8 | at[0]
