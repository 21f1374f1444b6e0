# cython: language_level=3
"""Pipeline: the data path. A batch of frames goes in, encoded events come out.

    batch -> Record + frame -> Segment -> HttpConnection -> Stream -> MessageReader -> Pairer -> Encoder -> event bytes

feed() below is that path, every stage in order; read it first. The message's memory is borrowed for the call: in-order
payload is parsed where it lies, only what must wait is copied. Nothing here knows sockets, files, or the wall clock.
Cost per frame and per transaction: `make bench` prints it stage by stage.
"""
from libc.stdint cimport uint8_t, uint64_t

from appliance.batch cimport VLAN_BITS, BatchReader, Record
from appliance.flow cimport FlowKey, flow_key
from workers.connection cimport BY_SHUTDOWN, HIGH, LOW, OPEN, Connection
from workers.context cimport Context
from workers.encode cimport Encoder
from workers.http_connection cimport HttpConnection
from workers.limits cimport CHECKSUMS_DROP, CHECKSUMS_OFF, Limits
from workers.segment cimport BAD, GOOD, OFFLOADED, SYN, Checksum, Segment, read_segment, verify
from workers.stream cimport repeated
from workers.table cimport FAR, Table
from workers.tally cimport Tally
from workers.transaction cimport Transaction

from appliance.batch import BadBatch


cdef class HttpTable(Table):
    cdef Connection make(self, const FlowKey* key, int capture):
        return HttpConnection.__new__(HttpConnection)


cdef class Pipeline:
    """One worker's data path.

    config: the resolved Config; its tcp, http, run and source sections matter here. Not thread-safe. A batch that is not one
    raises BadBatch; anything the wire can carry does not raise.
    """

    cdef Context cx
    cdef Table table
    cdef Encoder encoder
    cdef int captures

    def __init__(self, config):
        self.cx = Context(Limits(config.tcp, config.http))
        self.table = HttpTable(self.cx)
        self.encoder = Encoder(config.run.observer, config.interface_names, config.http)
        self.captures = len(config.interface_names)

    def feed(self, message not None):
        """Takes every frame of a batch; the events that it completes wait for take().

        The message must stay as it is: it is kept, with the last few before it, to compare retransmissions with.
        """
        cdef BatchReader batch = BatchReader()
        cdef Context cx = self.cx
        cdef Tally tally = cx.tally
        cdef Table table = self.table
        cdef Connection connection
        cdef Record record
        cdef Segment segment
        cdef FlowKey key
        cdef const uint8_t* frame
        cdef int side

        batch.open(message)
        if batch.header.capture >= self.captures:
            raise BadBatch(f"capture {batch.header.capture} of {self.captures}: not one of this run")
        cx.history.keep(message)
        for _ in range(FAR):
            table.warm(batch.peek())
        while True:
            frame = batch.next(&record)
            if frame == NULL:
                break
            table.warm(batch.peek())
            if not read_segment(frame, &record, &segment):
                tally.bad_header += 1
                continue
            if cx.limits.checksums != CHECKSUMS_OFF and not count_checksum(verify(frame, &record), cx):
                tally.bad_checksum += 1
                continue
            side = LOW if flow_key(frame + record.net, frame + record.tcp, record.vlans & VLAN_BITS, &key) else HIGH
            table.advance(record.ts_ns)
            connection = table.find(&key, record.hash)
            if connection is not None and connection.replaced_by(&segment, side, cx):
                connection = table.replace(connection)
            if connection is None:
                if not (segment.flags & SYN or segment.length):
                    tally.no_connection += 1        # the last ACK of a connection that is over, mostly
                    continue
                connection = table.add(&key, record.hash, batch.header.capture)
            tally.segments += 1
            if connection.ending == OPEN:
                connection.accept(&segment, side, cx)
                if connection.ending != OPEN:
                    table.ended(connection)
                elif connection.waits():
                    table.wait(connection)
                if connection.opening and connection.proven:
                    table.established(connection)
                if tally.pending > cx.limits.max_total_pending_bytes:
                    table.relieve()
            else:
                tally.duplicate_frames += repeated(&connection.streams[side], segment.fingerprint)
                tally.payload += segment.captured
                tally.ignored += segment.captured
        self.encode()

    cdef int encode(self) except -1:
        cdef Transaction transaction
        for transaction in self.cx.out:
            self.encoder.write(transaction, self.cx.tally)
        self.cx.out.clear()
        return 0

    def advance(self, uint64_t now_ns):
        """Nothing came, but time has passed: now_ns is the wall clock of a live capture, ns since 1970."""
        self.table.advance(now_ns)
        self.encode()

    def finish(self):
        """Nothing more will come: every connection ends, every event leaves."""
        self.table.finish(BY_SHUTDOWN)
        self.encode()

    def take(self):
        """[(topic index, number of events, their JSON lines)] since the last take(); topics as appliance.stats.TOPICS."""
        return self.encoder.take()

    def counts(self):
        """Counters since the pipeline was made, by the slot names of the worker's stats page."""
        return self.cx.tally.counts()

    @property
    def pending_events(self):
        """Events waiting for take()."""
        return self.encoder.events

    @property
    def pending_output(self):
        """Bytes of events waiting for take()."""
        return self.encoder.size

    @property
    def now_ns(self):
        """The clock: the highest frame time stamp so far."""
        return self.cx.now


cdef bint count_checksum(Checksum found, Context cx) noexcept:
    """Counts what a segment's checksums are like; may it go on?"""
    if found == GOOD:
        return True
    if found == BAD:
        cx.tally.checksums_bad += 1
        return cx.limits.checksums != CHECKSUMS_DROP
    if found == OFFLOADED:
        cx.tally.checksums_offloaded += 1
    else:
        cx.tally.checksums_unverified += 1
    return True
