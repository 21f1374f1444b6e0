# cython: language_level=3
"""Stream: one direction of a TCP connection. Segments in, in-order pieces and gaps with their length out.

An in-order segment comes straight back from take_segment() as a Piece into the batch's own memory, without a copy; of any
other segment it copies and holds the new bytes. pull() returns held pieces in order. The owner of the clock calls give_up()
when further waiting is pointless; it returns the length of the gap.

Reasons for a piece to wait:
- a hole: bytes before it have not come yet. The hole is a gap once the receiver has acknowledged bytes behind
  it, because the sender will not retransmit it then;
- the other direction: its frame acknowledges bytes of the peer that are not delivered yet. So a request always comes before
  its response, in whatever order the capture had the two. An acknowledgement alone never makes a gap (the bytes may still be
  on their way through another interface, or the number may be forged): after the wait the stream ignores it. For a
  direction without any frame the stream waits once, for all of its bytes, and then treats the capture as one-sided;
- data in a SYN: the server may have ignored it (RFC 7413), so it counts once it is acknowledged;
- data that its receiver likely refuses, by its acknowledgement (RFC 5961 section 5) or its time stamp (RFC 7323 section 5): it
  counts once it is acknowledged, and any other copy replaces it;
- data behind a FIN: one of the two is forged. A FIN ends the stream once it is acknowledged, or when no segment contradicts it
  for long enough; the data count once they are acknowledged, and then the FIN was not the end.

Without a SYN the first byte is unknown. The stream then holds all segments for a moment (settle_ms) and starts at the lowest
sequence number that any frame named.

Overlaps: delivered bytes stay. Of held bytes, the first or the last copy wins, as configured. The stream drops the other
copy, and counts it as duplicate if it is equal; else it counts it as conflicting, and marks the piece.
The History compares copies of delivered bytes. The stream refuses a segment further ahead than twice the receiver's window
and SLACK. Urgent data (RFC 9293 section 3.8.5) stays in line.

Offsets are 64 bits wide and start at ORIGIN, so that sequence numbers may wrap, and bytes before the first captured frame
still have positive offsets. RFC 9293 section 3.4.
"""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memmove, memset

from workers.core.context cimport Context
from workers.tcp.segment cimport ACK, SYN, Segment

cdef enum:
    BEFORE = 1 << 24            # largest distance of a byte before the first known byte of a mid-stream connection
    SLACK = 1 << 20             # bytes that may be on their way when a window grows in an uncaptured frame
    FEW = 4                     # held pieces to begin with


cdef int note_sequence(Stream* stream, uint32_t seq) noexcept:
    """Record a sequence number from a frame of this direction, or from an acknowledgement of it."""
    cdef int64_t offset
    if not stream.known:
        stream.known = True
        stream.next_seq = seq
        stream.next = stream.lowest = ORIGIN
    elif not stream.anchored:
        offset = offset_of(stream, seq)
        if offset < stream.lowest and stream.next - offset < BEFORE:
            stream.lowest = offset
    return 0


cdef int set_first_byte(Stream* stream, uint32_t seq, Context cx) except -1:
    """Set the sequence number of the first byte, from a SYN or from begin_midstream()."""
    cdef Held* first
    note_sequence(stream, seq)
    if stream.anchored:
        if stream.midstream and seq == stream.first_seq:
            stream.midstream = False        # its SYN has come after all
        return 0
    stream.next = offset_of(stream, seq)
    stream.next_seq = stream.first_seq = seq
    stream.anchored = True
    stream.acked = max(stream.acked, stream.next)
    stream.edge = max(stream.edge, stream.next)
    while stream.held_count:            # bytes before the first one belong to another connection
        first = &stream.held[stream.held_first]
        if first.offset >= stream.next:
            break
        cx.tally.out_of_window += first.length
        drop_first(stream, cx)
    return 0


cdef int begin_again(Stream* stream, uint32_t seq, Context cx) except -1:
    """Begin anew at another first byte: of two SYNs of this side, its peer has accepted the second."""
    drop_all(stream, &cx.tally.ignored, cx)
    memset(stream, 0, sizeof(Stream))
    stream.seen = True
    return set_first_byte(stream, seq, cx)


