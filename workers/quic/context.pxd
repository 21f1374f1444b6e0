# cython: language_level=3
"""QuicContext: limits and counters of all QUIC connections of a worker."""
from libc.stdint cimport uint32_t, uint64_t

from workers.tls.context cimport TlsContext


cdef class QuicContext:
    cdef readonly TlsContext tls
    # limits, explained at QuicContext
    cdef readonly uint64_t max_initials_per_second
    cdef readonly uint64_t max_connections
    cdef readonly uint64_t timeout_ns
    cdef readonly uint32_t max_crypto_bytes
    cdef readonly uint32_t max_crypto_pieces
    cdef readonly uint32_t max_early_datagrams
    # the budget of Initials
    cdef uint64_t credit_ns         # what is left of it, as time
    cdef uint64_t cost_ns           # of one Initial
    cdef uint64_t reserve_ns        # the part of it that only connections with an answer may spend
    cdef readonly uint64_t clock_ns     # the newest time stamp, or the clock of the data path
    # counters
    cdef uint64_t initials          # packets that were opened
    cdef uint64_t initials_failed   # that no key opened
    cdef uint64_t initials_over_limit
    cdef uint64_t malformed         # opened, and their frames are no frames
    cdef uint64_t crypto_over_limit  # frames that were dropped
    cdef uint64_t retries
    cdef uint64_t connections       # that were opened
    cdef uint64_t evicted           # of them, before their handshake was known: max_connections was reached

    cdef void advance(self, uint64_t now_ns) noexcept
    cdef bint may_open(self, bint answered) noexcept
