"""The library's Assembler: the segments of target segment, and a user's streams that are flushed at any time."""

from __future__ import annotations

from collections import Counter

from cases import Case
from cover import Exact
from drive import CONFIGS, within_limits
from target_segment import TARGET as SEGMENTS
from target_segment import frames_of
from targets import Target

from appliance.stats.names import PAYLOAD_OUTCOMES
from workers.assembly import Assembler, Flow, Piece, StreamPool


class Heard:
    """A user's stream: what it was given has to make sense."""

    def __init__(self, all_streams: list[Heard]) -> None:
        self.bytes = self.skipped = 0
        self.over = False
        all_streams.append(self)

    def reassembled(self, pieces: list[Piece]) -> None:
        assert pieces, "an empty list"
        for piece in pieces:
            assert not self.over, "a piece after complete()"
            assert piece.skip >= -1, piece.skip
            self.bytes += len(piece.data)
            self.skipped += max(0, piece.skip)

    def complete(self) -> None:
        assert not self.over, "complete() a second time"
        self.over = True


class Factory:
    def __init__(self) -> None:
        self.streams: list[Heard] = []

    def new(self, net: Flow[str], transport: Flow[int]) -> Heard:
        assert len(net) == len(transport) == 2
        return Heard(self.streams)


def run(case: Case) -> int:
    config = CONFIGS[case.knob(0, len(CONFIGS))]
    factory = Factory()
    assembler = Assembler(StreamPool(factory), config.tcp)
    every = (0, 1, 3, 7)[case.knob(2, 4)]
    frames = frames_of(case)
    for number, (ts_ns, frame, wirelen) in enumerate(frames, 1):
        assembler.assemble_frame(Exact(frame), ts_ns, 1, wirelen)
        if every and number % every == 0:
            flushed, closed = assembler.flush_older_than(max(0, ts_ns - (0, 1_000_000, 1_000_000_000)[case.knob(7, 3)]))
            assert 0 <= closed <= flushed <= 2 * len(frames), (flushed, closed)
        if case.knob(1, 16) == number % 16:
            assembler.flush_all()
    within_limits(assembler.counts(), config)
    assembler.flush_all()
    counts = Counter({name: value for name, value in assembler.counts().items() if value})
    rejected = sum(value for name, value in counts.items() if name.startswith("rejected."))
    assert counts["frames"] == len(frames) == counts["segments"] + rejected, counts
    assert counts["payload_bytes"] == sum(counts[f"payload.{name}"] for name in PAYLOAD_OUTCOMES), counts
    assert counts["pending_bytes"] == counts["flows"] == counts["streams.open"] == counts["streams.raised"] == 0, counts
    assert counts["streams.made"] == len(factory.streams), counts
    heard = sum(stream.bytes for stream in factory.streams)
    assert counts["payload.delivered"] == heard, (counts["payload.delivered"], heard)
    assert all(stream.over for stream in factory.streams)
    return len(frames)


TARGET = Target("assembly", SEGMENTS.layout, SEGMENTS.seeds, run, SEGMENTS.words)
