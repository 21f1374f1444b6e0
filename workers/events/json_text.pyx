# cython: language_level=3
"""Bytes of the wire as JSON text.

UTF-8 text from the wire stays as it stands. Any other byte becomes the four characters \\xNN. To make this reversible, a
backslash of the wire before x and two hexadecimal digits becomes \\x5c. Control characters, DEL, C1 controls and the line
separators U+2028 and U+2029 become JSON escapes: an event is one line and never controls a terminal.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    /* Bytes at the start of these eight that stand for themselves in a JSON string; little-endian. In every byte the high bit
       marks the byte itself, DEL (one more), less than 32, and a quotation mark or backslash. A carry into the next byte
       comes from a byte that is odd already, so the lowest mark is right. */
    static inline unsigned plain_bytes(uint64_t word) {
        const uint64_t ones = 0x0101010101010101ULL;
        uint64_t odd = word | (word + ones) | (word - 32 * ones) | ((word ^ 34 * ones) - ones) | ((word ^ 92 * ones) - ones);
        odd &= 128 * ones;
        return odd ? (unsigned)__builtin_ctzll(odd) / 8 : 8;
    }
    """
    unsigned int plain_bytes(uint64_t word) noexcept nogil

cdef const char* HEX = b"0123456789abcdef"
cdef uint8_t[256] PLAIN         # bytes that stand for themselves in a JSON string
for c in range(32, 127):
    PLAIN[c] = chr(c) not in '"\\'


cdef inline bint is_hex(uint8_t c) noexcept nogil:
    return 48 <= c <= 57 or 97 <= (c | 0x20) <= 102


cdef size_t utf8_length(const uint8_t* p, size_t size) noexcept nogil:
    """Return the length of the well-formed UTF-8 sequence at p (RFC 3629), 0 if there is none; p[0] >= 0x80."""
    cdef uint8_t c = p[0]
    cdef uint8_t low = 0x80, high = 0xBF
    cdef size_t n, i
    if 0xC2 <= c <= 0xDF:
        n = 2
    elif 0xE0 <= c <= 0xEF:
        n = 3
        if c == 0xE0:
            low = 0xA0
        elif c == 0xED:
            high = 0x9F
    elif 0xF0 <= c <= 0xF4:
        n = 4
        if c == 0xF0:
            low = 0x90
        elif c == 0xF4:
            high = 0x8F
    else:
        return 0
    if n > size or not low <= p[1] <= high:
        return 0
    for i in range(2, n):
        if p[i] & 0xC0 != 0x80:
            return 0
    return n


cdef uint8_t* put_text(uint8_t* out, const uint8_t* p, size_t size) noexcept nogil:
    """Write the inside of a JSON string; at most six bytes for each one of p. Return the end."""
    cdef size_t at = 0, n
    cdef uint8_t c
    cdef uint64_t word
    while at < size:
        if size - at >= 8:      # eight at once; the next step overwrites the bytes behind the plain ones
            memcpy(&word, p + at, 8)
            memcpy(out, &word, 8)
            n = plain_bytes(word)
            out += n
            at += n
            if n == 8:
                continue
        c = p[at]
        if PLAIN[c]:
            out[0] = c
            out += 1
            at += 1
            continue
        if c < 0x80:
            if c == 92 and at + 3 < size and p[at + 1] == 120 and is_hex(p[at + 2]) and is_hex(p[at + 3]):
                out = put(out, b"\\\\x5c")
            elif c == 92 or c == 34:
                out[0] = 92
                out[1] = c
                out += 2
            else:
                out = put(out, b"\\u00")
                out[0] = HEX[c >> 4]
                out[1] = HEX[c & 15]
                out += 2
            at += 1
            continue
        n = utf8_length(p + at, size - at)
        if n == 0:
            out = put(out, b"\\\\x")
            out[0] = HEX[c >> 4]
            out[1] = HEX[c & 15]
            out += 2
            at += 1
        elif c == 0xC2 and p[at + 1] < 0xA0:            # C1 controls
            out = put(out, b"\\u00")
            out[0] = HEX[p[at + 1] >> 4]
            out[1] = HEX[p[at + 1] & 15]
            out += 2
            at += 2
        elif c == 0xE2 and p[at + 1] == 0x80 and (p[at + 2] == 0xA8 or p[at + 2] == 0xA9):
            out = put(out, b"\\u2028" if p[at + 2] == 0xA8 else b"\\u2029")
            at += 3
        else:
            memcpy(out, p + at, n)
            out += n
            at += n
    return out


def text_json(bytes text not None):
    """Return the JSON string (with its quotes) in which these bytes of the wire appear in an event."""
    cdef bytes out = PyBytes_FromStringAndSize(NULL, 6 * len(text) + 2)
    cdef uint8_t* start = <uint8_t*>PyBytes_AS_STRING(out)
    cdef uint8_t* end
    start[0] = 34
    end = put_text(start + 1, <const uint8_t*>PyBytes_AS_STRING(text), len(text))
    end[0] = 34
    return out[:end + 1 - start]
