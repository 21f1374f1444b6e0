# cython: language_level=3
"""FlowRecord: the content of a flow event, as of one moment."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from workers.core.context cimport Context
from workers.core.flow cimport Flow
from workers.tcp.connection cimport Connection
from workers.tcp.flow_counts cimport Amount, Counts, Past

cdef enum FlowState:            # places in stats.FLOW_STATES
    STILL_OPEN
    STATE_FIN
    STATE_RST
    STATE_IDLE
    STATE_EVICTED
    STATE_REUSED
    STATE_SHUTDOWN


cdef class FlowRecord:
    cdef Flow flow
    cdef Amount[2] total        # by side: the client first
    cdef Amount[2] since        # … since the last event
    cdef uint64_t[2] repeated
    cdef uint64_t[2] missing
    cdef uint64_t begun_ns      # time stamps of its frames
    cdef uint64_t end_ns
    cdef uint64_t handshake_ns  # plus 1; 0: unknown
    cdef uint32_t index         # among the flow events of its connection
    cdef uint32_t transactions
    cdef uint32_t transactions_since
    cdef uint8_t state          # FlowState
    cdef uint8_t spoken         # its protocol, see counts.pxd; SPOKEN_END: QUIC
    cdef bint one_sided


cdef int fill(FlowRecord record, Counts* counts, Past** place, int client, bint final, Context cx) except -1
cdef uint64_t unreported(const Counts* counts, const Past* past) noexcept
cdef uint64_t report_due(Connection connection, Context cx) noexcept
cdef int report(Connection connection, bint final, Context cx) except -1
cdef int discard(Connection connection, Context cx) noexcept
cdef int note_handshake(Connection connection, int side, uint64_t ts_ns) except -1
