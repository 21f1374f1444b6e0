# cython: language_level=3
"""Keep connections of HTTP/2 in memory that outlives the process, for its successor.

    memory = Header, padded
             slot 0: SlotHead, padded; two Snapshots of SNAPSHOT_BYTES each
             slot 1 …

An encoder sends a header field once, and an index from then on. So a process that takes a connection over in the middle does
not know what the indices mean, for as long as the connection lasts. A snapshot holds the header tables and the framing of both
directions, and the number of the TCP byte behind those that were read. flush() makes one of each connection that has changed,
at the end of a batch; commit() says that the batch is finished, so that no process will read it again.

The successor gets every snapshot of a finished batch. It uses that of a connection whose numbers in both directions fit. Bytes
before the number were read already; bytes missing behind it are a gap, as any other. Of a slot's two snapshots the older one is
overwritten, and its serial is written last, so that a kill at any time leaves one whole.

The memory is the process's own, but its predecessor may have been hijacked: every number is checked before it is used, and a
snapshot from which MOST_TRIES processes have started without making another one is left alone.
"""
cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from appliance.wire.flow_key cimport FlowKey
from workers.core.context cimport Context
from workers.core.keeper cimport Keeper
from workers.http2.connection cimport Http2Connection
from workers.http2.snapshot cimport FRAMING, NOTHING, SNAPSHOT_BYTES, KeptSide, Snapshot, load, save, sound
from workers.tcp.application cimport Transport
from workers.tcp.stream cimport Stream

cdef extern from *:
    """
    #define load_serial(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define store_serial(p, v) do { \\
        __atomic_thread_fence(__ATOMIC_RELEASE); \\
        __atomic_store_n((p), (v), __ATOMIC_RELEASE); \\
        __atomic_thread_fence(__ATOMIC_SEQ_CST); \\
    } while (0)
    """
    uint64_t load_serial(const uint64_t* serial) noexcept nogil
    void store_serial(uint64_t* serial, uint64_t value) noexcept nogil

cdef struct Header:
    char[8] magic
    uint64_t slots
    uint64_t made
    uint64_t done               # serial of the snapshots of the last finished batch

cdef enum:
    PAGE = 4096
    HEAD_BYTES = 64             # of a SlotHead
    SLOT_BYTES = 12 * PAGE
    MOST_SLOTS = 1 << 16
    MOST_TRIES = 2

if sizeof(SlotHead) > HEAD_BYTES or HEAD_BYTES + 2 * <int>SNAPSHOT_BYTES > SLOT_BYTES:
    raise ImportError("workers/http2/kept_connections.pyx: a slot is too short")

cdef const char* MAGIC = b"APPKEPT1"
cdef uint64_t LARGEST = <uint64_t>1 << 62
cdef uint64_t CROWDED_NS = 1000000000   # a connection that was silent for this time may lose its slot to another one


@cython.final
@cython.no_gc
cdef class Kept:
    """A connection, and the slot of its snapshots."""

    cdef int64_t ahead(self, int side, uint32_t seq) noexcept:
        """Return how far a TCP number is ahead of the first byte behind the snapshot."""
        return <int32_t>(seq - self.expected[side])


