# cython: language_level=3
"""Stream: one direction of a TCP connection. Segments in, in-order pieces out, gaps said with their length.

offer() takes a segment: in order, it comes straight back as a Piece into the batch's own memory, without a copy; else its
new bytes are copied and held. pull() gives held pieces whose turn has come. give_up() is what the owner of the clock calls
when waiting any longer is pointless; it answers with the length of the gap.

What makes a piece wait:
- a hole: bytes before it have not come yet. The hole is a gap for certain() once the receiver has acknowledged what lies
  behind it: then nobody will send it again;
- the other direction: its frame acknowledges bytes of the peer that have not been delivered. A response is thus never read
  before the request it answers, however the capture shuffled the two. An acknowledgement alone never makes a gap (the
  bytes may still be on their way through another interface, or the number may be forged): after the wait it is ignored.
  Of a direction that was never seen all bytes are waited for, once: then the capture is taken to be one-sided;
- data in a SYN: the server may have ignored it (RFC 7413), so it counts once it is acknowledged.

Without a SYN the first byte is not known. The stream then holds everything for a moment (settle) and starts at the lowest
sequence number that any frame spoke of.

Overlaps: bytes that are already delivered stay. Of bytes that are held, the first or the last copy wins, as configured; the
other is dropped, counted as duplicate if it is equal and as conflicting if it differs, and then the piece is marked.
Copies of delivered bytes are compared with the History. A segment further ahead than twice the receiver's window and
SLACK is not believed. Urgent data (RFC 9293 section 3.8.5) stays in line.

Offsets are 64 bits wide and start at ORIGIN, so that sequence numbers may wrap, and bytes before the first frame seen still
have positive offsets. RFC 9293 section 3.4.
"""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memmove, memset

from workers.context cimport Context
from workers.segment cimport ACK, FIN, SYN, Segment

cdef enum:
    WINDOW = 1 << 30            # RFC 7323 section 2.3: no window is larger
    BEFORE = 1 << 24            # how far before the first byte of a stream picked up in the middle another one may stand
    SLACK = 1 << 20             # what may be on its way when a window grows that we did not see grow
    FEW = 4                     # held pieces to begin with

cdef int64_t ORIGIN = <int64_t>1 << 32


cdef int touch(Stream* stream, uint32_t seq) noexcept:
    """A frame of this direction, or an acknowledgement of it, speaks of seq."""
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


cdef int anchor(Stream* stream, uint32_t seq, Context cx) except -1:
    """The first byte has this sequence number: a SYN said so, or settle() decided it."""
    cdef Held* first
    touch(stream, seq)
    if stream.anchored:
        return 0
    stream.next = offset_of(stream, seq)
    stream.next_seq = stream.first_seq = seq
    stream.anchored = True
    stream.acked = max(stream.acked, stream.next)
    stream.edge = max(stream.edge, stream.next)
    while stream.held_count:            # bytes before the first one belong to something else
        first = &stream.held[stream.held_first]
        if first.offset >= stream.next:
            break
        cx.tally.out_of_window += first.length
        drop_first(stream, cx)
    return 0


cdef int settle(Stream* stream, Context cx) except -1:
    """No SYN will come: start at the lowest byte that was spoken of."""
    if not stream.anchored:
        stream.midstream = True
        cx.tally.midstream += 1
        anchor(stream, stream.next_seq + <uint32_t>(stream.lowest - stream.next), cx)
    return 0


cdef int acknowledge(Stream* stream, uint32_t ack, const Stream* peer, Context cx) noexcept:
    """The other side says that it has every byte before this one: of what can have been sent, that is."""
    cdef int64_t offset = offset_of(stream, ack)
    if offset > stream.acked and offset - max(stream.next, stream.edge) <= reach(stream, peer):
        stream.acked = offset
    return 0


cdef bint repeated(Stream* stream, uint32_t fingerprint) noexcept:
    """Is this one of the last frames of this direction again, bit by bit? Not a retransmission: a copy made on the way."""
    if fingerprint == 0:
        return False
    if (fingerprint == stream.fingerprints[0] or fingerprint == stream.fingerprints[1]
            or fingerprint == stream.fingerprints[2] or fingerprint == stream.fingerprints[3]):
        return True
    stream.newest = (stream.newest + 1) & 3
    stream.fingerprints[stream.newest] = fingerprint
    return False


