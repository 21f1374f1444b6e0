# cython: language_level=3
"""Context: one per data path. Its owner (Pipeline, Assembler) makes it and passes it to tables, connections and streams."""
from workers.core.delivered_bytes cimport History
from workers.core.waiting_budget cimport InFlight
from workers.core.limits cimport Limits
from workers.core.counters cimport Tally

cdef enum:
    AHEAD_NS = 1000000000       # ahead of the monotonic clock: more is a step of the clock that stamps frames
    BEHIND_NS = 30000000000     # longest wait of a frame before it arrives here


cdef class Context:
    """Limits, counters, the recent past, the clock."""

    def __init__(self, Limits limits not None, bodies=None):
        self.limits = limits
        self.tally = Tally()
        self.history = History()
        self.in_flight = InFlight()
        self.bodies = bodies
        self.inflaters = None
        self.states = {}
        self.out = []
        self.latest = <uint64_t>-1

    cdef int pace(self, uint64_t sealed_ns, uint64_t last_ts_ns) noexcept:
        """Adjust the clock at a batch of a live capture, sealed at this time of the monotonic clock, which has no steps.

        A step of the clock that stamps the frames must neither end all connections nor keep them for ever. So this subtracts
        the step from the clock of the data path. Events show the stamps unchanged.
        """
        cdef uint64_t last
        if self.sealed_ns != 0:
            self.expected = self.anchor + (sealed_ns - self.sealed_ns if sealed_ns > self.sealed_ns else 0)
            self.latest = self.expected + AHEAD_NS
            last = last_ts_ns + self.skew
            if last + BEHIND_NS < self.expected:
                self.skew += self.expected - last
        self.sealed_ns = max(self.sealed_ns, sealed_ns)
        return 0

    cdef uint64_t time_of(self, uint64_t ts_ns) noexcept:
        """Return a frame's time stamp by the clock of the data path."""
        cdef uint64_t ns = ts_ns + self.skew
        if ns > self.latest:
            self.skew -= ns - self.expected
            ns = self.expected
        return ns
