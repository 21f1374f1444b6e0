# cython: language_level=3
"""Table: from a flow key to its Connection, and the timers of connections.

An open-addressing hash table of 16-byte entries over the keyed flow hash that the capture made, so that hostile traffic
cannot build long chains; deletion shifts back, so that no tombstones pile up. A timer wheel of seconds finds idle
connections: a connection sits in the second in which its idle timeout can expire at the earliest. When that second comes,
sweep() removes the connection, or moves it to its new second if it was active since. A frame moves no connection in the wheel.

The clock is the highest time stamp seen: time is the frames' time, live and from a file alike.
"""
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc

from collections import deque

from appliance.native.prefetch cimport fetch, prefetch
from appliance.wire.flow_key cimport FlowKey, same_flow
from workers.tcp.application cimport Applications
from workers.tcp.connection cimport BY_EVICTION, BY_HALF_OPEN, BY_REUSE, BY_TIMEOUT, OPEN, Connection, Ending
from workers.core.context cimport Context
from workers.tcp.flow_record cimport discard, report, report_due

cdef enum:
    WHEEL = 1024                # seconds; sweep() visits longer timeouts more than once
    FIRST_ENTRIES = 1024
    CONNECTION_LINES = 9        # of memory, that a Connection has
    APPLICATION_LINES = 3
    SECOND = 1000000000
    LOOK_NS = 10000000          # between two checks of waiting connections
    LOOK_AT_ENDS_NS = SECOND    # and of those with a waiting FIN: most FINs have been acknowledged by then
    LATEST = 0x4000000000000000     # the year 2116: a file may claim any time, and sums with it must not wrap


cdef uint64_t BEYOND = 0xFFFFFFFFFFFFFFFFULL    # no time stamp is so late


