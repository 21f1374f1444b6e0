# cython: language_level=3
"""Table: the connections of one worker, and its clock."""
from libc.stdint cimport uint32_t, uint64_t

from appliance.flow cimport FlowKey
from workers.connection cimport Connection, Ending
from workers.limits cimport Limits
from workers.tally cimport Tally


cdef struct Entry:
    uint32_t tag                # high half of the flow hash
    uint32_t slot               # place in Table.connections, plus 1; 0: empty


cdef struct Link:               # of a slot in the list of its wheel bucket
    uint32_t next               # slot plus 1, 0: none
    uint32_t previous
    uint32_t bucket


cdef class Table:
    cdef Limits limits
    cdef Tally tally
    cdef readonly uint64_t now  # ns: the highest frame time stamp so far
    cdef uint64_t next_look     # when advance() has something to do
    cdef uint64_t tick          # of the wheel: seconds, all before it are done
    cdef Entry* entries
    cdef uint64_t mask
    cdef uint64_t used
    cdef list connections       # by slot; None where free
    cdef list free
    cdef Link* links
    cdef uint32_t links_size
    cdef uint32_t* buckets      # first slot plus 1 of each second of the wheel
    cdef object waiting         # deque of (ns, Connection) in order of time

    cdef Connection find(self, const FlowKey* key, uint64_t hash)
    cdef Connection add(self, const FlowKey* key, uint64_t hash, int capture, list out)
    cdef int grow(self) except -1
    cdef int remove(self, Connection connection) except -1
    cdef int schedule(self, uint32_t slot, uint64_t due_ns) except -1
    cdef int unlink(self, uint32_t slot) except -1
    cdef int wait(self, Connection connection) except -1
    cdef int ended(self, Connection connection) except -1
    cdef int advance(self, uint64_t ts_ns, list out) except -1
    cdef int look(self, list out) except -1
    cdef int sweep(self, uint64_t bucket, list out) except -1
    cdef int evict(self, list out) except -1
    cdef int finish(self, Ending ending, list out) except -1
