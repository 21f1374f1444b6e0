# cython: language_level=3
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from workers.events.http_json cimport HeaderChoice
from workers.events.record_encoder cimport RecordEncoder
from workers.http1.message cimport Message, Span
from workers.core.counters cimport Tally
from workers.http1.transaction cimport Transaction

cdef class TransactionEncoder(RecordEncoder):
    cdef HeaderChoice choice
    cdef uint32_t max_headers
    cdef bint sniffed                   # mime_type comes from the content

    cdef int hide(self, Message message) except -1
    cdef bytes headers_json(self, Message message)
    cdef uint8_t* url(self, uint8_t* out, Message request, bint secure) noexcept
    cdef uint8_t* request(self, uint8_t* out, Message request, bytes headers) noexcept
    cdef uint8_t* response(self, uint8_t* out, Message response, bytes headers) noexcept
    cdef uint8_t* own(self, uint8_t* out, Transaction transaction, uint64_t anomalies, bint grpc, bytes file) except NULL
