# cython: language_level=3
"""Connection: the TCP state of both directions. Sans-IO: time is the context's clock, made of frame time stamps.

accept() is the whole life of a segment: it anchors the streams on SYN, offers the payload, delivers the in-order pieces to the
application, and reports gaps, conflicts and the end of each direction to it (application.pyx).

Acceptance. A FIN counts once the other side has acknowledged it, or if no segment contradicts it for long enough: neither
data behind it nor an acknowledgement of such. Which RST counts is in reset.pyx.
A SYN with another number announces a new connection on the same ports; the other side's answer confirms it. Neither ends a
connection alone. The connection ignores data and FINs without ACK, or with a SYN that does not open the connection, as their
receiver does; likewise a SYN-ACK or RST that answers a SYN which was not sent (RFC 9293 section 3.10.7.3). A segment with an
acknowledgement of bytes that cannot have been sent, or with an old time stamp, proves nothing about the other side. Its
payload counts only once the other side acknowledges it.
"""
cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from workers.tcp.acceptance cimport acceptable, answers, stale, takes_part
from libc.stdlib cimport free

from workers.tcp.application cimport BEGUN_BY_SYN, BEGUN_HIGH, HIGH, LOW, Application
from workers.core.context cimport Context
from workers.tcp.flow_counts cimport past_of
from workers.tcp.reset cimport accept_reset, take_reset, undoes
from workers.tcp.segment cimport ACK, FIN, NO_SCALE, RST, SYN, URG, Segment
from workers.tcp.stream cimport (
    CONFLICT, GRANTED, UNCERTAIN, Piece, Stream, acknowledge, acknowledge_fin, at_end, begin_again, behind_hole,
    deliver, discard_fin, drop_all, end, ends_well, give_up as abandon, hole_is_lost, next_timeout, note_sequence,
    offset_of, over_limit, pull, refuse_early, release, repeated, set_first_byte, take_segment, waits_for_peer,
    window_of,
)

cdef enum:
    FEW_EARLY = 8               # segments kept for a connection that may have begun
    ANSWERED = 1 << 20          # bytes of a new connection that its first captured answer may acknowledge


@cython.final
@cython.no_gc
cdef class Early:
    pass


