# cython: language_level=3
"""Split a message of events by topic.

A worker writes its events in the order in which they ended, whatever their topic, and the output keeps that order. The
feed's messages are of one topic each: here their lines are picked out of the message, by the table of runs in front of
it. The tables come from a worker, which may be hijacked, so they are proved against the lines before a byte is copied.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from appliance.ipc.event_batch import BadMessage

cdef enum:
    MOST = 256                  # topics: as many as a run can name


def by_topic(runs not None, body not None, int topics, bint lines):
    """Return [(topic index, events, bytes of their lines, the lines)] for each topic of the message.

    lines: False leaves the lines empty, and of the body only the length is read. Newlines separate the lines and none
    ends them, as in the body. Raises BadMessage if the table does not describe the body.
    """
    cdef Py_buffer table, text
    PyObject_GetBuffer(runs, &table, PyBUF_SIMPLE)
    try:
        if not lines:
            text.len = len(body)
            return _by_topic(&table, &text, topics, lines)
        PyObject_GetBuffer(body, &text, PyBUF_SIMPLE)
        try:
            return _by_topic(&table, &text, topics, lines)
        finally:
            PyBuffer_Release(&text)
    finally:
        PyBuffer_Release(&table)


cdef list _by_topic(Py_buffer* table, Py_buffer* text, int topics, bint lines):
    cdef uint64_t[MOST] events, sizes
    cdef uint8_t* places[MOST]
    cdef const uint8_t* source
    cdef const uint8_t* each
    cdef Py_ssize_t i, count = table.len // <Py_ssize_t>sizeof(Run)
    cdef uint64_t total = 0, length
    cdef uint32_t topic
    cdef Run run
    cdef list out = []
    memset(events, 0, sizeof(events))
    memset(sizes, 0, sizeof(sizes))
    for i in range(count):
        memcpy(&run, <const uint8_t*>table.buf + i * sizeof(Run), sizeof(Run))      # wherever it lies
        topic = run.what >> 24
        if topic >= <uint32_t>topics or run.what & RUN_EVENTS == 0 or run.bytes < 2:
            raise BadMessage("a run of events is empty, or of a topic that does not exist")
        events[topic] += run.what & RUN_EVENTS
        sizes[topic] += run.bytes
        total += run.bytes
    if count == 0 or table.len != count * <Py_ssize_t>sizeof(Run) or total != <uint64_t>text.len + 1:
        raise BadMessage("the table of topics does not describe the events behind it")
    for i in range(topics):
        if events[i]:
            made = PyBytes_FromStringAndSize(NULL, sizes[i] - 1) if lines else b""
            places[i] = <uint8_t*>PyBytes_AS_STRING(made)
            out.append((i, events[i], sizes[i] - 1, made))
    if not lines:
        return out
    source = <const uint8_t*>text.buf
    for i in range(count):
        memcpy(&run, <const uint8_t*>table.buf + i * sizeof(Run), sizeof(Run))
        topic = run.what >> 24
        sizes[topic] -= run.bytes
        each = source
        source += run.bytes
        length = run.bytes - (1 if sizes[topic] == 0 else 0)                        # behind the last line is no newline
        memcpy(places[topic], each, length)
        places[topic] += length
    return out
