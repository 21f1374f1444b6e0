# cython: language_level=3
"""Http2: the application that reads HTTP/2; its exchanges go to the context."""
from libc.stdint cimport int64_t, uint8_t, uint64_t

from workers.core.context cimport Context
from workers.http2.kept_connections cimport Kept, KeptConnections
from workers.http2.session cimport Session
from workers.http2.tunnels cimport Tunnels
from workers.tcp.application cimport Application, Transport
from workers.tcp.stream cimport Piece


cdef class Http2(Application):
    cdef Session session        # None: no byte has come yet
    cdef Tunnels tunnels
    cdef int client             # the side that sends requests
    cdef int kind               # of HTTP/2, a place in stats.NOT_HTTP
    cdef bint[2] begun          # by side: its first bytes were HTTP/2
    cdef bint[2] lost           # … bytes before them are missing
    cdef int64_t[2] starts      # … offset of its first byte
    cdef uint64_t[2] octets     # … bytes so far
    cdef KeptConnections keeper     # None: the connection is not kept for a successor of this process
    cdef Kept kept

    cdef int begin(self, int client, bint client_joined, bint server_joined, Context cx) except -1
    cdef int join(self, int client, Context cx) except -1
    cdef int read(self, int client, bint client_joined, bint server_joined, Context cx) except -1
    cdef int resume(self, KeptConnections keeper, int client, Context cx) except -1
    cdef int meet(self, int side, const Piece* piece, Context cx) except -1
    cdef int leave(self) noexcept
    cdef int speaker(self, int side) noexcept
    cdef bint begins(self, int side, const Piece* piece) noexcept
    cdef int yield_to_fallback(self, int side, Context cx) except -1


cdef bint begins_settings(const uint8_t* p, size_t size) noexcept nogil
cdef int enter_http2(Transport transport, int client, list fields, uint64_t first_ns, uint64_t last_ns, bytes settings,
                     int64_t ahead, Context cx) except -1
