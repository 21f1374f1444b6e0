"""Keeping: the frames of chosen events, copied out of a ring while a recorder writes it.

Chosen events wait until the recorder has written their frames, and until there are several, because each look into the
ring reads its indexes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from appliance.expression.event_filter import Test, decode_fields
from appliance.extract.connections import Connections
from appliance.extract.extract import Extract
from appliance.extract.kept_folder import KeptFolder
from appliance.extract.sources import RecordedFrames
from appliance.ring.pcapng import PcapngWriter

SETTLE_S = 2.0  # between an event and the look for its frames: more than they take to the disk
MOST_BYTES = 16 << 20  # of events that wait; with more, the look comes early
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def is_wanted(event: bytes, where: Test, since: str = "") -> bool:
    """Return whether an event matches, and names a connection. since: the earliest time, as events write it."""
    try:
        fields = decode_fields(event)
        return fields.timestamp >= since and where(fields) and bool(Connections([_decode(event)]).all)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        return False  # its sender is not an appliance of this version


class Waiting:
    """Chosen events whose frames are not looked for yet. Times are those of one monotonic clock, in seconds."""

    def __init__(self, every_s: float) -> None:
        self.every_s = max(every_s, SETTLE_S)
        self._events: deque[tuple[float, bytes]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._events)

    @property
    def full(self) -> bool:
        """Return whether there is memory for no more."""
        return self._bytes >= MOST_BYTES

    def add(self, event: bytes, now: float) -> None:
        """Add an event."""
        self._events.append((now, event))
        self._bytes += len(event)

    def due(self, now: float) -> list[bytes]:
        """Take the events whose frames are to be looked for now."""
        if self.full:
            return self.rest()
        if not self._events or now - self._events[0][0] < self.every_s:
            return []
        found = []
        while self._events and now - self._events[0][0] >= SETTLE_S:
            found.append(self._events.popleft()[1])
            self._bytes -= len(found[-1])
        return found

    def rest(self) -> list[bytes]:
        """Take all of them."""
        found = [event for _, event in self._events]
        self._events.clear()
        self._bytes = 0
        return found


class Kept(NamedTuple):
    """Counts of events: those with frames in the folder, and those without, by reason."""

    kept: int = 0
    frames: int = 0
    not_in_ring: int = 0
    too_large: int = 0  # all of them: their frames alone exceed the limit of the folder
    failed: int = 0  # all of them: the disk did not take their frames
    fault: OSError | None = None


def keep(ring: Path, folder: KeptFolder, lines: Sequence[bytes], on_frame: Callable[[], object] = bool) -> Kept:
    """Copy the frames of some wanted events into the folder. on_frame: a call for each frame of the ring."""
    connections = Connections([_decode(line) for line in lines])

    def write(out: BinaryIO) -> None:
        recorded = RecordedFrames(ring, connections, on_frame)
        try:
            extract = Extract([recorded], connections)
            extract.survey()
            extract.write(PcapngWriter(out, f"{len(lines)} events of {len(connections.all)} connections"))
        finally:
            recorded.close()

    try:
        path = folder.add(write, b"".join(line + b"\n" for line in lines), datetime.now(UTC))
    except OSError as fault:
        return Kept(failed=len(lines), fault=fault)
    if path is None:
        return Kept(too_large=len(lines))
    lost = sum(len(wanted.events) for wanted in connections.all if not wanted.written)
    return Kept(len(lines) - lost, sum(wanted.written for wanted in connections.all), lost)
