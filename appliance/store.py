"""What the feed published lately, kept to be sent again: bounded in bytes, the oldest of all topics goes first.

Pure. Of each topic the kept messages are contiguous and end with the last one, so two numbers say what can be had.
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
        """Keeps the next message of its topic. One that is larger than the whole store leaves it empty."""
        self._order.append((topic, sequence))
        self._kept.setdefault(topic, {})[sequence] = Stored(events, body)
        self._first.setdefault(topic, sequence)
        self.size += len(body) + OVERHEAD
        while self.size > self.limit:
            self._evict()

    def get(self, topic: str, sequence: int) -> Stored | None:
        """The message, or None when it is not kept."""
        return self._kept.get(topic, {}).get(sequence)

    def first(self, topic: str) -> int:
        """The oldest number that is kept, or would be next: below it everything is gone. 1 before the first."""
        return self._first.get(topic, 1)

    def take_evicted(self) -> int:
        """How many messages had to go since the last call."""
        count, self._evicted = self._evicted, 0
        return count

    def _evict(self) -> None:
        topic, sequence = self._order.popleft()
        gone = self._kept[topic].pop(sequence)
        self._first[topic] = sequence + 1
        self.size -= len(gone.body) + OVERHEAD
        self._evicted += 1
