"""Batches that are none: what stands in a message is believed by nobody before it is checked."""

from __future__ import annotations

import struct

import msgspec
from builders import Outcome, batches_of, collect, differences, get, post, talk
from cases import Case
from cover import Exact
from drive import CONFIGS as ALL_CONFIGS
from drive import FRAMES_AT, HEADER, LENGTH_AT, singles, within_limits
from packets import samples
from targets import Target

from appliance.ipc.frame_batch import BadBatch, frames, header
from appliance.stats.names import QUIC_OUTCOMES, SEGMENT_VERDICTS
from workers.events import schema as events
from workers.pipeline import Pipeline

# No datagram waits for its connection, so each batch has its outcomes when it was processed.
CONFIGS = tuple(
    msgspec.structs.replace(made, quic=msgspec.structs.replace(made.quic, max_early_datagrams=0))
    for made in ALL_CONFIGS
)
TAKEN = (
    "segments",
    *(f"quic_datagrams.{outcome}" for outcome in QUIC_OUTCOMES),
    *(f"rejected.{verdict}" for verdict in SEGMENT_VERDICTS),
)
# What is put right before a message is read, so that the checks behind are reached: of its header, of its first record.
ITS_LENGTH, ITS_CAPTURE, ONE_FRAME = 1, 2, 4


def seeds() -> list[Case]:
    scenes = [talk(get(1), get(2)).frames, talk(post(1, 500), vlans=(7,)).frames]
    scenes.append([(1_790_000_000_000_000_000, frame) for link, frame in samples() if link == 1])
    out = []
    for scene in scenes:
        messages = batches_of(scene, batch_bytes=4096)[0][0]
        exact = [single for message in messages for single in singles(message)]
        out.append(Case([0, 0], [((), message) for message in messages]))
        out += [Case([fix, 1], [((), single) for single in exact[:24]]) for fix in (0, 3, 7)]
    return out


def repaired(data: bytes, fix: int) -> bytes:
    """The message with some of its numbers made right."""
    if len(data) < HEADER.size:
        return data
    out = bytearray(data)
    if fix & ITS_LENGTH:
        struct.pack_into("<I", out, LENGTH_AT, len(out))
        out[:4] = b"HCB1"
    if fix & ITS_CAPTURE:
        struct.pack_into("<H", out, 4, 0)
    if fix & ONE_FRAME:
        struct.pack_into("<I", out, FRAMES_AT, 1)
        if len(out) >= HEADER.size + 40:
            struct.pack_into("<I", out, HEADER.size + 24, len(out) - HEADER.size - 40)
    return bytes(out)


def run(case: Case) -> int:
    config = CONFIGS[case.knob(1, len(CONFIGS))]
    pipeline = Pipeline(config)
    outcome = Outcome()
    offered = 0
    before = pipeline.counts()
    for _, data in case.items:
        message = Exact(repaired(data, case.knob(0, 8)))
        try:
            found = frames(message)
        except BadBatch:
            found = None
        try:
            capture = header(message).capture
        except BadBatch:
            assert found is None
            capture = 0
        try:
            pipeline.feed(message)
        except BadBatch:
            assert found is None or capture > 0, "feed() refuses what frames() reads"
        else:
            assert found is not None, "feed() reads what frames() refuses"
        counts = pipeline.counts()
        taken = sum(counts[name] - before[name] for name in TAKEN)
        assert found is None or taken == (0 if capture else len(found)), (taken, capture)
        offered += taken
        before = counts
        within_limits(counts, config)
    outcome.capture.update({"frames": offered, "offered.0": offered})
    outcome.running.update(before)
    pipeline.finish()
    outcome.counts.update(pipeline.counts())
    collect(pipeline, outcome)
    missing = differences(outcome)
    assert missing == {}, missing
    for line in outcome.lines:
        events.decode(line)
    return len(case.items)


TARGET = Target(
    "batch", struct.Struct("<"), seeds, run, [b"HCB1", b"\xff" * 4, bytes(8), b"\x22\0\x0e\0"], unit="batches"
)
