# cython: language_level=3
"""Assembler: TCP streams for whoever wants their bytes. The API is that of gopacket's tcpassembly, the engine the workers'.

    frame -> locate -> Segment -> StreamConnection -> Stream (the engine's) -> Delivery -> the user's stream

A factory's new(net, transport) makes a user's stream for each direction; the stream is then given lists of Pieces by
reassembled() and is told by complete() that nothing more comes. All of it happens inside the call of assemble() or of a
flush, in the caller's thread and in causal order: a response is never given before the request that it answers, neither
is its stream made earlier. What waits, for how long, and what becomes a gap is said in stream.pyx and connection.pyx.

A direction's stream is made when its first byte is handed on, or with its connection's handshake if it says nothing; a
SYN that nobody answers makes none, so that a flood of them costs the user nothing.
"""
cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from appliance.batch cimport RECORD_CHECKSUM, Record
from appliance.checksum cimport verify
from appliance.flow cimport FlowKey, HashKey, flow_hash, flow_key, hash_key
from appliance.locate cimport FOUND, VERDICTS_END, Location, Settings, Verdict, locate
from workers.connection cimport BY_RST, BY_SHUTDOWN, BY_TIMEOUT, HIGH, LOW, OPEN, Connection
from workers.delivery cimport LIVE, OVER, Delivery, StreamConnection
from workers.limits cimport Limits
from workers.path cimport receive
from workers.table cimport Table

from secrets import token_bytes

import msgspec

from appliance.endpoints import Flow
from appliance.locate import VERDICTS
from appliance.options import Http, Tcp
from workers.delivery import Piece
from workers.reader_stream import DataLost, ReaderStream, Stream

__all__ = ["Assembler", "DataLost", "Flow", "Piece", "ReaderStream", "Stream", "StreamPool"]

cdef enum:
    CHUNK_BYTES = 1 << 20       # frames that the History keeps as one batch
    CHUNK_FRAMES = 4096


cdef class StreamPool:
    """What makes the streams: `factory` has new(net, transport), which gives a Stream, or None to ignore the direction.

    net and transport are Flows of addresses and of ports. Several assemblers may share a pool; unlike gopacket's it holds
    no connections, so all frames of a connection must go to one assembler.
    """

    cdef readonly object factory

    def __init__(self, factory):
        if not callable(getattr(factory, "new", None)):
            raise TypeError(f"a factory has a method new(net, transport); {type(factory).__name__} has none")
        self.factory = factory


@cython.final
cdef class StreamTable(Table):
    cdef Connection make(self, const FlowKey* key, int capture):
        return StreamConnection.__new__(StreamConnection)