cdef bint unseen(const Stream* stream, uint32_t ack) noexcept:
    """Does this acknowledgement speak of bytes of this stream that are not delivered yet?"""
    cdef int64_t offset
    if not stream.seen:
        return not stream.absent
    offset = offset_of(stream, ack)
    if not stream.anchored:
        return stream.held_count != 0 or offset > stream.lowest
    return offset > stream.next and offset - stream.next < WINDOW


cdef int64_t reach(const Stream* stream, const Stream* peer) noexcept:
    """How far behind its edge a segment may end, to be believed."""
    if not peer.seen or not stream.scaled or not peer.scaled:
        return WINDOW
    return min(<int64_t>2 * stream.window + SLACK, <int64_t>WINDOW)


cdef bint certain(const Stream* stream, const Stream* peer) noexcept:
    """Is it certain that the first hole will not be filled by its sender any more?

    The receiver has acknowledged it, or nothing of the receiver was ever seen.
    """
    return stream.acked >= stream.held[stream.held_first].offset or not peer.seen


cdef bint waits_for_peer(const Stream* stream) noexcept:
    """Is no hole in the way of what is held, only something the other direction has to say?"""
    return stream.held_count != 0 and stream.anchored and stream.held[stream.held_first].offset <= stream.next


cdef bint over_limit(const Stream* stream, Context cx) noexcept:
    """Is more held than is worth waiting for?"""
    return stream.held_count != 0 and (stream.held_bytes > cx.limits.max_pending_bytes
                                       or stream.held_count > cx.limits.max_pending_segments)


cdef int offer(Stream* stream, const Segment* segment, Stream* peer, Piece* out, Context cx) except -1:
    """Takes a segment that has payload. 1: `out` is its piece, to be handled before the next call.

    2: it differs from delivered bytes between out.marked_from and out.marked_to. 3: it is too far away to be believed.
    """
    cdef int64_t offset = offset_of(stream, segment.seq)
    if (offset == stream.next and stream.held_count == 0 and stream.anchored and not stream.finished
            and not segment.flags & SYN and not (segment.flags & ACK and unseen(peer, segment.ack))):
        out.data = segment.payload
        out.length = segment.captured
        out.missing = segment.length - segment.captured
        out.offset = offset
        out.ts_ns = segment.ts_ns
        out.ack = segment.ack
        out.has_ack = segment.flags & ACK
        out.marks = AMBIGUOUS if segment.ambiguous else 0
        out.marked_from = offset
        out.marked_to = offset + segment.captured
        stream.next += segment.length
        stream.next_seq += segment.length
        stream.edge = max(stream.edge, stream.next)
        cx.tally.delivered += segment.captured
        if segment.captured:
            stream.past = cx.history.remember(stream.past, offset, segment.payload, segment.captured)
        return 1
    return hold(stream, segment, offset + (1 if segment.flags & SYN else 0), peer, out, cx)


