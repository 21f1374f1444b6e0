# cython: language_level=3
"""Connection: what happens to one segment. Sans-IO: time is the table's clock, made of frame time stamps.

accept() is the whole life of a segment: anchor the streams on SYN, offer the payload, hand the pieces whose turn has come to
the direction's MessageReader, and what the readers say to the Pairer. The side whose reader first finds an HTTP head decides
the roles: the client is who sends requests, whatever the ports are.
"""
cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

from workers.http1 cimport END, HEAD, LOST, NEED_MORE, TUNNEL, Input, MessageReader, Step
from workers.limits cimport Limits
from workers.message cimport BAD_CHUNK, Message
from workers.segment cimport ACK, FIN, RST, SYN, Segment
from workers.stream cimport Piece, Stream
from workers.tally cimport Tally
from workers.transaction cimport Flow, Pairer, Transaction

cdef enum:
    RESET_WINDOW = 1 << 20      # a RST further ahead than this is not believed


@cython.final
cdef class Half:
    pass


cdef Half new_half():
    cdef Half half = Half.__new__(Half)
    half.stream = Stream.__new__(Stream)
    half.reader = MessageReader.__new__(MessageReader)
    return half


cdef bint behind_hole(Stream stream, Stream peer) noexcept:
    """Does this direction wait for bytes of the other that themselves wait behind a hole?"""
    return stream.waits_for_peer() and peer.held is not None and not peer.waits_for_peer()