cdef int begin_midstream(Stream* stream, Context cx) except -1:
    """Start at the lowest sequence number that any frame named, because no SYN will come."""
    if not stream.anchored:
        stream.midstream = True
        cx.tally.midstream += 1
        set_first_byte(stream, stream.next_seq + <uint32_t>(stream.lowest - stream.next), cx)
    return 0


cdef int acknowledge(Stream* stream, uint32_t ack, const Stream* peer, Context cx) noexcept:
    """Record an acknowledgement of the other side, unless it is beyond the bytes that can have been sent."""
    cdef int64_t offset = offset_of(stream, ack)
    if offset > stream.acked and offset - max(stream.next, stream.edge) <= window_of(stream, peer):
        stream.acked = offset
    return 0


cdef bint unseen(const Stream* stream, uint32_t ack) noexcept:
    """Return whether this acknowledgement covers bytes of this stream that are not delivered yet."""
    cdef int64_t offset
    if not stream.seen:
        return not stream.absent
    offset = offset_of(stream, ack)
    if not stream.anchored:
        return stream.held_count != 0 or offset > stream.lowest
    return offset > stream.next and offset - stream.next < WINDOW


cdef int64_t window_of(const Stream* stream, const Stream* peer) noexcept:
    """Return how many bytes behind the stream's edge a plausible segment may end."""
    if not peer.seen or not stream.scaled or not peer.scaled:
        return WINDOW
    return min(<int64_t>2 * stream.window + SLACK, <int64_t>WINDOW)


cdef bint hole_is_lost(const Stream* stream, const Stream* peer) noexcept:
    """Return whether the sender will certainly not fill the first hole any more.

    The receiver has acknowledged it, or the capture has no frame of the receiver.
    """
    return stream.acked >= stream.held[stream.held_first].offset or not peer.seen


cdef bint waits_for_peer(const Stream* stream) noexcept:
    """Return whether the first held piece has no hole before it, and so waits only for bytes of the other direction."""
    return stream.held_count != 0 and stream.anchored and stream.held[stream.held_first].offset <= stream.next


cdef bint behind_hole(const Stream* stream, const Stream* peer) noexcept:
    """Return whether this direction waits for bytes of the other that themselves wait behind a hole."""
    return waits_for_peer(stream) and peer.held_count != 0 and not waits_for_peer(peer)


cdef uint64_t next_timeout(const Stream* stream, const Stream* peer, Context cx) noexcept:
    """Return the clock at which a wait of this side ends, if no frame comes before."""
    cdef uint64_t first = <uint64_t>-1, wait
    if stream.held_count and not behind_hole(stream, peer):
        if not stream.anchored or (not peer.seen and waits_for_peer(stream)):
            wait = cx.limits.settle_ns
        elif waits_for_peer(stream) or hole_is_lost(stream, peer):
            wait = cx.limits.gap_timeout_ns
        else:
            wait = UNCERTAIN * cx.limits.gap_timeout_ns
        first = stream.held_since + wait
    if stream.fin_since:
        wait = UNCERTAIN * cx.limits.gap_timeout_ns if peer.seen else cx.limits.settle_ns
        first = min(first, stream.fin_since + wait)
    return first


cdef bint over_limit(const Stream* stream, Context cx) noexcept:
    """Return whether the held bytes or segments exceed their limit."""
    return stream.held_count != 0 and (stream.held_bytes > cx.limits.max_pending_bytes
                                       or stream.held_count > cx.limits.max_pending_segments)


cdef int take_segment(Stream* stream, const Segment* segment, bint refused, Stream* peer, Piece* out, Context cx) except -1:
    """Take a segment that has payload. Return 1: `out` is its piece, to be handled before the next call.

    2: it differs from delivered bytes between out.marked_from and out.marked_to. 3: it is implausibly far away. Else 0.
    refused: a host refuses it, by the captured frames.
    """
    cdef int64_t offset = offset_of(stream, segment.seq)
    if (offset == stream.next and stream.held_count == 0 and stream.anchored and not stream.fin_seen and not refused
            and not segment.flags & SYN and not (segment.flags & ACK and unseen(peer, segment.ack))):
        deliver(stream, segment, out, cx)
        return 1
    return hold(stream, segment, offset + (1 if segment.flags & SYN else 0), REFUSED if refused else 0, peer, out, cx)


