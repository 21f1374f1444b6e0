# cython: language_level=3
"""Table: from a flow key to its Connection, and what happens when time passes.

An open-addressing hash table of 8-byte entries over the keyed flow hash that the capture made, so that hostile traffic
cannot build long chains; deletion shifts back, so that no tombstones pile up. Idle connections are found by a timer wheel
of seconds: a connection sits in the second in which it could be idle long enough; when that second comes, it is looked at
and, if it was active since, put where it belongs now. A frame moves nothing.

The clock is the highest time stamp seen: time is the frames' time, live and from a file alike.
"""
cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp

from collections import deque

from appliance.flow cimport FlowKey
from workers.connection cimport BY_EVICTION, BY_TIMEOUT, OPEN, Connection, Ending
from workers.limits cimport Limits
from workers.tally cimport Tally
from workers.transaction cimport Flow

cdef enum:
    WHEEL = 1024                # seconds; longer timeouts are looked at more than once
    FIRST_ENTRIES = 1024
    SECOND = 1000000000
    LOOK_NS = 10000000          # how often waiting connections are looked at


@cython.final
cdef class Table:
    """All connections of a worker. Finished transactions are appended to the `out` lists."""

    def __cinit__(self):
        self.mask = FIRST_ENTRIES - 1
        self.entries = <Entry*>calloc(FIRST_ENTRIES, sizeof(Entry))
        self.buckets = <uint32_t*>calloc(WHEEL, sizeof(uint32_t))
        if self.entries == NULL or self.buckets == NULL:
            raise MemoryError

    def __init__(self, Limits limits not None, Tally tally not None):
        self.limits = limits
        self.tally = tally
        self.connections = []
        self.free = []
        self.waiting = deque()

    def __dealloc__(self):
        free(self.entries)
        free(self.buckets)
        free(self.links)

    cdef Connection find(self, const FlowKey* key, uint64_t hash):
        """The connection of this flow, None if there is none."""
        cdef uint64_t at = hash & self.mask
        cdef uint32_t tag = <uint32_t>(hash >> 32)
        cdef Connection connection
        while self.entries[at].slot:
            if self.entries[at].tag == tag:
                connection = <Connection>self.connections[self.entries[at].slot - 1]
                if memcmp(&connection.flow.key, key, sizeof(FlowKey)) == 0:
                    return connection
            at = (at + 1) & self.mask
        return None

    cdef Connection add(self, const FlowKey* key, uint64_t hash, int capture, list out):
        """A new connection; the oldest idle one makes room for it if the table is full."""
        cdef Connection connection = Connection.__new__(Connection)
        cdef Flow flow = Flow.__new__(Flow)
        cdef uint32_t slot
        cdef uint64_t at
        if self.used >= self.limits.max_connections:
            self.evict(out)
        if self.used * 2 > self.mask:
            self.grow()
        flow.key = key[0]
        flow.capture = capture
        connection.open(flow, hash)
        connection.last_ns = self.now
        if self.free:
            slot = self.free.pop()
            self.connections[slot] = connection
        else:
            slot = <uint32_t>len(self.connections)
            self.connections.append(connection)
            if slot >= self.links_size:
                self.links_size = max(1024, 2 * self.links_size)
                self.links = <Link*>realloc(self.links, self.links_size * sizeof(Link))
                if self.links == NULL:
                    raise MemoryError
        connection.slot = slot
        at = hash & self.mask
        while self.entries[at].slot:
            at = (at + 1) & self.mask
        self.entries[at].slot = slot + 1
        self.entries[at].tag = <uint32_t>(hash >> 32)
        self.used += 1
        self.schedule(slot, self.now + self.limits.idle_timeout_ns)
        self.tally.flows_opened += 1
        self.tally.flows = self.used
        return connection

    cdef int grow(self) except -1:
        cdef uint64_t size = 2 * (self.mask + 1), mask = size - 1, at
        cdef Entry* entries = <Entry*>calloc(size, sizeof(Entry))
        cdef Connection connection
        if entries == NULL:
            raise MemoryError
        for connection in self.connections:
            if connection is None:
                continue
            at = connection.hash & mask
            while entries[at].slot:
                at = (at + 1) & mask
            entries[at].slot = connection.slot + 1
            entries[at].tag = <uint32_t>(connection.hash >> 32)
        free(self.entries)
        self.entries = entries
        self.mask = mask
        return 0

    cdef int remove(self, Connection connection) except -1:
        """Takes a connection out; its slot is free at once."""
        cdef uint64_t at = connection.hash & self.mask, hole, home
        cdef Connection other
        while self.entries[at].slot != connection.slot + 1:
            at = (at + 1) & self.mask
        hole = at
        while True:                     # close the hole: move back whoever may stand there
            at = (at + 1) & self.mask
            if self.entries[at].slot == 0:
                break
            other = <Connection>self.connections[self.entries[at].slot - 1]
            home = other.hash & self.mask
            if ((at - home) & self.mask) >= ((at - hole) & self.mask):
                self.entries[hole] = self.entries[at]
                hole = at
        self.entries[hole].slot = 0
        self.unlink(connection.slot)
        self.connections[connection.slot] = None
        self.free.append(connection.slot)
        self.used -= 1
        self.tally.flows = self.used
        return 0

    cdef int schedule(self, uint32_t slot, uint64_t due_ns) except -1:
        """Puts a slot in the wheel's second of due_ns, or as far ahead as the wheel reaches."""
        cdef uint64_t second = due_ns // SECOND + 1
        cdef uint32_t bucket
        second = min(max(second, self.tick + 1), self.tick + WHEEL - 1)
        bucket = <uint32_t>(second % WHEEL)
        self.links[slot].bucket = bucket
        self.links[slot].previous = 0
        self.links[slot].next = self.buckets[bucket]
        if self.buckets[bucket]:
            self.links[self.buckets[bucket] - 1].previous = slot + 1
        self.buckets[bucket] = slot + 1
        return 0

    cdef int unlink(self, uint32_t slot) except -1:
        cdef Link link = self.links[slot]
        if link.previous:
            self.links[link.previous - 1].next = link.next
        else:
            self.buckets[link.bucket] = link.next
        if link.next:
            self.links[link.next - 1].previous = link.previous
        return 0

    cdef int wait(self, Connection connection) except -1:
        """The connection waits for something: look at it again soon."""
        if not connection.queued:
            connection.queued = True
            self.waiting.append((self.now + LOOK_NS, connection))
            self.next_look = min(self.next_look, self.now + LOOK_NS)
        return 0

    cdef int ended(self, Connection connection) except -1:
        """A finished connection stays a little, so that late copies of its frames do not look like a new one."""
        self.unlink(connection.slot)
        self.schedule(connection.slot, self.now + self.limits.closed_linger_ns)
        return 0

    cdef int advance(self, uint64_t ts_ns, list out) except -1:
        """Moves the clock; time never goes back."""
        if ts_ns > self.now:
            self.now = ts_ns
            if self.now >= self.next_look:
                self.look(out)
        return 0

    cdef int look(self, list out) except -1:
        """Looks at everything whose time has come."""
        cdef Connection connection
        cdef uint64_t second = self.now // SECOND, done = 0
        if self.tick == 0:
            self.tick = second
        while self.waiting:
            due, connection = self.waiting[0]
            if due > self.now:
                break
            self.waiting.popleft()
            connection.queued = False
            if connection.ending == OPEN:
                connection.expire(self.now, self.limits, self.tally, out)
                if connection.ending != OPEN:
                    self.ended(connection)
                elif connection.waits():
                    self.wait(connection)
        while self.tick < second and done < WHEEL:
            self.tick += 1
            done += 1
            self.sweep(self.tick % WHEEL, out)
        self.tick = second
        self.next_look = self.now + LOOK_NS if self.waiting else (second + 1) * SECOND
        return 0

    cdef int sweep(self, uint64_t bucket, list out) except -1:
        """Removes what is idle in this second of the wheel, and puts the rest where it belongs."""
        cdef uint32_t slot = self.buckets[bucket], following
        cdef Connection connection
        cdef uint64_t due
        while slot:
            following = self.links[slot - 1].next
            connection = <Connection>self.connections[slot - 1]
            due = connection.last_ns + (
                self.limits.idle_timeout_ns if connection.ending == OPEN else self.limits.closed_linger_ns)
            if due <= self.now:
                connection.finish(BY_TIMEOUT, self.now, self.limits, self.tally, out)
                self.remove(connection)
            else:
                self.unlink(slot - 1)
                self.schedule(slot - 1, due)
            slot = following
        return 0

    cdef int evict(self, list out) except -1:
        """Throws out the connection that is idle longest, within the wheel's second."""
        cdef uint64_t second
        cdef int ahead
        cdef uint32_t slot
        cdef Connection connection
        cdef uint64_t due
        for ahead in range(1, WHEEL + 1):
            second = self.tick + ahead
            while self.buckets[second % WHEEL]:
                slot = self.buckets[second % WHEEL] - 1
                connection = <Connection>self.connections[slot]
                due = connection.last_ns + (
                    self.limits.idle_timeout_ns if connection.ending == OPEN else self.limits.closed_linger_ns)
                if due // SECOND + 1 > second and ahead < WHEEL - 1:
                    self.unlink(slot)
                    self.schedule(slot, due)
                    continue
                connection.finish(BY_EVICTION, self.now, self.limits, self.tally, out)
                self.remove(connection)
                return 0
        return 0

    cdef int finish(self, Ending ending, list out) except -1:
        """Ends every connection: nothing more will come."""
        cdef Connection connection
        for connection in self.connections:
            if connection is not None:
                connection.finish(ending, self.now, self.limits, self.tally, out)
                self.remove(connection)
        self.waiting.clear()
        return 0
