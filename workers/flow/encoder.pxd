# cython: language_level=3
from libc.stdint cimport uint8_t

from workers.events.record_encoder cimport RecordEncoder
from workers.tcp.flow_record cimport FlowRecord


cdef class FlowEncoder(RecordEncoder):
    cdef list protocols         # by Spoken: network.protocol; empty: unknown
    cdef list applications      # … and the JSON of appliance.flow.application, with a comma behind
    cdef list states            # by FlowState: its JSON

    cdef uint8_t* own(self, uint8_t* out, FlowRecord record) noexcept
