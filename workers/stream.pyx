# cython: language_level=3
"""Stream: one direction of a TCP connection. Segments in, in-order pieces out, gaps said with their length.

offer() takes a segment: in order, it comes straight back as a Piece into the batch's own memory, without a copy; else its
new bytes are copied and held. pull() gives held pieces whose turn has come. give_up() is what the owner of the clock calls
when waiting any longer is pointless; it answers with the length of the gap.

Two things make a piece wait:
- a hole: bytes before it have not come yet;
- the other direction: its frame acknowledges bytes of the peer that have not been delivered. A response is thus never read
  before the request it answers, however the capture shuffled the two. An acknowledgement alone never makes a gap (the
  bytes may still be on their way through another interface, or the number may be forged): after the wait it is ignored.
  Of a direction that was never seen all bytes are waited for, once: then the capture is taken to be one-sided.

Without a SYN the first byte is not known. The stream then holds everything for a moment (settle) and starts at the lowest
sequence number that any frame spoke of.

Overlaps: bytes that are already delivered or held win; the later copy is dropped, counted as duplicate if it is equal and
as conflicting if it differs from a held one. Offsets are 64 bits wide and start at ORIGIN, so that sequence numbers may
wrap, and bytes before the first frame seen still have positive offsets. RFC 9293 section 3.4.
"""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from workers.limits cimport Limits
from workers.segment cimport ACK, FIN, SYN, Segment
from workers.tally cimport Tally

cdef enum:
    WINDOW = 1 << 30            # RFC 7323 section 2.3: no window is larger

cdef int64_t ORIGIN = <int64_t>1 << 32


cdef class Held:
    pass