@cython.final
cdef class Connection:
    cdef int open(self, Flow flow, uint64_t hash) except -1:
        self.flow = flow
        self.hash = hash
        self.low = new_half()
        self.high = new_half()
        return 0

    cdef bint replaced_by(self, const Segment* segment, bint from_low) except -1:
        """Does this segment show that the endpoints have begun a new connection with the same ports?

        A SYN alone may be forged or late, so it only announces; the other side's SYN with the right acknowledgement, or
        the first data behind the SYN, confirms. After a proper end the SYN is enough.
        """
        cdef Half mine = self.low if from_low else self.high
        cdef uint32_t first
        if segment.flags & SYN and not segment.flags & ACK:
            first = <uint32_t>(segment.seq + 1)
            if mine.stream.anchored and first == self.first_seq(mine):
                return False            # the same SYN again
            if self.ending != OPEN:
                return True
            if mine.stream.anchored:
                self.reopening = mine
                self.reopen_seq = first
            return False
        if self.reopening is None:
            return False
        if mine is self.reopening:
            return segment.length > 0 and segment.seq == self.reopen_seq
        return segment.flags & SYN and segment.flags & ACK and segment.ack == self.reopen_seq

    cdef uint32_t first_seq(self, Half half):
        return half.stream.next_seq - <uint32_t>(half.stream.next - half.stream.origin)

    cdef int accept(self, const Segment* segment, bint from_low, uint64_t now, Limits limits, Tally tally,
                    list out) except -1:
        cdef Half mine = self.low if from_low else self.high
        cdef Half peer = self.high if from_low else self.low
        cdef Stream stream = mine.stream
        cdef Piece piece
        cdef int64_t offset
        self.last_ns = now
        if segment.length:
            tally.payload += segment.captured
        stream.seen = True
        if segment.flags & SYN:
            stream.anchor(<uint32_t>(segment.seq + 1), tally)
            if segment.flags & ACK:
                peer.stream.anchor(segment.ack, tally)
        elif not stream.anchored:
            stream.touch(segment.seq)
        if segment.flags & ACK and not peer.stream.anchored:
            peer.stream.touch(segment.ack)
        if segment.length:
            if stream.offer(segment, peer.stream, now, &piece, tally):
                self.read(mine, peer, &piece, limits, tally, out)
        if segment.flags & FIN:
            stream.end(segment, now, tally)
        if segment.flags & RST and not self.reset_ns:
            offset = stream.offset_of(segment.seq) - stream.next
            if not stream.anchored or 0 <= offset < RESET_WINDOW:
                self.reset_ns = now     # frames sent before it may still be on their way: expire() ends the connection
        if mine.stream.held is not None or peer.stream.held is not None or stream.fin_seen or peer.stream.fin_seen:
            self.drain(now, limits, tally, out)
        return 0

    cdef int drain(self, uint64_t now, Limits limits, Tally tally, list out) except -1:
        """Hands on every piece whose turn has come, in both directions, and ends the streams that have reached their FIN."""
        cdef Half mine = self.low, peer = self.high
        cdef Piece piece
        cdef int idle = 0
        while idle < 2:
            idle += 1
            while mine.stream.pull(peer.stream, now, &piece, tally):
                self.read(mine, peer, &piece, limits, tally, out)
                idle = 0
            if mine.stream.over_limit(limits, tally):
                self.give_up(mine, peer, now, limits, tally, out)
                idle = 0
                continue
            if mine.stream.fin_seen and not mine.stream.finished and mine.stream.anchored \
                    and mine.stream.next >= mine.stream.fin_at:
                mine.stream.finished = True
                mine.stream.next += 1                   # FIN takes one sequence number
                mine.stream.next_seq += 1
                self.close(mine, True, limits, tally, out)
                idle = 0
            mine, peer = peer, mine
        if self.low.stream.finished and self.high.stream.finished and self.ending == OPEN:
            self.finish(BY_FIN, now, limits, tally, out)
        return 0

    cdef int read(self, Half mine, Half peer, const Piece* piece, Limits limits, Tally tally, list out) except -1:
        """One piece of in-order bytes to its direction's reader."""
        cdef Input source
        cdef Step step
        source.p = piece.data
        source.end = piece.data + piece.length
        source.offset = piece.offset
        source.ts_ns = piece.ts_ns
        source.peer_ack = peer.stream.offset_of(piece.ack) if piece.has_ack and peer.stream.known else -1
        while True:
            step = mine.reader.step(&source, limits, tally)
            if step == NEED_MORE:
                break
            self.say(mine, step, limits, tally, out)
        if piece.missing:
            self.gap(mine, piece.missing, limits, tally, out)
        return 0

    cdef int say(self, Half mine, Step step, Limits limits, Tally tally, list out) except -1:
        if step == HEAD:
            self.head(mine, limits, tally, out)
        elif step == END:
            self.end(mine, tally, out)
        return 0

    cdef int head(self, Half mine, Limits limits, Tally tally, list out) except -1:
        """A head was read: decide the roles, pair it, and tell the reader how its body is framed."""
        cdef MessageReader reader = mine.reader
        cdef Message message = reader.message
        cdef Transaction transaction
        cdef Message request = None
        cdef bint after_loss = reader.lost_bytes, tunnel = False, no_body = False
        if message.is_request and mine.stream.midstream and not mine.begun:
            after_loss = True                       # requests sent before the capture began may not be answered yet
        mine.begun = True
        reader.lost_bytes = False
        if self.client is None:
            self.client = mine if message.is_request else (self.high if mine is self.low else self.low)
            self.flow.client_low = self.client is self.low
            self.flow.midstream = self.low.stream.midstream or self.high.stream.midstream
            self.pairer = Pairer(self.flow)
        if message.is_request != (mine is self.client):
            tally.failed += 1                       # both sides ask, or both answer: this is not HTTP
            reader.message = None
            reader.lose(tally)
            return 0
        if message.is_request:
            self.pairer.request_head(message, after_loss, limits, tally, out)
            reader.frame(False, False)
            return 0
        transaction = self.pairer.response_head(message, after_loss, tally, out)
        if transaction is not None:
            request = transaction.request
        if request is not None:
            no_body = request.method_number == 1    # HEAD
            tunnel = request.method_number == 5 and 200 <= message.status < 300     # CONNECT
        reader.frame(no_body, tunnel)
        if (message.status >= 200 or message.status == 101) and request is not None and request.complete \
                and message.first_ns >= request.last_ns:
            tally.response_time(message.first_ns - request.last_ns)
        return 0

    cdef int end(self, Half mine, Tally tally, list out) except -1:
        """The message being read is over."""
        cdef Message message = mine.reader.message
        cdef Transaction transaction = self.pairer.answering
        if message.complete:
            tally.complete += 1
        elif message.anomalies & BAD_CHUNK:
            tally.failed += 1
        else:
            tally.truncated += 1
        mine.reader.message = None
        if mine is self.client:
            self.pairer.request_end(tally, out)
            return 0
        if message.status == 101 or (transaction is not None and transaction.request is not None
                                     and transaction.request.method_number == 5 and 200 <= message.status < 300):
            tally.tunnels += 1
            self.low.reader.state = self.high.reader.state = TUNNEL
        self.pairer.response_end(tally, out)
        return 0

    cdef int gap(self, Half mine, uint64_t count, Limits limits, Tally tally, list out) except -1:
        cdef Step step
        cdef Input nothing
        if count == 0:
            return 0
        step = mine.reader.gap(count, tally)
        nothing.p = nothing.end = NULL
        nothing.offset = nothing.peer_ack = 0
        nothing.ts_ns = 0
        if step != NEED_MORE:
            self.say(mine, step, limits, tally, out)
        step = mine.reader.step(&nothing, limits, tally)        # a message that the gap ended says so now
        self.say(mine, step, limits, tally, out)
        return 0

    cdef int close(self, Half mine, bint by_fin, Limits limits, Tally tally, list out) except -1:
        cdef Step step = mine.reader.close(by_fin, tally)
        while step != NEED_MORE:
            self.say(mine, step, limits, tally, out)
            step = mine.reader.close(by_fin, tally)
        return 0

    cdef int give_up(self, Half mine, Half peer, uint64_t now, Limits limits, Tally tally, list out) except -1:
        """Ends the wait of one direction; if it waits for the other, and that one for a hole, the hole's.

        Otherwise responses would be read while the requests they answer stand behind that hole.
        """
        if behind_hole(mine.stream, peer.stream):
            mine, peer = peer, mine
        return self.gap(mine, mine.stream.give_up(peer.stream, now, tally), limits, tally, out)

    cdef bint waits(self) noexcept:
        """Does something in this connection wait for time to pass?"""
        return self.ending == OPEN and (self.low.stream.held is not None or self.high.stream.held is not None
                                        or self.reset_ns != 0)

    cdef int expire(self, uint64_t now, Limits limits, Tally tally, list out) except -1:
        """Ends the waits that have lasted long enough."""
        cdef Half mine = self.low, peer = self.high
        cdef Stream stream
        cdef uint64_t patience
        if self.ending != OPEN:
            return 0
        for _ in range(2):
            stream = mine.stream
            while stream.held is not None and not behind_hole(stream, peer.stream):
                patience = limits.gap_timeout_ns
                if not stream.anchored or (not peer.stream.seen and stream.waits_for_peer()):
                    patience = limits.settle_ns
                if now - stream.held_since < patience:
                    break
                self.give_up(mine, peer, now, limits, tally, out)
                self.drain(now, limits, tally, out)
            mine, peer = peer, mine
        if self.reset_ns and now - self.reset_ns >= limits.settle_ns and self.ending == OPEN:
            self.finish(BY_RST, now, limits, tally, out)
        return 0

    cdef int finish(self, Ending ending, uint64_t now, Limits limits, Tally tally, list out) except -1:
        """The connection is over: held bytes go through with their gaps, open messages leave as they are."""
        cdef Half mine = self.low, peer = self.high
        if self.ending != OPEN:
            return 0
        self.ending = ending
        if ending == BY_EVICTION:
            mine.stream.drop_all(tally)
            peer.stream.drop_all(tally)
        while mine.stream.held is not None or peer.stream.held is not None:
            for _ in range(2):
                if mine.stream.held is not None:
                    self.give_up(mine, peer, now, limits, tally, out)
                    self.drain(now, limits, tally, out)
                mine, peer = peer, mine
        self.close(self.low, False, limits, tally, out)
        self.close(self.high, False, limits, tally, out)
        if self.pairer is not None:
            self.pairer.finish(tally, out)
            self.pairer = None
        self.low.reader.partial = self.high.reader.partial = None
        self.low.reader.state = self.high.reader.state = LOST
        if ending == BY_FIN:
            tally.ended_fin += 1
        elif ending == BY_RST:
            tally.ended_rst += 1
        elif ending == BY_TIMEOUT:
            tally.ended_timeout += 1
        elif ending == BY_EVICTION:
            tally.ended_evicted += 1
        elif ending == BY_REUSE:
            tally.ended_reused += 1
        else:
            tally.ended_shutdown += 1
        return 0
