# cython: language_level=3
"""Text of the wire as JSON, and the literals around it."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy, strlen


cdef inline uint8_t* put(uint8_t* out, const char* literal) noexcept nogil:
    cdef size_t size = strlen(literal)
    memcpy(out, literal, size)
    return out + size


cdef inline uint8_t* put_bytes(uint8_t* out, bytes text) noexcept:
    memcpy(out, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
    return out + PyBytes_GET_SIZE(text)


cdef inline uint8_t* put_hex(uint8_t* out, uint64_t value) noexcept nogil:
    """Write all 16 digits."""
    cdef int i
    for i in range(16):
        out[i] = b"0123456789abcdef"[value >> (60 - 4 * i) & 15]
    return out + 16


cdef inline uint8_t* put_number(uint8_t* out, uint64_t value) noexcept nogil:
    cdef uint64_t limit = 10
    cdef int digits = 1, i
    while digits < 20 and value >= limit:
        digits += 1
        limit *= 10             # overflows 64 bits at the twentieth digit, where the loop ends
    for i in range(digits - 1, -1, -1):
        out[i] = <uint8_t>(48 + value % 10)
        value //= 10
    return out + digits


cdef uint8_t* put_text(uint8_t* out, const uint8_t* p, size_t size) noexcept nogil
