# cython: language_level=3
"""TlsContext: the limits, counters and caches that all TLS and QUIC handshakes of a worker share."""
from appliance.config.schema import Tls
from appliance.native.digests import sha256
from appliance.stats.names import DECRYPTED, TLS_BYTES, TLS_CERTIFICATES, TLS_HANDSHAKES

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

cdef enum:
    MAX_HASHES = 8192           # some 200 bytes each; real clients have a few hundred different lists
    MAX_CACHED = 2048           # bytes of a list that is worth remembering
    MAX_RECENT = 1024           # certificates: 10 bits of a product
    MAX_RECENT_BYTES = 8192     # of a certificate that is remembered whole

cdef uint64_t MIX = 0x9E3779B97F4A7C15


cdef class TlsContext:
    """The limits, counters and caches of all handshakes of a worker.

    limits: options of the section [tls], whose notes explain them; others have their defaults. certificates: a Certificates,
    which parses and remembers them; None leaves them alone.
    """

    def __init__(self, *, certificates=None, **limits):
        self.configure(Tls(**limits))
        self.certificates = certificates
        self.on = True
        self.hashes = {}
        self.recent = [None] * MAX_RECENT

    def configure(self, options not None):
        """Apply the limits of another section [tls] from now on; counters and caches stay."""
        self.max_hello_bytes = options.max_hello_bytes
        self.max_certificate_bytes = options.max_certificate_bytes
        self.max_total_bytes = options.max_total_bytes
        self.max_values = options.max_values
        self.max_name_bytes = options.max_name_bytes
        self.ja3 = options.ja3
        self.max_pending_bytes = options.max_pending_bytes
        self.max_total_pending_bytes = options.max_total_pending_bytes
        self.key_wait_ns = <uint64_t>(options.key_wait_s * 1e9)

    cdef str hash12(self, bytes text):
        """Return the first 12 hex digits of the SHA-256 of `text`; short texts are remembered."""
        cdef object known = self.hashes.get(text)
        cdef str digest
        if known is not None:
            return <str>known
        digest = sha256(text).hexdigest()[:12]
        if len(text) <= MAX_CACHED:
            if len(self.hashes) >= MAX_HASHES:
                self.hashes.clear()
            self.hashes[text] = digest
        return digest

    cdef object certificate(self, const uint8_t* p, uint32_t size, uint64_t ts_ns):
        """Return the ServerCertificate of a certificate's DER. `certificates` must not be None.

        The last bytes of a signature are as good as random, so that they choose a place in a small table; the whole
        certificate is compared there. Its digest would cost more than the rest of the handshake.
        """
        cdef uint64_t end = 0
        cdef Py_ssize_t place
        cdef object found
        cdef bytes der
        if size < sizeof(end) or size > MAX_RECENT_BYTES:
            return self.certificates.look_up(PyBytes_FromStringAndSize(<const char*>p, size), ts_ns)
        memcpy(&end, p + size - sizeof(end), sizeof(end))
        place = <Py_ssize_t>(end * MIX >> 54)
        found = self.recent[place]
        if found is not None:
            der = <bytes>(<tuple>found)[0]
            if PyBytes_GET_SIZE(der) == size and memcmp(PyBytes_AS_STRING(der), p, size) == 0:
                self.certificates_recent += 1
                return (<tuple>found)[1]
        der = PyBytes_FromStringAndSize(<const char*>p, size)
        found = self.certificates.look_up(der, ts_ns)
        if found.parsed:
            self.recent[place] = (der, found)
        return found

    def counts(self):
        """Return {counter: its value so far}; `buffered_bytes` and `open` are gauges."""
        counts = {
            "client_hellos": self.client_hellos,
            "server_hellos": self.server_hellos,
            "incomplete_hellos": self.incomplete_hellos,
            "malformed_hellos": self.malformed_hellos,
            "hellos_over_limit": self.hellos_over_limit,
            "certificates_over_limit": self.certificates_over_limit,
            "abandoned_messages": self.abandoned_messages,
            "values_over_limit": self.values_over_limit,
            "resynchronised": self.resynchronised,
            "not_tls": self.not_tls,
            "buffered_bytes": self.buffered,
        }
        if self.certificates is not None:
            counts.update(self.certificates.counts())
            counts["certificates_cached"] += self.certificates_recent
        return counts

    def slots(self):
        """Return {slot of the worker's stats page: its value so far}, of TLS over TCP."""
        counts = self.counts()
        slots = {
            "tls_hellos.client": self.client_hellos,
            "tls_hellos.server": self.server_hellos,
            "tls_hellos_incomplete": self.incomplete_hellos,
            "tls_hellos_malformed": self.malformed_hellos,
            "tls_resyncs": self.resynchronised,
            "tls_not_records": self.not_tls,
            "tls_buffered_bytes": self.buffered,
            "tls_limits.hello_bytes": self.hellos_over_limit,
            "tls_limits.certificate_bytes": self.certificates_over_limit,
            "tls_limits.total_bytes": self.abandoned_messages,
            "tls_limits.values": self.values_over_limit + counts.get("certificate_values_cut", 0),
            "tls_handshakes_open": self.open,
        }
        slots["tls_seen_bytes"] = self.seen_bytes
        for place in range(1, 4):
            slots[f"tls_decrypted.{DECRYPTED[place]}"] = self.outcomes[place]
        for place in range(7):
            slots[f"tls_bytes.{TLS_BYTES[place]}"] = self.fates[place]
        slots["tls_open_bytes"] = self.seen_bytes - sum(self.fates)
        slots["tls_pending_bytes"] = self.held_bytes
        slots["tls_limits.pending_bytes"] = self.pending_over_limit
        slots["tls_records.opened"] = self.opened_records
        slots["tls_records.unverified"] = self.unverified_records
        slots["tls_plaintext_bytes"] = self.plaintext_bytes
        slots["tls_plaintext_lost_bytes"] = self.lost_plaintext_bytes
        slots["tls_key_updates"] = self.key_updates
        slots["tls_resyncs"] += self.decryption_resyncs
        slots["tls_bytes.crash"] = 0            # those of a killed worker
        keys = self.keys
        slots["tls_keys"] = 0 if keys is None else keys.held
        slots["tls_keys_received"] = 0 if keys is None else keys.received
        slots["tls_keys_gone.used"] = 0 if keys is None else keys.used
        slots["tls_keys_gone.age"] = 0 if keys is None else keys.too_old
        slots["tls_keys_gone.limit"] = 0 if keys is None else keys.over_limit
        for outcome in TLS_CERTIFICATES:
            slots[f"tls_certificates.{outcome}"] = counts.get(f"certificates_{outcome}", 0)
        for outcome in range(3):
            slots[f"tls_handshakes.{TLS_HANDSHAKES[outcome]}"] = self.handshakes[outcome]
        return slots
