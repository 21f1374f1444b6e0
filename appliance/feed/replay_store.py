"""The messages that the feed published lately, kept for replay.

Bounded in bytes; the oldest message of all topics is evicted first. Pure. The kept messages of each topic are
contiguous and end with the last one, so two numbers describe them.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

OVERHEAD = 256  # bytes a message costs beside its body: objects, and its places in two tables


class Stored(NamedTuple):
    """A published message: how many events it holds, and its bytes."""

    events: int
    body: bytes


class Store:
    """At most `limit` bytes of messages by topic and sequence."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0  # bytes, OVERHEAD included
        self._evicted = 0
        self._order: deque[tuple[str, int]] = deque()
        self._kept: dict[str, dict[int, Stored]] = {}
        self._first: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._order)

    def put(self, topic: str, sequence: int, events: int, body: bytes) -> None:
        """Store the next message of its topic. One that is larger than the whole store leaves it empty."""
        self._order.append((topic, sequence))
        self._kept.setdefault(topic, {})[sequence] = Stored(events, body)
        self._first.setdefault(topic, sequence)
        self.size += len(body) + OVERHEAD
        while self.size > self.limit:
            self._evict()

    def get(self, topic: str, sequence: int) -> Stored | None:
        """Return the message, or None if it is not stored."""
        return self._kept.get(topic, {}).get(sequence)

    def first(self, topic: str) -> int:
        """Return the oldest stored number, or else the next; lower ones are gone. 1 before the first."""
        return self._first.get(topic, 1)

    def take_evicted(self) -> int:
        """Return how many messages were evicted since the last call."""
        count, self._evicted = self._evicted, 0
        return count

    def _evict(self) -> None:
        topic, sequence = self._order.popleft()
        gone = self._kept[topic].pop(sequence)
        self._first[topic] = sequence + 1
        self.size -= len(gone.body) + OVERHEAD
        self._evicted += 1