cdef inline int weakness(const Stream* peer, uint8_t doubts, bint has_ack, uint32_t ack) noexcept:
    """Return the weakness of a copy, 0 to 2; a less weak copy replaces it. Refused bytes are weaker than bytes with a SYN."""
    if doubts & (REFUSED | OUTDONE) or (has_ack and unseen(peer, ack)):
        return 2
    return 1 if doubts else 0


cdef int hold(Stream* stream, const Segment* segment, int64_t offset, uint8_t doubts, Stream* peer, Piece* out,
              Context cx) except -1:
    """Copy the new bytes of a segment to their place among the held pieces. Return 2, 3 or 0 like take_segment()."""
    cdef Held* other = NULL
    cdef int64_t at = offset, end = offset + segment.captured, cut
    cdef uint32_t tail = segment.length - segment.captured, position, low, high, differing = 0
    cdef const uint8_t* data = segment.payload
    cdef bint kept, differs, better
    cdef int weak
    if stream.finished:
        cx.tally.ignored += segment.captured
        return 0
    if stream.anchored:
        if stream.next - end - tail >= WINDOW or end + tail - max(stream.next, stream.edge) > window_of(stream, peer):
            cx.tally.out_of_window += segment.captured
            return 3
        if at < stream.next:
            cut = min(stream.next, end)
            differing = compare_repeated(stream, at, data, <uint32_t>(cut - at), out, cx)
            at = stream.next
            if end + tail <= stream.next:
                return 2 if differing else 0
        elif at > stream.next:
            cx.tally.out_of_order += 1
    if not doubts & REFUSED:
        stream.edge = max(stream.edge, end + tail)
    if segment.flags & SYN:
        doubts |= OPENING
    low, high = 0, stream.held_count
    while low < high:               # the first held piece that ends behind `at`
        position = (low + high) // 2
        other = &stream.held[stream.held_first + position]
        if other.offset + other.length <= at:
            low = position + 1
        else:
            high = position
    position = low
    kept = False
    while at < end:
        cut = end
        if position < stream.held_count:
            other = &stream.held[stream.held_first + position]
            cut = min(end, other.offset)
        if at < cut:
            keep(stream, position, at, data + (at - offset), <uint32_t>(cut - at), tail if cut == end else 0, segment, doubts, cx)
            kept = cut == end
            position += 1
            at = cut
            continue
        cut = max(at, min(end, other.offset + other.length))        # a placeholder has no bytes
        differs = at < cut and memcmp(data + (at - offset), other.data + (at - other.offset), cut - at) != 0
        weak = weakness(peer, other.doubts, other.has_ack, other.ack)
        better = weak and at < cut and weakness(peer, doubts, segment.flags & ACK, segment.ack) < weak
        if differs:
            cx.tally.conflicting += cut - at
            other.differs_from = min(other.differs_from, at) if other.marks & CONFLICT else at
            other.differs_to = max(other.differs_to, cut) if other.marks & CONFLICT else cut
            other.marks |= CONFLICT
        else:
            cx.tally.duplicate += cut - at
        if better or (not differs and other.has_ack and segment.flags & ACK and <int32_t>(segment.ack - other.ack) < 0
                      and not other.doubts and not doubts):
            # A retransmission had overtaken it, or the first copy is the weaker one: its bytes get this segment's header.
            if better:
                other.doubts |= OUTDONE
            split_held(stream, position, cut, cx)
            position += split_held(stream, position, at, cx)
            other = &stream.held[stream.held_first + position]
            if better:
                other.ts_ns = segment.ts_ns
            other.ack = segment.ack
            other.has_ack = segment.flags & ACK != 0
            other.doubts = doubts
        if differs and (better or (cx.limits.last_wins and (weak or not doubts))):
            memcpy(other.data + (at - other.offset), data + (at - offset), cut - at)
        at = cut
        position += 1
    # A known hole behind bytes that are there already keeps its place, unless it lies inside of held bytes.
    if tail and not kept and (position == stream.held_count or stream.held[stream.held_first + position].offset > at):
        keep(stream, position, at, NULL, 0, <uint32_t>(end + tail - at), segment, doubts, cx)
    return 2 if differing else 0


