"""What a worker sends to the feed: events of one topic behind a header. What a capture sends is in batch.pxd."""

from __future__ import annotations

import struct
from typing import NamedTuple

EVENT_MAGIC = b"HCE1"
EVENT_HEADER = struct.Struct("<4sBBHIQQQ")  # magic, topic, flags, worker, events, epoch, sequence, cumulative
EVENT_END = 255  # the topic index that says: nothing more comes from this worker

Buffer = bytes | bytearray | memoryview


class BadMessage(ValueError):
    """The bytes are not a message of this version of the links."""


class EventMessage(NamedTuple):
    """One message from a worker to the feed; `cumulative` is the worker's events sent before it, over all its lives."""

    topic: int
    worker: int
    events: int
    epoch: int
    sequence: int
    cumulative: int
    body: Buffer

    @property
    def end(self) -> bool:
        """Whether it says that nothing follows."""
        return self.topic == EVENT_END


def event_header(message: EventMessage) -> bytes:
    """What stands before the body."""
    topic, worker, events, epoch, sequence, cumulative, _ = message
    return EVENT_HEADER.pack(EVENT_MAGIC, topic, 0, worker, events, epoch, sequence, cumulative)


def pack_events(message: EventMessage) -> bytes:
    """The whole message. Copies the body once."""
    return event_header(message) + message.body


def unpack_events(data: Buffer) -> EventMessage:
    """Reads a message; its body is a view into `data`. Raises BadMessage."""
    if len(data) < EVENT_HEADER.size:
        raise BadMessage(f"a message of events has at least {EVENT_HEADER.size} bytes, not {len(data)}")
    magic, topic, _flags, worker, events, epoch, sequence, cumulative = EVENT_HEADER.unpack_from(data)
    if magic != EVENT_MAGIC:
        raise BadMessage("a message of events starts with HCE1")
    return EventMessage(topic, worker, events, epoch, sequence, cumulative, memoryview(data)[EVENT_HEADER.size :])
