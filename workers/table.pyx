# cython: language_level=3
"""Table: from a flow key to its Connection, and what happens when time passes.

An open-addressing hash table of 16-byte entries over the keyed flow hash that the capture made, so that hostile traffic
cannot build long chains; deletion shifts back, so that no tombstones pile up. Idle connections are found by a timer wheel
of seconds: a connection sits in the second in which it could be idle long enough; when that second comes, it is looked at
and, if it was active since, put where it belongs now. A frame moves nothing.

The clock is the highest time stamp seen: time is the frames' time, live and from a file alike.
"""
from cpython.object cimport PyObject
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc

from collections import deque

from appliance.cache cimport fetch, prefetch
from appliance.flow cimport FlowKey, same_flow
from workers.connection cimport BY_EVICTION, BY_HALF_OPEN, BY_REUSE, BY_TIMEOUT, OPEN, Connection, Ending
from workers.context cimport Context

cdef enum:
    WHEEL = 1024                # seconds; longer timeouts are looked at more than once
    FIRST_ENTRIES = 1024
    CONNECTION_LINES = 9        # of memory, that a Connection has
    SECOND = 1000000000
    LOOK_NS = 10000000          # how often waiting connections are looked at
    LATEST = 0x4000000000000000     # the year 2116: a file may claim any time, and sums with it must not wrap


cdef uint64_t BEYOND = 0xFFFFFFFFFFFFFFFFULL    # no time stamp is so late