cdef int hold(Stream* stream, const Segment* segment, int64_t offset, Stream* peer, Piece* out, Context cx) except -1:
    """Copies what is new in a segment to its place among the held pieces. 2 and 3 as offer() says them."""
    cdef Held* other = NULL
    cdef int64_t at = offset, end = offset + segment.captured, cut
    cdef uint32_t tail = segment.length - segment.captured, position, low, high, differing = 0
    cdef const uint8_t* data = segment.payload
    cdef bint kept
    if stream.finished:
        cx.tally.ignored += segment.captured
        return 0
    if stream.anchored:
        if stream.next - end - tail >= WINDOW or end + tail - max(stream.next, stream.edge) > reach(stream, peer):
            cx.tally.out_of_window += segment.captured
            return 3
        if at < stream.next:
            cut = min(stream.next, end)
            differing = again(stream, at, data, <uint32_t>(cut - at), out, cx)
            at = stream.next
            if end + tail <= stream.next:
                return 2 if differing else 0
        elif at > stream.next:
            cx.tally.out_of_order += 1
    stream.edge = max(stream.edge, end + tail)
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
            keep(stream, position, at, data + (at - offset), <uint32_t>(cut - at), tail if cut == end else 0, segment, cx)
            kept = cut == end
            position += 1
            at = cut
            continue
        cut = max(at, min(end, other.offset + other.length))        # a piece that only keeps a place has no bytes
        if at < cut and memcmp(data + (at - offset), other.data + (at - other.offset), cut - at) != 0:
            cx.tally.conflicting += cut - at
            other.differs_from = min(other.differs_from, at) if other.marks & CONFLICT else at
            other.differs_to = max(other.differs_to, cut) if other.marks & CONFLICT else cut
            other.marks |= CONFLICT
            if cx.limits.last_wins:
                memcpy(other.data + (at - other.offset), data + (at - offset), cut - at)
        else:
            cx.tally.duplicate += cut - at
            if other.has_ack and segment.flags & ACK and <int32_t>(segment.ack - other.ack) < 0 and not other.unproven:
                # A retransmission had overtaken it: what the first copy knew counts, for the bytes that it brings.
                part(stream, position, cut, cx)
                position += part(stream, position, at, cx)
                other = &stream.held[stream.held_first + position]
                other.ack = segment.ack
        at = cut
        position += 1
    # A known hole behind bytes that are there already keeps its place, unless it lies inside of what is held.
    if tail and not kept and (position == stream.held_count or stream.held[stream.held_first + position].offset > at):
        keep(stream, position, at, NULL, 0, <uint32_t>(end + tail - at), segment, cx)
    return 2 if differing else 0


cdef int part(Stream* stream, uint32_t position, int64_t at, Context cx) except -1:
    """Makes two held pieces of one, if `at` lies inside of it: how many more there are now."""
    cdef Held whole = stream.held[stream.held_first + position]
    cdef uint32_t length
    cdef Segment nothing
    cdef Held* place
    if not whole.offset < at < whole.offset + whole.length:
        return 0
    length = <uint32_t>(at - whole.offset)
    memset(&nothing, 0, sizeof(Segment))
    nothing.ts_ns = whole.ts_ns
    keep(stream, position + 1, at, whole.data + length, whole.length - length, whole.missing, &nothing, cx)
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


cdef uint32_t again(Stream* stream, int64_t at, const uint8_t* data, uint32_t length, Piece* out, Context cx) noexcept:
    """Bytes from before `next` come again: how many differ from what was delivered. Those of the last gap were not."""
    cdef int64_t late = min(at + length, stream.gap_to) - max(at, stream.gap_from)
    cdef uint32_t differing = 0
    late = max(late, 0)
    # RFC 9293 section 3.8.4: a keep-alive may repeat the last byte, and make it up.
    if length != 1 or at != stream.next - 1 or stream.acked < stream.next:
        differing = cx.history.differing(stream.past, at, data, length, &out.marked_from, &out.marked_to)
    differing = min(differing, length - <uint32_t>late)      # pieces that were handed on may overlap in the History
    cx.tally.late += late
    cx.tally.conflicting += differing
    cx.tally.duplicate += length - differing - late
    return differing


cdef int end(Stream* stream, const Segment* segment, Stream* peer, Context cx) except -1:
    """Takes a FIN. If bytes before it are missing, an empty piece keeps its place, so that they become a gap in time."""
    cdef Segment nothing = segment[0]
    cdef int64_t offset = offset_of(stream, <uint32_t>(segment.seq + segment.length + (1 if segment.flags & SYN else 0)))
    cdef Held* last
    if stream.finished or (stream.fin_seen and offset >= stream.fin_at):
        return 0
    if stream.anchored and (offset < stream.next
                            or offset - max(stream.next, stream.edge) > reach(stream, peer)):
        return 0
    if stream.fin_seen and stream.held_count:       # it stands before another one: that was not the end
        last = &stream.held[stream.held_first + stream.held_count - 1]
        if last.length == 0 and last.missing == 0 and last.offset == stream.fin_at:
            stream.held_count -= 1
            if stream.held_count == 0:
                release(stream)
    stream.fin_seen = True
    stream.fin_at = offset
    stream.edge = max(stream.edge, offset)
    if stream.anchored and offset <= stream.next:
        return 0
    if stream.held_count:
        last = &stream.held[stream.held_first + stream.held_count - 1]
        if last.offset + last.length >= offset:
            return 0                        # something is held that keeps its place
    nothing.flags = FIN                     # and not ACK: it waits for no byte of the other direction
    return keep(stream, stream.held_count, offset, NULL, 0, 0, &nothing, cx)


