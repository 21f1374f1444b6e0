# cython: language_level=3
"""RecordEncoder: appends the events of one kind of record to an EventBody."""
from libc.stdint cimport uint8_t, uint64_t

from workers.core.counters cimport Tally
from workers.core.flow cimport Flow
from workers.events.event_body cimport EventBody

cdef enum:
    COMMON_BYTES = 1024         # more than begin() writes, without Flow.json


cdef class RecordEncoder:
    cdef readonly str dataset   # of appliance.stats.names.DATASETS
    cdef EventBody body
    cdef int topic              # place of the dataset's first topic in appliance.stats.names.TOPICS
    cdef uint64_t salt          # makes event ids of datasets differ
    cdef bytes kind             # members of `event` that are the same in all events of the dataset, as JSON
    cdef bytes protocol         # network.protocol
    cdef list observers         # by interface: the sensor and its interface, as JSON

    cdef int write(self, record, Tally tally) except -1
    cdef int omit(self, record, Tally tally) except -1
    cdef bint refuses(self, int topic, record, Flow flow, Tally tally) except -1
    cdef size_t prepare(self, Flow flow) except 0
    cdef uint8_t* begin(self, uint8_t* out, Flow flow, bytes protocol, uint64_t first_ns, uint64_t end_ns,
                        uint64_t index, const char* outcome) noexcept
    cdef int finish(self, int topic, uint8_t* out, Flow flow, Tally tally) except -1


cdef class Omitting(RecordEncoder):
    cdef RecordEncoder encoder


cdef uint8_t* put_capture(uint8_t* out, Flow flow)
