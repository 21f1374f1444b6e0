# cython: language_level=3
"""The way of one UDP datagram: beside workers/tcp/receive.pyx, which is that of a TCP segment.

    Record + frame -> flow and side -> QuicTable -> one outcome -> finished connections to Context.out
                                    -> UdpFlows, if asked for -> finished flow records

Length proof: BatchReader.next() holds net + 20 (IPv4) or net + 40 (IPv6) <= tcp and tcp + 8 <= caplen.
"""
from collections import OrderedDict

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from appliance.ipc.frame_batch cimport MOST_TURNS, RECORD_SHED, RECORD_TURNS, VLAN_BITS, Record
from appliance.wire.flow_key cimport FlowKey, flow_key
from appliance.wire.quic_header cimport LEAST, UDP_BYTES, may_open
from workers.core.context cimport Context
from workers.core.counts cimport FOLLOWED, OPENED, OVER_LIMIT, UNOPENED
from workers.core.flow cimport Flow
from workers.quic.connection cimport QuicConnection
from workers.quic.context cimport QuicContext
from workers.quic.keys cimport load_ciphers
from workers.quic.table cimport HANDSHAKE_KNOWN, NOT_QUIC, Belongs, QuicTable
from workers.udp.flows cimport UdpFlows

cdef enum:
    SECOND = 1_000_000_000
    LONGEST_EARLY = 2048        # bytes of one; the answers of servers fit into a link's MTU


@cython.final
@cython.no_gc
cdef class EarlyDatagram:
    """A datagram that no connection has claimed yet."""


