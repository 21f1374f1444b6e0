# cython: language_level=3
"""ChunkReader: the framing around chunks (RFC 9112 section 7.1). MessageReader inherits it for its chunked bodies.

The reader flags a tolerated deviation from the grammar as an anomaly. It skips extensions and trailers, and counts them.

Length proof: source.p <= source.end always; every read of *p stands behind p < end.
"""
cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr

from workers.http1.resync cimport Finder, Input
from workers.core.limits cimport Limits
from workers.http1.message cimport CHUNK_SECTION_TOO_LONG, ODD_CHUNK

cdef enum:
    MANY_DIGITS = 16            # of a chunk size
    CR = 13
    LF = 10
    SP = 32
    TAB = 9
    SEMICOLON = 59


@cython.no_gc
cdef class ChunkReader(Finder):
    cdef int chunk_framing(self, Input* source, Limits limits) except -1:
        """Follow the framing around chunks (RFC 9112 section 7.1); return 0 if it is invalid behind the bytes used now."""
        cdef const uint8_t* p = source.p
        cdef const uint8_t* lf
        cdef const uint8_t* stop
        cdef uint8_t c
        cdef int value
        while p < source.end:
            c = p[0]
            if self.state == CHUNK_SIZE:
                value = hex_value(c)
                p += 1
                if value >= 0 and not self.padded:
                    if self.remaining >> 59:
                        return use(self, source, <uint64_t>(p - 1 - source.p))
                    self.remaining = self.remaining * 16 + value
                    self.digits += self.digits <= MANY_DIGITS
                    if self.digits > MANY_DIGITS:
                        self.message.anomalies |= ODD_CHUNK
                elif c == SP or c == TAB:
                    self.message.anomalies |= ODD_CHUNK
                    self.padded = self.digits > 0
                    self.count_section(1, limits)
                elif self.digits == 0:
                    return use(self, source, <uint64_t>(p - 1 - source.p))
                elif c == CR:
                    self.state = CHUNK_SIZE_CR
                elif c == LF:
                    self.message.anomalies |= ODD_CHUNK
                    if self.sized():
                        break
                elif c == SEMICOLON:
                    self.state = CHUNK_EXTENSION
                    self.after_cr = False
                else:
                    return use(self, source, <uint64_t>(p - 1 - source.p))
            elif self.state == CHUNK_SIZE_CR:
                p += 1
                if c != LF:
                    return use(self, source, <uint64_t>(p - 1 - source.p))
                if self.sized():
                    break
            elif self.state == CHUNK_END:
                p += 1
                if c == LF:
                    if not self.after_cr:
                        self.message.anomalies |= ODD_CHUNK
                    self.state = CHUNK_SIZE
                    self.remaining = self.digits = 0
                    self.padded = self.after_cr = False
                elif c == CR and not self.after_cr:
                    self.after_cr = True
                else:
                    return use(self, source, <uint64_t>(p - 1 - source.p))
            else:                                   # an extension, or a line of the trailer; the empty line ends the trailer
                lf = <const uint8_t*>memchr(p, LF, source.end - p)
                stop = lf if lf != NULL else source.end
                if (self.after_cr and c != LF) or (stop > p and memchr(p, CR, stop - p - 1) != NULL):
                    self.message.anomalies |= ODD_CHUNK     # a CR that ends no line
                if lf == NULL:
                    self.digits = <uint32_t>min(<uint64_t>self.digits + <uint64_t>(source.end - p), <uint64_t>1 << 30)
                    self.count_section(<uint64_t>(source.end - p), limits)
                    self.after_cr = source.end[-1] == CR
                    p = source.end
                    break
                if lf > p:
                    self.after_cr = lf[-1] == CR
                if not self.after_cr:
                    self.message.anomalies |= ODD_CHUNK
                self.digits = <uint32_t>min(<uint64_t>self.digits + <uint64_t>(lf - p), <uint64_t>1 << 30)
                self.count_section(<uint64_t>(lf - p), limits)
                p = lf + 1
                if self.state == CHUNK_EXTENSION:
                    if self.sized():
                        break
                elif self.digits == 0 or (self.digits == 1 and self.after_cr):
                    self.message.complete = True
                    self.state = ENDING
                    break
                self.digits = 0
                self.after_cr = False
        use(self, source, <uint64_t>(p - source.p))
        return 1

    cdef bint sized(self) noexcept:
        """End the line with a chunk's size; return True if chunk data follow, False if the trailer does."""
        self.digits = 0
        self.after_cr = False
        self.state = CHUNK_DATA if self.remaining else TRAILER
        return self.remaining != 0

    cdef int count_section(self, uint64_t count, Limits limits) except -1:
        """Count skipped bytes of extensions and trailers, which have no limit; flag the message above max_head_bytes."""
        self.section = <uint32_t>min(<uint64_t>self.section + count, <uint64_t>1 << 31)
        if self.section > limits.max_head_bytes:
            self.message.anomalies |= CHUNK_SECTION_TOO_LONG
        return 0


cdef inline int hex_value(uint8_t c) noexcept nogil:
    """Return the value of a hexadecimal digit; -1 for any other byte."""
    if 48 <= c <= 57:
        return c - 48
    if 97 <= (c | 0x20) <= 102:
        return (c | 0x20) - 87
    return -1
