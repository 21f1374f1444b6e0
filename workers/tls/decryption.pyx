# cython: language_level=3
"""Decryption: the bytes of a TLS connection to plaintext, with the secrets of a key log.

    bytes, gaps -> Direction (records) -> plaintext -> InnerTransport -> the application of its first bytes

Bytes whose keys are not there yet are held, of both sides in their order, up to limits of bytes and time. Plaintext has passed
its tag. A lost record becomes a gap of its exact length; where that length is not known, the plaintext ends.
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from workers.core.context cimport Context
from workers.detect.detector cimport Protocol, Protocols
from workers.tcp.application cimport Transport
from workers.tcp.stream cimport Piece
from workers.tls.direction cimport (
    ADRIFT, AT_BODY, AT_HEADER, BLOCKS, EARLY_PHASE, HANDSHAKE_PHASE, MIXED, TRAFFIC_PHASE, Direction,
)
from workers.tls.handshake cimport Handshake
from workers.tls.inner_transport cimport inner_transport
from workers.tls.message cimport CERTIFICATE, ENCRYPTED_EXTENSIONS, FINISHED
from workers.tls.session cimport READY, WRONG, Session, Supply
from workers.tls.record cimport ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, is_record_header

from workers.tls.encrypted_messages import extensions_of, leaf_of
from workers.tls.key_schedule import Unsupported, next_secret, suite_of, traffic_keys

cdef enum:
    HEADER_SIZE = 5
    TLS_1_3 = 0x0304
    ALPN = 16
    EARLY_DATA = 42
    END_OF_EARLY_DATA = 5
    KEY_UPDATE = 24
    CLOSE_NOTIFY = 0
    ITEM_BYTES = 160            # of memory for a held piece beside its bytes
    MOST_FAILED = 16            # records in a row that do not open


@cython.final
cdef class Decryption:
    def __init__(self, Transport transport not None, owner, Handshake handshake not None, Context context not None):
        self.transport = <PyObject*>transport
        self.owner = owner
        self.handshake = handshake
        self.context = context
        self.cx = handshake.cx
        self.low = Direction.__new__(Direction)
        self.high = Direction.__new__(Direction)
        self.later = NO_KEY_BYTES
        self.session = Session(handshake)
        for side in range(2):
            self.direction(side).at = transport.streams[side].next

    cdef Direction direction(self, int side):
        return self.low if side == 0 else self.high

    cdef bint settled(self) noexcept:
        """Return whether what becomes of the handshake's event is known."""
        cdef int server = 1 - self.handshake.client
        if self.over or self.outcome != KEY:
            return self.over
        return not self.session.modern or (self.low if server == 0 else self.high).phase == TRAFFIC_PHASE

    cdef int data(self, int side, const Piece* piece) except -1:
        """Take the next bytes of a side, which the handshake has read before."""
        cdef uint32_t used
        cdef Direction one = self.direction(side)
        self.cx.seen_bytes += piece.length
        if self.over:
            self.cx.fates[self.later] += piece.length
            return 0
        if self.held is not None:
            self.hold(side, piece.data, piece.length, piece.ts_ns, piece.peer_ack, 0)
            # What is held is read again only for what can change its fate: pieces may be of one byte each.
            if (self.session.awaits_answer and side != self.handshake.client) or (
                    self.handshake.final_hello and self.handshake.hellos[0].seen and not self.session.has_hellos):
                self.drain()
            return 0
        if one.got == 0 and one.framing == AT_HEADER:
            one.at = piece.offset
        used = self.run(side, piece.data, piece.length, piece.ts_ns, piece.peer_ack)
        if used < piece.length and not self.over:
            self.hold(side, piece.data + used, piece.length - used, piece.ts_ns, piece.peer_ack, 0)
            if self.session.awaits_answer:
                self.drain()
        return 0

    cdef int gap(self, int side, int64_t count) except -1:
        """Take the news that `count` bytes of a side are missing."""
        if self.over:
            return 0
        if self.held is not None:
            self.hold(side, NULL, 0, 0, -1, count)
            return 0
        return self.pass_gap(side, count)

    cdef int end(self, int side) except -1:
        """End a side."""
        if self.over:
            return 0
        if self.held is not None:
            return self.hold(side, NULL, 0, 0, -1, 0)
        return self.end_side(side)

    cdef int end_side(self, int side) except -1:
        """End the plaintext of a side, unless records of its end were lost: then its end is not known."""
        cdef Direction one = self.direction(side)
        if self.inner is None or one.got or one.lost_from >= 0:
            return 0
        return self.inner.finish_side(side, self.context)

    cdef int close(self) except -1:
        """End both sides: what was held has no key."""
        if self.over:
            return 0
        self.over = True
        for side in range(2):
            one = self.direction(side)
            self.cx.fates[INCOMPLETE_BYTES] += (<Direction>one).got
            (<Direction>one).got = 0
        if self.outcome == UNDECIDED:
            self.outcome = NO_KEY
        return self.let_go()

    cdef bint lacks_keys(self) noexcept:
        """Return whether bytes wait for secrets that may still come."""
        return not self.over and self.held is not None and self.session.has_hellos

    cdef int on_time(self) except -1:
        """Give up on keys that do not come."""
        if self.inner is not None and self.inner.unsettled:
            self.inner.application.on_time(self.context)
        if not self.over and self.held is not None and self.context.now > self.held_since + self.cx.key_wait_ns:
            return self.give_up(NO_KEY, NO_KEY_BYTES)
        return 0

    cdef bint waits(self) noexcept:
        """Return whether anything has a timeout."""
        if self.over:
            return False
        return self.held is not None or (
            self.inner is not None and self.inner.unsettled and self.inner.application.waits())

    cdef bint awaits_end(self, int side) noexcept:
        return not self.over and self.inner is not None and self.inner.application.awaits_end(side)

    cdef int look_again(self) except -1:
        """Read on, because a new secret is there."""
        return self.drain() if not self.over and self.held is not None else 0

    cdef int hold(self, int side, const uint8_t* p, uint32_t size, uint64_t ts_ns, int64_t ack, int64_t missing) except -1:
        """Keep a piece, a gap or an end until keys come."""
        cdef uint64_t more = size + ITEM_BYTES
        if self.held is None:
            self.held = []
            self.held_since = self.context.now
            (<Transport>self.transport).unsettled = True
        if self.held_bytes + more > self.cx.max_pending_bytes or self.cx.held_bytes + more > self.cx.max_total_pending_bytes:
            self.cx.fates[NO_KEY_BYTES] += size
            self.cx.pending_over_limit += 1
            return self.give_up(NO_KEY, NO_KEY_BYTES)
        self.held_bytes += more
        self.cx.held_bytes += more
        self.held.append((side, PyBytes_FromStringAndSize(<const char*>p, size) if size else None, ts_ns, ack, missing))
        return 0

    cdef int drain(self) except -1:
        """Read what is held until a key is missing. Early data alone wait while the other side goes on."""
        cdef list items, rest, later
        cdef bytes piece
        cdef uint32_t used, size
        cdef int side
        cdef bint stopped, stuck, waited
        while self.held is not None and not self.over:
            items, self.held = self.held, []
            rest = []
            stopped = stuck = False
            for i in range(len(items)):
                item = items[i]
                side = item[0]
                if stopped or (stuck and side == self.handshake.client):
                    rest.append(item)
                    continue
                piece = item[1]
                waited = self.session.awaits_answer
                if piece is None:
                    self.held_bytes -= ITEM_BYTES
                    self.cx.held_bytes -= ITEM_BYTES
                    if item[4]:
                        self.pass_gap(side, item[4])
                    else:
                        self.end_side(side)
                else:
                    size = <uint32_t>PyBytes_GET_SIZE(piece)
                    used = self.run(side, <const uint8_t*>PyBytes_AS_STRING(piece), size, item[2], item[3])
                    if self.over:
                        for later in (rest, items[i + 1:]):     # let_go() has not seen them
                            for item in later:
                                self.cx.fates[self.later] += <uint64_t>len(item[1] or b"")
                        return 0
                    self.held_bytes -= used
                    self.cx.held_bytes -= used
                    if used < size:
                        rest.append((side, piece[used:], item[2], item[3], 0))
                        stuck = self.session.awaits_answer and side == self.handshake.client
                        stopped = not stuck
                    else:
                        self.held_bytes -= ITEM_BYTES
                        self.cx.held_bytes -= ITEM_BYTES
                if stuck and waited and not self.session.awaits_answer:
                    stopped = True              # the answer came: the early data are next
            waited = stuck and not self.session.awaits_answer
            self.held = rest or None
            if not waited:
                return 0
        return 0

    cdef int pass_gap(self, int side, int64_t count) except -1:
        cdef Direction one = self.direction(side)
        cdef bint inside = one.framing == AT_BODY and count <= one.length - one.have
        if not inside and one.got:
            self.cx.fates[INCOMPLETE_BYTES] += one.got
            one.got = 0
        if not inside and self.handshake.final_hello:
            one.changed = True              # where the ChangeCipherSpec was lost, everything may be encrypted
        one.skip(count)
        if inside and one.have == one.length:
            return self.record(side, one, 0)
        return 0

    cdef bint hides(self, int side, Direction one) noexcept:
        """Return whether the record with this header is encrypted."""
        if self.handshake.final_hello and self.handshake.version == TLS_1_3:
            return one.header[0] == APPLICATION_DATA
        return one.header[0] == APPLICATION_DATA or (one.changed and one.header[0] != CHANGE_CIPHER_SPEC)

    cdef uint32_t run(self, int side, const uint8_t* p, uint32_t size, uint64_t ts_ns, int64_t ack) except? 4294967295:
        """Read records; return the number of bytes read. What is left waits for keys."""
        cdef Direction one = self.direction(side)
        cdef const uint8_t* start = p
        cdef const uint8_t* end = p + size
        cdef uint32_t count
        one.fresh = True
        while p < end and not self.over:
            if one.framing == ADRIFT:
                if not one.find(p, end - p):
                    self.cx.fates[INCOMPLETE_BYTES] += end - p
                    one.at += end - p
                    return size
                self.cx.decryption_resyncs += 1
            if one.framing == AT_HEADER:
                if one.header_size == 0:
                    one.record_at = one.at
                    one.ack = ack
                while one.header_size < HEADER_SIZE and p < end:
                    one.header[one.header_size] = p[0]
                    one.header_size += 1
                    one.got += 1
                    one.at += 1
                    p += 1
                if not is_record_header(one.header, one.header_size):
                    self.cx.fates[INCOMPLETE_BYTES] += one.got
                    one.got = 0
                    one.at = one.record_at + one.header_size
                    one.skip(0)
                    one.framing = ADRIFT
                    continue
                if one.header_size < HEADER_SIZE:
                    return size
                one.length = one.header[3] << 8 | one.header[4]
                one.have = 0
                one.torn = False
                one.body = None
                one.hidden = self.hides(side, one)
                one.framing = AT_BODY
            if one.hidden and one.cipher is None and not self.has_keys(side):
                if self.over:
                    break
                # The handshake may not have been read far enough when the header came.
                if not (self.handshake.final_hello and not self.hides(side, one)):
                    return <uint32_t>(p - start)
                one.hidden = False
            count = min(one.length - one.have, <uint32_t>(end - p))
            if one.hidden and not one.torn:
                if one.body is None:
                    if one.have == 0 and count == one.length:
                        one.body = PyBytes_FromStringAndSize(<const char*>p, count)
                    else:
                        one.body = PyBytes_FromStringAndSize(NULL, one.length)
                        memcpy(PyBytes_AS_STRING(one.body), p, count)
                else:
                    memcpy(PyBytes_AS_STRING(one.body) + one.have, p, count)
            one.have += count
            one.got += count
            one.at += count
            p += count
            if one.have == one.length:
                self.record(side, one, ts_ns)
        if self.over and p < end:
            self.cx.fates[self.later] += end - p
        return size

    cdef bint has_keys(self, int side) except -1:
        """Return whether the records of a side can be opened now."""
        cdef Supply supply
        try:
            supply = self.session.supply(side, self.low, self.high, self.owner)
        except Unsupported:
            self.give_up(UNSUPPORTED, UNSUPPORTED_BYTES)
            return False
        if supply == WRONG:
            self.give_up(NO_KEY, NO_KEY_BYTES)
        return supply == READY

    cdef int record(self, int side, Direction one, uint64_t ts_ns) except -1:
        """Handle a record whose bytes have all come, or are known to be missing."""
        cdef bytes plain = None
        cdef uint64_t got = one.got
        one.got = 0
        one.framing = AT_HEADER
        one.header_size = 0
        if not one.hidden:
            self.cx.fates[CLEAR_BYTES] += got
            if one.header[0] == CHANGE_CIPHER_SPEC:
                one.changed = True
            return 0
        if one.cipher is None:                  # torn ahead of its keys
            self.cx.fates[INCOMPLETE_BYTES] += got
            one.lose_record()
            return 0
        if one.torn:
            self.cx.fates[INCOMPLETE_BYTES] += got
            if self.session.modern or one.header[0] == APPLICATION_DATA:
                one.lose_record()
            else:
                one.sequence += 1
            if self.session.modern and one.phase != TRAFFIC_PHASE:
                one.broken = True
            if one.kind == BLOCKS:
                one.cipher.lose()
            return 0
        plain = self.open(side, one)
        one.body = None
        if plain is None:
            self.cx.fates[UNVERIFIED_BYTES] += got
            self.cx.unverified_records += 1
            if self.session.modern and side == self.handshake.client and one.sequence == 0 and self.handshake.early_data:
                return 0                        # early data that the server refused
            if one.lost_from < 0 or one.counted:
                one.lose_record()
            if one.kind == BLOCKS:
                one.cipher.lose()
            one.failed += 1
            if one.failed >= MOST_FAILED:
                return self.give_up(KEY, ABANDONED_BYTES) if self.outcome == KEY else self.give_up(NO_KEY, NO_KEY_BYTES)
            return 0
        self.cx.fates[OPENED_BYTES] += got
        self.cx.opened_records += 1
        one.failed = 0
        if self.outcome == UNDECIDED:
            self.outcome = KEY
        return self.opened(side, one, plain, ts_ns)

    cdef bytes open(self, int side, Direction one):
        """Return the plaintext of the current record; None: nothing opens it."""
        cdef bytes plain = one.open()
        if plain is None and self.session.modern and (one.lost_from >= 0 or one.broken or one.phase == EARLY_PHASE):
            plain = self.session.open_otherwise(side, one)
            if one.astray:
                self.give_up(KEY, ABANDONED_BYTES)
        return plain

    cdef int opened(self, int side, Direction one, bytes plain, uint64_t ts_ns) except -1:
        """Read the content of a record that verified."""
        cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(plain)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(plain)
        cdef int kind = one.header[0]
        cdef int64_t lost = 0
        if self.session.modern:
            if size and p[size - 1] == 0:
                one.padded = True
                while size and p[size - 1] == 0:
                    size -= 1
            if size == 0:
                return 0
            size -= 1
            kind = p[size]
        if one.lost_from >= 0:
            if not self.session.modern or one.phase == TRAFFIC_PHASE:
                lost = one.lost_plain()
                if lost < 0:
                    return self.give_up(KEY, ABANDONED_BYTES)
            else:
                one.broken = True
                one.message = None
            one.lost_from = -1
            if lost:
                self.enter_traffic(side, one)
                self.cx.lost_plaintext_bytes += lost
                self.inner.lose(side, lost, self.context)
        if kind == APPLICATION_DATA:
            return self.deliver(side, one, plain, size, ts_ns)
        if kind == HANDSHAKE:
            if self.session.modern:
                self.messages(side, one, plain, size, ts_ns)
        elif kind == ALERT:
            if size >= 2 and p[1] == CLOSE_NOTIFY and self.inner is not None:
                self.inner.finish_side(side, self.context)
        elif kind == CHANGE_CIPHER_SPEC and not self.session.modern:
            return self.give_up(KEY, UNSUPPORTED_BYTES)      # a renegotiation
        if self.inner is not None and not self.over:
            self.inner.note(side, one.at)
        return 0

    cdef int enter_traffic(self, int side, Direction one) except -1:
        """Make the transport of the plaintext, with its first bytes."""
        cdef Protocols protocols
        cdef Protocol protocol
        if self.inner is not None:
            return 0
        self.inner = inner_transport(<Transport>self.transport)
        if self.handshake.client >= 0:
            self.inner.opener = <uint8_t>(self.handshake.client + 1)
        protocols = <Protocols>self.inner.applications
        if self.handshake.protocol == b"h2":
            for protocol in protocols.known:
                if protocol.name == "http2" and protocol.open(self.inner):
                    return 0
        return self.inner.become(protocols.first())

    cdef int deliver(self, int side, Direction one, bytes plain, Py_ssize_t size, uint64_t ts_ns) except -1:
        self.enter_traffic(side, one)
        self.cx.plaintext_bytes += size
        self.inner.enter(side, <const unsigned char*>PyBytes_AS_STRING(plain), <uint32_t>size, ts_ns, one.ack, self.context)
        return self.inner.note(side, one.at)

    cdef int messages(self, int side, Direction one, bytes plain, Py_ssize_t size, uint64_t ts_ns) except -1:
        """Read the handshake messages of TLS 1.3 in a record."""
        cdef Py_ssize_t length
        if one.broken:
            return 0
        if one.message is None:
            one.message = bytearray()
        one.message += plain[:size]
        while one.message is not None and len(one.message) >= 4:
            length = 4 + (one.message[1] << 16 | one.message[2] << 8 | one.message[3])
            if length > <Py_ssize_t>self.cx.max_certificate_bytes * 4 + 65536:
                one.broken = True               # messages are read again from the next keys on
                one.message = None
                return 0
            if len(one.message) < length:
                return 0
            kind, body = one.message[0], bytes(one.message[4:length])
            del one.message[:length]
            self.message(side, one, kind, body, ts_ns)
        return 0

    cdef int message(self, int side, Direction one, int kind, bytes body, uint64_t ts_ns) except -1:
        cdef bint of_server = side != self.handshake.client
        if kind == ENCRYPTED_EXTENSIONS and of_server:
            for code, value in extensions_of(body):
                if code == ALPN and len(value) > 3 and self.handshake.protocol is None:
                    self.handshake.protocol = value[3:]
                elif code == EARLY_DATA:
                    self.session.early = True
            self.session.answered = True
            self.session.awaits_answer = False
        elif kind == CERTIFICATE and of_server and self.cx.certificates is not None and self.handshake.certificate is None:
            leaf = leaf_of(body)
            if leaf and len(leaf) <= self.cx.max_certificate_bytes:
                self.handshake.certificate = self.cx.certificate(
                    <const uint8_t*>PyBytes_AS_STRING(leaf), <uint32_t>len(leaf), ts_ns)
        elif kind == FINISHED and one.phase != TRAFFIC_PHASE:
            one.phase = TRAFFIC_PHASE
            one.cipher = None
            one.message = None
        elif kind == END_OF_EARLY_DATA and one.phase == EARLY_PHASE:
            one.phase = HANDSHAKE_PHASE
            one.cipher = None
            one.message = None
        elif kind == KEY_UPDATE and one.phase == TRAFFIC_PHASE and one.secret is not None:
            suite = suite_of(self.handshake.cipher)
            secret = next_secret(bytes(one.secret), suite.digest)
            one.secret[:] = secret
            cipher, iv = traffic_keys(suite, secret)
            one.use(cipher, iv, MIXED, one.overhead)
            self.cx.key_updates += 1
        return 0

    cdef int give_up(self, Outcome outcome, int fate) except -1:
        """Read no more of this connection; the bytes that were held and those that come have this fate."""
        if self.over:
            return 0
        self.over = True
        self.later = fate
        self.outcome = outcome
        for side in range(2):
            one = self.direction(side)
            self.cx.fates[fate] += (<Direction>one).got
            (<Direction>one).got = 0
        return self.let_go()

    cdef int let_go(self) except -1:
        """Free what was held, the keys, and the application of the plaintext."""
        cdef InnerTransport inner = self.inner
        cdef uint64_t count = 0
        for item in self.held or ():
            if item[1] is not None:
                count += <uint64_t>len(item[1])
        if self.held_bytes:
            self.cx.fates[self.later] += count
            self.cx.held_bytes -= self.held_bytes
            self.held_bytes = 0
        self.held = None
        self.low.forget()
        self.high.forget()
        self.session.close(self.owner)
        self.inner = None
        self.owner = None
        if inner is not None:
            inner.close(self.context)
        return 0
