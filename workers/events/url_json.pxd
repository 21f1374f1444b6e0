# cython: language_level=3
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t

from workers.events.json_text cimport put, put_text


cdef struct Text:               # bytes of the wire; p NULL: unknown
    const uint8_t* p
    size_t size


cdef inline Text text_of(bytes text) noexcept:
    """Return the bytes of an object, which its caller keeps."""
    cdef Text out
    out.p = <const uint8_t*>PyBytes_AS_STRING(text)
    out.size = PyBytes_GET_SIZE(text)
    return out


cdef inline uint8_t* put_member(uint8_t* out, const char* start, Text text) noexcept nogil:
    """Write a member whose value is a text, with a comma behind."""
    return put(put_text(put(out, start), text.p, text.size), b'",')


cdef uint8_t* put_url(uint8_t* out, Text target, Text authority, Text scheme, bint connects) noexcept nogil
