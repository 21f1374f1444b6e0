"""Law 11: the frames of an event, out of the ring of a recorder, give the same event, with the same id."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from builders import KEY, outcome_of
from conversation import Frame
from hypothesis import given
from hypothesis import strategies as st
from impair import drop, duplicate
from ip_fragments import all_fragmented
from tcp_strategies import frames_of, talks

from appliance.capture.sharder import Sharder
from appliance.config.schema import Config, Record, Shard
from appliance.extract.connections import Connections
from appliance.extract.extract import Extract
from appliance.extract.sources import RecordedFrames
from appliance.ipc.frame_batch import header
from appliance.pcap.opening import open_offline
from appliance.recorder.ring_writer import RingWriter
from appliance.ring.pcapng import PcapngWriter
from appliance.ring.reader import Ring

seeds = st.integers(0, 2**32)


def record(folder: Path, frames: list[Frame], workers: int, batch_bytes: int) -> None:
    """Record frames as they come from a capture with so many workers; a flush now and then, as by chance."""
    config = Config(shard=Shard(batch_bytes=batch_bytes), record=Record(path=str(folder)))
    sharder, ring = Sharder(KEY, workers, config), RingWriter(folder, 1 << 22, 0)
    for ts_ns, frame in frames:
        sharder.push(ts_ns, frame)
    for number, (_, count, message) in enumerate(sharder.end()):
        if count:
            ring.add(header(message), message, "eth0", 0)
        if number % 3:
            ring.flush()
    ring.flush()
    ring.close()


def read(path: Path) -> list[Frame]:
    with open_offline(str(path)) as handle:
        return [(packet.metadata.ts_ns, packet.data) for packet in handle.packets()]


def extracted(folder: Path, out: Path, events: list[dict[str, Any]]) -> list[Frame]:
    connections = Connections(events)
    found = RecordedFrames(folder, connections)
    extract = Extract([found], connections)
    extract.survey()
    with out.open("wb") as file:
        extract.write(PcapngWriter(file, "test"))
    found.close()
    return read(out)


@given(
    talks(most=4, longest=2000),
    st.floats(0, 0.3),
    st.floats(0, 0.3),
    st.booleans(),
    st.integers(1, 3),
    st.sampled_from([4096, 1 << 16]),
    seeds,
    st.data(),
)
def test_law_11_recorded_frames_give_the_same_event(
    tmp_path_factory, drawn, lost, twice, fragments, workers, size, seed, data
):
    frames = drop(duplicate(frames_of(drawn, 300, 300), twice, seed), lost, seed)
    frames = all_fragmented(frames, 200) if fragments else frames
    events = outcome_of(frames).events
    folder = tmp_path_factory.mktemp("ring")
    record(folder, frames, workers, size)
    if events:
        event = data.draw(st.sampled_from(events))
        connection = event["appliance"]["connection"]
        found = extracted(folder, folder.with_suffix(".out"), [event])
        assert outcome_of(found).events == [one for one in events if one["appliance"]["connection"] == connection]
    ring = Ring(folder)
    (folder.with_suffix(".all")).write_bytes(b"".join(ring.capture()))
    ring.close()
    assert outcome_of(read(folder.with_suffix(".all"))).events == events
    shutil.rmtree(folder)
