# cython: language_level=3
"""The way of one frame through TCP: the same for the workers' Pipeline and for the Assembler of the library.

    Record + frame -> Segment -> its checksums -> its Connection -> accept() -> timers and ends
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from appliance.ipc.frame_batch cimport MOST_TURNS, RECORD_CHECKSUM, RECORD_SHED, RECORD_TURNS, VLAN_BITS, Record
from appliance.wire.checksum cimport BAD, GOOD, OFFLOADED, Checksum
from appliance.wire.flow_key cimport FlowKey, flow_key
from workers.tcp.application cimport HIGH, LOW, Application
from workers.tcp.connection cimport OPEN, Connection, may_be_replaced, may_wait
from workers.core.context cimport Context
from workers.core.limits cimport CHECKSUMS_DROP, CHECKSUMS_OFF
from workers.tcp.flow_counts cimport count
from workers.tcp.flow_record cimport note_handshake
from workers.tcp.segment cimport SYN, Segment, read_segment
from workers.tcp.stream cimport repeated
from workers.tcp.connection_table cimport Table
from workers.core.counters cimport Tally


cdef bint receive(Table table, const uint8_t* frame, const Record* record, int capture) except -1:
    """Process one frame; return False if its TCP header is invalid. Length proof: BatchReader.next()."""
    cdef Context cx = table.cx
    cdef Tally tally = cx.tally
    cdef Connection connection
    cdef Application application
    cdef Segment segment
    cdef FlowKey key
    cdef int side
    cdef uint32_t turns
    if not read_segment(frame, record, &segment):
        tally.bad_header += 1
        return False
    if cx.limits.checksums != CHECKSUMS_OFF and not passes(<Checksum>(record.vlans >> RECORD_CHECKSUM & 3), cx):
        tally.bad_checksum += 1
        return True
    side = LOW if flow_key(frame + record.net, frame + record.tcp, record.vlans & VLAN_BITS, &key) else HIGH
    table.advance(cx.time_of(record.ts_ns))
    connection = table.find(&key, record.hash)
    turns = <uint32_t>(cx.turns + (record.vlans >> RECORD_TURNS & MOST_TURNS))
    if connection is not None and (connection.queued or connection.watched):
        table.run_timers(connection)        # those that are due come before the frame
    if connection is not None and may_be_replaced(connection, &segment, side) \
            and connection.replaced_by(&segment, side, turns, cx):
        connection = follow(table, connection, record.ts_ns, turns)
    if connection is None:
        if not (segment.flags & SYN or segment.length):
            tally.no_connection += 1        # the last ACK of a connection that is over, mostly
            return True
        connection = table.add(&key, record.hash, capture)
        connection.turns = turns
    if record.vlans >> RECORD_SHED != 0:
        if connection.opening:              # shedding had to pass each SYN of this half-open connection: the largest share counts
            connection.shed = max(connection.shed, <uint8_t>(record.vlans >> RECORD_SHED))
        else:
            connection.next_shed = <uint8_t>(record.vlans >> RECORD_SHED)
    connection.newest_ns = max(connection.newest_ns, record.ts_ns)
    tally.segments += 1
    if cx.limits.flows:
        count(connection.counts, side, &connection.past, segment.captured, record.wirelen, tally)
    if connection.steady and connection.ending == OPEN and connection.accept_next(&segment, side, cx):
        if connection.unsettled:
            table.await_more(connection)
    elif connection.ending == OPEN:
        connection.accept(&segment, side, cx)
        if connection.opening and connection.proven and connection.ending == OPEN:
            application = connection.application
            if application is not None:
                application.on_open(side, cx)
        if connection.ending != OPEN:
            table.ended(connection)
        elif may_wait(connection):
            table.await_more(connection)
        if connection.opening and connection.proven:
            if cx.limits.flows:
                note_handshake(connection, side, record.ts_ns)
            table.established(connection)
        if tally.pending > cx.limits.max_total_pending_bytes:
            table.release_over_limit()
    else:
        tally.duplicate_frames += repeated(&connection.streams[side], segment.fingerprint)
        tally.payload += segment.captured
        tally.ignored += segment.captured
    return True


cdef Connection follow(Table table, Connection before, uint64_t ts_ns, uint32_t turns):
    """Replace a connection by the next one on its ports; `again` tells the two apart where their time stamps are equal."""
    cdef uint32_t again = before.again + 1 if before.turns == turns and ts_ns <= before.newest_ns else 0
    cdef Connection connection = table.replace(before)
    connection.turns = turns
    connection.again = again
    return connection


cdef bint passes(Checksum found, Context cx) noexcept:
    """Count the outcome of a segment's checksums; return whether to process the segment."""
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
