# cython: language_level=3
"""Flow: the part of a connection that its events show."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from appliance.wire.flow_key cimport FlowKey
from workers.core.backlog_share cimport Taken


cdef class Flow:
    cdef FlowKey key
    cdef uint64_t begun_ns      # as in Transport
    cdef int capture            # which interface it was first seen on
    cdef bint client_low        # the client is the lower endpoint of the key
    cdef bint midstream
    cdef bint secure            # its events come from inside TLS
    cdef uint32_t turns         # as in Connection, and so is `again`: connections on the same ports differ in these or in time
    cdef uint32_t again
    cdef int shed               # share of the new flows that was left out when it began, in 256ths
    cdef uint32_t transactions  # begun so far
    cdef bytes json             # the encoders' rendering of all this, made once
    cdef Py_ssize_t protocol_at  # … and where it lacks the protocol
    cdef uint64_t[2] identity   # the encoder's digest of the endpoints, for event ids
    cdef uint8_t[32] connection     # … and appliance.connection, in hexadecimal digits
    cdef Taken taken            # the part of the backlog that its events take
