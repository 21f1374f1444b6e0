# cython: language_level=3
"""One per data path; made by who owns it (Pipeline, Assembler), handed down to tables, connections and streams."""
from workers.history cimport History
from workers.limits cimport Limits
from workers.tally cimport Tally

cdef enum:
    AHEAD_NS = 1000000000       # of what the monotonic clock says: more is a step of the clock that stamps frames
    BEHIND_NS = 30000000000     # that frames may have waited before they came here


cdef class Context:
    """Limits, counters, the recent past, the clock."""

    def __init__(self, Limits limits not None, bodies=None):
        self.limits = limits
        self.tally = Tally()
        self.history = History()
        self.bodies = bodies
        self.out = []
        self.latest = <uint64_t>-1

    cdef int pace(self, uint64_t sealed_ns, uint64_t last_ts_ns) noexcept:
        """A batch of a live capture comes, sealed at this time of the monotonic clock, which knows no steps.

        Where somebody sets the clock that stamps the frames, connections must neither all be over nor last for ever: what it was
        set by is taken out of the clock of the data path. Events show the stamps as they are.
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
        """A frame's time stamp by the clock of the data path."""
        cdef uint64_t ns = ts_ns + self.skew
        if ns > self.latest:
            self.skew -= ns - self.expected
            ns = self.expected
        return ns
