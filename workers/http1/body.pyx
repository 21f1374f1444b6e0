# cython: language_level=3
"""The body of a message: its bytes go to a BodyReader if events describe the content of bodies."""
from libc.stdint cimport uint32_t, uint64_t

from workers.core.context cimport Context
from workers.http1.grpc_web cimport body_reader, is_grpc_web
from workers.http1.message cimport BODY_CODING_FAILED, BODY_CODING_UNKNOWN, BODY_LIMIT, Message
from workers.http1.message_reader cimport ENDING, MessageReader

cdef enum:                      # places in stats.BODY_OUTCOMES
    FAILED = 3
    UNKNOWN = 4
    LIMIT = 5


cdef int begin_body(MessageReader reader, uint32_t bombs, Context cx) except -1:
    """Start a BodyReader for the body of the message being read. bombs: bodies of the connection that reached a limit."""
    cdef Message message = reader.message
    cdef object seen = message.body             # without a head: the bytes before the reader recognized a body
    message.body = None
    if reader.state != ENDING and (cx.bodies is not None or is_grpc_web(message)):
        message.body = body_reader(message, bombs, cx)
        if seen is not None:
            message.body.take(seen)
    return 0


cdef int leave_out_body(MessageReader reader) except -1:
    """End the response being read without a body, whatever its head declares."""
    reader.message.body = None
    return reader.frame(True, False)


cdef int end_body(Message message, uint32_t* bombs, Context cx) except -1:
    """Count the outcome of a body that a BodyReader has read."""
    facts = message.body.end(message.complete)
    if facts is None:
        return 0
    cx.tally.bodies[<int>facts.outcome] += 1
    cx.tally.decoded += <uint64_t>facts.size if facts.codings else 0
    if facts.outcome == FAILED:
        message.anomalies |= BODY_CODING_FAILED
    elif facts.outcome == UNKNOWN:
        message.anomalies |= BODY_CODING_UNKNOWN
    elif facts.outcome == LIMIT:
        message.anomalies |= BODY_LIMIT
    cx.tally.out_of_time += <bint>facts.out_of_time
    bombs[0] += <bint>facts.bomb
    return 0
