"""The messages of a worker to the feed: events behind a header. frame_batch.pxd has those of a capture.

    header   runs (which lines are of which topic, see event_runs.pxd)   lines, in the order in which their events ended

One message has the events of all topics, so that an output can keep their order; the feed splits it by topic
(event_runs.pyx).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from appliance.ipc.shared_memory import LeaseTail, SlotLease

EVENT_MAGIC = b"HCE2"
EVENT_HEADER = struct.Struct("<4sB1xHIIQQQ")  # magic, flags, worker, events, runs, epoch, sequence, cumulative
RUN = struct.Struct("<II")  # bytes of its lines with their newlines, topic << 24 | events
END = 1  # of the flags: nothing more comes from this worker

HEAD_BYTES = 4096  # read of a batch at once: its header, and the runs of nearly every one

Buffer = bytes | bytearray | memoryview
Body = Buffer | LeaseTail  # of a message of events


class BadMessage(ValueError):
    """The bytes are not a message of this version of the links."""


class EventMessage(NamedTuple):
    """One message from a worker to the feed; `cumulative` is the worker's events sent before it, over all its lives."""

    worker: int
    events: int
    epoch: int
    sequence: int
    cumulative: int
    runs: Buffer = b""
    body: Body = b""
    end: bool = False


def event_header(message: EventMessage) -> bytes:
    """Return the header of a message, with its table of runs."""
    worker, events, epoch, sequence, cumulative, runs, _, end = message
    head = EVENT_HEADER.pack(EVENT_MAGIC, end, worker, events, len(runs) // RUN.size, epoch, sequence, cumulative)
    return head + runs


def pack_events(message: EventMessage) -> bytes:
    """Return the whole message. Copies the body once."""
    return event_header(message) + bytes(message.body)


def pack_runs(runs: Iterable[tuple[int, int, int]]) -> bytes:
    """Return the table of some runs: topic, events, and the bytes of their lines with their newlines."""
    return b"".join(RUN.pack(length, topic << 24 | events) for topic, events, length in runs)


def unpack_runs(runs: Buffer) -> list[tuple[int, int, int]]:
    """Return the runs of a table."""
    return [(what >> 24, what & 0xFFFFFF, length) for length, what in RUN.iter_unpack(runs)]


def unpack_events(data: Buffer | SlotLease) -> EventMessage:
    """Read a message; its runs and body are views into `data`.

    The body of a SlotLease is not read. Raises BadMessage, or SharedMemoryError if a SlotLease was truncated.
    """
    if len(data) < EVENT_HEADER.size:
        raise BadMessage(f"a message of events has at least {EVENT_HEADER.size} bytes, not {len(data)}")
    head = data.start(HEAD_BYTES) if isinstance(data, SlotLease) else data
    magic, flags, worker, events, runs, epoch, sequence, cumulative = EVENT_HEADER.unpack_from(head)
    if magic != EVENT_MAGIC:
        raise BadMessage("a message of events starts with HCE2")
    begin = EVENT_HEADER.size + runs * RUN.size
    if begin > len(data):
        raise BadMessage(f"the table of a message has {runs} runs, and the message ends before them")
    end = bool(flags & END)
    if isinstance(data, SlotLease):
        head = data.start(begin) if begin > HEAD_BYTES else head
        return EventMessage(
            worker, events, epoch, sequence, cumulative, head[EVENT_HEADER.size : begin], data.tail(begin), end
        )
    view = memoryview(data)
    table, body = view[EVENT_HEADER.size : begin], view[begin:]
    return EventMessage(worker, events, epoch, sequence, cumulative, table, body, end)
