# cython: language_level=3
"""QuicContext: the limits and counters that all QUIC connections of a worker share."""
from libc.stdint cimport uint64_t

from workers.tls.context cimport TlsContext

from appliance.config.schema import Quic

cdef enum:
    SECOND = 1_000_000_000


cdef class QuicContext:
    """The limits and counters of all QUIC connections of a worker, and its clock, which never goes back.

    tls: the limits of hellos; None: the defaults. limits: options of the section [quic], whose notes explain them; others
    have their defaults.
    """

    def __init__(self, TlsContext tls=None, **limits):
        self.tls = TlsContext() if tls is None else tls
        self.credit_ns = SECOND
        self.configure(Quic(**limits))

    def configure(self, options not None):
        """Apply the limits of another section [quic]; counters, clock and budget stay."""
        self.max_initials_per_second = options.max_initials_per_second
        self.cost_ns = SECOND // self.max_initials_per_second if self.max_initials_per_second else SECOND + 1
        self.reserve_ns = SECOND // 2 if self.cost_ns <= SECOND // 8 else 0     # a small budget has no parts
        self.max_connections = max(<uint64_t>options.max_connections, <uint64_t>1)
        self.timeout_ns = int(options.timeout_s * 1e9)
        self.max_crypto_bytes = options.max_crypto_bytes
        self.max_crypto_pieces = options.max_crypto_pieces
        self.max_early_datagrams = options.max_early_datagrams

    cdef void advance(self, uint64_t now_ns) noexcept:
        """Advance the clock, in ns, and with it what may be spent."""
        if now_ns > self.clock_ns:
            self.credit_ns = min(self.credit_ns + min(now_ns - self.clock_ns, <uint64_t>SECOND), <uint64_t>SECOND)
            self.clock_ns = now_ns

    cdef bint may_open(self, bint answered) noexcept:
        """Take one Initial out of the budget; False: nothing is left of it.

        answered: both sides have sent something. A flood of forged hellos has no answers, so it leaves the reserve to others.
        """
        if self.credit_ns < self.cost_ns + (0 if answered else self.reserve_ns):
            self.initials_over_limit += 1
            return False
        self.credit_ns -= self.cost_ns
        return True

    def counts(self):
        """Return {counter: its value so far}."""
        return {
            "initials": self.initials,
            "initials_failed": self.initials_failed,
            "initials_over_limit": self.initials_over_limit,
            "malformed": self.malformed,
            "crypto_over_limit": self.crypto_over_limit,
            "retries": self.retries,
            "connections": self.connections,
            "evicted": self.evicted,
        }
