# cython: language_level=3
"""The bodies of an HTTP/2 exchange: the bytes of DATA go to a BodyReader if events describe the content of bodies."""
from cpython.buffer cimport PyBUF_READ
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport uint32_t, uint64_t

from workers.core.counters cimport Tally
from workers.http2.anomalies cimport BODY_CODING_FAILED, BODY_CODING_UNKNOWN, BODY_LIMIT
from workers.http2.exchange cimport CLIENT, Exchange, Half, HeaderSection
from workers.http2.frames cimport FrameReader
from workers.http2.grpc cimport lose_messages, take_messages
from workers.http2.header_list cimport CONTENT_ENCODING, CONTENT_TYPE

cdef enum:                      # places in stats.BODY_OUTCOMES
    FAILED = 3
    UNKNOWN = 4
    LIMIT = 5

cdef enum:
    PART = 206                  # status of a response with partial content


cdef inline object reader_of(Exchange exchange, int side):
    return exchange.request_body if side == CLIENT else exchange.response_body


cdef int begin_body(Exchange exchange, int side, HeaderSection section, bodies, uint32_t bombs) except -1:
    """Start the BodyReader of a side. section: its header fields, all of which are known. bombs: as of Bodies.begin()."""
    cdef bytes head = b""
    for name, value in ((b"content-type", section.value(CONTENT_TYPE)), (b"content-encoding", section.value(CONTENT_ENCODING))):
        if value is not None:
            head += b"\n%b: %b" % (name, value)
    if side != CLIENT and section.status() == PART and bodies.taps is not None:
        for name, value in section.items():         # it has no token
            if name == b"content-range" and value is not None:
                head += b"\ncontent-range: %b" % value
    reader = bodies.begin(head, 0 if side == CLIENT else section.status(), bombs)
    if side == CLIENT:
        exchange.request_body = reader
    else:
        exchange.response_body = reader
    return 0


cdef int take_data(Exchange exchange, int side, FrameReader reader, uint64_t ts_ns) except -1:
    """Give the part of DATA that a reader has read to whatever reads the body: its BodyReader, a tunnel, the count of gRPC.

    It may be missing. Its bytes stay valid until they have been read. Return the bytes of memory that the exchange keeps.
    """
    cdef Half* half = &exchange.halves[side]
    half.body_bytes += reader.body_bytes
    half.missing += reader.missing
    if reader.body_inexact:
        half.loss = True
    if exchange.tunnel is not None:
        if reader.missing:
            exchange.tunnel.lose(side, reader.missing)
        elif reader.body_bytes:
            exchange.tunnel.take(side, reader.body, reader.body_bytes, ts_ns)
        if reader.body_inexact:
            exchange.tunnel.lose_place(side)
        return 0
    content = reader_of(exchange, side)
    if content is not None and reader.missing:
        content.gap()
    elif content is not None and reader.body_bytes:
        content.take(PyMemoryView_FromMemory(<char*>reader.body, <Py_ssize_t>reader.body_bytes, PyBUF_READ))
    if not exchange.grpc:
        return 0
    if not reader.missing:
        return take_messages(exchange, side, reader.body, reader.body_bytes)
    lose_messages(&exchange.messages[side], reader.missing)
    return 0


cdef int end_body(Exchange exchange, int side, uint32_t* bombs) except -1:
    """End the BodyReader of a side, whose facts the encoder reads."""
    reader = reader_of(exchange, side)
    if reader is None:
        return 0
    if exchange.halves[side].loss:
        reader.gap()
    facts = reader.end(exchange.halves[side].whole and not exchange.halves[side].loss)
    if facts.outcome == FAILED:
        exchange.anomalies |= BODY_CODING_FAILED
    elif facts.outcome == UNKNOWN:
        exchange.anomalies |= BODY_CODING_UNKNOWN
    elif facts.outcome == LIMIT:
        exchange.anomalies |= BODY_LIMIT
    bombs[0] += <bint>facts.bomb
    return 0


cdef int count_body(facts, Tally tally) except -1:
    """Count the outcome of a body that a BodyReader has read."""
    tally.bodies[<int>facts.outcome] += 1
    tally.decoded += <uint64_t>facts.size if facts.codings else 0
    tally.out_of_time += <bint>facts.out_of_time
    return 0
