"""Snapshots of HTTP/2 connections in memory whose last writer may have been hijacked: the next worker reads any bytes.

Whatever stands there, the limits hold and each event is one. If a worker has written it and nothing was lost, no value
differs from those of a worker that lives on.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from typing import Any

from builders import Frame, batches_of, config
from cases import Case, Item
from cover import Exact
from drive import within_limits
from target_http import AS_IT_IS, frames_of
from target_http2 import PREFACE
from target_http2_stream import CONTINUATION, DATA, HEADERS, SETTINGS, calls, frame
from targets import Target

from appliance.config.schema import Config
from appliance.ipc.frame_batch import header
from workers.events import schema as events
from workers.pipeline import Pipeline

FIRST_SLOT = 4096  # its place in the memory
SNAPSHOT = FIRST_SLOT + 64  # the first of its two
SLOTS = 2
SENT, WRITTEN, KILLED = range(3)  # what an item is: bytes of a side, bytes written into the memory, a kill
FINISHED, READ, UNREAD = range(3)  # what has become of the batch before a kill
UNUSUAL = ("http2_losses", "http2_joined", "http2_violations", "http2_joins_given_up", "http2_stray_frames")
CONFIGS = (
    config(http={"headers": ["all"]}),
    config(http={"headers": ["all"], "max_head_bytes": 1024, "max_streams": 2, "max_total_table_bytes": 4096}),
)
PATH = b"/s.S/Call"
FIRST = b"\x83\x86\x44" + bytes([len(PATH)]) + PATH  # :path enters the table
AGAIN = b"\x83\x86\xbe"  # the same by its index


def sent(side: int, data: bytes, size: int = 0) -> Item:
    return (SENT, side, AS_IT_IS, size, 0, 1000), data


def written(place: int, data: bytes) -> Item:
    return (WRITTEN, 0, 0, 0, place, 0), data


def seeds() -> list[Case]:
    kill: Item = ((KILLED, 0, 0, 0, 0, 0), b"")
    opening = [sent(0, PREFACE + frame(SETTINGS, 0, 0)), sent(1, frame(SETTINGS, 0, 0) + frame(SETTINGS, 1, 0))]
    begun = [sent(0, frame(HEADERS, 5, 1, FIRST)), sent(1, frame(HEADERS, 5, 1, b"\x88"))]
    more = [
        each
        for stream in range(3, 11, 2)
        for each in (sent(0, frame(HEADERS, 5, stream, AGAIN)), sent(1, frame(HEADERS, 5, stream, b"\x88")))
    ]
    split = [sent(0, frame(HEADERS, 1, 11, FIRST[:4])), kill, sent(0, frame(CONTINUATION, 4, 11, FIRST[4:]))]
    data = [sent(0, frame(HEADERS, 4, 13, AGAIN)), sent(0, frame(DATA, 1, 13, bytes(900))[:300]), kill]
    grpc = [sent(side, said) for side, said in calls(6)]
    cases = [
        Case([0, FINISHED, 1], [*opening, *begun, kill, *more]),
        Case([1, READ, 1], [*opening, *begun, *more, kill, *more]),
        Case([0, READ, 1], [*opening, *begun, *more, *split]),
        Case([0, UNREAD, 1], [*opening, *begun, *data, sent(0, bytes(600)), *more, kill, kill, *more]),
        Case([1, FINISHED, 1], [*opening, *grpc[:7], kill, *grpc[7:]]),
    ]
    said = [*opening, *begun, *more[:4], *(sent(side, part, 9) for side, part in calls(9)[10:])]
    for place in range(2, len(said)):
        cases.append(Case([place % 2, place % 2, 1], [*said[:place], kill, *said[place:]]))
    for place in (
        8,
        16,
        24,
        FIRST_SLOT,
        FIRST_SLOT + 48,
        SNAPSHOT,
        SNAPSHOT + 8,
        SNAPSHOT + 32,
        SNAPSHOT + 48,
        SNAPSHOT + 64,
    ):
        for value in (b"\xff" * 8, b"\0" * 8, b"\1\0\0\0"):
            cases.append(Case([0, FINISHED, 1], [*opening, *begun, kill, written(place, value), *more]))
    return cases


def steps_of(case: Case) -> list[tuple[int, list[Frame], int, bytes]]:
    """(what it is; frames; place and bytes to be written) of a case: all frames up to a kill or a writing are one."""
    said: list[Item] = []
    out: list[tuple[int, list[Frame], int, bytes]] = []
    frames: list[Frame] = []
    done = 0

    def flush() -> None:
        nonlocal done, frames
        frames = [(ts, frame) for ts, frame, _ in frames_of(Case([0, case.knob(2, 3)], said))]
        if len(frames) > done:
            out.append((SENT, frames[done:], 0, b""))
        done = max(done, len(frames))

    for (what, side, fate, size, place, idle), data in case.items:
        if what % 3 == SENT:
            said.append(((side, fate, size, 0, idle % 10_000_000), data))
            continue
        flush()
        out.append((what % 3, [], place, data))
    flush()
    return out


class Shard:
    """The workers of one shard, one after the other, and what they have left."""

    def __init__(self, settings: Config) -> None:
        self.settings = settings
        self.memory = bytearray(Pipeline(settings).kept_bytes(SLOTS))
        self.events: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()
        self.begin()

    def begin(self) -> None:
        self.worker = Pipeline(self.settings)
        self.worker.keep(self.memory, lambda slots: True)

    def read(self, frames: list[Frame]) -> None:
        """Read a batch, up to the moment before it counts as finished."""
        for batch in batches_of(frames, batch_bytes=1 << 20)[0][0]:
            if header(batch).frames:
                self.worker.feed(Exact(batch))
        within_limits(self.worker.counts(), self.settings)

    def finish(self) -> None:
        """Finish the batch: its events leave."""
        self.worker.done()
        for _, _, lines in self.worker.take():
            for line in lines.splitlines():
                events.decode(line)
                self.events.append(json.loads(line))

    def leave(self) -> None:
        """Add what the worker has counted; it is killed, or has ended."""
        counts = self.worker.counts()
        assert counts["http2_kept"] <= SLOTS, counts
        self.counts.update({name: counts[name] for name in counts if name.startswith("http2_")})

    def end(self) -> None:
        self.worker.finish()
        self.finish()
        self.leave()


def told(shard: Shard) -> set[tuple[int, str, str]]:
    """(stream, field, value) of what the events say."""
    out = set()
    for event in shard.events:
        if event["event"]["dataset"] == "appliance.http" and event["http"]["version"] == "2":
            stream = event["appliance"]["http2"]["stream_id"]
            out.add((stream, "path", event.get("url", {}).get("original", "")))
            out.add((stream, "method", event["http"].get("request", {}).get("method", "")))
            out.add((stream, "status", str(event["http"].get("response", {}).get("status_code", ""))))
    return {each for each in out if each[2]}


def run(case: Case) -> int:
    settings = CONFIGS[case.knob(0, len(CONFIGS))]
    left = case.knob(1, 3)
    steps = steps_of(case)
    shard, whole = Shard(settings), Shard(settings)
    for place, (what, frames, at, data) in enumerate(steps):
        if what == WRITTEN:
            at %= len(shard.memory)
            data = data[: len(shard.memory) - at]
            shard.memory[at : at + len(data)] = data
        elif what == KILLED:
            shard.leave()
            shard.begin()
        else:
            dies = left != FINISHED and place + 1 < len(steps) and steps[place + 1][0] == KILLED
            if not dies or left == READ:
                shard.read(frames)
            if dies and left == READ:  # the successor gets the same batch
                shard.leave()
                shard.begin()
                shard.read(frames)
            if not dies or left == READ:
                shard.finish()
            whole.read(frames)
            whole.finish()
    shard.end()
    whole.end()
    usual = not any(each.counts[name] for each in (shard, whole) for name in UNUSUAL)
    if usual and all(what != WRITTEN for what, *_ in steps):
        known = told(whole)
        streams = {stream for stream, _, _ in known}  # a successor may read more than one that begins in vain
        assert {each for each in told(shard) if each[0] in streams} <= known, "law 9: a successor tells another value"
    return sum(len(frames) for _, frames, _, _ in steps)


# what it is; direction, what happens to it, bytes in a segment (0: all); place in the memory; µs since the one before
TARGET = Target("http2_kept", struct.Struct("<BBBBII"), seeds, run, [PREFACE, FIRST, AGAIN, b"APPKEPT1", b"\xff" * 8])
