# cython: language_level=3
"""The way of one frame, from its record to the last piece that it sets free."""
from libc.stdint cimport uint8_t

from appliance.batch cimport Record
from workers.table cimport Table


cdef bint receive(Table table, const uint8_t* frame, const Record* record, int capture) except -1
