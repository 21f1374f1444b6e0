"""The `appliance keep` command: copies the frames of chosen events out of a ring, while a sensor records it.

A subscriber of the feed, outside the sensor. record.only does the same inside it (appliance/keeper).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from appliance.cli.events import OF_TRAFFIC
from appliance.expression.event_filter import Test
from appliance.extract.keeping import Waiting, is_wanted, keep
from appliance.extract.kept_folder import KeptFolder
from appliance.native.safe_files import Unusable
from appliance.subscriber.subscriber import Gap, Received, Subscriber
from appliance.text.terminal import safe, stderr_line

TURN_S = 0.25  # longest wait for an event
LAST_S = 5.0  # for the messages in the queue of a command that is stopped


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


class Keeping:
    """The work of the command on one folder, and its counts."""

    def __init__(self, args: KeepArgs, folder: KeptFolder) -> None:
        self.args = args
        self.folder = folder
        self.matched = self.frames = self.files = 0
        self.missed = 0  # events without a frame in the ring, or with frames that could not be written

    def is_wanted(self, event: bytes) -> bool:
        """Return whether the frames of an event are to be kept."""
        return is_wanted(event, self.args.where, self.args.since)

    def keep(self, lines: Sequence[bytes]) -> None:
        """Write the frames of some events into the folder."""
        if not lines:
            return
        found = keep(self.args.record, self.folder, lines)
        self.missed += found.not_in_ring + found.too_large + found.failed
        if found.fault is not None:
            where = found.fault.filename or self.folder.path
            stderr_line(safe(f"{where}: {found.fault.strerror}; the frames of {len(lines):,} events are not kept"))
        elif found.too_large:
            stderr_line(f"the frames of {len(lines):,} events exceed --bytes {self.folder.most_bytes}")
        else:
            self.files += 1
            self.frames += found.frames
            if lost := found.not_in_ring:
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