cdef class Table:
    """All connections of a data path. A subclass says of which kind they are."""

    def __cinit__(self):
        self.mask = FIRST_ENTRIES - 1
        self.entries = <Entry*>calloc(FIRST_ENTRIES, sizeof(Entry))
        self.buckets = <uint32_t*>calloc(WHEEL, sizeof(uint32_t))
        if self.entries == NULL or self.buckets == NULL:
            raise MemoryError

    def __init__(self, Context cx not None):
        self.cx = cx
        self.connections = []
        self.free = []
        self.waiting = deque()
        self.longest = []

    def __dealloc__(self):
        free(self.entries)
        free(self.buckets)
        free(self.links)
        free(self.attempts)

    cdef Connection make(self, const FlowKey* key, int capture):
        """A new connection of the table's kind."""
        return Connection.__new__(Connection)

    cdef int warm(self, uint64_t hash) noexcept:
        """Takes the flow hash of the frame FAR frames ahead, 0 if there is none.

        With many connections each frame finds its own one cold. What it will touch is asked for in steps, each of which
        needs what the one before has brought: entry, connection, its readers and pairer, what these hold.
        """
        cdef PyObject* found
        self.coming[self.step & (FAR - 1)] = hash
        prefetch(&self.entries[hash & self.mask])
        found = self.met(self.coming[(self.step - 10) & (FAR - 1)])
        if found != NULL:
            fetch(found, CONNECTION_LINES)
        found = self.met(self.coming[(self.step - 18) & (FAR - 1)])
        if found != NULL:
            (<Connection>found).warm(0)
        found = self.met(self.coming[(self.step - 25) & (FAR - 1)])
        if found != NULL:
            (<Connection>found).warm(1)
        found = self.met(self.coming[(self.step - 29) & (FAR - 1)])
        if found != NULL:
            (<Connection>found).warm(2)
        self.step += 1
        return 0

    cdef PyObject* met(self, uint64_t hash) noexcept:
        """The connection that a frame of this flow hash most likely belongs to; borrowed, NULL if there is none."""
        cdef uint64_t at = hash & self.mask
        cdef uint32_t tag = <uint32_t>(hash >> 32)
        while self.entries[at].connection != NULL:
            if self.entries[at].tag == tag:
                return self.entries[at].connection
            at = (at + 1) & self.mask
        return NULL

    cdef Connection find(self, const FlowKey* key, uint64_t hash):
        """The connection of this flow, None if there is none."""
        cdef uint64_t at = hash & self.mask
        cdef uint32_t tag = <uint32_t>(hash >> 32)
        cdef Connection connection
        while self.entries[at].connection != NULL:
            if self.entries[at].tag == tag:
                connection = <Connection>self.entries[at].connection
                if same_flow(&connection.key, key):
                    return connection
            at = (at + 1) & self.mask
        return None

    cdef Connection add(self, const FlowKey* key, uint64_t hash, int capture):
        """A new connection, an attempt at first; attempts and idle connections make room for it where limits are reached."""
        cdef Connection connection = self.make(key, capture)
        cdef uint32_t slot
        cdef uint64_t at
        for _ in range(2):      # the second time only above a limit that was lowered
            if self.half_open >= self.cx.limits.max_half_open and self.half_open:
                self.throw_out(self.oldest_attempt - 1, BY_HALF_OPEN)
            if self.used >= self.cx.limits.max_connections:
                self.evict()
        if self.used * 2 > self.mask:
            self.grow()
        connection.key = key[0]
        connection.hash = hash
        connection.capture = <uint16_t>capture
        connection.last_ns = self.cx.now
        if self.free:
            slot = self.free.pop()
            self.connections[slot] = connection
        else:
            slot = <uint32_t>len(self.connections)
            if slot >= self.links_size:
                self.more_links()
            self.connections.append(connection)
        connection.slot = slot
        at = hash & self.mask
        while self.entries[at].connection != NULL:
            at = (at + 1) & self.mask
        self.entries[at].connection = <PyObject*>connection
        self.entries[at].tag = <uint32_t>(hash >> 32)
        self.used += 1
        self.schedule(slot, self.cx.now + min(self.cx.limits.half_open_timeout_ns, self.cx.limits.idle_timeout_ns))
        self.attempt(connection)
        self.cx.tally.flows_opened += 1
        self.cx.tally.flows = self.used
        return connection

    cdef Connection replace(self, Connection connection):
        """The connection that has begun on the same ports, after the end of this one."""
        cdef Connection new
        cdef FlowKey key = connection.key
        cdef list early = connection.early
        connection.early = None             # they are the new one's
        connection.finish(BY_REUSE, self.cx)
        self.remove(connection)
        connection.early = early
        new = self.add(&key, connection.hash, connection.capture)
        new.succeed(connection, self.cx)
        return new

    cdef int more_links(self) except -1:
        cdef uint32_t size = max(1024, 2 * self.links_size)
        cdef void* links = realloc(self.links, size * sizeof(Link))
        cdef void* attempts
        if links == NULL:
            raise MemoryError
        self.links = <Link*>links
        attempts = realloc(self.attempts, size * sizeof(Link))
        if attempts == NULL:
            raise MemoryError
        self.attempts = <Link*>attempts
        self.links_size = size
        return 0

    cdef int attempt(self, Connection connection) except -1:
        """Puts a connection at the end of the queue of attempts."""
        cdef uint32_t slot = connection.slot
        connection.opening = True
        self.attempts[slot].next = 0
        self.attempts[slot].previous = self.newest_attempt
        if self.newest_attempt:
            self.attempts[self.newest_attempt - 1].next = slot + 1
        else:
            self.oldest_attempt = slot + 1
        self.newest_attempt = slot + 1
        self.half_open += 1
        self.cx.tally.half_open = self.half_open
        return 0

    cdef int established(self, Connection connection) except -1:
        """Takes a connection out of the queue of attempts: it is proven, or over."""
        cdef Link link = self.attempts[connection.slot]
        connection.opening = False
        if link.previous:
            self.attempts[link.previous - 1].next = link.next
        else:
            self.oldest_attempt = link.next
        if link.next:
            self.attempts[link.next - 1].previous = link.previous
        else:
            self.newest_attempt = link.previous
        self.half_open -= 1
        self.cx.tally.half_open = self.half_open
        return 0

    cdef int throw_out(self, uint32_t slot, Ending ending) except -1:
        cdef Connection connection = <Connection>self.connections[slot]
        connection.finish(ending, self.cx)
        return self.remove(connection)

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
            while entries[at].connection != NULL:
                at = (at + 1) & mask
            entries[at].connection = <PyObject*>connection
            entries[at].tag = <uint32_t>(connection.hash >> 32)
        free(self.entries)
        self.entries = entries
        self.mask = mask
        return 0

    cdef int remove(self, Connection connection) except -1:
        """Takes a connection out; its slot is free at once."""
        cdef uint64_t at = connection.hash & self.mask, hole, home
        cdef Connection other
        while self.entries[at].connection != <PyObject*>connection:
            at = (at + 1) & self.mask
        hole = at
        while True:                     # close the hole: move back whoever may stand there
            at = (at + 1) & self.mask
            if self.entries[at].connection == NULL:
                break
            other = <Connection>self.entries[at].connection
            home = other.hash & self.mask
            if ((at - home) & self.mask) >= ((at - hole) & self.mask):
                self.entries[hole] = self.entries[at]
                hole = at
        self.entries[hole].connection = NULL
        self.unlink(connection.slot)
        if connection.opening:
            self.established(connection)
        self.connections[connection.slot] = None
        self.free.append(connection.slot)
        self.used -= 1
        self.cx.tally.flows = self.used
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
            self.waiting.append((self.cx.now + LOOK_NS, connection))
            self.next_look = min(self.next_look, self.cx.now + LOOK_NS)
        return 0

    cdef int ended(self, Connection connection) except -1:
        """A finished connection stays a little, so that late copies of its frames do not look like a new one."""
        if connection.opening:
            self.established(connection)
        self.unlink(connection.slot)
        self.schedule(connection.slot, self.cx.now + self.cx.limits.closed_linger_ns)
        return 0

    cdef int advance(self, uint64_t ts_ns) except -1:
        """Moves the clock; time never goes back."""
        ts_ns = min(ts_ns, <uint64_t>LATEST)
        if ts_ns > self.cx.now:
            self.cx.now = ts_ns
            if ts_ns >= self.next_look:
                self.look()
        return 0

    cdef int look(self) except -1:
        """Looks at everything whose time has come."""
        cdef Connection connection
        cdef uint64_t second = self.cx.now // SECOND, done = 0
        if self.tick == 0:
            self.tick = second
        while self.waiting:
            due, connection = self.waiting[0]
            if due > self.cx.now:
                break
            self.waiting.popleft()
            connection.queued = False
            if connection.ending == OPEN:
                connection.expire(self.cx)
                if connection.ending != OPEN:
                    self.ended(connection)
                elif connection.waits():
                    self.wait(connection)
        while self.tick < second and done < WHEEL:
            self.tick += 1
            done += 1
            self.sweep(self.tick % WHEEL)
        self.tick = second
        self.next_look = self.cx.now + LOOK_NS if self.waiting else (second + 1) * SECOND
        return 0

    cdef int relieve(self) except -1:
        """Too much is held by all streams together: who has waited longest gives up first.

        They are put in order once for as many reliefs as there are of them, so that a flood cannot ask for it at each frame.
        """
        cdef Connection connection
        cdef int side
        cdef bint asked = False
        while self.cx.tally.pending > self.cx.limits.max_total_pending_bytes:
            if not self.longest:
                if asked:
                    return 0                # everybody has given up what there was
                asked = True
                self.longest = sorted([(BEYOND - waiting_since(connection), place, connection)
                                       for place, (_, connection) in enumerate(self.waiting)
                                       if connection.ending == OPEN])
                if not self.longest:
                    return 0
            _, _, connection = self.longest.pop()
            while connection.ending == OPEN and self.cx.tally.pending > self.cx.limits.max_total_pending_bytes:
                side = 0 if connection.streams[0].held_count else 1
                if not connection.streams[side].held_count:
                    connection.forget_early(self.cx)
                    break
                connection.give_up(side, self.cx)
                connection.drain(self.cx)
                if connection.ending != OPEN:
                    self.ended(connection)
        return 0

    cdef uint64_t due(self, Connection connection) noexcept:
        """When it has been quiet for too long."""
        if connection.ending != OPEN:
            return connection.last_ns + self.cx.limits.closed_linger_ns
        if connection.opening:
            return connection.last_ns + self.cx.limits.half_open_timeout_ns
        return connection.last_ns + self.cx.limits.idle_timeout_ns

    cdef int sweep(self, uint64_t bucket) except -1:
        """Removes what is idle in this second of the wheel, and puts the rest where it belongs."""
        cdef uint32_t slot = self.buckets[bucket], following
        cdef Connection connection
        cdef uint64_t due
        while slot:
            following = self.links[slot - 1].next
            connection = <Connection>self.connections[slot - 1]
            due = self.due(connection)
            if due <= self.cx.now:
                connection.finish(BY_TIMEOUT, self.cx)
                self.remove(connection)
            else:
                self.unlink(slot - 1)
                self.schedule(slot - 1, due)
            slot = following
        return 0

    cdef int evict(self) except -1:
        """Throws out the oldest attempt, or else the connection that is idle longest, within the wheel's second."""
        cdef uint64_t second
        cdef int ahead
        cdef uint32_t slot
        cdef uint64_t due
        if self.oldest_attempt:
            return self.throw_out(self.oldest_attempt - 1, BY_EVICTION)
        for ahead in range(1, WHEEL + 1):
            second = self.tick + ahead
            while self.buckets[second % WHEEL]:
                slot = self.buckets[second % WHEEL] - 1
                due = self.due(<Connection>self.connections[slot])
                if due // SECOND + 1 > second and ahead < WHEEL - 1:
                    self.unlink(slot)
                    self.schedule(slot, due)
                    continue
                return self.throw_out(slot, BY_EVICTION)
        return 0

    cdef int finish(self, Ending ending) except -1:
        """Ends every connection: nothing more will come."""
        cdef Connection connection
        for connection in self.connections:
            if connection is not None:
                connection.finish(ending, self.cx)
                self.remove(connection)
        self.waiting.clear()
        return 0


cdef uint64_t waiting_since(Connection connection):
    """When the connection's oldest held piece began to wait; the end of time if it holds nothing."""
    cdef uint64_t since = BEYOND
    cdef int side
    for side in range(2):
        if connection.streams[side].held_count:
            since = min(since, connection.streams[side].held_since)
    return since