cdef int make_room(Stream* stream) except -1:
    """Room for one more held piece on both sides of those there are."""
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
              const Segment* segment, Context cx) except -1:
    """Puts a copy of data[0:length] at this place among the held pieces; the shorter side moves."""
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
    place.unproven = segment.flags & SYN != 0
    place.marks = AMBIGUOUS if segment.ambiguous else 0
    stream.held_count += 1
    stream.held_bytes += length
    cx.tally.pending += length
    return 0


cdef int forget_first(Stream* stream, Context cx) except -1:
    """The first held piece leaves the run; its bytes are the caller's now."""
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
    """The other side's SYN has acknowledged ours and no more: it did not take the data that came with it (RFC 7413)."""
    cdef Held* first
    if stream.held_count:
        first = &stream.held[stream.held_first]
        if first.unproven and stream.acked <= first.offset:
            cx.tally.ignored += first.length
            drop_first(stream, cx)
    return 0


cdef int pull(Stream* stream, Stream* peer, Piece* out, Context cx) except -1:
    """1 if `out` is the next held piece, whose turn has come."""
    cdef Held first
    cdef int64_t skip, advance
    if stream.held_count == 0 or not stream.anchored:
        return 0
    first = stream.held[stream.held_first]
    if first.offset > stream.next:
        return 0
    if first.unproven and stream.acked < first.offset + first.length:
        return 0
    if first.has_ack and unseen(peer, first.ack) and offset_of(peer, first.ack) > stream.released:
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
    if first.length:
        stream.past = cx.history.adopt(stream.past, first.offset, first.data, first.length)
    if stream.held_count:           # the next has waited since it came: several holes at once cost one wait
        stream.held_since = stream.held[stream.held_first].ts_ns + cx.skew
    return 1


cdef int64_t give_up(Stream* stream, Stream* peer, Context cx) except -1:
    """Ends the wait of the first held piece: the bytes of the gap before it, 0 if it only waited for the peer."""
    cdef Held* first
    cdef int64_t gap, known
    cdef uint32_t i
    if stream.held_count == 0:
        return 0
    stream.held_since = cx.now
    if not peer.seen:
        peer.absent = True
    if not stream.anchored:
        settle(stream, cx)
        return 0
    first = &stream.held[stream.held_first]
    if first.offset > stream.next:
        gap = first.offset - stream.next
        known = min(stream.acked, first.offset) - stream.next
        if known > 0 and stream.seen and not (stream.midstream and stream.next_seq == stream.first_seq):
            cx.tally.acked_unseen += known
        stream.gap_from = stream.next
        stream.gap_to = first.offset
        stream.next = first.offset
        stream.next_seq += <uint32_t>gap
        cx.tally.gaps += 1
        cx.tally.gap_bytes += gap
        return gap
    if first.unproven:
        first.unproven = False
        return 0
    cx.tally.ack_unseen += 1
    for i in range(stream.held_count):
        first = &stream.held[stream.held_first + i]
        if first.has_ack:
            stream.released = max(stream.released, offset_of(peer, first.ack))
    return 0


cdef int drop_all(Stream* stream, uint64_t* counter, Context cx) except -1:
    """Forgets what is held; its bytes are added to the counter."""
    cx.tally.pending -= stream.held_bytes
    counter[0] += stream.held_bytes
    return release(stream)


cdef int release(Stream* stream) noexcept:
    """Gives the memory of what is held back."""
    cdef uint32_t i
    for i in range(stream.held_count):
        free(stream.held[stream.held_first + i].data)
    free(stream.held)
    stream.held = NULL
    stream.held_room = stream.held_first = stream.held_count = stream.held_bytes = 0
    return 0
