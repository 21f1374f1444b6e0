# cython: language_level=3
"""Detection of protocols, and the applications that only count: Detector, Opaque, Tunnel."""
from libc.stdint cimport int64_t, uint8_t

from workers.core.context cimport Context
from workers.tcp.application cimport Application, Applications, Transport
from workers.tcp.stream cimport Piece

cdef enum:
    LONGEST_BEGINNING = 32              # bytes that suffice to know a protocol


cdef class Protocol:
    cdef readonly str name
    cdef readonly int kind              # its place in stats.NOT_HTTP; OTHER: it has none
    cdef readonly tuple beginnings      # (bytes, …): the possible first bytes of a direction
    cdef readonly bytes starters        # bytes with which it may begin inside of another protocol

    cdef bint begins(self, const uint8_t* p, size_t size, bint midstream) except *
    cdef bint may_begin(self, const uint8_t* p, size_t size, bint midstream) except *
    cdef bint begins_inside(self, const uint8_t* p, size_t size) noexcept
    cdef bint may_begin_inside(self, const uint8_t* p, size_t size) noexcept
    cdef bint open(self, Transport transport) except -1
    cdef bint open_inside(self, Transport transport) except -1
    cdef int join(self, Transport transport, int side, int kind, int64_t start) except -1
    cdef bint resume(self, Transport transport, int side, Context cx) except -1


cdef class Protocols(Applications):
    cdef readonly tuple known           # (Protocol, …), in the order of detection
    cdef readonly Protocol fallback     # the last of them: it reads connections with the first bytes of none of the others

    cdef uint8_t[256] inside            # by byte: a protocol that may begin inside of another one begins with it

    cdef Protocol find(self, const uint8_t* p, size_t size, bint midstream)
    cdef bint may_begin(self, const uint8_t* p, size_t size, bint midstream) except *
    cdef bint resume(self, Transport transport, int side, Context cx) except -1
    cdef bint give_way(self, Transport transport, int side, const Piece* piece, int counted, Context cx) except -1
    cdef bint give_way_to(self, Transport transport, int side, const uint8_t* p, size_t size, Beginning kept,
                          const Piece* piece, int counted, Context cx) except -1
    cdef int kind_of(self, const uint8_t* p, size_t size) except -1


cdef class Beginning:
    cdef Piece piece
    cdef int side
    cdef uint8_t[LONGEST_BEGINNING] bytes


cdef class Undecided(Application):
    cdef list held              # [Beginning]: pieces that are too few bytes to know a protocol; None: there are none
    cdef int side               # … of these

    cdef int decide(self, int side, Protocol protocol, int64_t start, Context cx) except -1
    cdef bint hold(self, int side, const Piece* piece, Context cx) except -1
    cdef int let_go(self, Context cx) except -1
    cdef int pass_held(self, Context cx) except -1


cdef class Detector(Undecided):
    pass


cdef class Opaque(Undecided):
    cdef int[2] kinds           # by side: its protocol, a place in stats.NOT_HTTP; OTHER: no byte of it came yet
    cdef int64_t[2] starts      # … offset of its first byte

    cdef int yield_to_fallback(self, int side) except -1


cdef class Tunnel(Application):
    pass


cdef Opaque opaque(int low, int high)
cdef bint give_way(Transport transport, int side, const Piece* piece, int counted, Context cx) except -1
cdef int enter_tunnel(Transport transport, int client, int64_t ahead, Context cx) except -1