@cython.final
cdef class KeptConnections(Keeper):
    """The snapshots of a worker's connections. Without attach() nothing is kept."""

    def __cinit__(self):
        self.owners = []
        self.free = []
        self.found = {}
        self.changes = []
        self.left = []

    def __dealloc__(self):
        if self.base != NULL:
            PyBuffer_Release(&self.view)
        free(self.used)

    def memory_bytes(self, int connections):
        """Return the bytes of memory for this number of connections."""
        return PAGE + connections * <Py_ssize_t>SLOT_BYTES

    def attach(self, memory not None, allocate not None):
        """Keep connections in this memory, as Keeper.attach()."""
        cdef Header* header
        cdef uint64_t slots = (len(memory) - PAGE) // SLOT_BYTES if len(memory) > PAGE else 0
        slots = min(slots, <uint64_t>MOST_SLOTS)
        if slots == 0 or self.base != NULL or not allocate(0):
            return
        self.used = <uint64_t*>calloc(slots, sizeof(uint64_t))
        if self.used == NULL:
            raise MemoryError()
        PyObject_GetBuffer(memory, &self.view, PyBUF_WRITABLE)
        self.base = <uint8_t*>self.view.buf
        self.memory = memory
        self.allocate = allocate
        self.most = <uint32_t>slots
        self.owners = [None] * slots
        header = <Header*>self.base
        if memcmp(header.magic, MAGIC, sizeof(header.magic)) != 0 or header.slots != slots or header.made > slots \
                or header.done > LARGEST or not allocate(header.made):
            memset(header, 0, sizeof(Header))
            memcpy(header.magic, MAGIC, sizeof(header.magic))
            header.slots = slots
            return
        self.made = <uint32_t>header.made
        self.serial = header.done
        self.take_over()

    cdef int take_over(self) except -1:
        """Find the snapshots of the predecessor. Those of a batch that it did not finish are dropped: the batch comes again."""
        cdef uint32_t slot
        cdef int which
        cdef Snapshot* kept
        cdef bytes key
        cdef object other
        for slot in range(self.made):
            self.used[slot] = 0
            key = None
            for which in range(2):
                kept = self.snapshot(slot, which)
                if load_serial(&kept.serial) == 0 or kept.serial > self.serial:
                    memset(kept, 0, sizeof(Snapshot))
                    continue
                key = PyBytes_FromStringAndSize(<const char*>&self.head(slot).key, sizeof(FlowKey))
                self.used[slot] = max(self.used[slot], kept.last_ns)
            other = self.found.get(key)
            if other is not None and self.newest(other).serial < self.newest(slot).serial:
                self.drop(other)        # of an earlier connection on the same ports
                other = None
            if key is None or other is not None:
                self.drop(slot)
            else:
                self.found[key] = slot
                self.owners[slot] = key
        return 0

    cdef SlotHead* head(self, uint32_t slot) noexcept:
        return <SlotHead*>(self.base + PAGE + slot * <size_t>SLOT_BYTES)

    cdef Snapshot* snapshot(self, uint32_t slot, int which) noexcept:
        return <Snapshot*>(self.base + PAGE + slot * <size_t>SLOT_BYTES + HEAD_BYTES + which * <size_t>SNAPSHOT_BYTES)

    cdef Snapshot* newest(self, uint32_t slot) noexcept:
        """Return the newer one of a slot's snapshots."""
        cdef Snapshot* first = self.snapshot(slot, 0)
        cdef Snapshot* second = self.snapshot(slot, 1)
        return first if first.serial >= second.serial else second

    cdef int forget(self, int32_t slot) noexcept:
        """Drop the snapshots of a slot."""
        cdef int which
        for which in range(2):
            store_serial(&self.snapshot(slot, which).serial, 0)
            memset(self.snapshot(slot, which), 0, sizeof(Snapshot))
        self.head(slot).tries = 0
        self.owners[slot] = None
        return 0

    cdef int drop(self, int32_t slot) noexcept:
        """Drop the snapshots of a slot, which is free then."""
        self.forget(slot)
        self.free.append(slot)
        return 0

    cdef Kept follow(self, Transport transport, Http2Connection connection, int client):
        """Keep a connection from now on. client: the side of TCP that sends requests."""
        cdef Kept kept = Kept.__new__(Kept)
        kept.connection = connection
        kept.streams = transport.streams
        kept.key = transport.key
        kept.client = client
        kept.slot = -1
        return kept

    cdef int leave(self, Kept kept) noexcept:
        """Forget a connection: it has ended, or is none of HTTP/2."""
        kept.streams = NULL
        kept.connection = None
        if kept.slot >= 0:
            self.left.append(kept.slot)
            self.owners[kept.slot] = None
            kept.slot = -1
        return 0

    cdef const Snapshot* find(self, Transport transport, int side, Context cx) except? NULL:
        """Return the snapshot of a connection that has begun in the middle, if it has one that fits; else NULL.

        side: one whose first bytes came. A snapshot that does not fit is refused, and dropped.
        """
        cdef object key, slot
        cdef Snapshot* kept
        cdef Stream* stream
        cdef KeptSide* half
        cdef int other
        cdef bint fits
        if not self.found or not transport.is_tcp():
            return NULL
        key = PyBytes_FromStringAndSize(<const char*>&transport.key, sizeof(FlowKey))
        slot = self.found.get(key)
        if slot is None:
            return NULL
        kept = self.newest(slot)
        fits = self.head(slot).tries < MOST_TRIES and sound(kept)
        fits = fits and cx.now - cx.skew < kept.last_ns + cx.limits.idle_timeout_ns
        for other in range(2):
            stream = &transport.streams[other]
            half = &kept.sides[other != kept.client]
            if fits and half.known and stream.known:
                fits = -<int64_t>MOST_BYTES < <int32_t>(stream.next_seq - half.next_seq) < <int64_t>MOST_BYTES
        fits = fits and kept.sides[side != kept.client].known != NOTHING
        if not fits:
            self.refused += 1
            del self.found[key]
            self.drop(slot)
            return NULL
        return kept

    cdef Kept resume(self, Transport transport, Http2Connection connection):
        """Load the snapshot that find() has returned into a connection, and keep that from now on."""
        cdef bytes key = PyBytes_FromStringAndSize(<const char*>&transport.key, sizeof(FlowKey))
        cdef int32_t slot = self.found.pop(key)
        cdef const Snapshot* saved = self.newest(slot)
        cdef Kept kept = self.follow(transport, connection, saved.client)
        cdef int side
        self.head(slot).tries += 1
        kept.resumed = True
        kept.newer = 0 if saved == self.snapshot(slot, 0) else 1
        kept.slot = slot
        self.owners[slot] = kept
        load(connection, saved)
        for side in range(2):
            kept.begun[side] = kept.awaited[side] = saved.sides[side != kept.client].known != NOTHING
            kept.expected[side] = saved.sides[side != kept.client].next_seq
        self.restored += 1
        return kept

    cdef int flush(self, Context cx) except -1:
        """Make a snapshot of each connection that has changed."""
        cdef Kept kept
        if not self.changes:
            return 0
        self.serial += 1
        for kept in self.changes:
            kept.changed = False
            if kept.streams == NULL:
                continue
            if kept.slot < 0:
                kept.slot = self.place(kept, cx.now)
            if kept.slot >= 0:
                self.write(kept, cx)
            elif not kept.refused:
                kept.refused = True
                self.no_room += 1
        self.changes.clear()
        return 0

    cdef int commit(self) noexcept:
        """Note that the batch of the last snapshots is finished."""
        cdef int32_t slot
        if self.base == NULL:
            return 0
        store_serial(&(<Header*>self.base).done, self.serial)
        for slot in self.left:
            self.drop(slot)
        self.left.clear()
        return 0

    cdef int write(self, Kept kept, Context cx) noexcept:
        """Write a snapshot over the older one of a connection."""
        cdef Snapshot* out = self.snapshot(kept.slot, 1 - kept.newer)
        cdef Stream* stream
        cdef KeptSide* half
        cdef int side
        store_serial(&out.serial, 0)
        out.last_ns = cx.now - cx.skew
        out.client = <uint8_t>kept.client
        for side in range(2):
            stream = &kept.streams[side]
            half = &out.sides[side != kept.client]
            half.known = FRAMING if kept.begun[side] and (kept.awaited[side] or stream.anchored) else NOTHING
            half.next_seq = kept.expected[side] if kept.awaited[side] else stream.next_seq - stream.finished
        save(kept.connection, out)
        store_serial(&out.serial, self.serial)
        kept.newer = 1 - kept.newer
        if kept.resumed:
            kept.resumed = False
            self.head(kept.slot).tries = 0
        self.used[kept.slot] = cx.now
        return 0

    cdef int32_t place(self, Kept kept, uint64_t now) except -2:
        """Return a slot for a connection; -1: there is no room."""
        cdef object key = PyBytes_FromStringAndSize(<const char*>&kept.key, sizeof(FlowKey))
        cdef object found = self.found.pop(key, None)
        cdef int32_t slot = -1
        if found is not None:           # of an earlier connection on the same ports
            slot = found
        elif self.free:
            slot = self.free.pop()
        elif self.made < self.most and self.allocate(self.made + 1):
            slot = self.made
            self.made += 1
        else:
            slot = self.evict(now)
        if slot < 0:
            return -1
        self.forget(slot)
        self.head(slot).key = kept.key
        if slot >= <int32_t>(<Header*>self.base).made:
            store_serial(&(<Header*>self.base).made, self.made)
        self.owners[slot] = kept
        return slot

    cdef int32_t evict(self, uint64_t now) except -2:
        """Return the slot of the connection that was silent the longest; -1: all had bytes a moment ago."""
        cdef int32_t slot, oldest = -1
        cdef object owner
        if now < self.crowded_until:
            return -1
        for slot in range(<int32_t>self.made):
            self.used[slot] = min(self.used[slot], now)     # the predecessor had another clock
            if self.owners[slot] is not None and (oldest < 0 or self.used[slot] < self.used[oldest]):
                oldest = slot
        if oldest < 0:
            return -1
        if now < self.used[oldest] + CROWDED_NS:
            self.crowded_until = self.used[oldest] + CROWDED_NS
            return -1
        owner = self.owners[oldest]
        if isinstance(owner, Kept):
            (<Kept>owner).slot = -1
        else:
            self.found.pop(owner, None)
        self.evicted += 1
        return oldest

    def slots(self):
        """Return {slot of the worker's stats page: its value so far}."""
        return {
            "http2_kept": self.made - len(self.free) - len(self.left),
            "http2_kept_outcomes.restored": self.restored,
            "http2_kept_outcomes.refused": self.refused,
            "http2_kept_outcomes.evicted": self.evicted,
            "http2_kept_outcomes.no_room": self.no_room,
        }
