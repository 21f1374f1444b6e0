# cython: language_level=3
"""Who talks to whom: the part of an event that is the same for every event of a connection."""
from workers.transaction cimport Flow


cdef bytes parties(Flow flow)