@cython.final
cdef class Datagrams:
    """The QUIC connections of one data path. Their clock is that of the Context.

    halves: several captures see the traffic, so an answer may come before the packet that it answers. Such datagrams are
    kept for a second, within limits, and counted when that is over or their connection begins.

    flows: all UDP datagrams come, and those of each flow have flow events.

    A hello that the budget leaves out is kept likewise, until its answer comes. So a flood of forged ones, which nothing
    answers, takes nothing from real connections.
    """

    def __init__(self, Context cx not None, QuicContext quic not None, bint halves=False, bint flows=False):
        self.cx = cx
        self.flows = UdpFlows(cx)
        self.has_flows = flows
        self.table = QuicTable(quic)
        self.halves = halves
        self.early = OrderedDict()
        if quic.max_initials_per_second:
            load_ciphers()          # before the first packet, which it would delay

    cdef int receive(self, const uint8_t* frame, const Record* record, int capture) except -1:
        """Process one datagram, count its outcome, and pass the connections that it finishes to Context.out."""
        cdef FlowKey key
        cdef QuicConnection connection = None
        cdef const uint8_t* payload = frame + record.tcp + UDP_BYTES
        cdef uint32_t size = min(record.tcp_length, record.caplen - record.tcp)
        cdef int side = 0 if flow_key(frame + record.net, frame + record.tcp, record.vlans & VLAN_BITS, &key) else 1
        cdef bytes name = PyBytes_FromStringAndSize(<const char*>&key, sizeof(FlowKey))
        size = size - UDP_BYTES if size > UDP_BYTES else 0
        if self.has_flows and (size + UDP_BYTES < LEAST or not self.table.cx.max_initials_per_second
                               or not may_open(payload, size)):
            self.cx.tally.udp_datagrams += 1
        else:
            connection = self.open(name, &key, side, payload, size, record, capture)
        if self.has_flows:
            self.flows.take(name, &key, side, size, record, capture, None if connection is None else connection.flow,
                            0 if connection is None else connection.client)
        return 0

    cdef QuicConnection open(self, bytes name, const FlowKey* key, int side, const uint8_t* payload, uint32_t size,
                             const Record* record, int capture):
        """Process a datagram that may open a connection; return the connection that it is of, or None."""
        cdef EarlyDatagram first = None
        cdef QuicConnection connection
        cdef list waiting
        self.table.cx.advance(self.cx.now)
        if self.waiting:
            self.expire_early(self.cx.now - min(self.cx.now, <uint64_t>SECOND))
        waiting = <list>self.early.get(name) if self.waiting else None
        if waiting is not None:
            first = <EarlyDatagram>waiting[0]
            self.table.answered = first.side != side
        if not self.take(name, side, payload, size, record.ts_ns,
                         size <= LONGEST_EARLY and self.table.cx.max_early_datagrams):
            self.describe(key, record, capture)
            connection = self.table.latest
            if waiting is not None:
                self.take_waiting(name, key, record, capture)
        elif self.table.answered and first.refused:     # this one is kept behind the hello that it answers
            self.take_waiting(name, key, record, capture)
            connection = self.table.latest
        else:
            connection = None
        self.table.answered = False
        self.release_ended()
        return connection

    cdef int take_waiting(self, bytes name, const FlowKey* key, const Record* record, int capture) except -1:
        """Pass the kept datagrams of a flow to the table."""
        cdef EarlyDatagram early
        for early in self.early.pop(name, ()):
            self.waiting -= 1
            self.take(name, early.side, <const uint8_t*>PyBytes_AS_STRING(early.payload),
                      <uint32_t>PyBytes_GET_SIZE(early.payload), early.ts_ns, False)
            self.describe(key, record, capture)
        return 0

    cdef bint take(self, bytes name, int side, const uint8_t* payload, uint32_t size, uint64_t ts_ns, bint may_wait) except -1:
        """Pass a datagram to the table and count its outcome; return whether no connection claims it.

        may_wait: such a datagram may be kept instead, and so may one that the budget leaves out.
        """
        cdef QuicContext quic = self.table.cx
        cdef uint64_t opened = quic.initials - quic.initials_failed, refused = quic.initials_over_limit
        cdef Belongs belongs = self.table.datagram(name, side, payload, size, ts_ns)
        if quic.initials - quic.initials_failed != opened:
            self.cx.tally.datagrams[OPENED] += 1
        elif quic.initials_over_limit != refused:
            if may_wait and not self.table.answered and (self.table.latest is None or not self.table.latest.answered()):
                refused = quic.initials_over_limit - refused
                quic.initials_over_limit -= refused         # give_up_oldest() counts them
                self.keep(name, side, payload, size, ts_ns, <uint32_t>refused)
            else:
                self.cx.tally.datagrams[OVER_LIMIT] += 1
        elif belongs != NOT_QUIC:
            self.cx.tally.datagrams[FOLLOWED] += 1
        elif may_wait and (self.halves or self.table.answered):
            self.keep(name, side, payload, size, ts_ns, 0)
        else:
            self.cx.tally.datagrams[UNOPENED] += 1
        if belongs == HANDSHAKE_KNOWN:
            self.cx.out.append(self.table.latest)
        return self.table.latest is None

    cdef int describe(self, const FlowKey* key, const Record* record, int capture) except -1:
        """Give the connection of the last datagram its Flow, if it has none."""
        cdef QuicConnection connection = self.table.latest
        cdef Flow flow
        if connection is None or connection.flow is not None:
            return 0
        flow = Flow.__new__(Flow)
        flow.key = key[0]
        flow.begun_ns = connection.first_ns
        flow.capture = capture
        flow.shed = <int>(record.vlans >> RECORD_SHED)
        flow.turns = <uint32_t>(self.cx.turns + (record.vlans >> RECORD_TURNS & MOST_TURNS))
        flow.again = connection.again
        connection.flow = flow
        return 0

    cdef int keep(self, bytes name, int side, const uint8_t* payload, uint32_t size, uint64_t ts_ns, uint32_t refused) except -1:
        """Keep a datagram until its connection begins, or is answered. At the limit, give up the oldest."""
        cdef EarlyDatagram early = EarlyDatagram.__new__(EarlyDatagram)
        early.side = side
        early.payload = PyBytes_FromStringAndSize(<const char*>payload, size)
        early.ts_ns = ts_ns
        early.since_ns = self.cx.now
        early.refused = refused
        if self.waiting >= self.table.cx.max_early_datagrams:
            self.give_up_oldest()
        self.early.setdefault(name, []).append(early)
        self.waiting += 1
        return 0

    cdef int give_up_oldest(self) except -1:
        """Count the datagrams of the flow that has waited longest as unopened, or as those beyond the budget."""
        cdef EarlyDatagram early
        for early in self.early.popitem(False)[1]:
            self.waiting -= 1
            self.cx.tally.datagrams[OVER_LIMIT if early.refused else UNOPENED] += 1
            self.table.cx.initials_over_limit += early.refused
        return 0

    cdef int expire_early(self, uint64_t since_ns) except -1:
        """Give up the flows whose first datagram has waited since then, or longer."""
        while self.early and (<EarlyDatagram>(<list>next(iter(self.early.values())))[0]).since_ns <= since_ns:
            self.give_up_oldest()
        return 0

    cdef int look(self) except -1:
        """End the connections whose time is over. To be called from time to time: it looks once a second."""
        if self.cx.now >= self.next_look:
            self.next_look = self.cx.now + SECOND
            self.table.cx.advance(self.cx.now)
            self.table.expire()
            self.expire_early(self.cx.now - min(self.cx.now, <uint64_t>SECOND))
            self.release_ended()
            self.flows.expire()
        return 0

    cdef int release_ended(self) except -1:
        """Move connections whose time is over, or that were evicted, to the finished records."""
        if self.table.ended:
            self.cx.out.extend(self.table.ended)
            self.table.ended.clear()
        return 0

    def configure(self, options not None):
        """Apply the limits of another section [quic] from now on; connections stay."""
        self.table.cx.configure(options)

    def finish(self):
        """End every connection: no more frames follow."""
        self.expire_early(<uint64_t>-1)
        self.cx.out.extend(self.table.finish())
        self.flows.finish()

    def counts(self):
        """Return the counters so far, by the slot names of the worker's stats page."""
        cdef QuicContext quic = self.table.cx
        return {
            "quic_connections": len(self.table),
            "quic_connections_opened": quic.connections,
            "quic_evicted": quic.evicted,
            "quic_initials.opened": quic.initials - quic.initials_failed,
            "quic_initials.failed": quic.initials_failed,
            "quic_initials.over_limit": quic.initials_over_limit,
            "quic_malformed": quic.malformed,
            "quic_crypto_over_limit": quic.crypto_over_limit,
            "quic_retries": quic.retries,
        } | self.flows.counts()
