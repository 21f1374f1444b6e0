# cython: language_level=3
"""Context: the state that every step of the data path shares."""
from libc.stdint cimport uint64_t

from workers.core.delivered_bytes cimport History
from workers.core.waiting_budget cimport InFlight
from workers.core.limits cimport Limits
from workers.core.counters cimport Tally


cdef class Context:
    cdef Limits limits
    cdef Tally tally
    cdef History history
    cdef InFlight in_flight     # the connections that hold most waiting bytes
    cdef object bodies          # Bodies, if options ask for the contents of bodies in events; else None
    cdef object inflaters       # Inflaters, if options ask for the contents of WebSocket messages; else None
    cdef dict states            # {name of a protocol: state of all its applications}
    cdef list out               # finished records of all protocols, not yet encoded
    cdef readonly uint64_t now  # ns: the clock of the data path, the highest frame time stamp so far, plus skew
    cdef uint64_t skew          # ns, modulo 2**64: total step back of the clock that stamps the frames, since the start
    cdef uint64_t turned_ns     # ns: the highest time stamp of a capture before they last turned back
    cdef uint64_t turns         # of a capture's time stamps before the batch being read
    cdef uint64_t anchor        # ns: where this clock was behind the last batch
    cdef uint64_t expected      # ns: where this clock would be now had time passed evenly; see pace()
    cdef uint64_t latest        # ns: its highest permitted value in this batch
    cdef uint64_t sealed_ns     # monotonic time of the newest batch; 0: only the frames' time stamps move the clock

    cdef int pace(self, uint64_t sealed_ns, uint64_t last_ts_ns) noexcept
    cdef uint64_t time_of(self, uint64_t ts_ns) noexcept
