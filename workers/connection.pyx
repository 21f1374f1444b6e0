# cython: language_level=3
"""Connection: what TCP makes of one segment. Sans-IO: time is the context's clock, made of frame time stamps.

accept() is the whole life of a segment: anchor the streams on SYN, offer the payload, hand the pieces whose turn has come
to take(), with skip() for gaps and over() at the end of a direction. These three, mark() and done() are what a subclass
gives: HttpConnection reads messages, the Assembler's calls a user's streams.

What is believed. A RST counts if its number lies between what the other side has acknowledged and the last byte seen
(RFC 9293 section 3.10.7.4, RFC 5961), and if its sender sends nothing more while the settle time runs. A SYN with another
number announces a new connection on the same ports; the other side's answer confirms it. Neither ends a connection alone.
Data without ACK, or with a SYN that does not open the connection, are left out, as their receiver does.
"""
cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from workers.context cimport Context
from workers.segment cimport ACK, FIN, NO_SCALE, RST, SYN, URG, Segment
from workers.stream cimport (
    CONFLICT, Piece, Stream, acknowledge, anchor, certain, drop_all, end, give_up as abandon, offer, offset_of, over_limit, pull,
    reach, refuse_early, release, repeated, touch, waits_for_peer,
)

cdef enum:
    FEW_EARLY = 8               # segments kept for a connection that may have begun
    ANSWERED = 1 << 20          # bytes of a new connection that its first captured answer may acknowledge
    UNCERTAIN = 10              # times the gap timeout: how long a hole is waited for that its receiver has not acknowledged


cdef bint behind_hole(const Stream* stream, const Stream* peer) noexcept:
    """Does this direction wait for bytes of the other that themselves wait behind a hole?"""
    return waits_for_peer(stream) and peer.held_count != 0 and not waits_for_peer(peer)


@cython.final
@cython.no_gc
cdef class Early:
    pass


