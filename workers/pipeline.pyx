# cython: language_level=3
"""Pipeline: the data path. A batch of frames goes in, encoded events come out.

    batch -> Record + frame -> Segment -> Connection -> Stream -> MessageReader -> Pairer -> Encoder -> event bytes

feed() below is that path, every stage in order; read it first. The message's memory is borrowed for the call: in-order
payload is parsed where it lies, only what must wait is copied. Nothing here knows sockets, files, or the wall clock.
Cost per frame and per transaction: `make bench` prints it stage by stage.
"""
from libc.stdint cimport uint8_t, uint64_t

from appliance.batch cimport VLAN_BITS, BatchReader, Record
from appliance.flow cimport FlowKey, flow_key
from workers.connection cimport BY_REUSE, BY_SHUTDOWN, OPEN, Connection
from workers.encode cimport Encoder
from workers.limits cimport Limits
from workers.segment cimport SYN, Segment, read_segment
from workers.table cimport Table
from workers.tally cimport Tally
from workers.transaction cimport Transaction

from appliance.batch import BadBatch


cdef class Pipeline:
    """One worker's data path.

    config: the resolved Config; its tcp, http, run and source sections matter here. Not thread-safe. A batch that is not one
    raises BadBatch; anything the wire can carry does not raise.
    """

    cdef Limits limits
    cdef Tally tally
    cdef Table table
    cdef Encoder encoder
    cdef list finished          # transactions not yet encoded
    cdef int captures

    def __init__(self, config):
        self.limits = Limits(config.tcp, config.http)
        self.tally = Tally()
        self.table = Table(self.limits, self.tally)
        self.encoder = Encoder(config.run.observer, config.interface_names, config.http)
        self.finished = []
        self.captures = len(config.interface_names)

    def feed(self, message not None):
        """Takes every frame of a batch; the events that it completes wait for take()."""
        cdef BatchReader batch = BatchReader()
        cdef Table table = self.table
        cdef Tally tally = self.tally
        cdef Connection connection
        cdef Record record
        cdef Segment segment
        cdef FlowKey key
        cdef const uint8_t* frame
        cdef bint from_low

        batch.open(message)
        if batch.header.capture >= self.captures:
            raise BadBatch(f"capture {batch.header.capture} of {self.captures}: not one of this run")
        while True:
            frame = batch.next(&record)
            if frame == NULL:
                break
            if not read_segment(frame, &record, &segment):
                tally.bad_header += 1
                continue
            from_low = flow_key(frame + record.net, frame + record.tcp, record.vlans & VLAN_BITS, &key)
            table.advance(record.ts_ns, self.finished)
            connection = table.find(&key, record.hash)
            if connection is not None and connection.replaced_by(&segment, from_low):
                connection.finish(BY_REUSE, table.now, self.limits, tally, self.finished)
                table.remove(connection)
                connection = None
            if connection is None:
                if not (segment.flags & SYN or segment.length):
                    tally.no_connection += 1        # the last ACK of a connection that is over, mostly
                    continue
                connection = table.add(&key, record.hash, batch.header.capture, self.finished)
            tally.segments += 1
            if connection.ending == OPEN:
                connection.accept(&segment, from_low, table.now, self.limits, tally, self.finished)
                if connection.ending != OPEN:
                    table.ended(connection)
                elif connection.waits():
                    table.wait(connection)
            else:
                tally.payload += segment.captured
                tally.ignored += segment.captured
        self.encode()

    cdef int encode(self) except -1:
        cdef Transaction transaction
        for transaction in self.finished:
            self.encoder.write(transaction, self.tally)
        self.finished.clear()
        return 0

    def advance(self, uint64_t now_ns):
        """Nothing came, but time has passed: now_ns is the wall clock of a live capture, ns since 1970."""
        self.table.advance(now_ns, self.finished)
        self.encode()

    def finish(self):
        """Nothing more will come: every connection ends, every event leaves."""
        self.table.finish(BY_SHUTDOWN, self.finished)
        self.encode()

    def take(self):
        """[(topic index, number of events, their JSON lines)] since the last take(); topics as appliance.stats.TOPICS."""
        return self.encoder.take()

    def counts(self):
        """Counters since the pipeline was made, by the slot names of the worker's stats page."""
        return self.tally.counts()

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
        return self.table.now
