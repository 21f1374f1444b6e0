# cython: language_level=3
"""UdpFlows: the datagrams between two ports are a flow, until they pause for events.udp_timeout_s.

Each datagram is counted in exactly one flow, and each flow reports its counts in FlowRecords, as a TCP connection does. The
client is the sender of the first datagram, or the one that opens a QUIC connection. Another QUIC connection on the same ports
is another flow.

Whether a flow has ended follows from its own datagrams and from the highest time stamp before the capture's last turned back,
which every worker knows. So it does not depend on the datagrams of others, or on the number of workers.
"""
from collections import OrderedDict

cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free

from appliance.ipc.frame_batch cimport DISORDER_NS, MOST_TURNS, RECORD_SHED, RECORD_TURNS, Record
from appliance.wire.flow_key cimport FlowKey
from workers.core.context cimport Context
from workers.core.counts cimport SPEAKS_OTHER, SPOKEN_END
from workers.core.flow cimport Flow
from workers.tcp.flow_counts cimport count
from workers.tcp.flow_record cimport (
    STATE_EVICTED, STATE_IDLE, STATE_REUSED, STATE_SHUTDOWN, STILL_OPEN, FlowRecord, FlowState, fill, unreported,
)


@cython.final
cdef class UdpFlow:
    """One flow."""

    def __dealloc__(self):
        free(self.past)


@cython.final
cdef class UdpFlows:
    """The flows of one data path. Their clock is that of the Context, and so are their limits."""

    def __init__(self, Context cx not None):
        self.cx = cx
        self.flows = OrderedDict()

    cdef int take(self, bytes name, const FlowKey* key, int side, uint32_t size, const Record* record, int capture,
                  Flow quic, int client) except -1:
        """Count one datagram. name: the key as bytes. size: captured bytes of its payload.

        quic: of the QUIC connection that its packets are of, whose client is the side `client`; None: of none.
        """
        cdef UdpFlow flow
        cdef uint64_t clock = max(self.cx.time_of(record.ts_ns), self.cx.turned_ns)
        self.cx.tally.udp_payload += size
        if not self.cx.limits.flows:
            return self.discard()
        found = self.flows.get(name)
        flow = <UdpFlow>found if found is not None else None
        if flow is not None and clock > flow.seen_ns + self.cx.limits.udp_timeout_ns:
            self.end(name, flow, STATE_IDLE)
            flow = None
        elif flow is not None and quic is not None and flow.quic is not None and flow.quic is not quic:
            self.end(name, flow, STATE_REUSED)
            flow = None
        if flow is None:
            while len(self.flows) >= <Py_ssize_t>self.cx.limits.max_udp_flows:
                self.end_oldest(STATE_EVICTED)
                self.evicted += 1
            flow = self.begin(key, side, record, capture)
            flow.due_ns = clock + self.cx.limits.event_interval_ns
            self.flows[name] = flow
        else:
            self.flows.move_to_end(name)
        if quic is not None and flow.quic is None:
            flow.quic = quic
            if flow.past == NULL or not flow.past.events:       # both have one appliance.connection
                flow.flow = quic
                flow.client = client
                quic.client_low = client == 0
        if clock >= flow.due_ns:
            self.report(flow, STILL_OPEN)
            flow.due_ns += ((clock - flow.due_ns) // self.cx.limits.event_interval_ns + 1) * self.cx.limits.event_interval_ns
        flow.newest_ns = max(flow.newest_ns, record.ts_ns)
        flow.seen_ns = max(flow.seen_ns, clock)
        count(flow.counts, side, &flow.past, size, record.wirelen, self.cx.tally)
        return 0

    cdef UdpFlow begin(self, const FlowKey* key, int side, const Record* record, int capture):
        cdef UdpFlow made = UdpFlow.__new__(UdpFlow)
        cdef Flow flow = Flow.__new__(Flow)
        flow.key = key[0]
        flow.begun_ns = record.ts_ns
        flow.capture = capture
        flow.client_low = side == 0
        flow.shed = <int>(record.vlans >> RECORD_SHED)
        flow.turns = <uint32_t>(self.cx.turns + (record.vlans >> RECORD_TURNS & MOST_TURNS))
        made.flow = flow
        made.client = side
        made.begun_ns = record.ts_ns
        self.opened += 1
        return made

    cdef int report(self, UdpFlow flow, FlowState state) except -1:
        """Append the record of this moment, and count anew from here."""
        cdef FlowRecord record = FlowRecord.__new__(FlowRecord)
        record.flow = flow.flow
        record.state = state
        record.spoken = SPEAKS_OTHER if flow.quic is None else SPOKEN_END
        record.begun_ns = flow.begun_ns
        record.end_ns = flow.newest_ns
        fill(record, flow.counts, &flow.past, flow.client, state != STILL_OPEN, self.cx)
        record.one_sided = not record.total[0].packets or not record.total[1].packets
        self.cx.out.append(record)
        return 0

    cdef int end(self, bytes name, UdpFlow flow, FlowState state) except -1:
        """Remove a flow and report it."""
        del self.flows[name]
        return self.report(flow, state)

    cdef int end_oldest(self, FlowState state) except -1:
        return self.report(<UdpFlow>self.flows.popitem(False)[1], state)

    cdef int expire(self) except -1:
        """End the flows that have paused for too long, whenever their next datagram comes. To be called from time to time."""
        return self.end_before(self.cx.now - min(self.cx.now, <uint64_t>DISORDER_NS))

    cdef int end_before(self, uint64_t now) except -1:
        """End the flows whose pause is too long at this time of the clock."""
        while self.flows and (<UdpFlow>next(iter(self.flows.values()))).seen_ns + self.cx.limits.udp_timeout_ns < now:
            if not self.cx.limits.flows:
                return self.discard()
            self.end_oldest(STATE_IDLE)
        return 0

    cdef int discard(self) except -1:
        """Remove every flow without an event, because the dataset is off now."""
        cdef UdpFlow flow
        cdef uint64_t payload
        while self.flows:
            flow = <UdpFlow>self.flows.popitem(False)[1]
            payload = unreported(flow.counts, flow.past)
            self.cx.tally.flow_open -= payload
            self.cx.tally.flow_off += payload
        return 0

    cdef int finish(self) except -1:
        """End every flow: no more frames follow."""
        if not self.cx.limits.flows:
            return self.discard()
        self.end_before(self.cx.now)
        while self.flows:
            self.end_oldest(STATE_SHUTDOWN)
        return 0

    def counts(self):
        """Return the counters so far, by the slot names of the worker's stats page."""
        return {"udp_flows": len(self.flows), "udp_flows_opened": self.opened, "udp_flows_evicted": self.evicted}
