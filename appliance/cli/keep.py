"""The `appliance keep` command: copies the frames of chosen events out of a ring, while a sensor records it.

A subscriber of the feed, outside the sensor. Chosen events wait until the recorder has written their frames, and until
there are several, because each look into the ring reads its indexes.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from appliance.cli.event_filter import Test, decode_fields
from appliance.cli.events import OF_TRAFFIC
from appliance.extract.connections import Connections
from appliance.extract.extract import Extract
from appliance.extract.kept_folder import KeptFolder
from appliance.extract.sources import RecordedFrames
from appliance.native.safe_files import Unusable
from appliance.ring.pcapng import PcapngWriter
from appliance.subscriber.subscriber import Gap, Received, Subscriber
from appliance.text.terminal import safe, stderr_line

SETTLE_S = 2.0  # between an event and the look for its frames: more than they take to the disk
TURN_S = 0.25  # longest wait for an event
LAST_S = 5.0  # for the messages in the queue of a command that is stopped
MOST_BYTES = 16 << 20  # of events that wait; with more, the look comes early
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class KeepArgs(NamedTuple):
    """The arguments of the command. where: a test for events. since: as `appliance events` has it."""

    record: Path
    folder: Path
    where: Test
    most_bytes: int
    every_s: float = 10.0
    topics: Sequence[str] = ()
    since: str = ""
    endpoint: str = ""
    replay: str = ""
    server_key: str = ""
    key: str = ""


class Waiting:
    """Chosen events whose frames are not looked for yet. Times are those of one monotonic clock, in seconds."""

    def __init__(self, every_s: float) -> None:
        self._every_s = max(every_s, SETTLE_S)
        self._events: deque[tuple[float, bytes]] = deque()
        self._bytes = 0

    def add(self, event: bytes, now: float) -> None:
        """Add an event."""
        self._events.append((now, event))
        self._bytes += len(event)

    def due(self, now: float) -> list[bytes]:
        """Take the events whose frames are to be looked for now."""
        if self._bytes >= MOST_BYTES:
            return self.rest()
        if not self._events or now - self._events[0][0] < self._every_s:
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


class Keeping:
    """The work of the command on one folder, and its counts."""

    def __init__(self, args: KeepArgs, folder: KeptFolder) -> None:
        self.args = args
        self.folder = folder
        self.matched = self.frames = self.files = 0
        self.missed = 0  # events without a frame in the ring, or whose frames could not be written

    def is_wanted(self, event: bytes) -> bool:
        """Return whether the frames of an event are to be kept."""
        try:
            fields = decode_fields(event)
            wanted = fields.timestamp >= self.args.since and self.args.where(fields)
            return wanted and bool(Connections([_decode(event)]).all)
        except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
            return False  # the peer is not a feed of this appliance

    def keep(self, lines: Sequence[bytes]) -> None:
        """Write the frames of some events into the folder."""
        if not lines:
            return
        connections = Connections([_decode(line) for line in lines])

        def write(out: BinaryIO) -> None:
            recorded = RecordedFrames(self.args.record, connections)
            try:
                extract = Extract([recorded], connections)
                extract.survey()
                extract.write(PcapngWriter(out, f"{len(lines)} events of {len(connections.all)} connections"))
            finally:
                recorded.close()

        try:
            path = self.folder.add(write, b"".join(line + b"\n" for line in lines), datetime.now(UTC))
        except OSError as fault:
            self.missed += len(lines)
            where = fault.filename or self.folder.path
            stderr_line(safe(f"{where}: {fault.strerror}; the frames of {len(lines):,} events are not kept"))
            return
        if path is None:
            self.missed += len(lines)
            stderr_line(f"the frames of {len(lines):,} events exceed --bytes {self.folder.most_bytes}")
            return
        self.files += 1
        self.frames += sum(wanted.written for wanted in connections.all)
        lost = sum(len(wanted.events) for wanted in connections.all if not wanted.written)
        self.missed += lost
        if lost:
            stderr_line(f"the ring has no frames of {lost:,} events: record.bytes, record.seconds, or not recorded")


def keep_frames(args: KeepArgs) -> int:
    """Keep frames until a signal; return the exit code. Raises BusError, KeyFault and Unusable."""
    if not args.record.is_dir():
        raise Unusable(f"--record {args.record}: no such folder")
    try:
        folder = KeptFolder(args.folder, args.most_bytes)
    except OSError as fault:
        raise Unusable(f"--to {args.folder}: {fault.strerror}") from fault
    keeping, waiting = Keeping(args, folder), Waiting(args.every_s)
    stop = 0

    def on_signal(number: int, _: object) -> None:
        nonlocal stop
        stop = 128 + number
        signal.signal(number, signal.SIG_DFL)  # the next one kills

    def on_gap(gap: Gap) -> None:
        stderr_line(f"missed {gap.last - gap.first + 1} messages of {gap.topic} ({gap.first} to {gap.last})")

    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, on_signal)
    with Subscriber(
        args.endpoint,
        list(args.topics) or list(OF_TRAFFIC),
        on_gap=on_gap,
        replay=args.replay,
        backfill=bool(args.since),
        server_key=args.server_key,
        key=args.key,
    ) as feed:
        end = 0.0  # of the time for messages that are here already when the command is stopped
        while True:
            if stop and not end:
                end = time.monotonic() + LAST_S
            message: Received | None = feed.receive(0.0 if stop else TURN_S)
            now = time.monotonic()
            if stop and (message is None or now >= end):
                break
            for event in message.events if message is not None and message.topic.startswith(OF_TRAFFIC) else ():
                if keeping.is_wanted(event):
                    keeping.matched += 1
                    waiting.add(event, now)
            keeping.keep(waiting.due(now))
    keeping.keep(waiting.rest())
    folder.close()
    stderr_line(
        f"{keeping.matched:,} events matched, {keeping.frames:,} frames kept in {keeping.files:,} files, "
        f"{keeping.missed:,} events without frames, {folder.removed:,} files removed"
    )
    return stop
