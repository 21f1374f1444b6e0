"""Frames of events out of captures: which belong to the connection, and that a run over them gives the same events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import outcome_of
from conversation import START_NS, Conversation
from exchange import exchange
from hypothesis import given
from hypothesis import strategies as st
from ip_fragments import all_fragmented
from pcapfile import PcapWriter
from quic_packets import crypto, initial
from wire import udp

import appliance.extract.extract as extract_module
from appliance.extract.connections import Connections, nanoseconds
from appliance.extract.extract import Extract, comment_of
from appliance.extract.sources import CaptureFiles, MergedFrames, Seen
from appliance.pcap.opening import open_offline
from appliance.ring.pcapng import PcapngWriter

SECOND = 1_000_000_000
Frames = list[tuple[int, bytes]]


def talk(port: int = 40000, *, at: int = START_NS, paths: str = "ab", **how: Any) -> Frames:
    """A connection with a transaction for each letter."""
    isn = at % 1_000_003  # of each connection another one, as systems choose it
    made = Conversation("192.0.2.1", "198.51.100.2", port, start_ns=at, client_isn=isn, **how).handshake()
    for path in paths:
        made.exchange(exchange("GET", f"/{path}", body=b"x" * 3000))
    return made.close("client").frames


def capture(path: Path, frames: Frames) -> str:
    with PcapWriter(path) as writer:
        writer.write_all(sorted(frames, key=lambda frame: frame[0]))
    return str(path)


def extracted(path: Path, captures: list[str], events: list[Any]) -> Frames:
    """The frames of the connections of events, as another program reads the file that was written."""
    extract = Extract([CaptureFiles(captures)], Connections(events))
    extract.survey()
    with open(path, "wb") as out:
        extract.write(PcapngWriter(out, "test"))
    with open_offline(path) as handle:
        return [(packet.metadata.ts_ns, packet.data) for packet in handle.packets()]


def test_the_whole_connection_is_extracted_and_nothing_else(tmp_path):
    wanted, other = talk(), talk(40001, paths="c")
    events = outcome_of(wanted).events
    assert extracted(tmp_path / "o", [capture(tmp_path / "c", wanted + other)], events[:1]) == wanted


def test_connections_on_the_same_ports_are_told_apart_by_their_syn(tmp_path):
    first, second, third = (talk(at=START_NS + number * 60 * SECOND, paths="abc"[number]) for number in range(3))
    events = outcome_of(first + second + third).events
    found = extracted(tmp_path / "o", [capture(tmp_path / "c", first + second + third)], [events[1]])
    assert found == second


def test_a_repeated_syn_begins_no_other_connection(tmp_path):
    frames = talk()
    again = (frames[0][0] + 1000, frames[0][1])
    frames = sorted([*frames, again])
    events = outcome_of(frames).events
    assert extracted(tmp_path / "o", [capture(tmp_path / "c", frames)], events[:1]) == frames


def test_a_syn_may_come_behind_its_answer(tmp_path):
    syn, answer, *rest = talk()
    frames = [(syn[0], answer[1]), (answer[0], syn[1]), *rest]
    found = extracted(tmp_path / "o", [capture(tmp_path / "c", frames)], outcome_of(frames).events)
    assert found == frames


def test_a_connection_may_span_captures(tmp_path):
    frames = talk()
    halves = [capture(tmp_path / "1", frames[:7]), capture(tmp_path / "2", frames[7:])]
    assert extracted(tmp_path / "o", halves, outcome_of(frames).events[:1]) == frames


def test_vlans_tell_connections_apart(tmp_path):
    wanted, other = talk(vlans=(7,)), talk(vlans=(8,), at=START_NS + 1)
    events = outcome_of(wanted).events
    assert extracted(tmp_path / "o", [capture(tmp_path / "c", wanted + other)], events[:1]) == wanted


def test_fragments_between_the_hosts_come_along(tmp_path):
    frames = talk()
    pieces = all_fragmented(frames, 600)
    events = outcome_of(pieces).events
    assert events
    assert extracted(tmp_path / "o", [capture(tmp_path / "c", pieces)], events[:1]) == pieces


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["a", "ab", "abc"])), min_size=1, max_size=5),
    st.data(),
)
def test_a_run_over_the_extract_gives_the_same_events(tmp_path_factory, chosen, data):
    frames: Frames = []
    for number, (port, paths) in enumerate(chosen):
        frames += talk(40000 + port, at=START_NS + number * 30 * SECOND, paths=paths)
    events = outcome_of(frames).events
    event = data.draw(st.sampled_from(events))
    folder = tmp_path_factory.mktemp("extract")
    found = extracted(folder / "o", [capture(folder / "c", frames)], [event])
    connection = event["appliance"]["connection"]
    assert outcome_of(found).events == [one for one in events if one["appliance"]["connection"] == connection]


def test_the_comment_names_the_event_and_what_is_missing():
    event = outcome_of(talk(paths="a")).events[0]
    event["appliance"]["response"]["missing_bytes"] = 120
    said = f"event {event['event']['id']}, GET shop.example/a, status 200, 120 bytes of the response are missing"
    assert comment_of(event) == said


def test_the_frame_with_which_an_event_begins_has_its_comment(tmp_path):
    frames = talk()
    events = outcome_of(frames).events
    extracted(tmp_path / "o", [capture(tmp_path / "c", frames)], events)
    whole = (tmp_path / "o").read_bytes()
    places = [whole.index(comment_of(event).encode()) for event in events]
    for event, place in zip(events, places, strict=True):
        stamp = nanoseconds(event["event"]["start"])
        head = (stamp >> 32).to_bytes(4, "little") + (stamp & 0xFFFFFFFF).to_bytes(4, "little")
        assert whole.rindex(head, 0, place) > place - 400  # the block of that frame


def test_times_are_nanoseconds():
    assert nanoseconds("1970-01-01T00:00:01.000000002Z") == 1_000_000_002


@pytest.mark.parametrize("missing", ["source", "destination", "event", "appliance"])
def test_an_event_without_its_place_is_refused(missing):
    event = outcome_of(talk()).events[0]
    del event[missing]
    with pytest.raises(KeyError):
        Connections([event])


def test_of_a_quic_handshake_the_datagrams_that_may_open_it_are_extracted(tmp_path):
    hello = initial(crypto(0, b"\1\0\0\4four"), b"8 bytes.")
    ours = [(START_NS, udp("192.0.2.1", "198.51.100.2", (40000, 443), hello))]
    other = [(START_NS + 1, udp("192.0.2.1", "198.51.100.2", (40001, 443), hello))]
    event = outcome_of(talk()).events[0]
    event["network"]["transport"] = "udp"
    event["source"], event["destination"] = {"ip": "192.0.2.1", "port": 40000}, {"ip": "198.51.100.2", "port": 443}
    mixed = ours + other + talk(40000, at=START_NS + 2)
    assert extracted(tmp_path / "o", [capture(tmp_path / "c", mixed)], [event]) == ours


def test_a_frame_costs_the_same_however_many_events_its_connection_has(tmp_path, monkeypatch):
    """Each frame looked at every event: 100,000 transactions of one connection took hours."""
    frames = talk(paths="ab" * 50)
    events = outcome_of(frames).events
    assert len(events) == 100
    looked: list[str] = []

    def comment(event):
        looked.append(event["event"]["id"])
        return comment_of(event)

    monkeypatch.setattr(extract_module, "comment_of", comment)
    asked: list[str] = []
    monkeypatch.setattr(
        extract_module, "nanoseconds", lambda text: asked.append(text) or nanoseconds(text), raising=False
    )
    assert len(extracted(tmp_path / "o", [capture(tmp_path / "c", frames)], events)) == len(frames)
    assert sorted(looked) == sorted(event["event"]["id"] for event in events)
    assert asked == []


class Given:
    """A source with these frames."""

    def __init__(self, *times: int) -> None:
        self._frames = [Seen(bytes([time]), time, 1, 1, "eth0") for time in times]

    def frames(self) -> Iterator[Seen]:
        yield from self._frames


def test_merged_sources_have_each_frame_once_in_the_order_of_time() -> None:
    merged = MergedFrames([Given(2, 3, 5), Given(1, 2, 3), Given(3, 4)])
    assert [seen.ts_ns for seen in merged.frames()] == [1, 2, 3, 4, 5]
    assert [seen.ts_ns for seen in merged.frames()] == [1, 2, 3, 4, 5]  # a second pass gives the same


def test_copies_within_one_of_the_merged_sources_are_frames() -> None:
    merged = MergedFrames([Given(1, 1, 2), Given(1, 2, 2)])
    assert [seen.ts_ns for seen in merged.frames()] == [1, 1, 2, 2]
