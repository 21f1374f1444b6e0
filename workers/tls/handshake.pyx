# cython: language_level=3
"""Handshake: in-order bytes and gaps of both sides of a connection to the facts of its TLS handshake.

The client is the side that sends a ClientHello. A handshake is over as soon as nothing more can be learned: both sides have
proven their keys, or one has sent a fatal alert. From then on feeding it costs a comparison.

`established` follows from records that a passive reader sees. Up to TLS 1.2 both sides have sent a ChangeCipherSpec and an
encrypted message behind it. In TLS 1.3 the client has sent, after the ServerHello, an encrypted record that is longer than an
alert.
"""
import re

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from workers.tls.fingerprint cimport ja3, ja4
from workers.tls.hello cimport (
    ClientHello, ServerHello, is_grease, parse_client_hello, parse_server_hello, u16,
)
from appliance.stats.names import DECRYPTED
from workers.tls.iana import CIPHERS, ECDHE, GROUPS, VERSIONS, alert, cipher, curve, version
from workers.tls.message cimport (
    CERTIFICATE, CLIENT_HELLO, SERVER_HELLO, SERVER_HELLO_DONE, SERVER_KEY_EXCHANGE, HandshakeMessages, Source,
)
from workers.tls.record cimport (
    ALERTED, CIPHER_CHANGED, ENCRYPTED, HANDSHAKE, MESSAGE, NEED_MORE, RecordReader, Step,
)

cdef enum:
    TLS_1_3 = 0x0304
    FIRST_DRAFT = 0x7F00        # of TLS 1.3
    FATAL = 2
    LONGEST_ALERT = 19          # of TLS 1.3, encrypted: level, description, content type, tag of 16 bytes
    LONGEST_FINISHED = 112      # up to 1.2, encrypted: 16 bytes, a nonce, a MAC and padding
    NAMED_CURVE = 3             # RFC 8422, section 5.4
    CLIENT = 0
    SERVER = 1

cdef object _ECDHE = ECDHE
cdef dict _CIPHERS = CIPHERS, _GROUPS = GROUPS, _VERSIONS = VERSIONS


cdef object _escape = re.compile(rb"\\(?=x[0-9A-Fa-f]{2})").sub


cdef str text_of(bytes raw):
    """Return wire bytes as text, as events have it: UTF-8 as it stands, any other byte as \\xNN."""
    if b"\\x" in raw:
        raw = _escape(rb"\\x5c", raw)
    return raw.decode("utf-8", "backslashreplace")


cdef bint after_1_2(uint16_t code) noexcept nogil:
    return code == TLS_1_3 or code > FIRST_DRAFT


