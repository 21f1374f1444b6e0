# cython: language_level=3
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from workers.message cimport Message, Span
from workers.tally cimport Tally
from workers.transaction cimport Transaction

cdef enum:
    TOPICS = 6


cdef struct Output:             # the growing body of one topic
    uint8_t* data
    size_t used
    size_t capacity
    uint64_t events


cdef class Encoder:
    cdef Output outputs[TOPICS]
    cdef list full                      # (topic, events, body) of those that reached the limit
    cdef size_t limit                   # bytes of a body
    cdef readonly uint64_t events       # waiting for take(), all topics
    cdef readonly uint64_t size         # their bytes
    cdef list observers                 # by interface: this sensor and where it captured, as JSON
    cdef bint all_headers
    cdef frozenset headers              # lower-case names to report, as bytes
    cdef object parameters              # Parameters whose values are hidden
    cdef bint hiding                    # … there are some
    cdef uint32_t max_headers
    cdef bint sniffed                   # mime_type comes from the content
    cdef frozenset redacted             # lower-case names whose values are hidden, as bytes
    cdef uint64_t second                # the second that second_text shows
    cdef uint8_t[20] second_text        # "2026-11-22T10:00:00"

    cdef int write(self, Transaction transaction, Tally tally) except -1
    cdef int close(self, int topic, size_t end) except -1
    cdef int hide(self, Message message) except -1
    cdef bytes headers_json(self, Message message)
    cdef uint8_t* time(self, uint8_t* out, uint64_t ns) noexcept
    cdef uint8_t* url(self, uint8_t* out, Message request) noexcept
    cdef uint8_t* request(self, uint8_t* out, Message request, bytes headers) noexcept
    cdef uint8_t* response(self, uint8_t* out, Message response, bytes headers) noexcept
    cdef uint8_t* own(self, uint8_t* out, Transaction transaction, uint64_t anomalies) except NULL