cdef int split_held(Stream* stream, uint32_t position, int64_t at, Context cx) except -1:
    """Split a held piece at `at`, if that lies inside of it; return how many more pieces there are now."""
    cdef Held whole = stream.held[stream.held_first + position]
    cdef uint32_t length
    cdef Segment nothing
    cdef Held* place
    if not whole.offset < at < whole.offset + whole.length:
        return 0
    length = <uint32_t>(at - whole.offset)
    memset(&nothing, 0, sizeof(Segment))
    nothing.ts_ns = whole.ts_ns
    keep(stream, position + 1, at, whole.data + length, whole.length - length, whole.missing, &nothing, whole.doubts, cx)
    place = &stream.held[stream.held_first + position + 1]
    place.ack = whole.ack
    place.has_ack = whole.has_ack
    place.marks = whole.marks
    place.differs_from = whole.differs_from
    place.differs_to = whole.differs_to
    place -= 1
    place.length = length
    place.missing = 0
    stream.held_bytes -= whole.length - length
    cx.tally.pending -= whole.length - length
    return 1


cdef uint32_t compare_repeated(Stream* stream, int64_t at, const uint8_t* data, uint32_t length, Piece* out, Context cx) noexcept:
    """Count bytes from before `next` that come again, and return how many differ from the delivered ones.

    Bytes of the last gap were never delivered: they count as late."""
    cdef int64_t late = min(at + length, stream.gap_to) - max(at, stream.gap_from)
    cdef uint32_t differing = 0
    late = max(late, 0)
    # RFC 9293 section 3.8.4: a keep-alive may repeat the last byte, and make it up.
    if length != 1 or at != stream.next - 1 or stream.acked < stream.next:
        differing = cx.history.differing(stream.past, at, data, length, &out.marked_from, &out.marked_to)
    differing = min(differing, length - <uint32_t>late)      # delivered pieces may overlap in the History
    cx.tally.late += late
    cx.tally.conflicting += differing
    cx.tally.duplicate += length - differing - late
    return differing


cdef int end(Stream* stream, const Segment* segment, bint refused, Stream* peer, Context cx) except -1:
    """Take a FIN. refused: a host refuses it, by the captured frames.

    Of two FINs the first counts, in the order of the stream. The stream keeps the other in case the first was not the end.
    """
    cdef int64_t offset = offset_of(stream, <uint32_t>(segment.seq + segment.length + (1 if segment.flags & SYN else 0)))
    cdef Held* last
    if stream.finished:
        return 0
    if stream.anchored and (offset < stream.next
                            or offset - max(stream.next, stream.edge) > window_of(stream, peer)):
        return 0
    if stream.fin_seen:
        if offset == stream.fin_at:
            stream.fin_refused = stream.fin_refused and refused
        if offset == stream.fin_at or refused:
            return 0
        if offset > stream.fin_at and not stream.fin_refused:
            stream.fin_behind = offset
            return 0
        if stream.held_count:
            last = &stream.held[stream.held_first + stream.held_count - 1]
            if last.length == 0 and last.missing == 0 and last.offset == stream.fin_at:
                stream.held_count -= 1
                if stream.held_count == 0:
                    release(stream)
        if offset < stream.fin_at and not stream.fin_refused:
            stream.fin_behind = stream.fin_at
    if not refused:
        stream.edge = max(stream.edge, offset)
    return place_fin(stream, offset, refused, segment.ts_ns, cx)


cdef int place_fin(Stream* stream, int64_t offset, bint refused, uint64_t ts_ns, Context cx) except -1:
    """Record the FIN at this offset. If bytes before it are missing, hold an empty piece for it: they become a gap in time."""
    cdef Segment nothing
    cdef Held* last
    stream.fin_seen = True
    stream.fin_at = offset
    stream.fin_sure = ACKNOWLEDGED if stream.acked == offset + 1 else UNSURE
    stream.fin_refused = refused
    stream.fin_since = 0
    if stream.anchored and offset <= stream.next:
        return 0
    if stream.held_count:
        last = &stream.held[stream.held_first + stream.held_count - 1]
        if last.offset + last.length >= offset:
            return 0                        # a held piece reaches it already
    memset(&nothing, 0, sizeof(Segment))    # without ACK: it waits for no byte of the other direction
    nothing.ts_ns = ts_ns
    return keep(stream, stream.held_count, offset, NULL, 0, 0, &nothing, 0, cx)


cdef int acknowledge_fin(Stream* stream, uint32_t ack) noexcept:
    """Take an acknowledgement of the other side while a FIN waits for one."""
    if offset_of(stream, ack) == stream.fin_at + 1:
        stream.fin_sure = ACKNOWLEDGED
    return 0


