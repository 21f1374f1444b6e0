# cython: language_level=3
from libc.stdint cimport uint8_t, uint64_t

from workers.core.counters cimport Tally
from workers.events.http_json cimport HeaderChoice
from workers.events.record_encoder cimport RecordEncoder
from workers.events.url_json cimport Text
from workers.http2.exchange cimport Exchange, HeaderSection


cdef class ExchangeEncoder(RecordEncoder):
    cdef HeaderChoice choice
    cdef bint sniffed                   # mime_type comes from the content
    cdef list shown                     # bytes that a Text points into, for the event being written

    cdef Text text(self, HeaderSection section, int token)
    cdef bytes fields_json(self, HeaderSection section)
    cdef uint8_t* url(self, uint8_t* out, HeaderSection request) except NULL
    cdef uint8_t* message(self, uint8_t* out, Exchange exchange, int side, HeaderSection section, HeaderSection trailers,
                          tuple told) except NULL
    cdef uint8_t* own(self, uint8_t* out, Exchange exchange, tuple asked, tuple said, bytes file) except NULL
    cdef uint8_t* rpc(self, uint8_t* out, Exchange exchange) except NULL
    cdef uint8_t* http2(self, uint8_t* out, Exchange exchange) except NULL