cdef class Stream:
    cdef int64_t offset_of(self, uint32_t seq) noexcept:
        return self.next + <int32_t>(seq - self.next_seq)

    cdef int touch(self, uint32_t seq) except -1:
        """A frame of this direction, or an acknowledgement of it, speaks of seq."""
        cdef int64_t offset
        if not self.known:
            self.known = True
            self.next_seq = seq
            self.next = self.lowest = ORIGIN
        elif not self.anchored:
            offset = self.offset_of(seq)
            if offset < self.lowest and self.next - offset < WINDOW:
                self.lowest = offset
        return 0

    cdef int anchor(self, uint32_t seq, Tally tally) except -1:
        """The first byte has this sequence number: a SYN said so, or settle() decided it."""
        cdef Held first
        self.touch(seq)
        if self.anchored:
            return 0
        self.next = self.origin = self.offset_of(seq)
        self.next_seq = seq
        self.anchored = True
        while self.held:                # bytes before the first one belong to something else
            first = self.held[0]
            if first.offset >= self.next:
                break
            self.held.pop(0)
            self.held_bytes -= <uint32_t>len(first.data)
            tally.pending -= len(first.data)
            tally.out_of_window += len(first.data)
        if not self.held:
            self.held = None
            self.held_since = 0
        return 0

    cdef int settle(self, Tally tally) except -1:
        """No SYN will come: start at the lowest byte that was spoken of."""
        if not self.anchored:
            self.midstream = True
            tally.midstream += 1
            self.anchor(self.next_seq + <uint32_t>(self.lowest - self.next), tally)
        return 0

    cdef bint unseen(self, uint32_t ack) noexcept:
        """Does this acknowledgement speak of bytes of this stream that are not delivered yet?"""
        cdef int64_t offset
        if not self.seen:
            return not self.absent
        offset = self.offset_of(ack)
        if not self.anchored:
            return self.held is not None or offset > self.lowest
        return offset > self.next and offset - self.next < WINDOW

    cdef int offer(self, const Segment* segment, Stream peer, uint64_t now, Piece* out, Tally tally) except -1:
        """Takes a segment that has payload; 1 if `out` is its piece, to be handled before the next call."""
        cdef int64_t offset = self.offset_of(segment.seq + (1 if segment.flags & SYN else 0))     # RFC 7413: a SYN with data
        if (offset == self.next and self.held is None and self.anchored and not self.finished
                and not (segment.flags & ACK and peer.unseen(segment.ack))):
            out.data = segment.payload
            out.length = segment.captured
            out.missing = segment.length - segment.captured
            out.offset = offset
            out.ts_ns = segment.ts_ns
            out.ack = segment.ack
            out.has_ack = segment.flags & ACK
            self.next += segment.length
            self.next_seq += segment.length
            tally.delivered += segment.captured
            return 1
        self.hold(segment, offset, now, tally)
        return 0

    cdef int hold(self, const Segment* segment, int64_t offset, uint64_t now, Tally tally) except -1:
        """Copies what is new in a segment to its place among the held pieces."""
        cdef Held other
        cdef int64_t at = offset, end = offset + segment.captured, cut
        cdef uint32_t tail = segment.length - segment.captured
        cdef int position, low, high
        cdef const uint8_t* data = segment.payload
        if self.finished:
            tally.ignored += segment.captured
            return 0
        if self.anchored:
            if end + tail <= self.next:
                if self.next - end >= WINDOW:
                    tally.out_of_window += segment.captured
                else:
                    tally.duplicate += segment.captured
                return 0
            if at - self.next >= WINDOW:
                tally.out_of_window += segment.captured
                return 0
            if at < self.next:
                cut = min(self.next, end)
                tally.duplicate += cut - at
                at = cut
        if self.held is None:
            self.held = []
            self.held_since = now
        if at > self.next and self.anchored:
            tally.out_of_order += 1
        low, high = 0, len(self.held)
        while low < high:               # the first held piece that ends behind `at`
            position = (low + high) // 2
            other = self.held[position]
            if other.offset + len(other.data) <= at:
                low = position + 1
            else:
                high = position
        position = low
        while at < end:
            other = self.held[position] if position < len(self.held) else None
            cut = end if other is None else min(end, other.offset)
            if at < cut:
                self.keep(position, at, data[at - offset:cut - offset], tail if cut == end else 0, segment, tally)
                position += 1
                at = cut
                continue
            cut = min(end, other.offset + <int64_t>len(other.data))
            if memcmp(data + (at - offset), <const uint8_t*>other.data + (at - other.offset), cut - at) == 0:
                tally.duplicate += cut - at
                if other.has_ack and segment.flags & ACK and <int32_t>(segment.ack - other.ack) < 0:
                    other.ack = segment.ack     # a retransmission had overtaken it: what the first copy knew counts
            else:
                tally.conflicting += cut - at
            at = cut
            position += 1
        if segment.captured == 0 and tail:      # nothing but a known hole: it keeps its place
            self.keep(position, at, b"", tail, segment, tally)
        if not self.held:
            self.held = None
            self.held_since = 0
        return 0

    cdef int end(self, const Segment* segment, uint64_t now, Tally tally) except -1:
        """Takes a FIN. If bytes before it are missing, an empty piece keeps its place, so that they become a gap in time."""
        cdef Segment nothing = segment[0]
        cdef int64_t offset = self.offset_of(<uint32_t>(segment.seq + segment.length + (1 if segment.flags & SYN else 0)))
        cdef Held other
        cdef int position = 0
        if self.fin_seen or self.finished or (self.anchored and offset - self.next >= WINDOW):
            return 0
        self.fin_seen = True
        self.fin_at = offset
        if self.anchored and offset <= self.next:
            return 0
        if self.held is None:
            self.held = []
            self.held_since = now
        for other in self.held:
            if other.offset >= offset:
                break
            position += 1
        nothing.flags = FIN                     # and not ACK: it waits for no byte of the other direction
        return self.keep(position, offset, b"", 0, &nothing, tally)

    cdef int keep(self, int position, int64_t offset, bytes data, uint32_t missing, const Segment* segment,
                  Tally tally) except -1:
        cdef Held piece = Held.__new__(Held)
        piece.offset = offset
        piece.data = data
        piece.missing = missing
        piece.ts_ns = segment.ts_ns
        piece.ack = segment.ack
        piece.has_ack = segment.flags & ACK
        self.held.insert(position, piece)
        self.held_bytes += <uint32_t>len(data)
        tally.pending += len(data)
        return 0

    cdef bint waits_for_peer(self) noexcept:
        """Is no hole in the way of what is held, only bytes of the other direction?"""
        cdef Held first
        if self.held is None or not self.anchored:
            return False
        first = self.held[0]
        return first.offset <= self.next

    cdef bint over_limit(self, Limits limits, Tally tally) noexcept:
        """Is more held than is worth waiting for?"""
        return self.held is not None and (
            self.held_bytes > limits.max_pending_bytes or len(self.held) > limits.max_pending_segments
            or tally.pending > limits.max_total_pending_bytes)

    cdef int pull(self, Stream peer, uint64_t now, Piece* out, Tally tally) except -1:
        """1 if `out` is the next held piece, whose turn has come; its bytes live until the next pull()."""
        cdef Held first
        cdef int64_t skip, advance
        if self.held is None or not self.anchored:
            return 0
        first = self.held[0]
        if first.offset > self.next:
            return 0
        if first.has_ack and peer.unseen(first.ack) and peer.offset_of(first.ack) > self.released:
            return 0
        self.held.pop(0)
        self.held_bytes -= <uint32_t>len(first.data)
        tally.pending -= len(first.data)
        skip = min(self.next - first.offset, <int64_t>len(first.data))   # a known hole before it may have been filled
        tally.duplicate += skip
        tally.delivered += len(first.data) - skip
        self.given = first
        out.data = <const uint8_t*>first.data + skip
        out.length = <uint32_t>(len(first.data) - skip)
        out.offset = first.offset + skip
        out.ts_ns = first.ts_ns
        out.ack = first.ack
        out.has_ack = first.has_ack
        advance = max(0, first.offset + <int64_t>len(first.data) + first.missing - self.next)
        out.missing = <uint32_t>max(0, advance - out.length)
        self.next += advance
        self.next_seq += <uint32_t>advance
        if self.held:
            first = self.held[0]
            self.held_since = first.ts_ns       # it has waited since it came: several holes at once cost one wait
        else:
            self.held = None
            self.held_since = 0
        return 1

    cdef int64_t give_up(self, Stream peer, uint64_t now, Tally tally) except -1:
        """Ends the wait of the first held piece: the bytes of the gap before it, 0 if it only waited for the peer."""
        cdef Held first
        cdef int64_t gap = 0
        if self.held is None:
            return 0
        self.held_since = now
        if not peer.seen:
            peer.absent = True
        if not self.anchored:
            self.settle(tally)
            return 0
        first = self.held[0]
        if first.offset > self.next:
            gap = first.offset - self.next
            self.next = first.offset
            self.next_seq += <uint32_t>gap
            tally.gaps += 1
            tally.gap_bytes += gap
            return gap
        tally.ack_unseen += 1
        for first in self.held:
            if first.has_ack:
                self.released = max(self.released, peer.offset_of(first.ack))
        return 0

    cdef int drop_all(self, Tally tally) except -1:
        """Forgets what is held (the connection is thrown out)."""
        tally.pending -= self.held_bytes
        tally.evicted += self.held_bytes
        self.held_bytes = 0
        self.held = None
        self.held_since = 0
        return 0
