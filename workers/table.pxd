# cython: language_level=3
"""Table: the connections of one data path, and what happens when time passes."""
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from appliance.flow cimport FlowKey
from workers.connection cimport Connection, Ending
from workers.context cimport Context


cdef struct Entry:
    PyObject* connection        # borrowed from Table.connections; NULL: empty
    uint32_t tag                # high half of the flow hash


cdef struct Link:               # of a slot in a list: that of its wheel bucket, or that of the attempts
    uint32_t next               # slot plus 1, 0: none
    uint32_t previous
    uint32_t bucket


cdef enum:
    FAR = 32                    # frames that warm() looks ahead: a power of two


cdef class Table:
    cdef Context cx
    cdef uint64_t next_look     # when advance() has something to do
    cdef uint64_t tick          # of the wheel: seconds, all before it are done
    cdef Entry* entries
    cdef uint64_t mask
    cdef uint64_t[FAR] coming   # flow hashes of the next frames
    cdef uint32_t step          # of warm()
    cdef uint64_t used
    cdef uint64_t half_open
    cdef list connections       # by slot; None where free
    cdef list free
    cdef Link* links
    cdef Link* attempts         # the half-open connections, oldest first
    cdef uint32_t links_size
    cdef uint32_t oldest_attempt    # slot plus 1, 0: none
    cdef uint32_t newest_attempt
    cdef uint32_t* buckets      # first slot plus 1 of each second of the wheel
    cdef object waiting         # deque of (ns, Connection) in order of time
    cdef list longest           # [(…, Connection)], last: who has waited longest; what relieve() has left to do

    cdef Connection make(self, const FlowKey* key, int capture)
    cdef int warm(self, uint64_t hash) noexcept
    cdef PyObject* met(self, uint64_t hash) noexcept
    cdef Connection find(self, const FlowKey* key, uint64_t hash)
    cdef Connection add(self, const FlowKey* key, uint64_t hash, int capture)
    cdef Connection replace(self, Connection connection)
    cdef int more_links(self) except -1
    cdef int attempt(self, Connection connection) except -1
    cdef int established(self, Connection connection) except -1
    cdef int throw_out(self, uint32_t slot, Ending ending) except -1
    cdef int grow(self) except -1
    cdef int remove(self, Connection connection) except -1
    cdef int schedule(self, uint32_t slot, uint64_t due_ns) except -1
    cdef int unlink(self, uint32_t slot) except -1
    cdef int wait(self, Connection connection) except -1
    cdef int ended(self, Connection connection) except -1
    cdef int advance(self, uint64_t ts_ns) except -1
    cdef int look(self) except -1
    cdef int relieve(self) except -1
    cdef uint64_t due(self, Connection connection) noexcept
    cdef int sweep(self, uint64_t bucket) except -1
    cdef int evict(self) except -1
    cdef int finish(self, Ending ending) except -1
