# cython: language_level=3
"""The body of a message: its bytes go to a BodyReader."""
from libc.stdint cimport uint32_t

from workers.core.context cimport Context
from workers.http1.message cimport Message
from workers.http1.message_reader cimport MessageReader


cdef int begin_body(MessageReader reader, uint32_t bombs, Context cx) except -1
cdef int leave_out_body(MessageReader reader) except -1
cdef int end_body(Message message, uint32_t* bombs, Context cx) except -1
