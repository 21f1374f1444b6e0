# cython: language_level=3
"""The bodies of an HTTP/2 exchange, as BodyReaders read them."""
from libc.stdint cimport uint32_t, uint64_t

from workers.core.counters cimport Tally
from workers.http2.exchange cimport Exchange, HeaderSection
from workers.http2.frames cimport FrameReader


cdef int begin_body(Exchange exchange, int side, HeaderSection section, bodies, uint32_t bombs) except -1
cdef int take_data(Exchange exchange, int side, FrameReader reader, uint64_t ts_ns) except -1
cdef int end_body(Exchange exchange, int side, uint32_t* bombs) except -1
cdef int count_body(facts, Tally tally) except -1