@cython.final
cdef class Table:
    """The connections of a data path. applications: makes the first application of each."""

    def __cinit__(self):
        self.mask = FIRST_ENTRIES - 1
        self.entries = <Entry*>calloc(FIRST_ENTRIES, sizeof(Entry))
        self.buckets = <uint32_t*>calloc(WHEEL, sizeof(uint32_t))
        if self.entries == NULL or self.buckets == NULL:
            raise MemoryError

    def __init__(self, Context cx not None, Applications applications not None):
        self.cx = cx
        self.applications = applications
        self.connections = []
        self.free = []
        self.waiting = deque()
        self.closing = deque()
        self.longest = []

    def __dealloc__(self):
        free(self.entries)
        free(self.buckets)
        free(self.links)
        free(self.attempts)

    cdef int prefetch_ahead(self, uint64_t hash) noexcept:
        """Prefetch the memory of the frames ahead. hash: flow hash of the frame FAR frames ahead, 0 if there is none.

        With many connections each frame's connection is not in the CPU's cache. So this prefetches the memory in steps, each
        of which needs the result of the one before: entry, connection, its application, and the application's objects.
        """
        cdef PyObject* found
        self.coming[self.step & (FAR - 1)] = hash
        prefetch(&self.entries[hash & self.mask])
        found = self.likely(self.coming[(self.step - 10) & (FAR - 1)])
        if found != NULL:
            fetch(found, CONNECTION_LINES)
        found = self.likely(self.coming[(self.step - 16) & (FAR - 1)])
        if found != NULL:
            fetch(<void*>(<Connection>found).application, APPLICATION_LINES)
        found = self.likely(self.coming[(self.step - 21) & (FAR - 1)])
        if found != NULL and (<Connection>found).application is not None:
            (<Connection>found).application.prefetch(0)
        found = self.likely(self.coming[(self.step - 26) & (FAR - 1)])
        if found != NULL and (<Connection>found).application is not None:
            (<Connection>found).application.prefetch(1)
        found = self.likely(self.coming[(self.step - 29) & (FAR - 1)])
        if found != NULL and (<Connection>found).application is not None:
            (<Connection>found).application.prefetch(2)
        self.step += 1
        return 0

    cdef PyObject* likely(self, uint64_t hash) noexcept:
        """Return the most likely connection of a frame with this flow hash; borrowed, NULL if there is none."""
        cdef uint64_t at = hash & self.mask
        cdef uint32_t tag = <uint32_t>(hash >> 32)
        while self.entries[at].connection != NULL:
            if self.entries[at].tag == tag:
                return self.entries[at].connection
            at = (at + 1) & self.mask
        return NULL

    cdef Connection find(self, const FlowKey* key, uint64_t hash):
        """Return the connection of this flow, None if there is none."""
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
        """Add a connection, half-open at first, and return it; at a limit, evict a half-open or idle connection for it."""
        cdef Connection connection = Connection.__new__(Connection)
        cdef uint32_t slot
        cdef uint64_t at
        for _ in range(2):      # the second time only above a limit that was lowered
            if self.half_open >= self.cx.limits.max_half_open and self.half_open:
                self.end_slot(self.oldest_attempt - 1, BY_HALF_OPEN)
            if self.used >= self.cx.limits.max_connections:
                self.evict()
        if self.used * 2 > self.mask:
            self.grow()
        connection.key = key[0]
        connection.applications = self.applications
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
        self.schedule(slot, self.cx.now + self.first_visit())
        self.queue_half_open(connection)
        if self.applications.at_once:
            connection.begin()
        self.cx.tally.flows_opened += 1
        self.cx.tally.flows = self.used
        return connection

    cdef Connection replace(self, Connection connection):
        """Replace a connection by the next one on the same ports, and return that one."""
        cdef Connection new
        cdef FlowKey key = connection.key
        cdef list early = connection.early
        connection.early = None             # they are the new one's
        connection.finish(BY_REUSE, self.cx)
        self.remove(connection)
        connection.early = early
        new = self.add(&key, connection.hash, connection.capture)
        new.inherit(connection, self.cx)
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

    cdef int queue_half_open(self, Connection connection) except -1:
        """Put a connection at the end of the queue of half-open connections."""
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
        """Take a connection out of the queue of half-open connections: it is proven, or closed."""
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

    cdef int end_slot(self, uint32_t slot, Ending ending) except -1:
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
        """Remove a connection; its slot is free at once."""
        cdef uint64_t at = connection.hash & self.mask, hole, home
        cdef Connection other
        if self.cx.limits.flows:
            report(connection, True, self.cx)
        elif self.cx.tally.flow_open:
            discard(connection, self.cx)
        while self.entries[at].connection != <PyObject*>connection:
            at = (at + 1) & self.mask
        hole = at
        while True:                     # close the hole: move back an entry that may stand there
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
        """Put a slot in the wheel's second of due_ns, or in the wheel's last second if that is later."""
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

    cdef int queue_check(self, Connection connection) except -1:
        """Queue a waiting connection for a check after LOOK_NS."""
        if not connection.queued:
            connection.queued = True
            self.waiting.append((self.cx.now + LOOK_NS, connection))
            self.next_look = min(self.next_look, self.cx.now + LOOK_NS)
        return 0

    cdef int await_more(self, Connection connection) except -1:
        """Queue a connection for the checks of its waits, if it has any."""
        if connection.waits():
            self.queue_check(connection)
        if connection.ends():
            self.watch(connection)
        return 0

    cdef int watch(self, Connection connection) except -1:
        """Queue a connection with a FIN that waits for its acknowledgement, for a check after LOOK_AT_ENDS_NS."""
        if not connection.watched:
            connection.watched = True
            self.closing.append((self.cx.now + LOOK_AT_ENDS_NS, connection))
        return 0

    cdef int ended(self, Connection connection) except -1:
        """Keep a finished connection for the linger time, so that late copies of its frames do not open a new one."""
        if connection.opening:
            self.established(connection)
        self.unlink(connection.slot)
        self.schedule(connection.slot, self.cx.now + self.cx.limits.closed_linger_ns)
        return 0

    cdef int advance(self, uint64_t ts_ns) except -1:
        """Advance the clock; time never goes back."""
        ts_ns = min(ts_ns, <uint64_t>LATEST)
        if ts_ns > self.cx.now:
            self.cx.now = ts_ns
            if ts_ns >= self.next_look:
                self.run_due_timers()
        return 0

    cdef int run_timers(self, Connection connection) except -1:
        """Run the timers of a connection that are due, each at its own time.

        One may start another. So what they do depends on the frames of the connection, not on those between. A frame may
        shorten a wait to a time before it: that ends with the frame.
        """
        cdef Context cx = self.cx
        cdef uint64_t now = cx.now, due, last = 0
        if connection.ending != OPEN:
            return 0
        try:
            due = connection.next_timer(cx)
            while last < due <= now:
                last = due
                cx.now = max(due, connection.last_ns)
                connection.expire(cx)
                connection.expire_ends(cx)
                due = now + 1 if connection.ending != OPEN else connection.next_timer(cx)
            if connection.ending != OPEN:
                self.ended(connection)
                return 0
        finally:
            cx.now = now
        connection.expire(cx)           # also the timers of its application
        if connection.ending != OPEN:
            self.ended(connection)
        return 0

    cdef int run_due_timers(self) except -1:
        """Run every timer that is due."""
        cdef Connection connection
        cdef uint64_t now = self.cx.now, second = now // SECOND, last
        if self.tick == 0:
            self.tick = second
        while self.waiting:
            due, connection = self.waiting[0]
            if due > self.cx.now:
                break
            self.waiting.popleft()
            connection.queued = False
            self.run_timers(connection)
            if connection.ending == OPEN:
                self.await_more(connection)
        while self.closing:
            due, connection = self.closing[0]
            if due > self.cx.now:
                break
            self.closing.popleft()
            connection.watched = False
            self.run_timers(connection)
            if connection.ending == OPEN:
                self.await_more(connection)
        # A jump of the clock passes the seconds in which connections end one by one, and those behind them at once.
        last = self.cx.limits.idle_timeout_ns + self.cx.limits.closed_linger_ns
        last = min(second, self.tick + <uint64_t>WHEEL + last // <uint64_t>SECOND)
        while self.tick < last:
            self.tick += 1
            self.cx.now = min(now, self.tick * SECOND)
            self.sweep(self.tick % WHEEL)
        self.cx.now = now
        self.tick = second
        self.next_look = (second + 1) * SECOND
        if self.waiting:
            self.next_look = min(self.next_look, now + LOOK_NS)
        return 0

    cdef int release_over_limit(self) except -1:
        """Give up held bytes while all streams together hold more than the limit; the longest waiting connection comes first.

        One sort serves as many reliefs as there are waiting connections, so that a flood cannot cause a sort at each frame.
        """
        cdef Connection connection
        cdef int side
        cdef bint asked = False
        while self.cx.tally.pending > self.cx.limits.max_total_pending_bytes:
            if not self.longest:
                if asked:
                    return 0                # no connection holds more
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
                connection.deliver_held(self.cx)
                if connection.ending != OPEN:
                    self.ended(connection)
                else:
                    self.await_more(connection)
        return 0

    cdef uint64_t due(self, Connection connection) noexcept:
        """Return the time at which a connection without further frames times out."""
        if connection.ending != OPEN:
            return connection.last_ns + self.cx.limits.closed_linger_ns
        if connection.opening:
            return connection.last_ns + self.cx.limits.half_open_timeout_ns
        return connection.last_ns + self.cx.limits.idle_timeout_ns

    cdef uint64_t first_visit(self) noexcept:
        """Return the time from a connection's first frame to its first visit by sweep()."""
        cdef uint64_t first = min(self.cx.limits.half_open_timeout_ns, self.cx.limits.idle_timeout_ns)
        return min(first, self.cx.limits.event_interval_ns) if self.cx.limits.flows else first

    cdef int sweep(self, uint64_t bucket) except -1:
        """Remove the idle connections of this second of the wheel, and move the others to their new second."""
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
                if self.cx.limits.flows and connection.ending == OPEN:
                    if report_due(connection, self.cx) <= self.cx.now:
                        report(connection, False, self.cx)
                    due = min(due, report_due(connection, self.cx))
                self.unlink(slot - 1)
                self.schedule(slot - 1, due)
            slot = following
        return 0

    cdef int evict(self) except -1:
        """Evict the oldest half-open connection, or else the longest idle connection, to the wheel's second.

        A connection that stands there for its flow event moves to the second of its timeout, so that event comes late.
        """
        cdef uint64_t second
        cdef int ahead
        cdef uint32_t slot
        cdef uint64_t due
        if self.oldest_attempt:
            return self.end_slot(self.oldest_attempt - 1, BY_EVICTION)
        for ahead in range(1, WHEEL + 1):
            second = self.tick + ahead
            while self.buckets[second % WHEEL]:
                slot = self.buckets[second % WHEEL] - 1
                due = self.due(<Connection>self.connections[slot])
                if due // SECOND + 1 > second and ahead < WHEEL - 1:
                    self.unlink(slot)
                    self.schedule(slot, due)
                    continue
                return self.end_slot(slot, BY_EVICTION)
        return 0

    cdef bint finish(self, Ending ending, uint64_t most) except -1:
        """End up to `most` connections, because no more frames follow. Return whether connections remain."""
        cdef Connection connection
        cdef uint64_t done = 0
        while self.finished < len(self.connections) and done < most:
            connection = <Connection>self.connections[self.finished]
            self.finished += 1
            if connection is not None:
                done += 1
                connection.finish(ending, self.cx)
                self.remove(connection)
        if self.finished < len(self.connections):
            return True
        self.waiting.clear()
        self.closing.clear()
        self.finished = 0
        return False


cdef uint64_t waiting_since(Connection connection):
    """Return when the connection's oldest held piece began to wait; BEYOND if it holds none."""
    cdef uint64_t since = BEYOND
    cdef int side
    for side in range(2):
        if connection.streams[side].held_count:
            since = min(since, connection.streams[side].held_since)
    return since
