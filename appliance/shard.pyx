# cython: language_level=3
"""Sharder: frames in, batches out, one open batch per worker.

In: frames, as pointers that are valid during the call only. Out: sealed batches, each a memoryview over memory that was
supplied, or else over a buffer of our own, which is the caller's until it is handed back with recycle(). Per frame: locate,
one hash, its checksums, one copy; no Python object.
A frame that holds no TCP segment goes nowhere: its verdict is counted. Fragments do neither, but the datagram that they
make is treated as one more frame: frames + reassembled = sum(offered) + sum(rejected) + shed, always.
An overloaded capture has whole new flows left out (shed): those whose place in 256 (flow.pxd) lies below the share of their
worker. Which are new, and what becomes of the others, is in appliance.shedset.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from appliance.batch cimport (
    FLAG_END, HEADER_BYTES, RECORD_AMBIGUOUS, RECORD_BYTES, RECORD_CHECKSUM, RECORD_SHED, Header, Record,
)
from appliance.cache cimport LINE, claim
from appliance.checksum cimport verify
from appliance.defragment cimport Defragmenter, Whole
from appliance.flow cimport FlowKey, flow_hash, flow_key, flow_place, hash_key
from appliance.locate cimport BAD_IP_HEADER, FOUND, FRAGMENT, Location, Verdict, locate, locate_datagram
from appliance.shedset cimport ShedSet

from appliance.locate import VERDICTS

cdef enum:
    FLAGS = 13                  # offset of the flags in a TCP header
    CLAIMED = 2048              # bytes behind a frame that are on their way from memory, so that it need not wait for them

MAX_SPARE = 64                  # buffers kept for reuse; the rest go back to the allocator


cdef uint64_t monotonic_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t>now.tv_sec * 1000000000 + now.tv_nsec


cdef class Sharder:
    """Spreads the frames of one source over the workers by keyed flow hash.

    key: 16 secret bytes, the same in every capture of a run. batch_bytes: a batch is sealed when the next frame does not
    fit. A frame longer than that gets a batch of its own. max_tunnels: how many tunnels inside each other are entered.
    vlans: whether VLAN ids tell flows apart. checksums: whether they are verified. The limits of fragments are those of
    appliance.defragment.Defragmenter, those of flows left out, and halves, those of appliance.shedset.ShedSet.
    """

    def __init__(self, bytes key not None, int workers, int batch_bytes=1 << 20, uint64_t epoch=0, int capture=0,
                 int link_type=1, int max_tunnels=4, max_fragmented_datagrams=16384, max_fragment_bytes=1 << 25,
                 fragment_timeout_ns=30000000000, bint vlans=True, max_shed_flows=1 << 20, shed_timeout_ns=60000000000,
                 bint halves=False, bint checksums=True):
        if not 1 <= workers <= MAX_WORKERS:
            raise ValueError(f"workers: 1 to {MAX_WORKERS}, not {workers}")
        if batch_bytes < 4096:
            raise ValueError(f"batch_bytes: at least 4096, not {batch_bytes}")
        self.key = hash_key(key)
        self.workers = workers
        self.batch_bytes = batch_bytes
        self.epoch = epoch
        self.capture = capture
        self.settings.link_type = link_type
        self.settings.max_tunnels = max_tunnels
        self.settings.vlans = vlans
        self.checksums = checksums
        self.defragmenter = Defragmenter(key, max_fragmented_datagrams, max_fragment_bytes, fragment_timeout_ns)
        self.salt = <uint32_t>self.key.k0 | 0x80000001      # high, or a small range of ports would have few places
        self.shed_set = ShedSet(max_shed_flows, shed_timeout_ns, halves)
        self.buffers = [None] * workers
        self.spare = []
        self.lent = []
        self.sealed = []

    cdef int add(self, uint64_t ts_ns, const uint8_t* frame, uint32_t caplen, uint32_t wirelen) except -1:
        """Takes one frame (caplen bytes readable during this call)."""
        cdef Location place
        cdef FlowKey flow
        cdef Record* record
        cdef uint64_t hash
        cdef Slot* slot
        cdef Whole whole
        cdef int worker
        cdef uint32_t need
        cdef uint64_t marks = 0
        cdef Verdict verdict = locate(&self.settings, frame, caplen, wirelen, &place)
        self.frames += 1
        self.bytes += caplen
        self.wire_bytes += wirelen
        self.truncated += caplen < wirelen
        self.last_ts_ns = ts_ns
        if verdict != FOUND:
            self.rejected[<int>verdict] += 1
            if verdict != FRAGMENT or not self.reassemble(ts_ns, frame, &place, &whole):
                return 0
            frame = whole.data
            wirelen = whole.length
            marks = RECORD_AMBIGUOUS if whole.ambiguous else 0
        caplen = place.caplen                   # without what stands behind a tunnel
        flow_key(frame + place.net, frame + place.tcp, place.vlans, &flow)
        hash = flow_hash(&self.key, &flow)
        worker = <int>(((hash >> 32) * <uint64_t>self.workers) >> 32)
        slot = &self.slots[worker]
        if slot.shed_most != 0 and self.leave_out(slot, &flow, hash, ts_ns, frame[place.tcp + FLAGS], &marks):
            self.shed_frames += 1
            self.shed_bytes += caplen
            return 0
        need = RECORD_BYTES + ((caplen + 7) & ~<uint32_t>7)
        if slot.data == NULL or slot.used + need > slot.capacity:
            self.open_slot(worker, need)
        record = <Record*>(slot.data + slot.used)       # a multiple of 8 from the start of an allocation
        record.ts_ns = ts_ns
        record.hash = hash
        record.vlans = place.vlans | marks
        record.caplen = caplen
        record.wirelen = wirelen
        record.tcp_length = place.tcp_length
        record.net = <uint16_t>place.net        # both fit: locate finds nothing beyond
        record.tcp = <uint16_t>place.tcp
        if self.checksums:                      # here, where its bytes are at hand: a worker looks at few of them
            record.vlans |= <uint64_t>verify(frame, record) << RECORD_CHECKSUM
        claim(slot.data + slot.used + need + CLAIMED, <int>(need // <uint32_t>LINE) + 1)
        memcpy(slot.data + slot.used + RECORD_BYTES, frame, caplen)
        slot.used += need
        slot.frames += 1
        slot.last_ts_ns = ts_ns
        self.offered[worker] += 1
        return 0

    cdef bint leave_out(self, Slot* slot, const FlowKey* flow, uint64_t hash, uint64_t ts_ns, uint8_t flags,
                        uint64_t* marks) except -1:
        """Is this a frame of a flow that is shed? If not, and its flow begins here, `marks` says how many others are."""
        cdef uint32_t place = flow_place(self.salt, flow)
        if place < slot.shed_most and self.shed_set.holds(hash, ts_ns, flags, place < slot.shed):
            return True
        if self.shed_set.begins(flags):
            marks[0] |= <uint64_t>slot.shed << RECORD_SHED
        return False

    cdef int reassemble(self, uint64_t ts_ns, const uint8_t* frame, Location* place, Whole* whole) except -1:
        """Takes a fragment; True when it completes a datagram with a TCP segment: both are in `whole`, and where in `place`.

        A datagram may hold a tunnel in which there is a fragment that completes another one, and so on: at most as often as
        there are tunnels to enter.
        """
        cdef Verdict verdict = FRAGMENT
        cdef int tunnels = place.tunnels
        whole.ambiguous = False
        while verdict == FRAGMENT:
            if not self.defragmenter.add(frame, place.caplen, place, ts_ns, whole.ambiguous, whole):
                return False
            self.reassembled += 1
            frame = whole.data
            verdict = locate_datagram(&self.settings, frame, whole.length, tunnels, place)
            if verdict == FOUND:
                return True
            if verdict == FRAGMENT and place.tunnels == tunnels:
                verdict = BAD_IP_HEADER             # a second Fragment header in one chain; Linux refuses that too
            self.rejected[<int>verdict] += 1
            tunnels = place.tunnels
        return False

    cdef int open_slot(self, int worker, uint32_t need) except -1:
        """Makes room for `need` bytes: seals the open batch of the worker, if any, and starts another."""
        cdef Slot* slot = &self.slots[worker]
        cdef object buffer
        cdef uint8_t[::1] view
        cdef uint32_t capacity = max(self.batch_bytes, HEADER_BYTES + need)
        if slot.data != NULL:
            self.seal_slot(worker, 0)
        if self.lent and len(self.lent[-1]) >= capacity:
            buffer = self.lent.pop()
        elif self.spare and len(self.spare[-1]) >= capacity:
            buffer = self.spare.pop()
        else:
            buffer = bytearray(capacity)
        self.buffers[worker] = buffer
        view = buffer
        slot.data = &view[0]
        slot.capacity = <uint32_t>len(buffer)
        slot.used = HEADER_BYTES
        slot.frames = 0
        slot.last_ts_ns = 0
        slot.opened_ns = monotonic_ns()
        return 0

    cdef int seal_slot(self, int worker, int flags) except -1:
        cdef Slot* slot = &self.slots[worker]
        cdef Header header
        memset(&header, 0, sizeof(Header))
        memcpy(header.magic, <const char*>b"HCB1", 4)
        header.capture = <uint16_t>self.capture
        header.flags = <uint16_t>flags
        header.epoch = self.epoch
        header.frames = slot.frames
        header.length = slot.used
        header.sealed_ns = monotonic_ns()
        header.last_ts_ns = slot.last_ts_ns
        memcpy(slot.data, &header, HEADER_BYTES)
        self.sealed.append((worker, slot.frames, memoryview(self.buffers[worker])[:slot.used]))
        self.buffers[worker] = None
        slot.data = NULL
        return 0

    def push(self, uint64_t ts_ns, frame not None, wirelen=None):
        """Takes one frame from Python: for sources other than libpcap, and for tests."""
        cdef const uint8_t[::1] view = frame if len(frame) else b"\0"
        cdef uint32_t caplen = len(frame)
        self.add(ts_ns, &view[0], caplen, caplen if wirelen is None else wirelen)

    def shed(self, int worker, int steps):
        """Leaves out this many 256ths of the new flows of a worker from now on, and those already left out to their end.

        With 0 nothing is left out any more: what still goes on of flows that were is picked up in the middle.
        """
        if not 0 <= worker < self.workers or not 0 <= steps < 256:
            raise ValueError(f"worker {worker} of {self.workers}, {steps} steps of 255")
        self.slots[worker].shed = steps
        self.slots[worker].shed_most = max(<int>self.slots[worker].shed_most, steps) if steps else 0

    def seal(self, uint64_t age_ns=0):
        """Seals every open batch whose first frame came at least age_ns ago (0: every one)."""
        cdef int worker
        cdef uint64_t now = monotonic_ns()
        self.defragmenter.expire(self.last_ts_ns)
        for worker in range(self.workers):
            if self.slots[worker].data != NULL and now - self.slots[worker].opened_ns >= age_ns:
                self.seal_slot(worker, 0)

    def supply(self, buffer not None):
        """Memory for one batch, writable and as long as a batch; it comes back in take(), and recycle() is not for it."""
        self.lent.append(buffer)

    @property
    def supplied(self):
        """How many of these wait to be used."""
        return len(self.lent)

    def take(self):
        """[(worker, frames, message)] sealed so far, oldest first; each is stamped by the sender and then recycled."""
        sealed = self.sealed
        self.sealed = []
        return sealed

    def settle(self):
        """No frame will come any more: fragments that still wait for the rest of their datagram have timed out."""
        self.defragmenter.settle()

    def end(self):
        """The last batches: seals what is open, then one empty batch per worker that says END."""
        cdef int worker
        self.settle()
        self.seal()
        for worker in range(self.workers):
            self.open_slot(worker, 0)
            self.seal_slot(worker, FLAG_END)
        return self.take()

    def recycle(self, message not None):
        """Gives the buffer behind a taken message back, once nobody reads it any more."""
        buffer = message.obj
        message.release()
        if len(self.spare) < MAX_SPARE and len(buffer) == self.batch_bytes:
            self.spare.append(buffer)

    @property
    def link_type(self):
        """What the frames are, as libpcap numbers it."""
        return self.settings.link_type

    @property
    def taken(self):
        """Frames and captured bytes taken so far."""
        return self.frames, self.bytes

    @property
    def ready(self):
        """How many sealed batches wait to be taken."""
        return len(self.sealed)

    def counts(self):
        """Counters of this process so far, by the slot names of its stats page."""
        counts = {"frames": self.frames, "bytes": self.bytes, "wire_bytes": self.wire_bytes,
                  "truncated_frames": self.truncated, "last_frame_ns": self.last_ts_ns, "reassembled": self.reassembled}
        counts.update(self.defragmenter.counts())
        counts.update(self.shed_set.counts())
        counts["shed_frames"] = self.shed_frames
        counts["shed_bytes"] = self.shed_bytes
        for number, name in enumerate(VERDICTS, 1):
            counts[f"rejected.{name}"] = self.rejected[number]
        for worker in range(self.workers):
            counts[f"offered.{worker}"] = self.offered[worker]
        return counts