@cython.final
cdef class Handshake:
    """The handshake of one connection. quic: its messages come by QUIC's CRYPTO frames, without records."""

    def __cinit__(self, TlsContext context not None, bint quic=False):
        self.cx = context
        self.client = self.alert_side = -1
        self.transport = b"q" if quic else b"t"
        if not quic:
            self.low = RecordReader.__new__(RecordReader)
            self.high = RecordReader.__new__(RecordReader)

    cdef RecordReader reader(self, int side):
        return self.low if side == 0 else self.high

    cdef int reader_ciphered(self, int side, bint ciphered) except -1:
        cdef RecordReader reader = self.reader(side)
        if reader is not None:          # QUIC has none
            reader.ciphered = ciphered
        return 0

    cdef Verdict data(self, int side, const uint8_t* p, uint32_t size, uint64_t ts_ns) except *:
        """Take the next in-order bytes of a side (0 or 1), which were captured at `ts_ns`."""
        cdef RecordReader reader
        cdef Source source
        cdef Step step
        self.passed[side] += size
        if self.over:
            return OVER
        reader = self.reader(side)
        source.p = p
        source.end = p + size
        source.ts_ns = ts_ns
        reader.fresh = True
        while True:
            step = reader.step(&source, self.cx)
            if step == NEED_MORE:
                return GOING_ON
            if step == MESSAGE:
                self.message(side, reader.messages, ts_ns)
            elif step == ENCRYPTED:
                self.encrypted(side, reader, ts_ns)
            elif step == CIPHER_CHANGED:
                self.change_cipher(side)
            elif step == ALERTED:
                self.alerted(side, reader)
            else:
                return OTHER
            if self.over:
                self.let_go()
                return KNOWN

    cdef Verdict skip(self, int side, uint64_t count, uint64_t ts_ns) except *:
        """Skip `count` bytes of a side that were never captured."""
        cdef RecordReader reader
        self.passed[side] += count
        self.gapped[side] = True
        if self.over:
            return OVER
        reader = self.reader(side)
        if reader.gap(count, self.cx):
            self.message(side, reader.messages, ts_ns)
        elif reader.messages.missing:
            self.note_missing(reader.messages)
        return GOING_ON

    cdef int let_go(self) except -1:
        """Free what unfinished messages hold."""
        if self.low is not None:
            self.low.messages.release(self.cx)
            self.high.messages.release(self.cx)
        return 0

    cdef int note_missing(self, HandshakeMessages messages) noexcept:
        """Count more missing bytes of a hello that message() has read."""
        if messages.type == CLIENT_HELLO and self.hellos[CLIENT].seen and not self.retry:
            self.hellos[CLIENT].missing = messages.missing
        elif messages.type == SERVER_HELLO and self.hellos[SERVER].seen:
            self.hellos[SERVER].missing = messages.missing
        return 0

    cdef int message(self, int side, HandshakeMessages messages, uint64_t ts_ns) except -1:
        """Read a message, or its captured beginning."""
        if messages.type == CLIENT_HELLO:
            self.client_hello(side, messages)
        elif messages.type == SERVER_HELLO:
            self.server_hello(side, messages)
        elif side != self.client and not after_1_2(self.version):
            if messages.type == CERTIFICATE:
                self.leaf(messages, ts_ns)
            elif messages.type == SERVER_KEY_EXCHANGE:
                self.key_exchange(messages)
            elif messages.type == SERVER_HELLO_DONE:
                self.resumed = NO
        messages.release(self.cx)
        return 0

    cdef int client_hello(self, int side, HandshakeMessages messages) except -1:
        cdef ClientHello hello
        cdef Hello* seen = &self.hellos[CLIENT]
        cdef uint32_t i, at, size
        if seen.seen or (self.client >= 0 and side != self.client):
            return 0                    # the second one of a HelloRetryRequest, or a renegotiation
        if self.client < 0:
            self.client = side
        self.cx.client_hellos += 1
        seen.seen = True
        seen.whole = messages.whole()
        seen.missing = messages.missing
        self.hello_ns = messages.started_ns
        parse_client_hello(messages.body, messages.size, seen.whole, &hello)
        if not seen.whole:
            self.cx.incomplete_hellos += 1
        elif not hello.whole:
            self.cx.malformed_hellos += 1
        if hello.random == NULL:
            return 0
        self.offered = hello.version
        memcpy(self.client_random, hello.random, 32)
        if hello.session_id.size and hello.session_id.size <= 32:
            self.session_size = <uint8_t>hello.session_id.size
            memcpy(self.session, hello.session_id.p, hello.session_id.size)
        self.ech = hello.ech
        self.ticket = hello.ticket
        self.early_data = hello.early_data
        if hello.server_name.p != NULL:
            if hello.server_name.size <= self.cx.max_name_bytes:
                self.server_name = PyBytes_FromStringAndSize(<const char*>hello.server_name.p, hello.server_name.size)
            else:
                self.cx.values_over_limit += 1
        if hello.protocols.p != NULL:
            self.protocols = []
            at = 0
            while at < hello.protocols.size:
                size = hello.protocols.p[at]
                if len(self.protocols) == self.cx.max_values:
                    self.cx.values_over_limit += 1
                    break
                self.protocols.append(PyBytes_FromStringAndSize(<const char*>hello.protocols.p + at + 1, size))
                at += 1 + size
        self.versions = []
        if hello.versions.p != NULL:
            for i in range(hello.versions.size // 2):
                if not is_grease(u16(hello.versions.p + 2 * i)):
                    if len(self.versions) == self.cx.max_values:
                        self.cx.values_over_limit += 1
                        break
                    self.versions.append(u16(hello.versions.p + 2 * i))
        elif hello.whole:
            self.versions.append(hello.version)
        if hello.whole:
            self.ja4 = ja4(&hello, self.transport, self.cx)
            if self.cx.ja3:
                self.ja3 = ja3(&hello)
        return 0

    cdef int server_hello(self, int side, HandshakeMessages messages) except -1:
        cdef ServerHello hello
        cdef Hello* seen = &self.hellos[SERVER]
        cdef bint whole = messages.whole()
        if side == self.client or self.final_hello or (seen.seen and not self.retry):
            return 0
        parse_server_hello(messages.body, messages.size, whole, &hello)
        if seen.seen and hello.retry:
            return 0
        if self.client < 0:
            self.client = 1 - side
        self.cx.server_hellos += 1
        if not whole:
            self.cx.incomplete_hellos += 1
        elif not hello.whole:
            self.cx.malformed_hellos += 1
        seen.seen = True
        seen.whole = whole
        seen.missing = messages.missing
        if hello.retry:
            self.retry = True
        else:
            self.final_hello = True
        if not hello.known:
            return 0
        self.version = hello.version
        self.cipher = hello.cipher
        self.has_cipher = True
        if hello.group:
            self.group = hello.group
        if hello.retry:
            return 0
        memcpy(self.server_random, hello.random, 32)
        self.encrypt_then_mac = hello.encrypt_then_mac
        self.compression = hello.compression
        if hello.protocol.p != NULL:
            self.protocol = PyBytes_FromStringAndSize(<const char*>hello.protocol.p, hello.protocol.size)
        if after_1_2(self.version):
            self.resumed = YES if hello.psk else NO
            # A ChangeCipherSpec of the client ahead of its early data changed nothing.
            self.changed[self.client] = self.finished[self.client] = False
            self.reader_ciphered(self.client, False)
        elif self.hellos[CLIENT].seen and self.hellos[CLIENT].whole:
            if hello.session_id.size and hello.session_id.size == self.session_size \
                    and memcmp(hello.session_id.p, self.session, self.session_size) == 0:
                self.resumed = YES
            elif not self.ticket:
                self.resumed = NO
        return 0

    cdef int leaf(self, HandshakeMessages messages, uint64_t ts_ns) except -1:
        """Read the server's certificate: the first of its chain."""
        self.resumed = NO
        if messages.whole() and messages.size > 6 and self.certificate is None:
            self.certificate = self.cx.certificate(messages.body + 6, messages.size - 6, ts_ns)
        return 0

    cdef int key_exchange(self, HandshakeMessages messages) except -1:
        """Read the server's key exchange, whose first bytes name the curve of an ECDHE suite."""
        self.resumed = NO
        if self.has_cipher and messages.size == 3 and messages.whole() and messages.body[0] == NAMED_CURVE \
                and self.cipher in _ECDHE:
            self.group = u16(messages.body + 1)
        return 0

    cdef int change_cipher(self, int side) except -1:
        """Read a ChangeCipherSpec, which means nothing in TLS 1.3 (RFC 8446, appendix D.4)."""
        if after_1_2(self.version):
            return 0
        self.changed[side] = True
        self.reader_ciphered(side, True)
        if side == 1 - self.client and self.has_cipher and self.resumed == UNKNOWN and not self.changed[self.client] \
                and not self.gapped[side]:
            self.resumed = YES          # right behind its ServerHello: by a ticket
        return 0

    cdef int encrypted(self, int side, RecordReader reader, uint64_t ts_ns) except -1:
        """Judge the header of an encrypted record."""
        if self.client < 0:
            return 0
        if after_1_2(self.version):
            if side == self.client:
                if self.final_hello and reader.length > LONGEST_ALERT:
                    self.answered = True
                    if not self.early_data:
                        self.establish(ts_ns)
            elif self.answered:
                self.establish(ts_ns)
            return 0
        if reader.type == HANDSHAKE:
            if not self.version and reader.length > LONGEST_FINISHED:
                return 0                # the second ClientHello, behind a HelloRetryRequest that was not captured
            self.finished[side] = True
        elif not self.version:
            self.went_on = True         # early data, or the ServerHello was lost
            return 0
        else:
            # Application data come only when both are done: the unseen part of the other side was lost.
            self.finished[0] = self.finished[1] = True
        if self.finished[0] and self.finished[1] and (self.version or TLS_1_3 not in (self.versions or ())):
            self.establish(ts_ns)
        return 0

    cdef int alerted(self, int side, RecordReader reader) except -1:
        """Read an alert in the clear."""
        if self.alert_side >= 0 and self.alert_level == FATAL:
            return 0
        self.alert_level = reader.alert[0]
        self.alert = reader.alert[1]
        self.alert_side = side
        if self.alert_level == FATAL and self.hellos[CLIENT].seen | self.hellos[SERVER].seen:
            self.established = NO
            self.over = True
        return 0

    cdef int fatal(self, int side, uint8_t description) except -1:
        """End the handshake by a fatal alert that came without a record."""
        self.alert_level = FATAL
        self.alert = description
        self.alert_side = side
        self.established = NO
        self.over = True
        return 0

    cdef bint has_both(self) noexcept:
        """Return whether both hellos are read; without keys nothing more can be learned."""
        return self.hellos[CLIENT].seen and self.final_hello

    cdef bint any_hello(self) noexcept:
        return self.hellos[CLIENT].seen or self.hellos[SERVER].seen

    cdef int establish(self, uint64_t ts_ns) except -1:
        self.established = YES
        self.established_ns = ts_ns
        self.over = True
        return 0

    cdef int finish_now(self) except -1:
        """End the handshake together with its connection."""
        cdef bint went_on = self.went_on
        if self.over:
            return 0
        self.over = True
        self.let_go()
        if self.established == UNKNOWN and self.transport == b"t":
            # One side that goes on without a visible answer shows that the other one was not captured.
            went_on = went_on or self.finished[0] or self.finished[1] or self.answered
            # Without a ClientHello, bytes of the client were lost ahead of this handshake.
            if self.hellos[CLIENT].seen and not (
                    self.gapped[0] or self.gapped[1] or (went_on and not (self.passed[0] and self.passed[1]))):
                self.established = NO
        return 0

    def feed(self, int side, data, uint64_t ts_ns=0):
        """Take in-order bytes of a side (0 or 1).

        Return "going on", "known" (once; then facts() are final), "over", or "other": this side is no TLS.
        """
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            return _ANSWERS[self.data(side, <const uint8_t*>view.buf, <uint32_t>view.len, ts_ns)]
        finally:
            PyBuffer_Release(&view)

    def lose(self, int side, uint64_t count, uint64_t ts_ns=0):
        """Skip `count` bytes of a side that were never captured."""
        return _ANSWERS[self.skip(side, count, ts_ns)]

    def finish(self):
        """End the handshake with its connection; return whether a hello was seen, so that facts() are an event."""
        self.finish_now()
        return self.hellos[CLIENT].seen or self.hellos[SERVER].seen

    @property
    def seen(self):
        """Return whether a hello of either side was seen."""
        return self.hellos[CLIENT].seen or self.hellos[SERVER].seen

    def facts(self):
        """Return {"tls": ECS fields, "appliance": {"tls": …}}; what is not known is absent."""
        cdef dict tls = {}, extra = {}, one
        if self.has_cipher:
            tls["version"] = _VERSIONS.get(self.version) or version(self.version)
            tls["version_protocol"] = "ssl" if self.version <= 0x0300 else "tls"
            tls["cipher"] = _CIPHERS.get(self.cipher) or cipher(self.cipher)
            if self.group:
                tls["curve"] = _GROUPS.get(self.group) or curve(self.group)
        if self.protocol is not None:
            tls["next_protocol"] = text_of(self.protocol)
        if self.resumed != UNKNOWN:
            tls["resumed"] = self.resumed == YES
        if self.established != UNKNOWN:
            tls["established"] = self.established == YES
        if self.server_name is not None or self.ja3 is not None:
            tls["client"] = one = {}
            if self.server_name is not None:
                one["server_name"] = text_of(self.server_name)
            if self.ja3 is not None:
                one["ja3"] = self.ja3
        if self.certificate is not None:
            tls["server"] = self.certificate.facts
        if self.ja4 is not None:
            extra["ja4"] = self.ja4
        if self.protocols is not None:
            extra["alpn_offered"] = [text_of(name) for name in self.protocols]
        if self.versions:
            extra["versions_offered"] = [_VERSIONS.get(number) or version(number) for number in self.versions]
        if self.ech:
            extra["ech_offered"] = True
        if self.retry:
            extra["hello_retry"] = True
        if self.hellos[CLIENT].seen:
            extra["client_hello"] = seen_as_dict(&self.hellos[CLIENT])
        if self.hellos[SERVER].seen:
            extra["server_hello"] = seen_as_dict(&self.hellos[SERVER])
        if self.alert_side >= 0:
            extra["alert"] = {
                "level": "fatal" if self.alert_level == FATAL else "warning",
                "description": alert(self.alert),
                "by": "client" if self.alert_side == self.client else "server",
            }
        if self.established == YES and self.hellos[CLIENT].seen and self.established_ns >= self.hello_ns:
            extra["handshake_ns"] = self.established_ns - self.hello_ns
        if self.decrypted:
            extra["decrypted"] = DECRYPTED[self.decrypted]
        if self.client >= 0:
            extra["bytes"] = {"client": self.passed[self.client], "server": self.passed[1 - self.client]}
        return {"tls": tls, "appliance": {"tls": extra}}


cdef tuple _ANSWERS = ("going on", "known", "over", "other")


cdef dict seen_as_dict(const Hello* hello):
    if hello.missing:
        return {"complete": hello.whole, "missing_bytes": hello.missing}
    return {"complete": hello.whole}
