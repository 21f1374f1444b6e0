"""A captured frame, and what is known of it."""

from __future__ import annotations

import datetime as clock
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metadata:
    """When a frame was captured, how much of it, and where."""

    ts_ns: int
    caplen: int
    wirelen: int
    interface: str

    @property
    def truncated(self) -> bool:
        """Whether the frame was longer on the wire."""
        return self.caplen < self.wirelen

    @property
    def time(self) -> float:
        """Seconds since the epoch."""
        return self.ts_ns / 1e9

    @property
    def datetime(self) -> clock.datetime:
        """In UTC, to the microsecond."""
        seconds, nanos = divmod(self.ts_ns, 1_000_000_000)
        return clock.datetime.fromtimestamp(seconds, clock.UTC).replace(microsecond=nanos // 1000)


@dataclass(frozen=True, slots=True)
class Packet:
    """One frame from the link header on."""

    data: bytes
    metadata: Metadata
    link_type: int
