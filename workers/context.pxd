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
    cdef readonly uint64_t now  # ns: the clock of the data path, the highest frame time stamp so far
