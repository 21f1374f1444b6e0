# cython: language_level=3
"""QuicConnection: the datagrams of one connection to the facts of its TLS handshake.

Only Initial packets are opened. Their keys follow from the destination connection id of the client's first Initial, or of the
first one behind a Retry; later ids change no key. If the current keys do not open a packet of the client, the keys of its own
connection id get one try. Packets behind an Initial in a datagram are skipped by length.

Length proof: parse_packet() proves each packet; frames() reads behind p < end.
"""
cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from workers.quic.context cimport QuicContext
from workers.quic.crypto cimport CryptoStream
from workers.quic.keys cimport InitialKeys, initial_keys
from workers.quic.packet cimport (
    INITIAL, NEGOTIATION, NO_PACKET, RETRY, SHORT, UNKNOWN, ZERO_RTT, Packet, parse_packet, varint,
)
from workers.tls.handshake cimport Handshake

cdef enum:
    PADDING = 0
    PING = 1
    ACK = 2
    ACK_ECN = 3
    CRYPTO = 6
    CONNECTION_CLOSE = 0x1C
    CRYPTO_ERROR = 0x100        # and an alert's description (RFC 9001, section 4.8)
    MAX_PACKETS = 16            # parsed in one datagram
    MAX_IDS = 16
    MAX_PREFERRED = 32          # Initials of one connection; a handshake has a few
    VERSION_2 = 0x6B3343CF
    DRAFTS = 0xFF000000


cdef str version_name(uint32_t version):
    if version == 1:
        return "1"
    if version == VERSION_2:
        return "2"
    if version >> 8 == DRAFTS >> 8:
        return f"draft-{version & 0xFF}"
    return f"0x{version:08X}"


