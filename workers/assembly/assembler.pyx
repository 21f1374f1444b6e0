# cython: language_level=3
"""Assembler: TCP streams for a library's user. The API is that of gopacket's tcpassembly, the engine that of the workers.

    frame -> locate -> Segment -> Connection -> Stream (the engine's) -> UserStreams -> Delivery -> the user's stream

A factory's new(net, transport) makes a user's stream for each direction. The assembler then calls reassembled() with lists of
Pieces, and complete() at the end. All of these calls happen inside assemble() or a flush, in the caller's thread and in causal
order: a request comes before its response, and so do their streams. stream.pyx and connection.pyx have the rules for waiting
segments and for gaps.

The first delivered byte of a direction makes its stream, or the connection's handshake if the direction sends no bytes. An
unanswered SYN makes none, so that a SYN flood costs the user nothing.
"""
from inspect import getattr_static
from types import FunctionType

cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from appliance.ipc.frame_batch cimport RECORD_CHECKSUM, Record
from appliance.wire.checksum cimport verify
from appliance.wire.flow_key cimport FlowKey, HashKey, flow_hash, flow_key, hash_key
from appliance.wire.location cimport FOUND, VERDICTS_END, Location, Settings, Verdict
from appliance.wire.tcp_locator cimport locate
from appliance.wire.tunnel_ports cimport use_ports
from workers.tcp.application cimport HIGH, LOW
from workers.tcp.connection cimport BY_RST, BY_SHUTDOWN, BY_TIMEOUT, OPEN, Connection
from workers.assembly.delivery cimport LIVE, OVER, Delivery, ForUsers, UserStreams, go_on
from workers.core.limits cimport Limits
from workers.tcp.receive cimport receive
from workers.tcp.connection_table cimport Table

from secrets import token_bytes

import msgspec

from appliance.packet.endpoints import Flow
from appliance.wire.tcp_locator import DEFAULT_TUNNELS, VERDICTS
from appliance.config.schema import Events, Http, Tcp, WebSocket
from workers.assembly.delivery import Piece
from workers.assembly.reader_stream import DataLost, ReaderStream, Stream

__all__ = ["Assembler", "DataLost", "Flow", "Piece", "ReaderStream", "Stream", "StreamPool"]

cdef enum:
    CHUNK_BYTES = 1 << 20       # frames that the History keeps as one batch
    CHUNK_FRAMES = 4096


cdef class StreamPool:
    """The maker of streams: it calls `factory`, or its method `new`, with (net, transport), which returns a Stream, or None
    to ignore the direction. A class of streams whose constructor takes the two is a factory.

    net and transport are Flows of addresses and of ports. Several assemblers may share a pool; unlike gopacket's it holds
    no connections, so all frames of a connection must go to one assembler.
    """

    cdef readonly object factory
    cdef object new

    def __init__(self, factory):
        new = getattr(factory, "new", None)
        if isinstance(factory, type) and isinstance(getattr_static(factory, "new", None), FunctionType):
            new = factory().new     # the class of a factory: one object makes all streams
        elif not callable(new):
            new = factory
        if not callable(new):
            raise TypeError(f"a factory is callable with (net, transport), or has a method new; {factory!r} is neither")
        self.factory = factory
        self.new = new


