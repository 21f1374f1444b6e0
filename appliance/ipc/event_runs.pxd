# cython: language_level=3
"""The table in front of the lines of a message of events; it maps runs of lines to topics."""
from libc.stdint cimport uint32_t

cdef enum:
    RUN_EVENTS = 0xFFFFFF       # of a run, at most

ctypedef struct Run:            # lines of one topic that stand behind each other
    uint32_t bytes              # a newline behind each line included
    uint32_t what               # topic << 24 | events
