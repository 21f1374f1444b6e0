# cython: language_level=3
"""The members of events that transactions of HTTP/1 and HTTP/2 share, as JSON."""
from libc.stdint cimport uint8_t

from workers.events.json_text cimport put
from workers.events.url_json cimport Text


cdef inline uint8_t* put_bool(uint8_t* out, bint value) noexcept nogil:
    return put(out, b"true" if value else b"false")


cdef int topic_of_status(int status) noexcept
cdef uint8_t* put_mime_type(uint8_t* out, Text mime) noexcept
cdef tuple told_body(facts)
cdef tuple told_files(asked, said)


cdef class HeaderChoice:
    cdef readonly bint some             # events have header fields
    cdef bint every
    cdef frozenset names                # lower-case names to report, as bytes
    cdef frozenset redacted             # lower-case names whose values are hidden, as bytes
    cdef readonly object parameters     # Parameters whose values are hidden
    cdef readonly bint hiding           # … and whether there are any

    cdef bint shows(self, bytes name) except -1
    cdef bytes value(self, bytes name, bytes value)
    cdef bytes headers_json(self, dict found)