@cython.final
cdef class Assembler:
    """The reassembly of TCP frames into the pool's streams.

    tcp: limits, as in the [tcp] section of the configuration; max_tunnels: how many nested tunnels it enters.
    ValueError if one is out of its range. These limits and the memory of the users' streams bound the memory.

    For one thread at a time; a stream must not call its own assembler (RuntimeError). Time is that of the frames: a wait
    ends when a later frame comes, or by flush_older_than(). As a context manager it ends with flush_all(); without
    either, the streams are lost with the assembler, without a call of complete().
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

    def __init__(self, StreamPool pool not None, tcp=None, int max_tunnels=DEFAULT_TUNNELS):
        try:
            tcp = msgspec.convert(msgspec.to_builtins(Tcp() if tcp is None else tcp), Tcp)
        except msgspec.ValidationError as error:
            raise ValueError(f"tcp: {error}") from None
        if max_tunnels < 0:
            raise ValueError(f"max_tunnels: 0 or more, not {max_tunnels}")
        self.delivery = Delivery(Limits(tcp, Http(), Events(), WebSocket()), pool.new)
        self.table = Table(self.delivery, ForUsers())
        self.key = hash_key(token_bytes(16))
        self.settings.max_tunnels = max_tunnels
        self.settings.vlans = True
        use_ports(&self.settings.ports, None)
        self.next_chunk()

    def assemble(self, packet not None):
        """Process one packet: an appliance.packet.Packet, or an object with its data, metadata and link_type.

        Return True for a TCP segment with a valid header; counts() has the other frames. Exceptions of streams pass through.
        """
        metadata = packet.metadata
        return self.assemble_frame(packet.data, metadata.ts_ns, packet.link_type, metadata.wirelen)

    def assemble_frame(self, data not None, uint64_t ts_ns, int link_type=1, wirelen=None):
        """Process bare bytes like assemble(); ts_ns since 1970, link_type as LINKTYPE_ or DLT_, wirelen: bytes on the wire."""
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
        """Skip the missing bytes that streams have awaited since before ts_ns, close idle connections; return (flushed, closed).

        An idle connection has no held bytes, and no frame since ts_ns. Both numbers count streams that were made, that is
        directions, as gopacket does; flushed includes closed.
        """
        cdef Py_ssize_t flushed = 0, closed = 0
        cdef Connection connection
        cdef UserStreams owner
        cdef uint8_t[2] before
        cdef bint[2] gone_on
        cdef int side
        self.enter()
        try:
            for connection in self.table.connections:
                if connection is None or connection.ending != OPEN:
                    continue
                owner = <UserStreams>connection.application
                before = owner.state
                for side in range(2):
                    gone_on[side] = go_on(connection, side, ts_ns, self.delivery)
                if connection.ending != OPEN:
                    self.table.ended(connection)
                elif connection.last_ns < ts_ns and not (connection.streams[LOW].held_count
                                                         or connection.streams[HIGH].held_count):
                    connection.finish(BY_RST if connection.reset.since else BY_TIMEOUT, self.delivery)
                    self.table.remove(connection)
                for side in range(2):
                    if owner.state[side] == OVER and before[side] != OVER:
                        closed += 1
                        flushed += 1
                    elif gone_on[side] and owner.state[side] == LIVE:
                        flushed += 1
            self.delivery.hand_over()
        finally:
            self.busy = False
        self.delivery.complain()
        return flushed, closed

    def flush_all(self):
        """Deliver all held bytes with their gaps, complete every stream, and return the number of streams completed.

        Afterwards the assembler is as new, except for its counters: frames of another time may follow.
        """
        cdef uint64_t before = self.delivery.completed
        self.enter()
        try:
            self.table.finish(BY_SHUTDOWN, <uint64_t>-1)
            self.delivery.hand_over()
            self.delivery.now = self.table.tick = self.table.next_look = 0
        finally:
            self.busy = False
        self.delivery.complain()
        return self.delivery.completed - before

    def counts(self):
        """Return counters by the names of the worker's stats page, with those of frames and users' streams beside them.

        frames = segments + the sum of rejected.*.
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
        """Return the clock, in ns: the highest frame time stamp so far."""
        return self.delivery.now

    cdef int enter(self) except -1:
        if self.busy:
            raise RuntimeError("this assembler is at work: a stream must not call it, and no second thread")
        self.busy = True
        return 0

    cdef int next_chunk(self) except -1:
        """Start a new chunk of frames, which the History keeps as a batch."""
        self.chunk = []
        self.chunk_bytes = 0
        return self.delivery.history.keep(self.chunk)

    cdef bint take_frame(self, bytes data, uint64_t ts_ns, int link_type, uint32_t wirelen) except -1:
        """Process one frame, as Pipeline.feed() does; return False if it has no segment."""
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
        record.vlans |= <uint64_t>verify(frame, record.net, record.tcp, record.caplen, record.tcp_length) << RECORD_CHECKSUM
        flow_key(frame + place.net, frame + place.tcp, place.vlans, &key)
        record.hash = flow_hash(&self.key, &key)
        self.chunk.append(data)
        self.chunk_bytes += caplen
        found = receive(self.table, frame, &record, 0)
        if self.chunk_bytes > CHUNK_BYTES or len(self.chunk) > CHUNK_FRAMES:
            self.next_chunk()
        return found
