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


cdef inline uint8_t* put_number(uint8_t* out, uint64_t value) noexcept nogil:
    cdef uint8_t[20] digits
    cdef int i = 20
    while True:
        i -= 1
        digits[i] = <uint8_t>(48 + value % 10)
        value //= 10
        if value == 0:
            break
    memcpy(out, &digits[i], 20 - i)
    return out + (20 - i)


cdef uint8_t* put_text(uint8_t* out, const uint8_t* p, size_t size) noexcept nogil
