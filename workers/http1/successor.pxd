# cython: language_level=3
"""The successor of HTTP/1 on a connection."""
from libc.stdint cimport int64_t

from workers.core.context cimport Context
from workers.http1.message cimport Message
from workers.http1.message_reader cimport MessageReader
from workers.http1.resync cimport Input
from workers.tcp.application cimport Application, Transport
from workers.tcp.stream cimport Piece

cdef int enter_behind(Transport transport, int client, Message request, Message response, int index, int64_t client_at,
                      Context cx) except -1
cdef Piece rest_of(const Piece* piece, const Input* source) noexcept
cdef bint begins_another(Transport transport, int side, const Piece* piece, const Input* source, Context cx) except -1
cdef bint is_preface(Message message) except -1
cdef int enter_at_preface(Transport transport, int client, Message preface, bint server_seen, Context cx) except -1
cdef bint resumes(Application application, MessageReader reader, int side, const Piece* piece, Context cx) except -1
