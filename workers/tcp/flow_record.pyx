# cython: language_level=3
"""Flow events of a connection: when one is due, and its record.

The table reports a connection when it removes it, so that late copies of its frames count too, and every
events.interval_s before that. Each payload byte of a connection is in the `since` of exactly one record.
"""
cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from workers.core.context cimport Context
from workers.tcp.application cimport BEGUN_BY_SYN, BEGUN_HIGH, HIGH, LOW
from workers.tcp.connection cimport (
    BY_EVICTION, BY_HALF_OPEN, BY_REUSE, BY_RST, BY_TIMEOUT, Connection, ended_by_fin,
)
from workers.tcp.flow_counts cimport Amount, Counts, Past, past_of

cdef enum:
    LONGEST = 0xFFFFFFFE        # ns of a handshake in the connection's own field


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class FlowRecord:
    pass


cdef uint64_t report_due(Connection connection, Context cx) noexcept:
    """Return the clock at which the next event of an open connection is due."""
    cdef uint64_t last
    if connection.past != NULL and connection.past.events:
        last = connection.past.due_ns
    else:
        last = min(connection.begun_ns + cx.skew, cx.now)       # of a step of the clock that stamps frames, `now` is the rest
    return last + cx.limits.event_interval_ns


cdef int client_of(Connection connection) noexcept:
    """Return the side of the client: as in its other events, else the sender of the SYN, else of the first frame."""
    if connection.flow is not None:
        return LOW if connection.flow.client_low else HIGH
    if connection.opener:
        return connection.opener - 1
    if connection.streams[LOW].scaled != connection.streams[HIGH].scaled:       # only the SYN-ACK was captured
        return HIGH if connection.streams[LOW].scaled else LOW
    return HIGH if connection.begun & BEGUN_HIGH else LOW


cdef FlowState state_of(Connection connection) noexcept:
    """Return the end of a connection that has ended."""
    if ended_by_fin(connection):
        return STATE_FIN
    if connection.ending == BY_RST:
        return STATE_RST
    if connection.ending == BY_TIMEOUT:
        return STATE_IDLE
    if connection.ending == BY_EVICTION or connection.ending == BY_HALF_OPEN:
        return STATE_EVICTED
    if connection.ending == BY_REUSE:
        return STATE_REUSED
    return STATE_SHUTDOWN


cdef int fill(FlowRecord record, Counts* counts, Past** place, int client, bint final, Context cx) except -1:
    """Move the counts of a flow into its record, with their totals so far. final: no other record of the flow follows."""
    cdef Past* past = place[0]
    cdef Amount* since
    cdef Amount* total
    cdef int at, side
    for at in range(2):
        side = client if at == 0 else 1 - client
        since = &record.since[at]
        total = &record.total[at]
        since.packets = counts[side].packets
        since.payload = counts[side].payload
        since.overhead = counts[side].overhead
        memset(&counts[side], 0, sizeof(Counts))
        if past != NULL:
            since.packets += past.spilled[side].packets
            since.payload += past.spilled[side].payload
            since.overhead += past.spilled[side].overhead
            memset(&past.spilled[side], 0, sizeof(Amount))
            total[0] = past.reported[side]
            record.repeated[at] = past.repeated[side]
            record.missing[at] = past.missing[side]
        total.packets += since.packets
        total.payload += since.payload
        total.overhead += since.overhead
        cx.tally.flow_open -= since.payload
    if past != NULL:
        record.index = past.events
    if not final:
        past = past_of(place)
        past.reported[client] = record.total[0]
        past.reported[1 - client] = record.total[1]
        past.events += 1
    return 0


cdef uint64_t unreported(const Counts* counts, const Past* past) noexcept:
    """Return the payload of a flow since its last event."""
    cdef uint64_t payload = <uint64_t>counts[LOW].payload + counts[HIGH].payload
    if past != NULL:
        payload += past.spilled[LOW].payload + past.spilled[HIGH].payload
    return payload


cdef int report(Connection connection, bint final, Context cx) except -1:
    """Append the record of this moment, and count anew from here. final: the table removes the connection."""
    cdef FlowRecord record = FlowRecord.__new__(FlowRecord)
    cdef Past* past
    cdef int client = client_of(connection)
    cdef uint64_t due
    record.flow = connection.flow_of(client == LOW)
    record.transactions = record.transactions_since = record.flow.transactions
    record.state = state_of(connection) if final else STILL_OPEN
    record.spoken = connection.spoke_at_end if final else connection.spoken
    record.begun_ns = connection.begun_ns
    record.end_ns = connection.newest_ns
    record.handshake_ns = connection.handshake
    record.one_sided = connection.proven and connection.streams[LOW].seen != connection.streams[HIGH].seen
    if connection.past != NULL:
        record.transactions_since -= connection.past.transactions
        if connection.past.handshake_ns:
            record.handshake_ns = connection.past.handshake_ns
    due = 0 if final else report_due(connection, cx)
    fill(record, connection.counts, &connection.past, client, final, cx)
    if not final:
        past = connection.past
        past.transactions = record.transactions
        past.due_ns = due if cx.now - due < cx.limits.event_interval_ns else cx.now
    cx.out.append(record)
    return 0


cdef int discard(Connection connection, Context cx) noexcept:
    """Count the bytes of a connection that the table removes without an event, because the dataset is off now."""
    cdef uint64_t payload = unreported(connection.counts, connection.past)
    cx.tally.flow_open -= payload
    cx.tally.flow_off += payload
    return 0


cdef int note_handshake(Connection connection, int side, uint64_t ts_ns) except -1:
    """Record the time from SYN to the first frame of its sender that proves the connection. Both SYNs were captured."""
    cdef uint64_t took
    if connection.begun & BEGUN_BY_SYN and side == connection.opener - 1 and ts_ns >= connection.begun_ns \
            and connection.streams[LOW].scaled and connection.streams[HIGH].scaled:
        took = ts_ns - connection.begun_ns
        if took <= LONGEST:
            connection.handshake = <uint32_t>took + 1
        else:
            past_of(&connection.past).handshake_ns = took + 1
    return 0
