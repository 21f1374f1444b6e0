# cython: language_level=3
"""gRPC over HTTP/2: messages, the method that is called, and the status of the call."""
from libc.stdint cimport uint8_t, uint64_t

from workers.http2.exchange cimport Exchange, HeaderSection, Messages
from workers.http2.header_list cimport HeaderList


cdef int recognize(Exchange exchange, HeaderList fields) noexcept
cdef int take_messages(Exchange exchange, int side, const uint8_t* p, uint64_t count) except -1
cdef bytearray read_messages(Messages* messages, const uint8_t* p, uint64_t count, bytearray trailers, bint web)
cdef int lose_messages(Messages* messages, uint64_t count) noexcept
cdef bytes trailer_in(bytearray trailers, bytes name)
cdef int decide(Exchange exchange) except -1
cdef object status_of(Exchange exchange)
cdef bytes message_of(Exchange exchange)
