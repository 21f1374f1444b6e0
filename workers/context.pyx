# cython: language_level=3
"""One per data path; made by who owns it (Pipeline, Assembler), handed down to tables, connections and streams."""
from workers.history cimport History
from workers.limits cimport Limits
from workers.tally cimport Tally


cdef class Context:
    """Limits, counters, the recent past, the clock."""

    def __init__(self, Limits limits not None, bodies=None):
        self.limits = limits
        self.tally = Tally()
        self.history = History()
        self.bodies = bodies
        self.out = []
