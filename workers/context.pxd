# cython: language_level=3
"""Context: what every step of the data path shares."""
from libc.stdint cimport uint64_t

from workers.history cimport History
from workers.limits cimport Limits
from workers.tally cimport Tally


cdef class Context:
    cdef Limits limits
    cdef Tally tally
    cdef History history
    cdef object bodies          # Bodies, if events are to say what bodies contain; None: nothing
    cdef list out               # finished transactions, not yet encoded
    cdef readonly uint64_t now  # ns: the clock of the data path, the highest frame time stamp so far, plus skew
    cdef uint64_t skew          # ns, modulo 2**64: what the clock that stamps the frames was set back since the start
    cdef uint64_t anchor        # ns: where this clock was behind the last batch
    cdef uint64_t expected      # ns: where this clock would be now had time passed evenly; see pace()
    cdef uint64_t latest        # ns: as far as it may get with this batch
    cdef uint64_t sealed_ns     # when that is, by the monotonic clock; 0: frames alone say how time passes

    cdef int pace(self, uint64_t sealed_ns, uint64_t last_ts_ns) noexcept
    cdef uint64_t time_of(self, uint64_t ts_ns) noexcept