cdef inline bint reaches_behind_fin(const Stream* stream, const Held* held) noexcept:
    """Return whether a held piece reaches behind a FIN. Then one of the two is forged."""
    return stream.fin_seen and not stream.fin_refused and held.offset + held.length + held.missing > stream.fin_at


cdef int discard_fin(Stream* stream, Context cx) except -1:
    """Discard the FIN, which was not the end. Another one may stand behind it."""
    cdef int64_t behind = stream.fin_behind
    stream.fin_seen = stream.fin_refused = False
    stream.fin_sure = UNSURE
    stream.fin_since = 0
    stream.fin_behind = 0
    cx.tally.fins_ignored += 1
    if behind >= stream.next:
        place_fin(stream, behind, False, cx.now - cx.skew, cx)
    return 0


cdef int make_room(Stream* stream) except -1:
    """Make room for one more held piece on both sides of the run."""
    cdef uint32_t room = max(<uint32_t>FEW, 2 * stream.held_count + 2)
    cdef uint32_t first = (room - stream.held_count) // 2
    cdef Held* held = <Held*>malloc(room * sizeof(Held))
    if held == NULL:
        raise MemoryError
    if stream.held_count:
        memcpy(held + first, stream.held + stream.held_first, stream.held_count * sizeof(Held))
    free(stream.held)
    stream.held = held
    stream.held_room = room
    stream.held_first = first
    return 0


cdef int keep(Stream* stream, uint32_t position, int64_t offset, const uint8_t* data, uint32_t length, uint32_t missing,
              const Segment* segment, uint8_t doubts, Context cx) except -1:
    """Insert a copy of data[0:length] at this place among the held pieces; the shorter side moves."""
    cdef Held* place
    cdef uint8_t* copy = NULL
    if length:
        copy = <uint8_t*>malloc(length)
        if copy == NULL:
            raise MemoryError
        memcpy(copy, data, length)
    if stream.held_count == 0:
        stream.held_since = cx.now
    if stream.held_first == 0 or stream.held_first + stream.held_count == stream.held_room:
        make_room(stream)
    if 2 * position < stream.held_count:
        stream.held_first -= 1
        place = &stream.held[stream.held_first]
        memmove(place, place + 1, position * sizeof(Held))
    else:
        place = &stream.held[stream.held_first]
        memmove(place + position + 1, place + position, (stream.held_count - position) * sizeof(Held))
    place += position
    place.offset = offset
    place.data = copy
    place.length = length
    place.missing = missing
    place.ts_ns = segment.ts_ns
    place.ack = segment.ack
    place.has_ack = segment.flags & ACK != 0
    place.doubts = doubts
    place.marks = AMBIGUOUS if segment.ambiguous else 0
    stream.held_count += 1
    stream.held_bytes += length
    cx.tally.pending += length
    return 0


cdef int forget_first(Stream* stream, Context cx) except -1:
    """Remove the first held piece from the run; the caller owns its bytes now."""
    cdef uint32_t length = stream.held[stream.held_first].length
    stream.held_bytes -= length
    cx.tally.pending -= length
    stream.held_first += 1
    stream.held_count -= 1
    if stream.held_count == 0:
        free(stream.held)
        stream.held = NULL
        stream.held_room = stream.held_first = 0
    return 0


cdef int drop_first(Stream* stream, Context cx) except -1:
    free(stream.held[stream.held_first].data)
    return forget_first(stream, cx)


cdef int refuse_early(Stream* stream, Context cx) except -1:
    """Drop the data of a SYN if the other side's SYN-ACK does not acknowledge them: the other side ignored them (RFC 7413)."""
    cdef Held* first
    if stream.held_count:
        first = &stream.held[stream.held_first]
        if first.doubts & OPENING and stream.acked <= first.offset:
            cx.tally.ignored += first.length
            drop_first(stream, cx)
    return 0


