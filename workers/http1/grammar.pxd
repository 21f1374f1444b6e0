"""The characters and words of HTTP/1 heads, in any case where the grammar allows it: RFC 9110 and RFC 9112.

Inline, because they run for each byte or field line. A function that gets p and size reads p[i] for i < size only.
"""
from libc.stdint cimport uint8_t
from libc.string cimport memcmp

cdef uint8_t[256] TOKEN         # whether a byte may stand in a token (RFC 9110 section 5.6.2)


cdef inline bint is_token(uint8_t c) noexcept nogil:
    return TOKEN[c]


cdef inline bint same_word(const uint8_t* p, const char* lower, size_t length) noexcept nogil:
    """Return whether p[0:length] is this lower-case ASCII word, in any case."""
    cdef size_t i
    cdef uint8_t c
    for i in range(length):
        c = p[i]
        if 65 <= c <= 90:
            c |= 0x20
        if c != <uint8_t>lower[i]:
            return False
    return True


cdef inline bint is_digit(uint8_t c) noexcept nogil:
    return 48 <= c <= 57


cdef inline bint is_blank(uint8_t c) noexcept nogil:
    return c == 32 or c == 9


cdef inline bint is_common(const uint8_t* p, size_t size) noexcept nogil:
    """Return whether this is a method of RFC 9110, or PATCH, in capitals."""
    if size == 3:
        return memcmp(p, b"GET", 3) == 0 or memcmp(p, b"PUT", 3) == 0
    if size == 4:
        return memcmp(p, b"POST", 4) == 0 or memcmp(p, b"HEAD", 4) == 0
    if size == 5:
        return memcmp(p, b"PATCH", 5) == 0 or memcmp(p, b"TRACE", 5) == 0
    if size == 6:
        return memcmp(p, b"DELETE", 6) == 0
    return size == 7 and (memcmp(p, b"OPTIONS", 7) == 0 or memcmp(p, b"CONNECT", 7) == 0)


cdef inline bint in_capitals(const uint8_t* p, size_t size) noexcept nogil:
    """Return whether a word looks like a method: at least three characters, all capitals, "_" or "-"."""
    cdef size_t i
    for i in range(size):
        if not (65 <= p[i] <= 90 or p[i] == 95 or p[i] == 45):
            return False
    return size >= 3


cdef inline bint is_coding(const uint8_t* p, size_t size) noexcept nogil:
    """Return whether this is identity, or a transfer coding of RFC 9112 section 7 other than chunked."""
    if size == 4:
        return same_word(p, b"gzip", 4)
    if size == 6:
        return same_word(p, b"x-gzip", 6)
    if size == 7:
        return same_word(p, b"deflate", 7)
    if size == 8:
        return same_word(p, b"compress", 8) or same_word(p, b"identity", 8)
    return size == 10 and same_word(p, b"x-compress", 10)


cdef inline uint8_t lower(uint8_t c) noexcept nogil:
    return c | 0x20 if 65 <= c <= 90 else c


cdef inline bint is_framing(const uint8_t* p, size_t size) noexcept nogil:
    """Return whether this field line frames the body, or may continue one that does."""
    return is_blank(p[0]) or (size > 14 and same_word(p, b"content-length", 14)) or (
        size > 17 and same_word(p, b"transfer-encoding", 17))
