# cython: language_level=3
"""The bodies of an HTTP/2 exchange, as BodyReaders read them."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from workers.core.counters cimport Tally
from workers.http2.exchange cimport Exchange, HeaderSection


cdef int begin_body(Exchange exchange, int side, HeaderSection section, bodies, uint32_t bombs) except -1
cdef int take_body(Exchange exchange, int side, const uint8_t* p, uint64_t count) except -1
cdef int gap_in_body(Exchange exchange, int side) except -1
cdef int end_body(Exchange exchange, int side, uint32_t* bombs) except -1
cdef int count_body(facts, Tally tally) except -1