cdef int pull(Stream* stream, Stream* peer, Piece* out, Context cx) except -1:
    """Set `out` to the first held piece and return 1, if it is next in order and waits for no byte of the peer; else 0."""
    cdef Held first
    cdef int64_t skip, advance
    if stream.held_count == 0 or not stream.anchored:
        return 0
    first = stream.held[stream.held_first]
    if first.offset > stream.next:
        return 0
    if first.doubts or reaches_behind_fin(stream, &first):
        if stream.acked < first.offset + first.length + first.missing:
            return 0
        if first.doubts & REFUSED:
            stream.stamp_known = False      # its receiver accepted it, so its TS.Recent is another one
    if first.has_ack and not first.doubts & REFUSED and unseen(peer, first.ack) and offset_of(peer, first.ack) > stream.released:
        return 0
    forget_first(stream, cx)
    skip = min(stream.next - first.offset, <int64_t>first.length)       # a known hole before it may have been filled
    cx.tally.duplicate += skip
    cx.tally.delivered += first.length - skip
    out.data = first.data + skip
    out.length = first.length - <uint32_t>skip
    out.offset = first.offset + skip
    out.ts_ns = first.ts_ns
    out.ack = first.ack
    out.has_ack = first.has_ack
    out.marks = first.marks
    out.marked_from = first.differs_from if first.marks & CONFLICT else first.offset
    out.marked_to = first.differs_to if first.marks & CONFLICT else first.offset + first.length
    advance = max(0, first.offset + first.length + first.missing - stream.next)
    out.missing = <uint32_t>max(0, advance - out.length)
    stream.next += advance
    stream.next_seq += <uint32_t>advance
    stream.edge = max(stream.edge, stream.next)
    if first.length:
        stream.past = cx.history.adopt(stream.past, first.offset, first.data, first.length)
    if stream.held_count:           # the next piece has waited since it came: several holes at once cost one wait
        stream.held_since = stream.held[stream.held_first].ts_ns + cx.skew
    return 1


cdef int64_t give_up(Stream* stream, Stream* peer, Context cx) except -1:
    """End the wait of the first held piece; return the bytes of the gap before it, 0 if it only waited for the peer."""
    cdef Held* first
    cdef int64_t gap, known, behind
    if stream.held_count == 0:
        return 0
    stream.held_since = cx.now
    if not peer.seen:
        peer.absent = True
    if not stream.anchored:
        begin_midstream(stream, cx)
        return 0
    first = &stream.held[stream.held_first]
    if first.doubts & (REFUSED | OUTDONE) and peer.seen and stream.acked < first.offset + first.length:
        cx.tally.unacknowledged += first.length
        drop_first(stream, cx)
        return 0
    if first.offset > stream.next:
        behind = first.offset
        if stream.fin_seen and stream.fin_sure == ACKNOWLEDGED and stream.next < stream.fin_at:
            behind = min(behind, stream.fin_at)
        gap = behind - stream.next
        known = min(stream.acked, behind) - stream.next
        if known > 0 and stream.seen and not (stream.midstream and stream.next_seq == stream.first_seq):
            cx.tally.acked_unseen += known
        stream.gap_from = stream.next
        stream.gap_to = behind
        stream.next = behind
        stream.next_seq += <uint32_t>gap
        cx.tally.gaps += 1
        cx.tally.gap_bytes += gap
        return gap
    if first.doubts:
        first.doubts = 0
        return 0
    if reaches_behind_fin(stream, first):
        discard_fin(stream, cx)
        return 0
    cx.tally.ack_unseen += 1
    if first.has_ack:                       # pieces behind it that acknowledge more keep waiting
        stream.released = max(stream.released, offset_of(peer, first.ack))
    return 0


cdef int drop_all(Stream* stream, uint64_t* counter, Context cx) except -1:
    """Drop every held piece, and add their bytes to the counter."""
    cx.tally.pending -= stream.held_bytes
    counter[0] += stream.held_bytes
    return release(stream)


cdef bint ends_well(const Stream* stream) noexcept:
    """Return whether the stream is at its FIN, and no segment contradicts that."""
    return at_end(stream) and not stream.fin_refused and stream.acked <= stream.fin_at + 1 and not (
        stream.held_count and stream.held[stream.held_first].offset <= stream.fin_at)


cdef int release(Stream* stream) noexcept:
    """Free the memory of every held piece."""
    cdef uint32_t i
    for i in range(stream.held_count):
        free(stream.held[stream.held_first + i].data)
    free(stream.held)
    stream.held = NULL
    stream.held_room = stream.held_first = stream.held_count = stream.held_bytes = 0
    return 0
