# cython: language_level=3
"""InnerTransport: the plaintext of a TLS connection as a transport of its own."""
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

from workers.core.context cimport Context
from workers.core.flow cimport Flow
from workers.tcp.application cimport Transport


cdef struct Place:              # the end of a record
    int64_t outer               # offset behind it in the stream below
    int64_t inner               # … and in the plaintext


cdef struct Places:
    Place* at
    uint32_t count
    uint32_t room
    bint forgotten              # older ones are gone


cdef class InnerTransport(Transport):
    cdef PyObject* outer        # the Transport below; borrowed
    cdef Places[2] places       # of each side
    cdef bint[2] ended

    cdef int enter(self, int side, const unsigned char* data, uint32_t size, uint64_t ts_ns, int64_t outer_ack,
                   Context cx) except -1
    cdef int lose(self, int side, int64_t count, Context cx) except -1
    cdef int finish_side(self, int side, Context cx) except -1
    cdef int close(self, Context cx) except -1
    cdef int note(self, int side, int64_t outer) except -1
    cdef int64_t offset_of(self, int side, int64_t outer) noexcept
    cdef int request_timeouts(self) noexcept


cdef InnerTransport inner_transport(Transport outer)
