# cython: language_level=3
"""KeptConnections: snapshots of connections in memory that outlives the process."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from appliance.wire.flow_key cimport FlowKey
from workers.core.context cimport Context
from workers.core.keeper cimport Keeper
from workers.http2.connection cimport Http2Connection
from workers.http2.snapshot cimport Snapshot
from workers.tcp.application cimport Transport
from workers.tcp.stream cimport Stream

cdef enum:
    MOST_BYTES = 1 << 20        # between a snapshot and the first byte that the successor gets, in either direction


cdef struct SlotHead:
    FlowKey key
    uint64_t tries              # processes that resumed from its snapshots since the newest was made


cdef class Kept:                # a connection that is followed
    cdef Http2Connection connection
    cdef Stream* streams        # of TCP, by LOW and HIGH; NULL: it has ended
    cdef FlowKey key
    cdef int client             # the side of TCP that sends requests
    cdef int32_t slot           # of its snapshots; -1: it has none
    cdef int newer              # of the slot's snapshots, 0 or 1
    cdef bint resumed           # from a snapshot, and no other was made yet
    cdef bint changed           # since its last snapshot
    cdef bint refused           # it is counted as one without room
    cdef bint[2] begun          # by side of TCP: it has sent HTTP/2
    cdef bint[2] awaited        # … its first byte behind the snapshot has not come yet
    cdef uint32_t[2] expected   # … which has this number

    cdef int64_t ahead(self, int side, uint32_t seq) noexcept


cdef class KeptConnections(Keeper):
    cdef object memory
    cdef object allocate        # allocate(slots) returns whether that many have memory
    cdef Py_buffer view
    cdef uint8_t* base          # NULL: nothing is kept
    cdef uint32_t most          # slots that the memory has
    cdef uint32_t made          # slots that have memory
    cdef uint64_t serial        # of the newest snapshots
    cdef uint64_t* used         # by slot: clock at its newest snapshot
    cdef uint64_t crowded_until     # no slot is older than others then
    cdef list owners            # by slot: its Kept; a key: of a connection that was not resumed yet; None: it is free
    cdef list free
    cdef dict found             # {key: slot} of these
    cdef list changes           # [Kept]
    cdef list left              # slots of connections that have ended in this batch, which may come again
    cdef uint64_t restored
    cdef uint64_t refused
    cdef uint64_t no_room
    cdef uint64_t evicted

    cdef Kept follow(self, Transport transport, Http2Connection connection, int client)
    cdef int leave(self, Kept kept) noexcept
    cdef const Snapshot* find(self, Transport transport, int side, Context cx) except? NULL
    cdef Kept resume(self, Transport transport, Http2Connection connection)
    cdef int take_over(self) except -1
    cdef SlotHead* head(self, uint32_t slot) noexcept
    cdef Snapshot* snapshot(self, uint32_t slot, int which) noexcept
    cdef Snapshot* newest(self, uint32_t slot) noexcept
    cdef int write(self, Kept kept, Context cx) noexcept
    cdef int32_t place(self, Kept kept, uint64_t now) except -2
    cdef int32_t evict(self, uint64_t now) except -2
    cdef int forget(self, int32_t slot) noexcept
    cdef int drop(self, int32_t slot) noexcept


cdef inline int note(KeptConnections keeper, Kept kept) except -1:
    """Note that a connection has changed."""
    if not kept.changed:
        kept.changed = True
        keeper.changes.append(kept)
    return 0