@cython.no_gc
cdef class Connection:
    def __dealloc__(self):
        release(&self.streams[LOW])
        release(&self.streams[HIGH])

    cdef int warm(self, int step) noexcept:
        """A segment of this connection comes soon: asks the memory for what it will need, in three steps."""
        return 0

    cdef int take(self, int side, const Piece* piece, Context cx) except -1:
        """The next bytes of a side, piece.missing unknown ones behind them included."""
        return 0

    cdef int skip(self, int side, int64_t count, Context cx) except -1:
        """The next `count` bytes of a side will never be known."""
        return 0

    cdef int over(self, int side, bint by_fin, Context cx) except -1:
        """Nothing more of this side."""
        return 0

    cdef int mark(self, int side, int64_t start, int64_t stop, int marks, Context cx) except -1:
        """Something is to be said about bytes of a side that it took before."""
        return 0

    cdef int greet(self, int side, Context cx) except -1:
        """The connection is more than an attempt; a segment of this side has proven it."""
        return 0

    cdef int done(self, Context cx) except -1:
        """The connection is over, after both sides were."""
        return 0

    cdef bint replaced_by(self, const Segment* segment, int side, Context cx) except -1:
        """Does this segment show that the endpoints have begun a new connection with the same ports?

        A SYN alone may be forged or late, so it only announces; what the other side says of its number confirms. After a
        proper end the SYN is enough. If neither SYN was captured, two segments that agree with each other and not with
        this connection tell. Who goes on after a RST that ended the connection shows that it was forged, too late to undo
        it: the rest is a connection picked up in the middle.
        """
        cdef Stream* stream = &self.streams[side]
        cdef uint32_t first
        cdef int64_t ahead
        if self.strange and segment.length:
            return True
        if segment.flags & SYN:
            first = <uint32_t>(segment.seq + 1)
            if stream.anchored and first == stream.first_seq:
                return False            # the same SYN again
            if self.ending != OPEN and not segment.flags & ACK:
                return True
            if self.reopening == 2 - side and segment.flags & ACK and segment.ack == self.reopen_seq:
                return True
            if stream.anchored and not (self.reopening and segment.flags & ACK):
                self.reopening = side + 1
                self.reopen_seq = first
                ahead = offset_of(stream, first) - stream.next
                self.reopen_inside = -ANSWERED <= ahead \
                    and ahead <= max(stream.edge - stream.next, 0) + reach(stream, &self.streams[1 - side])
            return False
        if self.ending == BY_RST:
            if not self.alive and self.undoes_reset(segment, side):
                self.alive = True
                cx.tally.resets_ignored += 1
            return self.alive and segment.length
        if not self.reopening or self.reopen_inside:
            return False
        if side == self.reopening - 1:
            return segment.length > 0 and segment.seq == self.reopen_seq and not self.streams[1 - side].seen
        return segment.flags & ACK and not segment.flags & RST and segment.ack - self.reopen_seq <= <uint32_t>ANSWERED

    cdef bint undoes_reset(self, const Segment* segment, int side) noexcept:
        """Did the side that has reset the connection send this after its RST? Then that was not its own."""
        if side != self.reset_side or segment.flags & RST:
            return False
        if segment.length and <int32_t>(segment.seq + segment.length - self.reset_seq) > 0:
            return True
        return segment.flags & ACK and offset_of(&self.streams[1 - side], segment.ack) > self.reset_edge

    cdef int wander(self, const Segment* segment, int side, Context cx) except -1:
        """A segment with numbers that cannot be this connection's: does it answer another such one of the other side?

        The last few are kept, for the case that a new connection has begun: then they are its first ones.
        """
        cdef Early early = Early.__new__(Early), oldest
        if self.stray == 2 - side and segment.seq == self.stray_ack and segment.ack == self.stray_seq:
            self.strange = True
        self.stray = side + 1
        self.strayed_ns = cx.now
        self.stray_seq = segment.seq + segment.length
        self.stray_ack = segment.ack
        if cx.tally.pending + segment.captured > cx.limits.max_total_pending_bytes:
            return 0
        if self.early is None:
            self.early = []
        elif len(self.early) == FEW_EARLY:
            oldest = self.early.pop(0)
            cx.tally.pending -= len(oldest.data)
            cx.tally.out_of_window += len(oldest.data)
        early.segment = segment[0]
        early.data = segment.payload[:segment.captured]
        early.side = side
        self.early.append(early)
        cx.tally.pending += segment.captured
        cx.tally.out_of_window -= segment.captured
        return 0

    cdef int forget_early(self, Context cx) except -1:
        """The segments that were kept belong to nothing."""
        cdef Early early
        if self.early is not None:
            for early in self.early:
                cx.tally.pending -= len(early.data)
                cx.tally.out_of_window += len(early.data)
            self.early = None
        return 0

    cdef int succeed(self, Connection before, Context cx) except -1:
        """This connection follows another one on its ports, and takes over what that one did not believe."""
        cdef Early early
        cdef list kept = before.early
        before.early = None
        self.shed = before.next_shed
        if before.reopening:
            anchor(&self.streams[before.reopening - 1], before.reopen_seq, cx)
        if kept is not None:
            for early in kept:
                cx.tally.pending -= len(early.data)
                cx.tally.payload -= len(early.data)     # accept() counts it again
                early.segment.payload = <const uint8_t*>early.data
                early.segment.fingerprint = 0
                cx.history.hold(early.data)
                self.accept(&early.segment, early.side, cx)
        return 0

    cdef int accept(self, const Segment* segment, int side, Context cx) except -1:
        """One segment of a side, from its header to the last piece that it sets free."""
        cdef Stream* mine = &self.streams[side]
        cdef Stream* peer = &self.streams[1 - side]
        cdef Piece piece
        cdef int said
        self.last_ns = cx.now
        cx.tally.payload += segment.captured
        cx.tally.duplicate_frames += repeated(mine, segment.fingerprint)
        mine.seen = True
        if segment.flags & SYN:
            self.announce(segment, side, cx)
        elif not mine.anchored:
            touch(mine, segment.seq)
        if segment.flags & ACK:
            if not peer.anchored:
                touch(peer, segment.ack)
            acknowledge(peer, segment.ack, mine, cx)
            if not segment.flags & SYN and mine.scale > 0:
                peer.window = max(peer.window, <uint32_t>segment.window << mine.scale)
            else:
                peer.window = max(peer.window, <uint32_t>segment.window)
        if not self.proven:
            self.prove(segment, side)
        if segment.length and (segment.flags & (ACK | SYN) == 0 or segment.flags & RST or (
                segment.flags & SYN and <uint32_t>(segment.seq + 1) != mine.first_seq)):
            cx.tally.ignored += segment.captured        # as every host does; in a RST it is text for people
        elif segment.length:
            said = offer(mine, segment, peer, &piece, cx)
            if said == 1:
                self.give(side, &piece, cx)
            elif said == 2:
                self.mark(side, piece.marked_from, piece.marked_to, CONFLICT, cx)
            elif said == 3:
                self.wander(segment, side, cx)
        if segment.flags & (FIN | RST | URG):
            cx.tally.urgent += segment.flags & URG != 0
            if segment.flags & FIN:
                end(mine, segment, peer, cx)
            if segment.flags & RST:
                self.reset(segment, side, cx)
        if self.reset_ns and self.undoes_reset(segment, side):
            self.reset_ns = 0
            cx.tally.resets_ignored += 1
        elif self.reset_early == side + 1 and mine.edge >= offset_of(mine, self.reset_seq):
            self.believe(side, cx)
        if mine.held_count or peer.held_count or mine.fin_seen or peer.fin_seen:
            self.drain(cx)
        return 0

    cdef int announce(self, const Segment* segment, int side, Context cx) except -1:
        """A SYN: where its stream starts, and the other one if it answers a SYN."""
        cdef Stream* mine = &self.streams[side]
        cdef Stream* peer = &self.streams[1 - side]
        anchor(mine, <uint32_t>(segment.seq + 1), cx)
        if not segment.flags & ACK:
            self.opener = <uint8_t>(side + 1)
        if not mine.scaled:
            mine.scaled = True
            mine.scale = segment.scale
            if peer.scaled and (mine.scale == NO_SCALE or peer.scale == NO_SCALE):
                mine.scale = peer.scale = 0         # RFC 7323 section 2.2: both or none
        if segment.flags & ACK:
            anchor(peer, segment.ack, cx)
            acknowledge(peer, segment.ack, mine, cx)
            refuse_early(peer, cx)
        return 0

    cdef int reset(self, const Segment* segment, int side, Context cx) except -1:
        """Notes a RST that can be real: expire() ends the connection, since frames sent before it may still be on their way."""
        cdef Stream* mine = &self.streams[side]
        cdef int64_t offset = offset_of(mine, segment.seq)
        if self.reset_ns:
            return 0
        cdef int64_t seen = max(mine.edge, mine.next)
        if mine.anchored and (offset < min(mine.acked, seen)
                              or offset - seen > max(<int64_t>1, reach(mine, &self.streams[1 - side]))):
            cx.tally.resets_ignored += 1
            return 0
        self.reset_seq = segment.seq
        if mine.anchored and offset > seen + 1:
            self.reset_early = side + 1     # it has overtaken bytes before it, or is forged: they tell
            return 0
        return self.believe(side, cx)

    cdef int believe(self, int side, Context cx) noexcept:
        """The RST of a side is taken for real, as long as its sender sends nothing more."""
        self.reset_early = 0
        self.reset_ns = max(cx.now, <uint64_t>1)
        self.reset_side = side
        self.reset_edge = self.streams[1 - side].edge
        return 0

    cdef int prove(self, const Segment* segment, int side) except -1:
        """Is this connection more than an attempt? Its other side answered and was understood, or a side sends on and on."""
        cdef Stream* mine = &self.streams[side]
        cdef Stream* peer = &self.streams[1 - side]
        cdef int64_t ahead
        if segment.flags & (SYN | RST):
            return 0
        if segment.flags & ACK and peer.seen and peer.known:
            ahead = peer.edge - offset_of(peer, segment.ack)
            self.proven = -1 <= ahead < 1 << 30
        elif segment.length and mine.edge and (not mine.anchored or mine.edge != offset_of(mine, mine.first_seq)):
            self.proven = offset_of(mine, segment.seq) == mine.edge
        return 0

    cdef int give(self, int side, const Piece* piece, Context cx) except -1:
        """One piece to the subclass."""
        self.take(side, piece, cx)
        if piece.missing:
            self.skip(side, piece.missing, cx)
        return 0

    cdef int drain(self, Context cx) except -1:
        """Hands on every piece whose turn has come, in both directions, and ends the streams that have reached their FIN."""
        cdef Stream* mine
        cdef Stream* peer
        cdef Piece piece
        cdef int side = LOW, idle = 0
        while idle < 2:
            idle += 1
            mine = &self.streams[side]
            peer = &self.streams[1 - side]
            while pull(mine, peer, &piece, cx):
                self.give(side, &piece, cx)
                idle = 0
            if over_limit(mine, cx):
                self.give_up(side, cx)
                idle = 0
                continue
            if mine.fin_seen and not mine.finished and mine.anchored and mine.next >= mine.fin_at:
                mine.finished = True
                mine.next += 1                      # FIN takes one sequence number
                mine.next_seq += 1
                drop_all(mine, &cx.tally.ignored, cx)   # bytes behind the end: nobody takes them
                self.over(side, True, cx)
                idle = 0
            side = 1 - side
        if self.streams[LOW].finished and self.streams[HIGH].finished and self.ending == OPEN:
            self.finish(BY_FIN, cx)
        return 0

    cdef int give_up(self, int side, Context cx) except -1:
        """Ends the wait of one direction; if it waits for the other, and that one for a hole, the hole's.

        Otherwise responses would be read while the requests they answer stand behind that hole.
        """
        cdef int64_t gap
        if behind_hole(&self.streams[side], &self.streams[1 - side]):
            side = 1 - side
        gap = abandon(&self.streams[side], &self.streams[1 - side], cx)
        if gap:
            self.skip(side, gap, cx)
        return 0

    cdef bint waits(self) noexcept:
        """Does something in this connection wait for time to pass?"""
        return self.ending == OPEN and (self.streams[LOW].held_count != 0 or self.streams[HIGH].held_count != 0
                                        or self.reset_ns != 0 or self.early is not None)

    cdef int expire(self, Context cx) except -1:
        """Ends the waits that have lasted long enough."""
        cdef Stream* mine
        cdef Stream* peer
        cdef int side
        cdef uint64_t waited
        if self.ending != OPEN:
            return 0
        if self.early is not None and cx.now - self.strayed_ns >= UNCERTAIN * cx.limits.gap_timeout_ns:
            self.forget_early(cx)
        for side in range(2):
            mine = &self.streams[side]
            peer = &self.streams[1 - side]
            while mine.held_count and self.ending == OPEN and not behind_hole(mine, peer):
                waited = cx.now - min(mine.held_since, cx.now)
                if not mine.anchored or (not peer.seen and waits_for_peer(mine)):
                    if waited < cx.limits.settle_ns:
                        break
                elif waited < cx.limits.gap_timeout_ns:
                    break
                elif not waits_for_peer(mine) and not certain(mine, peer):
                    if waited >= UNCERTAIN * cx.limits.gap_timeout_ns:
                        drop_all(mine, &cx.tally.unacknowledged, cx)    # its receiver never had what comes before it
                    break
                self.give_up(side, cx)
                self.drain(cx)
        if self.reset_ns and cx.now - self.reset_ns >= cx.limits.settle_ns and self.ending == OPEN:
            self.finish(BY_RST, cx)
        return 0

    cdef int finish(self, Ending ending, Context cx) except -1:
        """The connection is over: held bytes go through with their gaps, then both sides end."""
        cdef Stream* low = &self.streams[LOW]
        cdef Stream* high = &self.streams[HIGH]
        cdef int side
        if self.ending != OPEN:
            return 0
        self.ending = ending
        self.forget_early(cx)
        cx.tally.resets_ignored += self.reset_early != 0
        if ending == BY_EVICTION or ending == BY_HALF_OPEN:
            drop_all(low, &cx.tally.evicted, cx)
            drop_all(high, &cx.tally.evicted, cx)
        while low.held_count or high.held_count:
            for side in range(2):
                if self.streams[side].held_count:
                    self.give_up(side, cx)
                    self.drain(cx)
        self.over(LOW, False, cx)
        self.over(HIGH, False, cx)
        self.done(cx)
        cx.tally.one_sided += low.seen != high.seen and self.proven
        if ending == BY_FIN:
            cx.tally.ended_fin += 1
        elif ending == BY_RST:
            cx.tally.ended_rst += 1
        elif ending == BY_TIMEOUT:
            cx.tally.ended_timeout += 1
        elif ending == BY_EVICTION:
            cx.tally.ended_evicted += 1
        elif ending == BY_HALF_OPEN:
            cx.tally.ended_half_open += 1
        elif ending == BY_REUSE:
            cx.tally.ended_reused += 1
        else:
            cx.tally.ended_shutdown += 1
        return 0
