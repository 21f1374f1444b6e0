# cython: language_level=3
"""Table: the connections of one data path, and their timers."""
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from appliance.wire.flow_key cimport FlowKey
from workers.tcp.application cimport Applications
from workers.tcp.connection cimport Connection, Ending
from workers.core.context cimport Context


cdef struct Entry:
    PyObject* connection        # borrowed from Table.connections; NULL: empty
    uint32_t tag                # high half of the flow hash


cdef struct Link:               # of a slot in a list: that of its wheel bucket, or that of the half-open connections
    uint32_t next               # slot plus 1, 0: none
    uint32_t previous
    uint32_t bucket


cdef enum:
    FAR = 32                    # frames that prefetch_ahead() looks ahead: a power of two


cdef class Table:
    cdef Context cx
    cdef Applications applications      # make the application of each connection
    cdef uint64_t next_look     # clock of the next call of look()
    cdef uint64_t tick          # of the wheel: seconds, all before it are done
    cdef Entry* entries
    cdef uint64_t mask
    cdef uint64_t[FAR] coming   # flow hashes of the next frames
    cdef uint32_t step          # of prefetch_ahead()
    cdef uint64_t used
    cdef uint64_t half_open
    cdef list connections       # by slot; None where free
    cdef list free
    cdef Py_ssize_t finished    # finish() has ended the connections of the slots before this one
    cdef Link* links
    cdef Link* attempts         # the half-open connections, oldest first
    cdef uint32_t links_size
    cdef uint32_t oldest_attempt    # slot plus 1, 0: none
    cdef uint32_t newest_attempt
    cdef uint32_t* buckets      # first slot plus 1 of each second of the wheel
    cdef object waiting         # deque of (ns, Connection) in order of time
    cdef object closing         # the same for connections with a FIN that waits for its acknowledgement
    cdef list longest           # [(…, Connection)] left for release_over_limit(); the last one has waited longest

    cdef int prefetch_ahead(self, uint64_t hash) noexcept
    cdef PyObject* likely(self, uint64_t hash) noexcept
    cdef Connection find(self, const FlowKey* key, uint64_t hash)
    cdef Connection add(self, const FlowKey* key, uint64_t hash, int capture)
    cdef Connection replace(self, Connection connection)
    cdef int more_links(self) except -1
    cdef int queue_half_open(self, Connection connection) except -1
    cdef int established(self, Connection connection) except -1
    cdef int end_slot(self, uint32_t slot, Ending ending) except -1
    cdef int grow(self) except -1
    cdef int remove(self, Connection connection) except -1
    cdef int schedule(self, uint32_t slot, uint64_t due_ns) except -1
    cdef int unlink(self, uint32_t slot) except -1
    cdef int queue_check(self, Connection connection) except -1
    cdef int await_more(self, Connection connection) except -1
    cdef int watch(self, Connection connection) except -1
    cdef int ended(self, Connection connection) except -1
    cdef int advance(self, uint64_t ts_ns) except -1
    cdef int run_timers(self, Connection connection) except -1
    cdef int run_due_timers(self) except -1
    cdef int release_over_limit(self) except -1
    cdef uint64_t due(self, Connection connection) noexcept
    cdef uint64_t first_visit(self) noexcept
    cdef int sweep(self, uint64_t bucket) except -1
    cdef int evict(self) except -1
    cdef bint finish(self, Ending ending, uint64_t most) except -1
