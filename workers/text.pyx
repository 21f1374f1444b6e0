# cython: language_level=3
"""Bytes of the wire as JSON text.

Text from the wire is UTF-8 as it stands. A byte that is not is written as the four characters \\xNN, and so that this can be
undone, a backslash of the wire that stands before x and two hexadecimal digits is written as \\x5c. Control characters, DEL,
C1 controls and the line separators U+2028 and U+2029 are JSON escapes: an event is one line and never moves a terminal.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

cdef const char* HEX = b"0123456789abcdef"
cdef uint8_t[256] PLAIN         # bytes that stand for themselves in a JSON string
for c in range(32, 127):
    PLAIN[c] = chr(c) not in '"\\'


cdef inline bint is_hex(uint8_t c) noexcept nogil:
    return 48 <= c <= 57 or 97 <= (c | 0x20) <= 102


cdef size_t utf8_length(const uint8_t* p, size_t size) noexcept nogil:
    """Bytes of the well-formed UTF-8 sequence at p (RFC 3629), 0 if there is none; p[0] >= 0x80."""
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
    """The inside of a JSON string; at most six bytes for each one of p."""
    cdef size_t at = 0, n
    cdef uint8_t c
    while at < size:
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
    """The JSON string (with its quotes) in which these bytes of the wire appear in an event."""
    cdef bytes out = PyBytes_FromStringAndSize(NULL, 6 * len(text) + 2)
    cdef uint8_t* start = <uint8_t*>PyBytes_AS_STRING(out)
    cdef uint8_t* end
    start[0] = 34
    end = put_text(start + 1, <const uint8_t*>PyBytes_AS_STRING(text), len(text))
    end[0] = 34
    return out[:end + 1 - start]
