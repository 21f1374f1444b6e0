# cython: language_level=3
"""TlsContext: limits, counters and caches of all handshakes of a worker."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef class TlsContext:
    # limits, explained at TlsContext
    cdef readonly uint32_t max_hello_bytes
    cdef readonly uint32_t max_certificate_bytes
    cdef readonly uint64_t max_total_bytes
    cdef readonly uint32_t max_values
    cdef readonly uint32_t max_name_bytes
    cdef readonly bint ja3
    cdef uint64_t max_pending_bytes
    cdef uint64_t max_total_pending_bytes
    cdef uint64_t key_wait_ns
    # shared state
    cdef bint on                        # handshakes of new connections are read
    cdef readonly uint64_t buffered     # bytes of unfinished messages that all handshakes hold now
    cdef readonly object certificates   # Certificates; None: leave them alone
    cdef public object keys             # KeyStore; None: nothing is decrypted
    cdef list recent                    # [(DER, its ServerCertificate) or None], by the end of the signature: spares most digests
    cdef dict hashes                    # JA4: {list of numbers as text: first 12 hex digits of its SHA-256}
    # counters
    cdef uint64_t open                  # handshakes of TCP connections that are not over, now
    cdef uint64_t[3] handshakes         # finished, by `established`: Truth of handshake.pxd
    cdef uint64_t client_hellos
    cdef uint64_t server_hellos
    cdef uint64_t incomplete_hellos     # bytes of them are missing
    cdef uint64_t malformed_hellos
    cdef uint64_t hellos_over_limit
    cdef uint64_t certificates_over_limit
    cdef uint64_t certificates_recent   # found in `recent`
    cdef uint64_t abandoned_messages    # max_total_bytes was reached
    cdef uint64_t values_over_limit     # lists that were cut, and names that were left out
    cdef uint64_t resynchronised        # directions in which records were found again behind a gap
    cdef uint64_t[4] outcomes           # connections with keys or without: Outcome of decryption.pxd
    cdef uint64_t seen_bytes            # of connections that may be decrypted
    cdef uint64_t[7] fates              # … by what became of them: Fate of decryption.pxd
    cdef uint64_t held_bytes            # memory of those that wait for keys now
    cdef uint64_t pending_over_limit    # connections that held too much
    cdef uint64_t opened_records
    cdef uint64_t unverified_records
    cdef uint64_t plaintext_bytes
    cdef uint64_t lost_plaintext_bytes
    cdef uint64_t key_updates
    cdef uint64_t decryption_resyncs
    cdef uint64_t not_tls               # directions that are no TLS records, or stopped being any

    cdef str hash12(self, bytes text)
    cdef object certificate(self, const uint8_t* p, uint32_t size, uint64_t ts_ns)
