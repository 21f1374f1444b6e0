# cython: language_level=3
"""Pipeline: the data path. A batch of frames goes in, encoded events come out.

    batch -> Record + frame -> Segment -> Connection -> Stream -> Application -> finished record -> its RecordEncoder -> EventBody

feed() below begins that path and ends it; tcp/receive.pyx has the part of TCP, quic/datagrams.pyx that of QUIC. The readers
parse in-order payload in place, in the batch; only bytes that must wait are copied. No code here uses sockets, files, or the
wall clock.
Cost per frame and per transaction: `make bench` prints it stage by stage.
"""
from cpython.list cimport PyList_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t

from appliance.ipc.frame_batch cimport FLAG_CLOCK, FLAG_END, BatchReader, Record
from appliance.wire.flow_key cimport UDP_FLOW
from workers.tcp.connection cimport BY_SHUTDOWN
from workers.core.context cimport Context
from workers.events.event_body cimport EventBody
from workers.events.record_encoder cimport RecordEncoder
from workers.flow.encoder cimport FlowEncoder
from workers.core.keeper cimport Keeper
from workers.core.limits cimport Limits
from workers.tcp.flow_record cimport FlowRecord
from workers.tcp.receive cimport receive
from workers.core.backlog_share cimport Share
from workers.quic.connection cimport QuicConnection
from workers.quic.datagrams cimport Datagrams
from workers.quic.encoder cimport QuicEncoder
from workers.tcp.connection_table cimport FAR, Table

from appliance.ipc.frame_batch import BadBatch
from workers.core.keeper import keeper_of
from workers.events.record_encoder import chosen
from workers.protocols import PROTOCOLS
from workers.quic.context import QuicContext


cdef extern from "Python.h":
    int PyList_SetSlice(object, Py_ssize_t, Py_ssize_t, PyObject*) except -1    # NULL takes the items out


def bodies_of(config, files=None):
    """Return the Bodies that inspect message bodies, or None if no option asks for them. Import its libraries only then.

    files: the FileSink of their files; None: no files are kept."""
    wanted = config.bodies
    if not (wanted.hashes or wanted.mime_type or wanted.excerpt_bytes or files is not None):
        return None
    from workers.body.file_tap import FileTaps
    from workers.body.reader import Bodies
    return Bodies(wanted, config.http.redact_parameters, None if files is None else FileTaps(config.files, files))


def looking_of(config):
    """Return the options that the Bodies depend on."""
    return config.bodies, config.http.redact_parameters, config.websocket.decode, config.files


def encoders_of(config, EventBody body not None):
    """Return {type of a finished record: its RecordEncoder} of all protocols, with the datasets that are off left out."""
    interfaces = [config.interface_of(capture) for capture in range(config.capture_count)]
    encoders = PROTOCOLS.encoders(config, body)
    encoders[QuicConnection] = QuicEncoder(body, config.run.observer, interfaces)
    encoders[FlowRecord] = FlowEncoder(body, config.run.observer, interfaces)
    return chosen(encoders, config.events.datasets)


def inflaters_of(config, bodies):
    """Return the Inflaters of WebSocket messages, None if no option asks for them. They share the limits of the Bodies."""
    if not config.websocket.decode:
        return None
    from workers.body.message_inflater import Inflaters
    return Inflaters(config.bodies) if bodies is None else Inflaters(config.bodies, bodies.budget, bodies.reserve)


def keys_of(states):
    """Return the KeyStore among the states of protocols, or None if no option asks for it."""
    tls = states.get("tls")
    return None if tls is None else tls.keys


cdef Limits limits_of(config):
    return Limits(config.tcp, config.http, config.events, config.websocket)


