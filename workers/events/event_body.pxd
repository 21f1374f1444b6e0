# cython: language_level=3
"""EventBody: the growing message of finished events."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from appliance.ipc.event_runs cimport Run
from workers.core.backlog_share cimport Share, Taken

cdef enum:
    TIME_BYTES = 30             # of the text that time() writes


cdef class EventBody:
    cdef uint8_t* data                  # the growing body: a line for each event, in the order in which they ended
    cdef size_t used
    cdef size_t capacity
    cdef uint64_t lines
    cdef Run* runs                      # which of them are of which topic
    cdef size_t runs_used
    cdef size_t runs_capacity
    cdef list full                      # (runs, events, body) of those that reached the limit
    cdef size_t limit                   # bytes of a body and its runs
    cdef readonly uint64_t events       # waiting for take()
    cdef readonly uint64_t size         # their bytes
    cdef Share share                    # part of the backlog that a connection may have
    cdef uint64_t second                # the second that second_text shows
    cdef uint8_t[20] second_text        # "2026-11-22T10:00:00"

    cdef int close(self, size_t end) except -1
    cdef int line(self, int topic, size_t length) except -1
    cdef uint8_t* room(self, size_t bound) except NULL
    cdef int append(self, int topic, const uint8_t* end, Taken* taken) except -1
    cdef uint8_t* time(self, uint8_t* out, uint64_t ns) noexcept
