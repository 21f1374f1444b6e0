# cython: language_level=3
"""Waiting: the messages of one connection that wait for their other half."""
from libc.stdint cimport int64_t, uint64_t

from workers.core.waiting_budget cimport Holder
from workers.http1.message cimport Message
from workers.core.counters cimport Tally
from workers.core.flow cimport Flow
from workers.http1.transaction cimport Transaction


cdef class Waiting(Holder):
    cdef Flow flow
    cdef Tally tally
    cdef list waiting           # [Transaction] without a response, oldest first, from place `first` on
    cdef Py_ssize_t first
    cdef list held_responses    # [Transaction] held responses, oldest first; None if there are none
    cdef list ahead             # [Transaction] responses kept for requests that may come late; None if there are none
    cdef Py_ssize_t ahead_first  # … from this place on

    cdef int charge(self, Transaction transaction, Message message) except -1
    cdef int discharge(self, Transaction transaction) noexcept
    cdef int wait(self, Transaction transaction) except -1
    cdef int wait_again(self, Transaction transaction) except -1
    cdef Transaction oldest(self)
    cdef Transaction pop(self)
    cdef Transaction pop_newest(self)
    cdef Py_ssize_t newest(self, int64_t before, int64_t acknowledged) except -2
    cdef int hold_back(self, Transaction transaction) except -1
    cdef int drop_held(self) except -1
    cdef list take_all(self)
    cdef int keep(self, Transaction transaction) except -1
    cdef Transaction kept(self)
    cdef int drop_kept(self, bint newest) except -1
    cdef int touch(self, bint requests, int64_t start, int64_t stop, uint64_t anomalies) except -1
