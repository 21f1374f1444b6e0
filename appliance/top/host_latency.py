"""Response times by host: the 95th percentile of each over the last minute, in bounded memory.

Buckets are 9 % wide and slots ten seconds long, so memory does not depend on the number of events. The sender of the
traffic chooses the names, so all hosts after the first thousand share one entry, "(others)".
"""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

SLOT_S = 10
SLOTS = 6
MAX_HOSTS = 1000
OTHERS = "(others)"
STEPS = 8  # buckets per factor of two


class Host(NamedTuple):
    """One host over the last minute; times in seconds."""

    name: str
    p95_s: float
    median_s: float
    responses: int
    errors: int  # of the responses, with a status of 500 or more


class _Minute:
    """The slots of one host."""

    __slots__ = ("errors", "slots")

    def __init__(self) -> None:
        self.slots: dict[int, Counter[int]] = {}  # by number of the slot: responses by bucket
        self.errors: Counter[int] = Counter()

    def forget(self, before: int) -> bool:
        """Drop slots older than a minute. Return whether any is left."""
        for slot in [slot for slot in self.slots if slot < before]:
            del self.slots[slot]
            self.errors.pop(slot, None)
        return bool(self.slots)


class HostTimes:
    """Response times by host. `now` is any monotonic clock in seconds."""

    def __init__(self) -> None:
        self._hosts: dict[str, _Minute] = {}

    def add(self, host: str, seconds: float, *, error: bool, now: float) -> None:
        """Add one response."""
        minute = self._hosts.get(host)
        if minute is None:
            if len(self._hosts) >= MAX_HOSTS:
                host = OTHERS
            minute = self._hosts.setdefault(host, _Minute())
        slot = int(now // SLOT_S)
        minute.slots.setdefault(slot, Counter())[_bucket(seconds)] += 1
        minute.errors[slot] += error

    def worst(self, count: int, now: float) -> list[Host]:
        """Return the slowest hosts of the last minute, slowest first."""
        oldest = int(now // SLOT_S) - SLOTS + 1
        self._hosts = {name: minute for name, minute in self._hosts.items() if minute.forget(oldest)}
        found = [_summary(name, minute) for name, minute in self._hosts.items()]
        return sorted(found, key=lambda host: (-host.p95_s, -host.responses, host.name))[:count]


def _bucket(seconds: float) -> int:
    return math.floor(math.log2(max(seconds, 1e-6)) * STEPS)


def _summary(name: str, minute: _Minute) -> Host:
    total: Counter[int] = sum(minute.slots.values(), Counter())
    responses = total.total()
    return Host(name, _quantile(total, 0.95), _quantile(total, 0.5), responses, minute.errors.total())


def _quantile(counts: Counter[int], share: float) -> float:
    """Return the upper bound of the bucket in which the cumulated share is reached."""
    wanted, seen = share * counts.total(), 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= wanted:
            return float(2 ** ((bucket + 1) / STEPS))
    return 0.0