@cython.final
@cython.no_gc
cdef class Connection:
    def __dealloc__(self):
        release(&self.streams[LOW])
        release(&self.streams[HIGH])
        free(self.past)

    cdef bint is_tcp(self) noexcept:
        return True

    cdef bint replaced_by(self, const Segment* segment, int side, uint32_t turns, Context cx) except -1:
        """Return whether this segment shows that the endpoints have begun a new connection with the same ports.

        A SYN alone may be forged or late, so it only announces; the other side's acknowledgement of its number confirms. After
        a proper end the SYN is enough, and likewise where the capture's time stamps have turned back. If neither SYN was
        captured, two segments decide that agree with each other and not with this connection. If the sender continues after an
        accepted RST, the RST was forged. The connection is already closed, so the rest is a new mid-stream connection.
        """
        cdef Stream* stream = &self.streams[side]
        cdef uint32_t first
        cdef int64_t ahead
        cdef bint again
        if self.strange and segment.length:
            return True
        if segment.flags & SYN:
            first = <uint32_t>(segment.seq + 1)
            if stream.anchored and first == stream.first_seq:       # the same SYN again: a RST before it was forged
                again = self.ending == BY_RST
            else:
                again = self.ending != OPEN or self.closed()
            if not segment.flags & ACK and (again or turns != self.turns):
                self.reopening = 0          # the new connection is not the one announced before
                return True
            if stream.anchored and first == stream.first_seq:
                return False
            if self.reopening == 2 - side and segment.flags & ACK and segment.ack == self.reopen_seq:
                return True
            if stream.anchored and not (self.reopening and segment.flags & ACK):
                self.reopening = side + 1
                self.reopen_seq = first
                ahead = offset_of(stream, first) - stream.next
                self.reopen_inside = -ANSWERED <= ahead \
                    and ahead <= max(stream.edge - stream.next, 0) + window_of(stream, &self.streams[1 - side])
            return False
        if self.ending == BY_RST:
            if not self.reset.forged and undoes(&self.reset, segment, side, stream, &self.streams[1 - side], cx):
                self.reset.forged = True
                cx.tally.resets_ignored += 1
            return self.reset.forged and segment.length
        if stream.fin_sure == GRANTED and stream.finished and segment.length and segment.flags & ACK:
            ahead = offset_of(stream, segment.seq + segment.length) - stream.next
            if 0 < ahead <= window_of(stream, &self.streams[1 - side]):
                return True
        if not self.reopening:
            return False
        if not self.proven and side == 2 - self.reopening and segment.flags & (ACK | RST) == ACK \
                and segment.ack == self.reopen_seq and self.streams[1 - side].next_seq == self.streams[1 - side].first_seq:
            begin_again(&self.streams[1 - side], self.reopen_seq, cx)   # it has delivered nothing yet
            self.reopening = 0
            return False
        if self.reopen_inside:
            return False
        if side == self.reopening - 1:
            return segment.length > 0 and segment.seq == self.reopen_seq and not self.streams[1 - side].seen
        return segment.flags & ACK and not segment.flags & RST and segment.ack - self.reopen_seq <= <uint32_t>ANSWERED

    cdef int record_stray(self, const Segment* segment, int side, Context cx) except -1:
        """Record a segment with numbers that cannot be this connection's; check whether it answers such a one of the other side.

        The connection keeps the last few, because they are the first segments of a new connection if one has begun.
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
        """Drop the refused segments that were kept: they belong to no connection."""
        cdef Early early
        if self.early is not None:
            for early in self.early:
                cx.tally.pending -= len(early.data)
                cx.tally.out_of_window += len(early.data)
            self.early = None
        return 0

    cdef int inherit(self, Connection before, Context cx) except -1:
        """Follow another connection on its ports, and accept the segments that it refused."""
        cdef Early early
        cdef list kept = before.early
        before.early = None
        self.shed = before.next_shed
        if before.reopening:
            set_first_byte(&self.streams[before.reopening - 1], before.reopen_seq, cx)
        if kept is not None:
            for early in kept:
                cx.tally.pending -= len(early.data)
                cx.tally.payload -= len(early.data)     # accept() counts it again
                early.segment.payload = <const uint8_t*>early.data
                early.segment.fingerprint = 0
                cx.history.hold(early.data)
                self.accept(&early.segment, early.side, cx)
        return 0

    cdef bint accept_next(self, const Segment* segment, int side, Context cx) except -1:
        """Accept the usual segment: the next one of a steady connection. Return False for any other, which accept() takes.

        Its bytes are the next ones, if it has any, and it acknowledges bytes that were delivered, no fewer than before. So
        the result of every check in accept() is known.
        """
        cdef Stream* mine = &self.streams[side]
        cdef Stream* peer = &self.streams[1 - side]
        cdef Piece piece
        cdef int64_t acked
        if segment.flags & (SYN | FIN | RST | ACK | URG) != ACK or (segment.length and segment.seq != mine.next_seq):
            return False
        acked = offset_of(peer, segment.ack)
        if not peer.acked <= acked <= peer.next or <int32_t>(segment.ack - peer.first_seq) < 0 \
                or (segment.stamped and stale(mine, segment, peer)):
            return False
        self.last_ns = cx.now
        cx.tally.payload += segment.captured
        cx.tally.duplicate_frames += repeated(mine, segment.fingerprint)
        peer.acked = acked
        peer.window = max(peer.window, <uint32_t>segment.window << max(mine.scale, 0))
        if segment.length:
            deliver(mine, segment, &piece, cx)
            piece.peer_ack = acked
            self.pass_piece(side, &piece, cx)
        return True

    cdef bint is_steady(self) noexcept:
        """Return whether the next segment may be one for accept_next(). Only segments for accept() make it False."""
        cdef const Stream* low = &self.streams[LOW]
        cdef const Stream* high = &self.streams[HIGH]
        return (self.proven and not self.opening and self.ending == OPEN and low.seen and high.seen
                and low.anchored and high.anchored and not low.held_count and not high.held_count
                and not low.fin_seen and not high.fin_seen and not low.finished and not high.finished
                and self.reset.since == 0 and self.reset.early == 0 and self.early is None)

    cdef int accept(self, const Segment* segment, int side, Context cx) except -1:
        """Accept one segment of a side, from its header to the last piece that it releases."""
        cdef Stream* mine = &self.streams[side]
        cdef Stream* peer = &self.streams[1 - side]
        cdef Application application
        cdef Piece piece
        cdef int said
        cdef uint64_t repeats
        cdef bint refused = False
        self.steady = False
        self.last_ns = cx.now
        if segment.ts_ns < self.begun_ns and self.application is None:     # from its application on, events may name it
            self.begun_ns = segment.ts_ns
            self.begun = (BEGUN_HIGH if side == HIGH else 0) | (BEGUN_BY_SYN if segment.flags & (SYN | ACK) == SYN else 0)
        cx.tally.payload += segment.captured
        cx.tally.duplicate_frames += repeated(mine, segment.fingerprint)
        if not mine.seen:
            mine.seen = mine.anchored or not peer.scaled or self.proven or takes_part(peer, segment)
        if segment.flags & SYN:
            if not self.begin_streams(segment, side, cx):
                cx.tally.ignored += segment.captured
                return 0
        elif not mine.anchored:
            note_sequence(mine, segment.seq)
        if segment.stamped and stale(mine, segment, peer):
            refused = True
        if segment.flags & ACK:
            if not peer.anchored:
                note_sequence(peer, segment.ack)
            elif not acceptable(peer, segment.ack, mine):
                refused = True
            if not refused:
                acknowledge(peer, segment.ack, mine, cx)
                if peer.fin_seen:
                    acknowledge_fin(peer, segment.ack)
                if not segment.flags & SYN and mine.scale > 0:
                    peer.window = max(peer.window, <uint32_t>segment.window << mine.scale)
                else:
                    peer.window = max(peer.window, <uint32_t>segment.window)
        if not self.proven and not refused:
            self.establish(segment, side)
        if segment.length and (segment.flags & (ACK | SYN) == 0 or segment.flags & RST or (
                segment.flags & SYN and <uint32_t>(segment.seq + 1) != mine.first_seq)):
            cx.tally.ignored += segment.captured        # as every host does; in a RST it is a diagnostic text
        elif segment.length:
            repeats = cx.tally.duplicate
            said = take_segment(mine, segment, refused, peer, &piece, cx)
            if cx.tally.duplicate != repeats:
                self.count_repeated(side, cx.tally.duplicate - repeats, cx)
            if said == 1:
                self.deliver_piece(side, &piece, cx)
            elif said == 2:
                application = self.application
                if application is not None:
                    application.on_conflict(side, piece.marked_from, piece.marked_to, CONFLICT, cx)
            elif said == 3:
                self.record_stray(segment, side, cx)
        if segment.flags & (FIN | RST | URG):
            cx.tally.urgent += segment.flags & URG != 0
            if segment.flags & RST:
                take_reset(&self.reset, segment, side, mine, peer, self.proven, cx)
            elif segment.flags & FIN and segment.flags & ACK:
                end(mine, segment, refused, peer, cx)
        if self.reset.since and not refused and undoes(&self.reset, segment, side, mine, peer, cx):
            self.reset.since = 0
            cx.tally.resets_ignored += 1
        elif self.reset.early == side + 1 and mine.edge >= offset_of(mine, self.reset.seq):
            accept_reset(&self.reset, side, peer, cx)
        if mine.held_count or peer.held_count or mine.fin_seen or peer.fin_seen:
            self.deliver_held(cx)
        self.steady = self.is_steady()
        return 0

    cdef bint begin_streams(self, const Segment* segment, int side, Context cx) except -1:
        """Start a SYN's stream, and for a SYN-ACK the other one. Return False if it answers a SYN that was not sent."""
        cdef Stream* mine = &self.streams[side]
        cdef Stream* peer = &self.streams[1 - side]
        if segment.flags & ACK and not mine.anchored and peer.scaled and not answers(peer, segment.ack):
            return False
        set_first_byte(mine, <uint32_t>(segment.seq + 1), cx)
        if not segment.flags & ACK:
            self.opener = <uint8_t>(side + 1)
        if not mine.scaled:
            mine.scaled = True
            mine.scale = segment.scale
            mine.stamped = mine.stamp_known = segment.stamped
            mine.stamp = segment.stamp
            if peer.scaled and (mine.scale == NO_SCALE or peer.scale == NO_SCALE):
                mine.scale = peer.scale = 0         # RFC 7323 section 2.2: both or none
        if segment.flags & ACK:
            set_first_byte(peer, segment.ack, cx)
            acknowledge(peer, segment.ack, mine, cx)
            refuse_early(peer, cx)
        return True

    cdef int establish(self, const Segment* segment, int side) except -1:
        """Prove a half-open connection by a plausible acknowledgement of the other side, or by a side's consecutive data."""
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

    cdef int begin(self) except -1:
        """Attach the first application: the first bytes, or a gap, are here."""
        return self.become(self.applications.first())

    cdef int deliver_piece(self, int side, Piece* piece, Context cx) except -1:
        """Deliver one piece to the application."""
        piece.peer_ack = -1
        if piece.has_ack and self.streams[1 - side].known:
            piece.peer_ack = offset_of(&self.streams[1 - side], piece.ack)
        return self.pass_piece(side, piece, cx)

    cdef int pass_piece(self, int side, const Piece* piece, Context cx) except -1:
        """Deliver one piece whose peer_ack is set."""
        cdef Application application                # a reference of its own: the call may replace self.application
        if self.application is None:
            self.begin()
        application = self.application
        if piece.peer_ack > self.heard[side]:
            self.turn[side] = piece.offset
        application.on_data(side, piece, cx)
        if piece.peer_ack > self.heard[side]:
            self.heard[side] = piece.peer_ack
        if piece.missing:
            self.report_gap(side, piece.missing, cx)
        return 0

    cdef int report_gap(self, int side, int64_t count, Context cx) except -1:
        """Report a gap to the application."""
        cdef Application application
        if cx.limits.flows:
            past_of(&self.past).missing[side] += count
        if self.application is None:
            self.begin()
        application = self.application
        return application.on_gap(side, count, cx)

    cdef int count_repeated(self, int side, uint64_t count, Context cx) except -1:
        """Count bytes of a side that came again."""
        if cx.limits.flows:
            past_of(&self.past).repeated[side] += count
        return 0

    cdef int report_end(self, int side, bint by_fin, Context cx) except -1:
        """Report the end of a side to the application."""
        cdef Application application = self.application
        if application is not None:
            application.on_end(side, by_fin, cx)
        return 0

    cdef int deliver_held(self, Context cx) except -1:
        """Deliver every held piece that is next in order, in both directions, and end the streams that have reached their FIN."""
        cdef Stream* mine
        cdef Stream* peer
        cdef Piece piece
        cdef int side = LOW, idle = 0, full
        cdef uint64_t repeats
        while idle < 2:
            idle += 1
            mine = &self.streams[side]
            peer = &self.streams[1 - side]
            repeats = cx.tally.duplicate
            while pull(mine, peer, &piece, cx):
                if cx.tally.duplicate != repeats:
                    self.count_repeated(side, cx.tally.duplicate - repeats, cx)
                self.deliver_piece(side, &piece, cx)
                repeats = cx.tally.duplicate
                idle = 0
            if mine.fin_seen and not mine.finished and mine.anchored and mine.next > mine.fin_at:
                discard_fin(mine, cx)               # bytes behind it count
                idle = 0
            elif at_end(mine) and not mine.fin_sure:
                if mine.fin_since == 0:
                    mine.fin_since = max(cx.now, <uint64_t>1)
            elif at_end(mine):
                mine.finished = True
                mine.fin_since = 0
                mine.next += 1                      # FIN takes one sequence number
                mine.next_seq += 1
                drop_all(mine, &cx.tally.ignored, cx)   # the receiver ignores bytes behind the end
                self.report_end(side, True, cx)
                idle = 0
            side = 1 - side
            if idle == 2:                           # drop from a full buffer only when no other piece can be delivered
                for full in range(2):
                    if over_limit(&self.streams[full], cx):
                        self.give_up(full, cx)
                        idle = 0
                        break
        if self.streams[LOW].finished and self.streams[HIGH].finished and self.ending == OPEN:
            self.finish(BY_FIN, cx)
        return 0

    cdef int give_up(self, int side, Context cx) except -1:
        """End the wait of one direction; if it waits for the other, and that one for a hole, end the hole's wait.

        Otherwise responses would come before their requests, which stand behind that hole.
        """
        cdef int64_t gap
        if behind_hole(&self.streams[side], &self.streams[1 - side]):
            side = 1 - side
        gap = abandon(&self.streams[side], &self.streams[1 - side], cx)
        if gap:
            self.report_gap(side, gap, cx)
        return 0

    cdef bint waits(self) noexcept:
        """Return whether a wait of this connection has a timeout."""
        return self.ending == OPEN and (self.streams[LOW].held_count != 0 or self.streams[HIGH].held_count != 0
                                        or self.reset.since != 0 or self.early is not None
                                        or (self.application is not None and self.application.waits()))

    cdef int expire(self, Context cx) except -1:
        """End the waits that have lasted long enough."""
        cdef Application application
        cdef Stream* mine
        cdef Stream* peer
        cdef int side
        cdef uint64_t waited
        if self.ending != OPEN:
            return 0
        if self.early is not None and cx.now >= self.strayed_ns + UNCERTAIN * cx.limits.gap_timeout_ns:
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
                elif not waits_for_peer(mine) and not hole_is_lost(mine, peer):
                    if waited >= UNCERTAIN * cx.limits.gap_timeout_ns:
                        drop_all(mine, &cx.tally.unacknowledged, cx)    # its receiver never had the bytes before it
                    break
                self.give_up(side, cx)
                self.deliver_held(cx)
        if self.reset.since and cx.now >= self.reset.since + cx.limits.settle_ns and self.ending == OPEN:
            self.finish(BY_RST, cx)
        application = self.application
        if application is not None:
            application.on_time(cx)
        return 0

    cdef uint64_t next_timer(self, Context cx) noexcept:
        """Return the clock at which expire() or expire_ends() has something to do, if no frame comes before."""
        cdef uint64_t first = <uint64_t>-1
        if self.early is not None:
            first = self.strayed_ns + UNCERTAIN * cx.limits.gap_timeout_ns
        if self.reset.since:
            first = min(first, self.reset.since + cx.limits.settle_ns)
        first = min(first, next_timeout(&self.streams[LOW], &self.streams[HIGH], cx))
        return min(first, next_timeout(&self.streams[HIGH], &self.streams[LOW], cx))

    cdef bint ends(self) noexcept:
        """Return whether a FIN waits for its acknowledgement."""
        return self.ending == OPEN and (self.streams[LOW].fin_since != 0 or self.streams[HIGH].fin_since != 0)

    cdef bint closed(self) noexcept:
        """Return whether both sides are at their FIN, and one of the two is acknowledged."""
        cdef const Stream* low = &self.streams[LOW]
        cdef const Stream* high = &self.streams[HIGH]
        return (low.finished and ends_well(high)) or (high.finished and ends_well(low))

    cdef int expire_ends(self, Context cx) except -1:
        """End the waits for acknowledgements of FINs that have lasted long enough.

        A FIN is no end if neither the application nor the other side's FIN awaits it. So it cannot split a connection in two
        if its sender continues.
        """
        cdef Stream* mine
        cdef Stream* peer
        cdef int side
        cdef uint64_t longest
        for side in range(2):
            mine = &self.streams[side]
            peer = &self.streams[1 - side]
            longest = UNCERTAIN * cx.limits.gap_timeout_ns if peer.seen else cx.limits.settle_ns
            if mine.fin_since and cx.now - min(mine.fin_since, cx.now) >= longest:
                mine.fin_since = 0
                if peer.finished or (self.application is not None and self.application.awaits_end(side)):
                    self.accept_end(side, cx)
        return 0

    cdef int accept_end(self, int side, Context cx) except -1:
        """Accept the FIN of this side without an acknowledgement, unless a segment contradicts it."""
        cdef Stream* mine = &self.streams[side]
        if ends_well(mine):
            mine.fin_sure = GRANTED
        elif not mine.held_count:
            discard_fin(mine, cx)
        self.deliver_held(cx)
        return 0

    cdef int finish(self, Ending ending, Context cx) except -1:
        """Close the connection: deliver held bytes with their gaps, then end both sides."""
        cdef Application application
        cdef Stream* low = &self.streams[LOW]
        cdef Stream* high = &self.streams[HIGH]
        cdef int side
        if self.ending != OPEN:
            return 0
        self.ending = ending
        self.forget_early(cx)
        cx.tally.resets_ignored += self.reset.early != 0
        if ending == BY_EVICTION or ending == BY_HALF_OPEN:
            drop_all(low, &cx.tally.evicted, cx)
            drop_all(high, &cx.tally.evicted, cx)
        elif ending == BY_REUSE and not self.proven:
            refuse_early(low, cx)           # its sender went on with another SYN
            refuse_early(high, cx)
        while low.held_count or high.held_count:
            for side in range(2):
                if self.streams[side].held_count:
                    self.give_up(side, cx)
                    self.deliver_held(cx)
        for side in range(2):
            if ends_well(&self.streams[side]):
                self.streams[side].finished = True
                self.report_end(side, True, cx)
            else:
                self.report_end(side, False, cx)
            self.streams[side].fin_since = 0
        application = self.application
        if application is not None:
            application.on_close(cx)
        self.spoke_at_end = self.spoken
        self.applications.closed(self, cx)
        self.application = None
        cx.tally.one_sided += low.seen != high.seen and self.proven
        if ended_by_fin(self):
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