@cython.final
cdef class QuicConnection:
    """One connection; `key` is what a table knows it by."""

    def __cinit__(self, QuicContext context not None, object key=None):
        self.cx = context
        self.key = key
        self.client = -1
        self.first_number = <uint64_t>-1
        self.handshake = Handshake.__new__(Handshake, context.tls, True)
        self.ids = set()
        self.client_stream = CryptoStream.__new__(CryptoStream)
        self.server_stream = CryptoStream.__new__(CryptoStream)

    cdef bint answered(self) noexcept:
        """Return whether its Initials have the whole budget: both sides have sent something, and not too much."""
        return self.heard[0] and self.heard[1] and self.tries < MAX_PREFERRED

    cdef bint datagram(self, int side, const uint8_t* p, uint32_t size, uint64_t ts_ns) except -1:
        """Take a datagram of a side (0 or 1). Return whether an Initial packet in it was opened."""
        cdef Packet packet
        cdef bint opened = False
        self.handshake.passed[side] += size
        self.heard[side] = True
        self.last_ns = max(self.last_ns, ts_ns)
        if self.known:
            return False
        for _ in range(MAX_PACKETS):
            if size == 0:
                break
            parse_packet(p, size, &packet)
            if packet.kind == INITIAL:
                if self.initial(side, &packet, ts_ns):
                    opened = True
                if self.known:
                    break
            elif packet.kind == ZERO_RTT:
                if side == self.client:
                    self.zero_rtt = True
            elif packet.kind == RETRY:
                if side == 1 - self.client and self.client >= 0 and self.server_keys is None:
                    self.retry = True
                    self.cx.retries += 1
                break
            elif packet.kind == NEGOTIATION or packet.kind == NO_PACKET or packet.kind == SHORT or packet.kind == UNKNOWN:
                break
            p += packet.size
            size -= packet.size
        return opened

    cdef bint initial(self, int side, const Packet* packet, uint64_t ts_ns) except -1:
        """Open an Initial packet and read its frames; return whether it opened."""
        cdef bytes payload
        if not self.cx.may_open(self.answered()):
            return False
        self.tries += 1
        self.cx.initials += 1
        if self.client < 0 or side == self.client:
            payload = self.open_client(side, packet)
        else:
            payload = self.open_server(packet)
        if payload is None:
            self.cx.initials_failed += 1
            return False
        if self.client < 0:
            self.client = self.handshake.client = side
            self.first_ns = ts_ns
            self.since_ns = self.cx.clock_ns
            self.cx.connections += 1
        self.frames(side, payload, ts_ns)
        if self.client_keys is not None and self.handshake.any_hello():
            self.client_keys.forget()   # before the ServerHello the client rarely sends more
        return True

    cdef bytes open_client(self, int side, const Packet* packet):
        """Open a packet that may be the client's."""
        cdef bytes target = PyBytes_FromStringAndSize(<const char*>packet.target.p, packet.target.size)
        cdef InitialKeys keys
        cdef bytes payload = None
        if self.client_keys is not None:
            keys = self.client_keys
            if keys.version != packet.version:      # after a negotiation of versions (RFC 9368)
                keys = initial_keys(packet.version, keys.connection_id, False)
            payload = keys.open(packet)
            # Behind the server's Initial, other keys are those of another connection.
            if payload is None and (target == keys.connection_id or self.server_keys is not None):
                return None
        if payload is None:
            keys = initial_keys(packet.version, target, False)
            payload = keys.open(packet)
            if payload is None:
                return None
            if self.client_keys is not None and not self.retry:
                self.restart(packet.version)
        self.client_keys = keys
        self.note_version(packet)
        if len(self.ids) < MAX_IDS:
            self.ids.add(target)
        return payload

    cdef int note_version(self, const Packet* packet) noexcept:
        """Note the version of an opened packet, if the client has sent none before it.

        After a negotiation a client begins another connection (RFC 9368, section 2.1). Clients of the drafts continued the
        old one in another version. So a draft needs its first packet. Its number is 0, or 1 in a widespread library, with
        clients that have empty connection ids.
        """
        cdef uint64_t number = self.client_keys.number
        if number < self.first_number:
            self.first_number = number
            if packet.version >> 8 != DRAFTS >> 8 or number == 0 or (number == 1 and packet.source.size == 0):
                self.version = packet.version
            else:
                self.version = 0
        return 0

    cdef int restart(self, uint32_t version) except -1:
        """Forget the client's hello: a Retry that was not captured makes it come again, or another connection begins.

        Behind a Retry it is the same one (RFC 9000, section 17.2.5.3). Pieces of two different hellos must not become one.
        """
        cdef Handshake before = self.handshake
        if version != self.version:         # a Retry changes no version, so another connection begins
            self.version = 0
            self.first_number = <uint64_t>-1
        self.client_stream.release(self.cx)
        self.client_stream = CryptoStream.__new__(CryptoStream)
        self.handshake = Handshake.__new__(Handshake, self.cx.tls, True)
        self.handshake.client = self.client
        for side in range(2):
            self.handshake.passed[side] = before.passed[side]
        return 0

    cdef bytes open_server(self, const Packet* packet):
        """Open a packet that must be the server's."""
        cdef InitialKeys keys = self.server_keys
        cdef bytes payload
        if keys is None or keys.version != packet.version:
            keys = initial_keys(packet.version, self.client_keys.connection_id, True)
        payload = keys.open(packet)
        if payload is not None:
            self.server_keys = keys
            if len(self.ids) < MAX_IDS:
                self.ids.add(PyBytes_FromStringAndSize(<const char*>packet.source.p, packet.source.size))
        return payload

    cdef int frames(self, int side, bytes payload, uint64_t ts_ns) except -1:
        """Read the frames of an Initial packet (RFC 9000, section 17.2.2)."""
        cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(payload)
        cdef const uint8_t* end = p + PyBytes_GET_SIZE(payload)
        cdef uint64_t offset, length, value, count
        cdef uint8_t kind
        while p < end:
            kind = p[0]
            p += 1
            if kind == PADDING or kind == PING:
                continue
            if kind == CRYPTO:
                if not varint(&p, end, &offset) or not varint(&p, end, &length) or length > <uint64_t>(end - p):
                    break
                self.crypto(side, offset, p, <uint32_t>length, ts_ns)
                if self.known:
                    return 0
                p += length
            elif kind == ACK or kind == ACK_ECN:
                if not varint(&p, end, &value) or not varint(&p, end, &value) or not varint(&p, end, &count):
                    break
                count = 2 * count + 1 + (3 if kind == ACK_ECN else 0)
                while count and varint(&p, end, &value):
                    count -= 1
                if count:
                    break
            elif kind == CONNECTION_CLOSE:
                if not varint(&p, end, &value):
                    break
                if value >> 8 == CRYPTO_ERROR >> 8:
                    self.handshake.fatal(side, value & 0xFF)
                    self.known = self.handshake.any_hello()
                if self.known:
                    self.release()
                return 0
            else:
                break
        else:
            return 0
        self.cx.malformed += 1
        return 0

    cdef int crypto(self, int side, uint64_t offset, const uint8_t* p, uint32_t size, uint64_t ts_ns) except -1:
        """Read a CRYPTO frame."""
        cdef CryptoStream stream = self.client_stream if side == self.client else self.server_stream
        stream.add(offset, p, size, self.cx)
        while stream.take(ts_ns, self.cx):
            self.handshake.message(side, stream.messages, ts_ns)
            if self.handshake.has_both():
                self.known = True
                self.release()
                return 0
        return 0

    cdef int release(self) except -1:
        """Free the keys and streams, which only an unfinished handshake needs."""
        self.client_stream.release(self.cx)
        self.server_stream.release(self.cx)
        self.client_keys = self.server_keys = None
        return 0

    def feed(self, int side, data, uint64_t ts_ns=0):
        """Take a datagram of a side (0 or 1). Return whether an Initial packet in it was opened."""
        cdef Py_buffer view
        self.cx.advance(ts_ns)
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            return self.datagram(side, <const uint8_t*>view.buf, <uint32_t>view.len, ts_ns)
        finally:
            PyBuffer_Release(&view)

    def finish(self):
        """End the connection; return whether a hello was seen, so that facts() are an event."""
        self.release()
        self.handshake.finish()
        return self.handshake.seen

    def facts(self):
        """Return the facts of Handshake.facts(), and those of QUIC; what is not known is absent."""
        cdef dict facts = self.handshake.facts()
        cdef dict quic = {}
        if self.version:
            quic["version"] = version_name(self.version)
        if self.retry:
            quic["retry"] = True
        if self.zero_rtt:
            quic["zero_rtt"] = True
        facts["network"] = {"transport": "udp", "protocol": "quic"}
        facts["appliance"]["quic"] = quic
        return facts
