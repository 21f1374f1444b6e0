# cython: language_level=3
"""The way of one frame, from its record to the last piece that it releases."""
from libc.stdint cimport uint8_t

from appliance.ipc.frame_batch cimport Record
from workers.tcp.connection_table cimport Table


cdef bint receive(Table table, const uint8_t* frame, const Record* record, int capture) except -1