cdef class Pipeline:
    """One worker's data path.

    config: the resolved Config; its tcp, http, quic, bodies, events, websocket, run and source sections matter here. live: frames
    come as they are captured, so that steps of the clock show. files: the FileSink of files out of bodies. Not thread-safe. An
    invalid batch raises BadBatch; no content of a frame raises.
    """

    cdef Context cx
    cdef Table table
    cdef Datagrams datagrams
    cdef EventBody body
    cdef dict encoders          # {type of a finished record: RecordEncoder}
    cdef object keys            # KeyStore; None: nothing is decrypted
    cdef Keeper keeper          # of connections, for a successor of the process
    cdef Share share
    cdef int captures
    cdef bint live
    cdef tuple looking          # the options that made the Bodies
    cdef object files           # FileSink; None: no files are kept

    def __init__(self, config, bint live=False, files=None):
        self.live = live
        self.files = files
        self.cx = Context(limits_of(config), bodies_of(config, files))
        self.cx.inflaters = inflaters_of(config, self.cx.bodies)
        self.table = Table(self.cx, PROTOCOLS)
        self.cx.states = PROTOCOLS.states(config, {})
        self.keys = keys_of(self.cx.states)
        self.keeper = keeper_of(self.cx.states)
        quic = QuicContext(self.cx.states.get("tls"))
        quic.configure(config.quic)
        self.datagrams = Datagrams(self.cx, quic, config.capture_count > 1, config.events.udp_flows)
        self.share = Share()
        self.share.configure(config.feed.connection_share, config.feed.connection_bytes_s)
        self.body = EventBody(config.feed.event_batch_bytes, self.share)
        self.encoders = encoders_of(config, self.body)
        self.cx.tally.count_flows(self.cx.limits.flows)
        self.captures = len(config.interface_names)
        self.looking = looking_of(config)

    def configure(self, config):
        """Apply other limits and event options from now on; connections stay. Call take() before, else ValueError.

        A body reader that has begun keeps its options. State beyond the new limits stays, and is evicted first for new state."""
        if self.body.events:
            raise ValueError("there are events to take")
        self.cx.limits = limits_of(config)
        self.datagrams.configure(config.quic)
        if looking_of(config) != self.looking:
            self.cx.bodies = bodies_of(config, self.files)
            self.cx.inflaters = inflaters_of(config, self.cx.bodies)
            self.looking = looking_of(config)
        self.cx.states = PROTOCOLS.states(config, self.cx.states)
        self.keys = keys_of(self.cx.states)
        self.share.configure(config.feed.connection_share, config.feed.connection_bytes_s)
        self.body = EventBody(config.feed.event_batch_bytes, self.share)
        self.encoders = encoders_of(config, self.body)
        self.cx.tally.count_flows(self.cx.limits.flows)

    def feed(self, message not None):
        """Process every frame of a batch; the events that it completes wait for take().

        The caller must not change the message: the History keeps it, with the last few before it, to compare retransmissions.
        Raises BadBatch.
        """
        cdef BatchReader batch = BatchReader()
        cdef Table table = self.table
        cdef list out = self.cx.out
        cdef Record record
        cdef const uint8_t* frame

        batch.open(message)
        if batch.header.capture >= self.captures:
            raise BadBatch(f"capture {batch.header.capture} of {self.captures}: not one of this run")
        if self.live:
            self.cx.pace(batch.header.sealed_ns, batch.header.last_ts_ns)
        elif batch.header.flags & FLAG_CLOCK:
            table.advance(batch.header.last_ts_ns)
            self.cx.turned_ns = batch.header.last_ts_ns
        self.cx.turns = batch.header.turns
        self.cx.history.keep(message)
        for _ in range(FAR):
            table.prefetch_ahead(batch.peek())
        while True:
            frame = batch.next(&record)
            if frame == NULL:
                break
            table.prefetch_ahead(batch.peek())
            if record.vlans & UDP_FLOW:
                table.advance(self.cx.time_of(record.ts_ns))
                self.datagrams.receive(frame, &record, batch.header.capture)
            else:
                receive(table, frame, &record, batch.header.capture)
            if PyList_GET_SIZE(out):            # at once: the parts of an event are in the CPU's cache now
                self.encode()
        if batch.header.flags & FLAG_END and not self.live:     # live, the clock runs on
            table.advance(self.cx.time_of(batch.header.last_ts_ns))
        self.datagrams.look()
        if self.keys is not None:
            self.keys.expire(self.cx.now)
        if PyList_GET_SIZE(out):
            self.encode()
        self.cx.anchor = self.cx.now
        self.keeper.flush(self.cx)

    cdef int encode(self) except -1:
        self.share.now = self.cx.now
        for record in self.cx.out:
            (<RecordEncoder>self.encoders[type(record)]).write(record, self.cx.tally)
        PyList_SetSlice(self.cx.out, 0, PyList_GET_SIZE(self.cx.out), NULL)     # clear() is looked up by its name each time
        return 0

    def advance(self, uint64_t now_ns):
        """Advance the clock without a frame. now_ns: where the clock of a live capture is now."""
        self.table.advance(now_ns)
        self.datagrams.look()
        if self.keys is not None:
            self.keys.expire(self.cx.now)
        self.encode()
        self.keeper.flush(self.cx)
        self.keeper.commit()

    def keep(self, memory not None, allocate not None):
        """Keep connections in this memory, where a predecessor may have left some; before the first batch.

        memory, allocate: as of Keeper.attach(). Call done() behind each batch.
        """
        self.keeper.attach(memory, allocate)

    def kept_bytes(self, int connections):
        """Return the bytes of memory that keep() needs for this number of connections."""
        return self.keeper.memory_bytes(connections)

    def done(self):
        """Note that the batch of the last feed() will not come again, whatever happens to this process."""
        self.keeper.commit()

    def finish(self, uint64_t most=<uint64_t>-1):
        """End every connection and encode every event: no more frames follow. From now on the worker waits for the feed.

        most: of the connections that this call ends. Return whether others remain; their events would not fit into memory
        together with these.
        """
        cdef bint more
        self.share.end()
        more = self.table.finish(BY_SHUTDOWN, most)
        if not more:
            self.datagrams.finish()
            if self.keys is not None:
                self.keys.expire()
        self.encode()
        return more

    def backlog(self, uint64_t room, uint64_t gone):
        """Update the backlog's state; a live worker calls it before each batch. From then on each connection has its share only.

        room: bytes that fit into the link to the feed. gone: how many of all bodies from take() the feed has received."""
        self.share.update(room, gone)

    def take(self):
        """Return [(runs, number of events, their JSON lines)] since the last take(), in the order in which the events ended.

        A newline separates the lines, and none follows the last; runs give their topics, see appliance.ipc.event_runs.
        Both together have at most feed.event_batch_bytes, or hold one event.
        """
        return self.body.take()

    def add_keys(self, bytes packed not None):
        """Take secrets of TLS sessions in the form of appliance.keylog.secrets. Connections that waited for them go on."""
        if self.keys is not None:
            for waiter in self.keys.add(packed, self.cx.now):
                waiter.keys_came()
            self.encode()

    def counts(self):
        """Return the counters since the pipeline was made, by the slot names of the worker's stats page."""
        if self.keys is not None:
            self.keys.sweep(self.cx.now)
        counts = self.cx.tally.counts() | self.datagrams.counts()
        for state in self.cx.states.values():
            counts.update(state.slots())
        return counts

    @property
    def pending_events(self):
        """Return the number of events waiting for take()."""
        return self.body.events

    @property
    def pending_datagrams(self):
        """Return the number of QUIC datagrams kept for their other side: they have no outcome yet."""
        return self.datagrams.waiting

    @property
    def pending_output(self):
        """Return the bytes of events waiting for take()."""
        return self.body.size

    @property
    def now_ns(self):
        """Return the clock, in ns: the highest frame time stamp so far, without the steps of the clock that stamps frames."""
        return self.cx.now
