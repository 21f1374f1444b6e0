# cython: language_level=3
"""Sharder: frames in, batches out, one open batch per worker.

In: frames, as pointers that are valid during the call only. Out: sealed batches, each a memoryview over supplied memory
or over a buffer of our own, which belongs to the caller until recycle(). Per frame: locate, one hash, its checksums,
one copy; no Python object.

A frame without a TCP segment or a QUIC datagram has no batch; its verdict is counted. A fragment has none either, but
its reassembled datagram counts as one more frame: frames + reassembled = sum(offered) + sum(rejected) + shed, always.

Load shedding drops whole new flows: those whose place in 256 (flow_key.pxd) lies below the share of their worker.
appliance.capture.shed_flows decides which flows are new.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from appliance.native.clock cimport monotonic_ns
from appliance.ipc.frame_batch cimport (
    DISORDER_NS, FLAG_CLOCK, FLAG_END, FLAG_REASSEMBLED, HEADER_BYTES, MOST_TURNS, RECORD_AMBIGUOUS, RECORD_BYTES,
    RECORD_CHECKSUM, RECORD_REASSEMBLED, RECORD_SHED, RECORD_TURNS, Header, Record,
)
from appliance.native.prefetch cimport LINE, claim
from appliance.wire.checksum cimport verify
from appliance.wire.ip_reassembler cimport Defragmenter, Whole
from appliance.wire.flow_key cimport UDP_FLOW, FlowKey, flow_hash, flow_key, flow_place, hash_key
from appliance.pcap.frame_sink cimport FrameSink
from appliance.wire.quic_header cimport UDP_BYTES, begins_flow, opening_bytes
from appliance.wire.location cimport BAD_IP_HEADER, DATAGRAM, FOUND, FRAGMENT, Location, Verdict
from appliance.wire.tcp_locator cimport locate, locate_datagram
from appliance.capture.shed_flows cimport SYN, ShedSet
from appliance.wire.tunnel_ports cimport use_ports

from appliance.config.schema import Config
from appliance.wire.tcp_locator import VERDICTS

cdef enum:
    FLAGS = 13                  # offset of the flags in a TCP header
    CLAIMED = 2048              # bytes behind a frame that are on their way from memory, so that it need not wait for them

MAX_SPARE = 64                  # buffers kept for reuse; the rest go back to the allocator


cdef class Sharder(FrameSink):
    """Spreads the frames of one source over the workers by keyed flow hash.

    key: 16 secret bytes, the same in every capture of a run. config: a Config, or None for the defaults. Its sections
    capture, shard and shedding matter, tcp.checksums, and the number of captures, because each of several may see one half
    of a connection. A batch is sealed when the next frame does not fit into shard.batch_bytes; a longer frame gets a batch
    of its own. Raises ValueError for a value out of range.
    """

    def __init__(self, bytes key not None, int workers, config=None, uint64_t epoch=0, int capture=0, int link_type=1):
        config = Config() if config is None else config
        options, shedding, batch_bytes = config.capture, config.shedding, config.shard.batch_bytes
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
        self.settings.max_tunnels = options.max_tunnels
        self.settings.vlans = options.vlan_in_flow
        self.settings.quic = config.opens_quic
        self.settings.udp = config.events.udp_flows
        use_ports(&self.settings.ports, options.tunnel_ports)
        self.checksums = config.tcp.checksums != "off"
        self.one_link = bool(config.record.path)
        self.defragmenter = Defragmenter(
            key, options.max_fragmented_datagrams, options.max_fragment_bytes, round(options.fragment_timeout_s * 1e9))
        self.salt = <uint32_t>self.key.k0 | 0x80000001      # high, or a small range of ports would have few places
        self.shed_set = ShedSet(shedding.max_flows, round(shedding.flow_timeout_s * 1e9), config.capture_count > 1)
        self.buffers = [None] * workers
        self.spare = []
        self.lent = []
        self.sealed = []

    cdef int use_link_type(self, int link_type) except -1:
        cdef int worker
        if self.one_link and link_type != self.settings.link_type:
            for worker in range(self.workers):
                if self.slots[worker].data != NULL:
                    self.seal_slot(worker, 0)
        self.settings.link_type = link_type
        return 0

    cdef int add(self, uint64_t ts_ns, const uint8_t* frame, uint32_t caplen, uint32_t wirelen) except -1:
        """Add one frame (caplen bytes readable during this call)."""
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
        if ts_ns > self.newest_ns:
            self.newest_ns = ts_ns
        elif self.newest_ns - ts_ns > DISORDER_NS:
            self.highest_ns = max(self.highest_ns, self.newest_ns)
            self.newest_ns = ts_ns
            self.turns += 1
            for worker in range(self.workers):
                self.slots[worker].behind = True
        if verdict != FOUND and verdict != DATAGRAM:
            self.rejected[<int>verdict] += 1
            if verdict != FRAGMENT or not self.reassemble(ts_ns, frame, &place, &whole):
                return 0
            frame = whole.data
            wirelen = whole.length
            marks = RECORD_REASSEMBLED | (RECORD_AMBIGUOUS if whole.ambiguous else 0)
        caplen = place.caplen                   # without what stands behind a tunnel
        flow_key(frame + place.net, frame + place.tcp, place.vlans, &flow)
        hash = flow_hash(&self.key, &flow)
        worker = <int>(((hash >> 32) * <uint64_t>self.workers) >> 32)
        slot = &self.slots[worker]
        if slot.shed_most != 0 and self.leave_out(slot, &flow, hash, ts_ns, frame, &place, &marks):
            self.shed_frames += 1
            self.shed_bytes += caplen
            return 0
        need = RECORD_BYTES + ((caplen + 7) & ~<uint32_t>7)
        if slot.data == NULL or slot.used + need > slot.capacity or self.turns - slot.turns > MOST_TURNS:
            self.open_slot(worker, need)
        if slot.behind:
            self.tell_clock(worker, need)
        record = <Record*>(slot.data + slot.used)       # a multiple of 8 from the start of an allocation
        record.ts_ns = ts_ns
        record.hash = hash
        record.vlans = place.vlans | marks | (self.turns - slot.turns) << RECORD_TURNS
        record.caplen = caplen
        record.wirelen = wirelen
        record.tcp_length = place.tcp_length
        record.net = <uint16_t>place.net        # both fit: locate finds nothing beyond
        record.tcp = <uint16_t>place.tcp
        # Here, where its bytes are at hand: a worker looks at few of them. A QUIC packet has a seal of its own.
        if self.checksums and not place.vlans & UDP_FLOW:
            record.vlans |= <uint64_t>verify(frame, record.net, record.tcp, caplen, record.tcp_length) << RECORD_CHECKSUM
        claim(slot.data + slot.used + need + CLAIMED, <int>(need // <uint32_t>LINE) + 1)
        memcpy(slot.data + slot.used + RECORD_BYTES, frame, caplen)
        slot.used += need
        slot.frames += 1
        if marks & RECORD_REASSEMBLED:
            slot.flags |= FLAG_REASSEMBLED
        slot.last_ts_ns = ts_ns
        self.offered[worker] += 1
        return 0

    cdef bint leave_out(self, Slot* slot, const FlowKey* flow, uint64_t hash, uint64_t ts_ns,
                        const uint8_t* frame, const Location* found, uint64_t* marks) except -1:
        """Return whether this frame's flow is shed.

        If not, and its flow begins here, `marks` gets the share of flows shed now. An Initial packet begins a flow as a
        SYN does, and so does any datagram that is no QUIC, because no other tells of its beginning.
        """
        cdef uint32_t place = flow_place(self.salt, flow)
        cdef uint8_t flags
        if flow.vlans & UDP_FLOW:
            flags = SYN if not opening_bytes(frame, found.caplen, found.tcp) \
                or begins_flow(frame + found.tcp + UDP_BYTES) else 0
        else:
            flags = frame[found.tcp + FLAGS]
        if place < slot.shed_most and self.shed_set.holds(hash, ts_ns, flags, place < slot.shed):
            return True
        if self.shed_set.begins(flags):
            marks[0] |= <uint64_t>slot.shed << RECORD_SHED
        return False

    cdef int reassemble(self, uint64_t ts_ns, const uint8_t* frame, Location* place, Whole* whole) except -1:
        """Add a fragment; return True if it completes a datagram for the workers, in `whole` at `place`.

        A datagram may hold a tunnel with a fragment that completes another one, and so on, at most once per allowed
        tunnel.
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
            if verdict == FOUND or verdict == DATAGRAM:
                return True
            if verdict == FRAGMENT and place.tunnels == tunnels:
                verdict = BAD_IP_HEADER             # a second Fragment header in one chain; Linux refuses that too
            self.rejected[<int>verdict] += 1
            tunnels = place.tunnels
        return False

    cdef int tell_clock(self, int worker, uint32_t need) except -1:
        """Let the open batch, or the next one, tell the worker the highest time stamp so far.

        In a file, time stamps may turn back, and another worker may have the frame with the highest one. With it, the timers of
        all workers have one clock.
        """
        cdef Slot* slot = &self.slots[worker]
        if slot.frames:
            self.open_slot(worker, need)
        slot.behind = False
        slot.flags |= FLAG_CLOCK
        slot.clock_ns = self.highest_ns
        return 0

    cdef int open_slot(self, int worker, uint32_t need) except -1:
        """Make room for `need` bytes: seal the open batch of the worker, if any, and start another."""
        cdef Slot* slot = &self.slots[worker]
        cdef object buffer
        cdef Py_buffer memory
        cdef uint32_t capacity = max(self.batch_bytes, HEADER_BYTES + need)
        if slot.data != NULL:
            self.seal_slot(worker, 0)
        if self.lent and len(self.lent[-1]) >= capacity:
            buffer = self.lent.pop()
        elif self.spare and len(self.spare[-1]) >= capacity:
            buffer = self.spare.pop()
        else:
            buffer = bytearray(capacity)
        PyObject_GetBuffer(buffer, &memory, PyBUF_WRITABLE)
        slot.data = <uint8_t*>memory.buf
        PyBuffer_Release(&memory)               # self.buffers keeps it, and nothing makes it longer or shorter
        self.buffers[worker] = buffer
        slot.capacity = <uint32_t>len(buffer)
        slot.used = HEADER_BYTES
        slot.frames = slot.flags = 0
        slot.last_ts_ns = 0
        slot.opened_ns = monotonic_ns()
        slot.turns = self.turns
        return 0

    cdef int seal_slot(self, int worker, int flags) except -1:
        cdef Slot* slot = &self.slots[worker]
        cdef Header header
        memset(&header, 0, sizeof(Header))
        memcpy(header.magic, <const char*>b"HCB1", 4)
        header.capture = <uint16_t>self.capture
        header.flags = <uint16_t>(flags | <int>slot.flags)
        header.epoch = self.epoch
        header.frames = slot.frames
        header.length = slot.used
        header.sealed_ns = monotonic_ns()
        header.last_ts_ns = slot.clock_ns if slot.flags & FLAG_CLOCK else slot.last_ts_ns
        header.turns = <uint32_t>slot.turns
        header.link_type = <uint32_t>self.settings.link_type
        memcpy(slot.data, &header, HEADER_BYTES)
        self.sealed.append((worker, slot.frames, memoryview(self.buffers[worker])[:slot.used]))
        self.buffers[worker] = None
        slot.data = NULL
        return 0

    def push(self, uint64_t ts_ns, frame not None, wirelen=None):
        """Add one frame from Python: for sources other than libpcap, and for tests."""
        cdef Py_buffer view
        cdef uint32_t caplen
        PyObject_GetBuffer(frame, &view, PyBUF_SIMPLE)
        try:
            caplen = view.len
            self.add(ts_ns, <const uint8_t*>view.buf, caplen, caplen if wirelen is None else wirelen)
        finally:
            PyBuffer_Release(&view)

    def shed(self, int worker, int steps):
        """Shed this many 256ths of the new flows of a worker from now on, and shed flows to their end.

        With 0 all shedding ends; the rest of a shed flow is then a mid-stream connection.
        """
        if not 0 <= worker < self.workers or not 0 <= steps < 256:
            raise ValueError(f"worker {worker} of {self.workers}, {steps} steps of 255")
        self.slots[worker].shed = steps
        self.slots[worker].shed_most = max(<int>self.slots[worker].shed_most, steps) if steps else 0

    def seal(self, uint64_t age_ns=0):
        """Seal every open batch whose first frame is at least age_ns old (0: every one)."""
        cdef int worker
        cdef uint64_t now = monotonic_ns()
        self.defragmenter.expire(self.last_ts_ns)
        for worker in range(self.workers):
            if self.slots[worker].data != NULL and now - self.slots[worker].opened_ns >= age_ns:
                self.seal_slot(worker, 0)

    def supply(self, buffer not None):
        """Supply memory for one batch, writable and as long as a batch.

        It comes back in take(), and recycle() is not for it.
        """
        self.lent.append(buffer)

    @property
    def supplied(self):
        """Return how many supplied buffers are unused."""
        return len(self.lent)

    def take(self):
        """Return [(worker, frames, message)] sealed so far, oldest first.

        The sender stamps each, and recycles it afterwards.
        """
        sealed = self.sealed
        self.sealed = []
        return sealed

    def settle(self):
        """Time out fragments that still wait for the rest of their datagram, at the end of the source."""
        self.defragmenter.settle()

    def end(self):
        """Seal the last batches: the open ones, then an empty batch with the end mark per worker."""
        cdef int worker
        self.settle()
        self.seal()
        for worker in range(self.workers):
            self.open_slot(worker, 0)
            # Their timers end with the same clock, however many workers share the frames.
            self.slots[worker].last_ts_ns = max(self.highest_ns, self.newest_ns)
            self.seal_slot(worker, FLAG_END)
        return self.take()

    def recycle(self, message not None):
        """Return the buffer behind a taken message to the pool; it must have no reader any more."""
        buffer = message.obj
        message.release()
        if len(self.spare) < MAX_SPARE and len(buffer) == self.batch_bytes:
            self.spare.append(buffer)

    @property
    def link_type(self):
        """Set the link type of the frames, in libpcap's numbers."""
        return self.settings.link_type

    @property
    def taken(self):
        """Return the frames and captured bytes added so far."""
        return self.frames, self.bytes

    @property
    def ready(self):
        """Return how many sealed batches take() would return."""
        return len(self.sealed)

    def counts(self):
        """Return the counters of this process so far, by the slot names of its stats page."""
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
