# cython: language_level=3
"""The way of one frame through TCP: the same for the workers' Pipeline and for the Assembler of the library.

    Record + frame -> Segment -> what its checksums are like -> its Connection -> accept() -> what waits, what is over
"""
from libc.stdint cimport uint8_t

from appliance.batch cimport RECORD_CHECKSUM, RECORD_SHED, VLAN_BITS, Record
from appliance.checksum cimport BAD, GOOD, OFFLOADED, Checksum
from appliance.flow cimport FlowKey, flow_key
from workers.connection cimport HIGH, LOW, OPEN, Connection
from workers.context cimport Context
from workers.limits cimport CHECKSUMS_DROP, CHECKSUMS_OFF
from workers.segment cimport SYN, Segment, read_segment
from workers.stream cimport repeated
from workers.table cimport Table
from workers.tally cimport Tally


cdef bint receive(Table table, const uint8_t* frame, const Record* record, int capture) except -1:
    """Takes one frame; False if its TCP header makes no sense. Length proof: BatchReader.next()."""
    cdef Context cx = table.cx
    cdef Tally tally = cx.tally
    cdef Connection connection
    cdef Segment segment
    cdef FlowKey key
    cdef int side
    if not read_segment(frame, record, &segment):
        tally.bad_header += 1
        return False
    if cx.limits.checksums != CHECKSUMS_OFF and not passes(<Checksum>(record.vlans >> RECORD_CHECKSUM & 3), cx):
        tally.bad_checksum += 1
        return True
    side = LOW if flow_key(frame + record.net, frame + record.tcp, record.vlans & VLAN_BITS, &key) else HIGH
    table.advance(cx.time_of(record.ts_ns))
    connection = table.find(&key, record.hash)
    if connection is not None and connection.replaced_by(&segment, side, cx):
        connection = table.replace(connection)
    if connection is None:
        if not (segment.flags & SYN or segment.length):
            tally.no_connection += 1        # the last ACK of a connection that is over, mostly
            return True
        connection = table.add(&key, record.hash, capture)
    if record.vlans >> RECORD_SHED != 0:
        if connection.opening:              # of several SYNs of one attempt all had to be let through: the largest share counts
            connection.shed = max(connection.shed, <uint8_t>(record.vlans >> RECORD_SHED))
        else:
            connection.next_shed = <uint8_t>(record.vlans >> RECORD_SHED)
    tally.segments += 1
    if connection.ending == OPEN:
        connection.accept(&segment, side, cx)
        if connection.opening and connection.proven and connection.ending == OPEN:
            connection.greet(side, cx)
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
    return True


cdef bint passes(Checksum found, Context cx) noexcept:
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