@cython.final
cdef class Assembler:
    """Puts the TCP streams of frames together and hands them to the pool's streams.

    tcp: limits, as in the [tcp] section of the configuration; max_tunnels: how many tunnels inside each other are entered.
    ValueError if one is out of its range. Memory is bounded by these limits and by what the users' streams keep.

    For one thread at a time; a stream must not call its own assembler (RuntimeError). Time is that of the frames: their
    waits end when a later frame comes, or by flush_older_than(). As a context manager it ends with flush_all(); without
    either, streams are dropped with the assembler and their complete() is not called.
    """

    cdef Delivery delivery
    cdef Table table
    cdef HashKey key
    cdef Settings settings
    cdef bint busy
    cdef list chunk                 # frames whose bytes the History may still compare
    cdef Py_ssize_t chunk_bytes
    cdef uint64_t frames
    cdef uint64_t[<int>VERDICTS_END] rejected

    def __init__(self, StreamPool pool not None, tcp=None, int max_tunnels=4):
        try:
            tcp = msgspec.convert(msgspec.to_builtins(Tcp() if tcp is None else tcp), Tcp)
        except msgspec.ValidationError as error:
            raise ValueError(f"tcp: {error}") from None
        if max_tunnels < 0:
            raise ValueError(f"max_tunnels: 0 or more, not {max_tunnels}")
        self.delivery = Delivery(Limits(tcp, Http()), pool.factory)
        self.table = StreamTable(self.delivery)
        self.key = hash_key(token_bytes(16))
        self.settings.max_tunnels = max_tunnels
        self.settings.vlans = True
        self.next_chunk()

    def assemble(self, packet not None):
        """Takes one packet: an appliance.packet.Packet, or what has its data, metadata and link_type.

        True if it was a TCP segment with a sensible header; other frames are counted. Raises what a stream raises.
        """
        metadata = packet.metadata
        return self.assemble_frame(packet.data, metadata.ts_ns, packet.link_type, metadata.wirelen)

    def assemble_frame(self, data not None, uint64_t ts_ns, int link_type=1, wirelen=None):
        """The same for bare bytes; ts_ns since 1970, link_type as LINKTYPE_ or DLT_, wirelen: bytes on the wire."""
        cdef bytes frame = data if type(data) is bytes else bytes(memoryview(data))
        cdef bint found
        self.enter()
        try:
            found = self.take_frame(frame, ts_ns, link_type, len(frame) if wirelen is None else wirelen)
            self.delivery.hand_over()
        finally:
            self.busy = False
        self.delivery.complain()
        return found

    def flush_older_than(self, uint64_t ts_ns):
        """(flushed, closed): streams that wait for bytes since before ts_ns go on without them, and connections without a
        frame since then, of which nothing waits, are over.

        Counts streams that were made, that is directions, as gopacket does; the closed ones are among the flushed.
        """
        cdef Py_ssize_t flushed = 0, closed = 0
        cdef StreamConnection connection
        cdef uint8_t[2] before
        cdef bint[2] gone_on
        cdef int side
        self.enter()
        try:
            for connection in self.table.connections:
                if connection is None or connection.ending != OPEN:
                    continue
                before = connection.state
                for side in range(2):
                    gone_on[side] = connection.go_on(side, ts_ns, self.delivery)
                if connection.ending != OPEN:
                    self.table.ended(connection)
                elif connection.last_ns < ts_ns and not (connection.streams[LOW].held_count
                                                         or connection.streams[HIGH].held_count):
                    connection.finish(BY_RST if connection.reset_ns else BY_TIMEOUT, self.delivery)
                    self.table.remove(connection)
                for side in range(2):
                    if connection.state[side] == OVER and before[side] != OVER:
                        closed += 1
                        flushed += 1
                    elif gone_on[side] and connection.state[side] == LIVE:
                        flushed += 1
            self.delivery.hand_over()
        finally:
            self.busy = False
        self.delivery.complain()
        return flushed, closed

    def flush_all(self):
        """Ends everything: what waits is given with its gaps, every stream completes. How many streams that were.

        Afterwards the assembler is as new, but for its counters: frames of another time may follow.
        """
        cdef uint64_t before = self.delivery.completed
        self.enter()
        try:
            self.table.finish(BY_SHUTDOWN)
            self.delivery.hand_over()
            self.delivery.now = self.table.tick = self.table.next_look = 0
        finally:
            self.busy = False
        self.delivery.complain()
        return self.delivery.completed - before

    def counts(self):
        """Counters by the names of the worker's stats page, with those of frames and users' streams beside them.

        frames = segments + all that is rejected.
        """
        cdef Delivery delivery = self.delivery
        counts = delivery.tally.counts()
        counts["frames"] = self.frames
        for number, name in enumerate(VERDICTS, 1):
            counts[f"rejected.{name}"] = self.rejected[number]
        counts["streams.made"] = delivery.made
        counts["streams.open"] = delivery.made - delivery.completed
        counts["streams.ignored"] = delivery.ignored
        counts["streams.raised"] = delivery.failed
        return counts

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.flush_all()

    @property
    def now_ns(self):
        """The clock: the highest frame time stamp so far."""
        return self.delivery.now

    cdef int enter(self) except -1:
        if self.busy:
            raise RuntimeError("this assembler is at work: a stream must not call it, and no second thread")
        self.busy = True
        return 0

    cdef int next_chunk(self) except -1:
        """A History keeps whole batches of frames; here is a new one."""
        self.chunk = []
        self.chunk_bytes = 0
        return self.delivery.history.keep(self.chunk)

    cdef bint take_frame(self, bytes data, uint64_t ts_ns, int link_type, uint32_t wirelen) except -1:
        """One frame, as Pipeline.feed() takes it; False if there is no segment in it."""
        cdef const uint8_t* frame = data
        cdef uint32_t caplen = <uint32_t>len(data)
        cdef Location place
        cdef Record record
        cdef FlowKey key
        cdef bint found
        cdef Verdict verdict
        self.settings.link_type = link_type
        verdict = locate(&self.settings, frame, caplen, wirelen, &place)
        self.frames += 1
        if verdict != FOUND:
            self.rejected[<int>verdict] += 1
            return False
        record.ts_ns = ts_ns
        record.vlans = place.vlans
        record.caplen = place.caplen
        record.wirelen = wirelen
        record.tcp_length = place.tcp_length
        record.net = <uint16_t>place.net
        record.tcp = <uint16_t>place.tcp
        record.vlans |= <uint64_t>verify(frame, &record) << RECORD_CHECKSUM
        flow_key(frame + place.net, frame + place.tcp, place.vlans, &key)
        record.hash = flow_hash(&self.key, &key)
        self.chunk.append(data)
        self.chunk_bytes += caplen
        found = receive(self.table, frame, &record, 0)
        if self.chunk_bytes > CHUNK_BYTES or len(self.chunk) > CHUNK_FRAMES:
            self.next_chunk()
        return found
