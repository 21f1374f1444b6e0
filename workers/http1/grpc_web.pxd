# cython: language_level=3
"""gRPC-Web over HTTP/1: the messages in a body, and the status behind them."""
from libc.stdint cimport uint8_t, uint32_t

from workers.core.context cimport Context
from workers.events.rpc_json cimport CallSide
from workers.http1.message cimport Message
from workers.http2.exchange cimport Messages


cdef class GrpcWebBody:
    cdef Messages messages
    cdef bytearray trailers     # the beginning of the message with them; None: there is none
    cdef object reader          # the BodyReader that options ask for; None: they ask for none
    cdef bint encoded           # the body is base64
    cdef uint8_t[4] digits      # of base64, of an unfinished group
    cdef uint32_t digit_count

    cdef int read(self, const uint8_t* p, size_t size) except -1
    cdef int read_base64(self, const uint8_t* p, size_t size) except -1


cdef bint is_grpc_web(Message message) noexcept
cdef object body_reader(Message message, uint32_t bombs, Context cx)
cdef CallSide side_of(Message message) noexcept
cdef bytes trailer_of(Message response, bytes name)
