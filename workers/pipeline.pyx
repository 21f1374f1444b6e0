# cython: language_level=3
"""Pipeline: the data path. A batch of frames goes in, encoded events come out.

    batch -> Record + frame -> Segment -> HttpConnection -> Stream -> MessageReader -> Pairer -> Encoder -> event bytes

feed() below begins that path and ends it; path.pyx has the part that is TCP's. In-order payload is parsed where it lies, in the
batch; only what must wait is copied. Nothing here knows sockets, files, or the wall clock.
Cost per frame and per transaction: `make bench` prints it stage by stage.
"""
from cpython.list cimport PyList_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t

from appliance.batch cimport BatchReader, Record
from appliance.flow cimport FlowKey
from workers.connection cimport BY_SHUTDOWN, Connection
from workers.context cimport Context
from workers.encode cimport Encoder
from workers.http_connection cimport HttpConnection
from workers.limits cimport Limits
from workers.path cimport receive
from workers.table cimport FAR, Table
from workers.transaction cimport Transaction

from appliance.batch import BadBatch


cdef extern from "Python.h":
    int PyList_SetSlice(object, Py_ssize_t, Py_ssize_t, PyObject*) except -1    # NULL takes the items out


def bodies_of(config):
    """Who looks into bodies; None if nobody asks. Its libraries are loaded only then."""
    wanted = config.bodies
    if not (wanted.hashes or wanted.mime_type or wanted.excerpt_bytes):
        return None
    from workers.body import Bodies
    return Bodies(wanted, config.http.redact_parameters)


def encoder_of(config):
    """Who writes the events that this configuration asks for."""
    interfaces = [config.interface_of(capture) for capture in range(config.capture_count)]
    return Encoder(config.run.observer, interfaces, config.http, config.feed.event_batch_bytes, config.bodies.mime_type)


cdef class HttpTable(Table):
    cdef Connection make(self, const FlowKey* key, int capture):
        return HttpConnection.__new__(HttpConnection)


cdef class Pipeline:
    """One worker's data path.

    config: the resolved Config; its tcp, http, bodies, run and source sections matter here. live: frames come as they are
    captured, so that steps of the clock show. Not thread-safe. A batch that is not one raises BadBatch; anything the wire can
    carry does not raise.
    """

    cdef Context cx
    cdef Table table
    cdef Encoder encoder
    cdef int captures
    cdef bint live
    cdef tuple looking          # what the bodies' readers were made from

    def __init__(self, config, bint live=False):
        self.live = live
        self.cx = Context(Limits(config.tcp, config.http), bodies_of(config))
        self.table = HttpTable(self.cx)
        self.encoder = encoder_of(config)
        self.captures = len(config.interface_names)
        self.looking = config.bodies, config.http.redact_parameters

    def configure(self, config):
        """Other limits, and other things in events, from now on; connections go on. Call take() before.

        What a body's reader has begun it ends as it began. What the new limits would not have let in stays, and makes room."""
        if self.encoder.events:
            raise ValueError("there are events to take")
        self.cx.limits = Limits(config.tcp, config.http)
        if (config.bodies, config.http.redact_parameters) != self.looking:
            self.cx.bodies = bodies_of(config)
            self.looking = config.bodies, config.http.redact_parameters
        self.encoder = encoder_of(config)

    def feed(self, message not None):
        """Takes every frame of a batch; the events that it completes wait for take().

        The message must stay as it is: it is kept, with the last few before it, to compare retransmissions with.
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
        self.cx.history.keep(message)
        for _ in range(FAR):
            table.warm(batch.peek())
        while True:
            frame = batch.next(&record)
            if frame == NULL:
                break
            table.warm(batch.peek())
            receive(table, frame, &record, batch.header.capture)
            if PyList_GET_SIZE(out):            # at once: what an event is made of is at hand now
                self.encode()
        self.cx.anchor = self.cx.now

    cdef int encode(self) except -1:
        cdef Transaction transaction
        for transaction in self.cx.out:
            self.encoder.write(transaction, self.cx.tally)
        PyList_SetSlice(self.cx.out, 0, PyList_GET_SIZE(self.cx.out), NULL)     # clear() is looked up by its name each time
        return 0

    def advance(self, uint64_t now_ns):
        """Nothing came, but time has passed: where the clock of a live capture is now."""
        self.table.advance(now_ns)
        self.encode()

    def finish(self):
        """Nothing more will come: every connection ends, every event leaves."""
        self.table.finish(BY_SHUTDOWN)
        self.encode()

    def take(self):
        """[(topic index, number of events, their JSON lines)] since the last take(); topics as appliance.stats.TOPICS.

        Lines are divided by a newline, and none ends them. A body is of at most feed.event_batch_bytes, or one event.
        """
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
        """The clock: the highest frame time stamp so far, as if nobody had set the clock that stamps frames."""
        return self.cx.now
