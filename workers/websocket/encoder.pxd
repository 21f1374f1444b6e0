# cython: language_level=3
from workers.events.record_encoder cimport RecordEncoder


cdef class WebSocketEncoder(RecordEncoder):
    cdef object parameters      # Parameters, whose values are redacted in url
