# cython: language_level=3
"""Share: one connection's part of the feed's backlog, and of the output of a second."""
from libc.stdint cimport int64_t, uint64_t


cdef struct Taken:              # a connection's use of both
    uint64_t early              # upper bound of the bytes of its events in bodies up to number early_to
    uint64_t early_to
    uint64_t late               # … in bodies behind it, up to late_to
    uint64_t late_to
    int64_t credit              # bytes that it may still emit, as of paid_ns
    uint64_t paid_ns            # clock of the data path; 0: it has emitted no event yet


cdef class Share:
    cdef double part            # of the room that is left: one connection's largest part of the backlog
    cdef int64_t rate           # bytes a second
    cdef bint on
    cdef uint64_t number        # of the body that grows: bodies before it are complete
    cdef uint64_t gone          # the feed has received every body before this one
    cdef uint64_t room          # bytes that the backlog has room for beside those bodies
    cdef uint64_t now           # clock of the data path

    cdef bint refuses(self, Taken* taken, uint64_t made) noexcept nogil
    cdef void add(self, Taken* taken, uint64_t length) noexcept nogil
