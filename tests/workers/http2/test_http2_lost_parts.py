"""Streams of which a part was lost: what the event still says is right, and says how much it knows."""

from __future__ import annotations

from builders import MILLISECOND, Conversation, Frame, config, events_of, without
from h2_talk import answer, ask, block, message, turns
from h2_wire import DATA, END_HEADERS, END_STREAM, frame, headers

PING = frame(6, 0, 0, bytes(8))
ALL = config(http={"headers": ["all"]})
KIND = (b"content-type", b"application/grpc")
PREFIXED = b"\0\0\0\0\1x"
UNKNOWN = b"\xbe"  # the newest entry of the table


def started() -> Conversation:
    """A connection whose prefaces were sent."""
    return turns(close="")


def frames_at(made: Conversation) -> int:
    """The place of the next frame."""
    return len(made.frames)


def only(frames: list[Frame]) -> dict:
    [event] = events_of(frames, config=ALL)
    return event


def test_a_header_block_cut_off_is_told_and_has_no_time():
    made = started()
    first = frames_at(made)
    asked = headers(1, block(*ask(), (b"x-big", b"v" * 2500)), END_HEADERS | END_STREAM)
    made.client_sends(asked, 1000).idle(MILLISECOND)
    made.server_sends(message(1, answer())).idle(MILLISECOND).client_sends(PING)
    whole = only(made.close().frames)
    event = only(without(made.frames, first + 1))
    assert (whole["appliance"]["http2"]["headers"], set(whole["appliance"]["timing"])) == (
        "exact",
        {"send_ns", "wait_ns", "receive_ns"},
    )
    assert event["url"] == whole["url"]
    assert event["appliance"]["http2"] == {"stream_id": 1, "headers": "joined", "unknown_headers": 1}
    assert set(event["appliance"]["timing"]) == {"receive_ns"}


def test_an_end_that_was_lost_has_no_time():
    made = started()
    first = frames_at(made)
    asked = headers(1, block(*ask(method=b"PUT"))) + frame(DATA, END_STREAM, 1, bytes(1000))
    made.client_sends(asked, [len(asked) - 500, 500]).idle(MILLISECOND)
    made.server_sends(message(1, answer())).idle(MILLISECOND).client_sends(PING)
    event = only(without(made.close().frames, first + 1))
    assert event["appliance"]["request"] == {"complete": True, "missing_bytes": 500}
    assert set(event["appliance"]["timing"]) == {"receive_ns"}


def test_bytes_held_while_frames_are_searched_keep_their_times():
    made = started()
    made.client_sends(message(1, ask())).idle(MILLISECOND)
    first = frames_at(made)
    made.server_sends(PING).server_sends(headers(1, block(*answer()))).idle(7 * MILLISECOND)
    made.server_sends(frame(DATA, 0, 1, bytes(10)) + frame(DATA, END_STREAM, 1, bytes(10)))
    whole = only(made.close().frames)
    event = only(without(made.frames, first))
    assert event["appliance"]["http2"]["headers"] != "exact"
    assert event["appliance"]["timing"] == whole["appliance"]["timing"]
    assert event["appliance"]["timing"]["receive_ns"] >= 7 * MILLISECOND


def test_trailers_whose_response_was_lost_are_no_header_fields():
    made = started()
    made.client_sends(message(1, ask())).idle(MILLISECOND)
    first = frames_at(made)
    made.server_sends(headers(1, block(*answer()))).idle(MILLISECOND)
    said = frame(DATA, 0, 1, bytes(10)) + PING + headers(1, block((b"x-sum", b"1")), END_HEADERS | END_STREAM)
    made.server_sends(said + PING)
    event = only(without(made.close().frames, first))
    response = event["http"]["response"]
    assert (response["headers"], response["trailers"]) == ({}, {"x-sum": ["1"]})
    assert "status_code" not in response
    assert set(event["appliance"]["timing"]) == {"send_ns"}


def test_a_request_whose_end_was_lost_has_no_early_response():
    made = started()
    made.client_sends(headers(1, block(*ask(method=b"PUT"))))
    first = frames_at(made)
    made.client_sends(frame(DATA, END_STREAM, 1, bytes(100))).idle(MILLISECOND)
    made.server_sends(message(1, answer())).idle(MILLISECOND).client_sends(PING)
    event = only(without(made.close().frames, first))
    assert "anomalies" not in event["appliance"]


def joined_calls(request: bytes) -> list[Frame]:
    """Calls of gRPC from the second one on; the first has put content-type into both tables."""
    made = started()
    made.client_sends(headers(1, block(KIND, indexed=True) + b"\x83", END_HEADERS | END_STREAM))
    made.server_sends(headers(1, b"\x88" + block(KIND, indexed=True), END_HEADERS | END_STREAM)).idle(MILLISECOND)
    first = frames_at(made)
    for stream in (3, 5, 7):
        made.client_sends(headers(stream, b"\x83\x86" + block((b":path", b"/a/b")) + request))
        made.client_sends(frame(DATA, END_STREAM, stream, PREFIXED)).idle(MILLISECOND)
        made.server_sends(headers(stream, b"\x88" + UNKNOWN) + frame(DATA, 0, stream, PREFIXED))
        made.server_sends(headers(stream, UNKNOWN, END_HEADERS | END_STREAM)).idle(MILLISECOND)
    return made.close().frames[first:]


def test_what_may_be_a_grpc_call_has_no_outcome():
    """Its content type and its status are in entries from before the capture."""
    for event in events_of(joined_calls(UNKNOWN), config=ALL):
        assert event["http"]["response"]["status_code"] == 200
        assert "rpc" not in event
        assert event["event"]["outcome"] == "unknown"


def test_messages_count_though_the_request_is_read_behind_them():
    """The content type of the response is unknown, and the frames of the request came late."""
    frames = joined_calls(block(KIND))
    asked = [place for place, (_, each) in enumerate(frames) if b"/a/b" in each]
    late = [*without(frames, asked[2], asked[2] + 1)[:-3], *frames[asked[2] : asked[2] + 2], *frames[-3:]]
    times = [when for when, _ in frames]
    events = events_of([(when, each) for when, (_, each) in zip(times, late, strict=True)], config=ALL)
    counted = {
        event["appliance"]["http2"]["stream_id"]: event["appliance"]["grpc"]["response"]["messages"] for event in events
    }
    assert counted == {3: 1, 5: 1, 7: 1}
