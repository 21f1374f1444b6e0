"""Tunnels in streams of HTTP/2: CONNECT (RFC 9113 section 8.5) and extended CONNECT (RFC 8441)."""

from __future__ import annotations

import pytest
from builders import MILLISECOND, config, differences, outcome_of, request, response
from h2_talk import START, answer, ask, block, message, turns
from h2_wire import DATA, END_HEADERS, END_STREAM, frame, headers, reset, settings
from ws_wire import BINARY, MASK, TEXT, close
from ws_wire import frame as ws_frame

CUTS = pytest.mark.parametrize("cut", [None, 1, 7], ids=["whole", "by byte", "by seven"])
CONNECT = [(b":method", b"CONNECT"), (b":authority", b"inside.example:80")]
GET = request(b"/inner", host=b"inside.example")
OK = response(b"200 OK", b"Content-Length: 4") + b"four"


def chat(*more: tuple[bytes, bytes], protocol: bytes = b"websocket") -> list[tuple[bytes, bytes]]:
    return [
        (b":method", b"CONNECT"), (b":protocol", protocol), (b":scheme", b"https"), (b":path", b"/chat?room=1"),
        (b":authority", b"ws.example:8443"), (b"sec-websocket-version", b"13"), *more,
    ]  # fmt: skip


def data(stream: int, payload: bytes, last: bool = False) -> bytes:
    return frame(DATA, END_STREAM if last else 0, stream, payload)


def opened(stream: int, fields: list[tuple[bytes, bytes]]) -> bytes:
    return headers(stream, block(*fields), END_HEADERS)


def by_dataset(outcome, dataset):
    return [event for event in outcome.events if event["event"]["dataset"] == f"appliance.{dataset}"]


@CUTS
def test_http1_in_a_connect_tunnel_has_its_own_events(cut):
    said = turns(opened(1, CONNECT), opened(1, answer()), data(1, GET), data(1, OK), data(1, b"", True),
                 data(1, b"", True), cut=cut)  # fmt: skip
    outcome = outcome_of(said.frames)
    assert differences(outcome) == {}
    outer, inner = outcome.events
    assert (inner["http"]["version"], inner["url"]["original"]) == ("1.1", "/inner")
    assert inner["http"]["response"]["status_code"] == 200
    assert inner["http"]["response"]["body"]["bytes"] == 4
    assert inner["appliance"]["pairing"] == "verified"
    assert (outer["http"]["version"], outer["http"]["request"]["method"]) == ("2", "CONNECT")
    assert outer["url"] == {"domain": "inside.example", "port": 80}
    assert outer["appliance"]["tunnel"] == {"protocol": "connect"}
    assert inner["appliance"]["connection"] == outer["appliance"]["connection"]
    assert sorted(event["appliance"]["transaction"] for event in outcome.events) == [0, 1]
    assert "anomalies" not in outer["appliance"]
    assert outcome.counts["tunnels"] == 1
    assert outcome.counts["tunnel_bytes"] == 0


@CUTS
def test_pipelined_requests_in_a_tunnel_are_paired_in_order(cut):
    three = [request(b"/%d" % each, host=b"inside.example") for each in range(3)]
    said = turns(opened(1, CONNECT), opened(1, answer()), data(1, b"".join(three)), data(1, OK * 3), cut=cut)
    found = [event["url"]["path"] for event in by_dataset(outcome_of(said.frames), "http") if "path" in event["url"]]
    assert found == ["/0", "/1", "/2"]


@CUTS
def test_http2_in_a_tunnel_in_http2(cut):
    inner = START + message(1, ask(b"/deep"))
    said = turns(opened(1, CONNECT), opened(1, answer()), data(1, inner),
                 data(1, settings() + message(1, answer(b"404"))), cut=cut)  # fmt: skip
    outcome = outcome_of(said.frames)
    assert differences(outcome) == {}
    outer, deep = outcome.events
    assert deep["url"]["path"] == "/deep"
    assert deep["http"]["response"]["status_code"] == 404
    assert deep["appliance"]["http2"] == {"stream_id": 1, "headers": "exact"}
    assert outer["http"]["request"]["method"] == "CONNECT"


def test_two_tunnels_do_not_mix():
    first, second = opened(1, CONNECT), opened(3, CONNECT)
    said = turns(first + second, opened(1, answer()) + opened(3, answer()),
                 data(1, GET[:9]) + data(3, GET[:12]) + data(1, GET[9:]) + data(3, GET[12:]),
                 data(3, OK[:30]) + data(1, OK) + data(3, OK[30:]))  # fmt: skip
    outcome = outcome_of(said.frames)
    assert differences(outcome) == {}
    assert [event["http"]["version"] for event in outcome.events] == ["2", "2", "1.1", "1.1"]
    assert sorted(event["appliance"]["transaction"] for event in outcome.events) == [0, 1, 2, 3]
    assert len({event["event"]["id"] for event in outcome.events}) == 4


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_tunnels_are_entered_as_deep_as_the_limit(depth):
    inside = START + message(1, ask(b"/inside"))
    for _ in range(2):
        inside = START + opened(1, CONNECT) + data(1, inside)
    answered = settings() + message(1, answer())
    for _ in range(2):
        answered = settings() + opened(1, answer()) + data(1, answered)
    # Requests and responses by turns at each depth: a tunnel begins with its response.
    said = turns(
        START + opened(1, CONNECT), settings() + opened(1, answer()),
        data(1, START + opened(1, CONNECT)), data(1, settings() + opened(1, answer())),
        data(1, data(1, START + message(1, ask(b"/inside")))), data(1, data(1, settings() + message(1, answer()))),
        start=False,
    )  # fmt: skip
    outcome = outcome_of(said.frames, config=config(http={"max_connect_depth": depth}))
    assert differences(outcome) == {}
    assert len(outcome.events) == depth + 1
    assert outcome.counts["tunnels_too_deep"] == (depth < 2)
    assert (outcome.counts["tunnel_bytes"] > 0) == (depth < 2)


@pytest.mark.parametrize("status", [b"403", b"500", b"302"])
def test_a_refused_connect_is_no_tunnel(status):
    said = turns(opened(1, CONNECT), opened(1, answer(status)) + data(1, b"HTTP/1.1 200 OK\r\n\r\n", True))
    event = outcome_of(said.frames).only
    assert "tunnel" not in event["appliance"]
    assert event["http"]["response"]["body"]["bytes"] == 19


def test_bytes_before_the_answer_are_missing_inside():
    said = turns(opened(1, CONNECT) + data(1, GET[:10]), opened(1, answer()), data(1, GET[10:] + GET), data(1, OK))
    outcome = outcome_of(said.frames)
    assert differences(outcome) == {}
    assert all(event["appliance"].get("request", {}).get("complete", True) for event in outcome.events[1:])


def test_a_gap_of_known_length_inside_a_tunnel_is_skipped_exactly():
    body = bytes(9000)
    big = response(b"200 OK", b"Content-Length: 9000") + body
    made = turns(opened(1, CONNECT), opened(1, answer()), data(1, GET), close="")
    made.server_sends(data(1, big), 1000).idle(MILLISECOND).acknowledge(made.client)
    made.client_sends(data(1, GET)).idle(MILLISECOND).server_sends(data(1, OK)).idle(MILLISECOND)
    frames = made.acknowledge(made.client).close().frames
    places = [at for at, (_, one) in enumerate(frames) if len(one) > 1000]
    del frames[places[3]]
    outcome = outcome_of(frames)
    assert differences(outcome) == {}
    _, first, second = outcome.events
    assert first["http"]["response"]["body"]["bytes"] == 9000
    assert first["appliance"]["response"] == {"complete": True, "missing_bytes": 1000}
    assert second["appliance"]["response"] == {"complete": True, "missing_bytes": 0}


def test_behind_lost_frames_a_tunnel_is_joined_in_the_middle():
    made = turns(opened(1, CONNECT), opened(1, answer()), data(1, GET), close="")
    big = response(b"200 OK", b"Content-Length: 5000")
    made.server_sends(data(1, big), 500)
    made.server_sends(b"".join(data(1, bytes(991)) for _ in range(5)), 1000).idle(MILLISECOND).acknowledge(made.client)
    made.server_sends(b"".join(data(1, bytes(9)) for _ in range(5))).idle(MILLISECOND).acknowledge(made.client)
    made.client_sends(data(1, GET)).idle(MILLISECOND).server_sends(data(1, OK)).idle(MILLISECOND)
    frames = made.acknowledge(made.client).close().frames
    places = [at for at, (_, one) in enumerate(frames) if len(one) > 1000]
    del frames[places[2]]
    outcome = outcome_of(frames)
    assert differences(outcome) == {}
    for event in outcome.events[1:]:
        assert event["url"]["path"] == "/inner"
        status = event["http"].get("response", {})
        assert status.get("body", {}).get("bytes", 4) != 5000 or not event["appliance"]["response"]["complete"]


@CUTS
def test_websocket_on_a_stream(cut):
    client = ws_frame(TEXT, b"hello", mask=MASK) + close(1000, mask=MASK)
    server = ws_frame(BINARY, bytes(300)) + close(1000)
    said = turns(opened(1, chat()), opened(1, answer()), data(1, client[:4]) + data(1, client[4:], True),
                 data(1, server, True), cut=cut)  # fmt: skip
    outcome = outcome_of(said.frames)
    assert differences(outcome) == {}
    (event,) = by_dataset(outcome, "websocket")
    (upgrade,) = by_dataset(outcome, "http")
    assert event["appliance"]["websocket"]["client"]["text"] == 1
    assert event["appliance"]["websocket"]["client"]["close_code"] == 1000
    assert event["appliance"]["websocket"]["server"]["bytes"] == 300
    assert event["appliance"]["websocket"]["closed_by"] == "client"
    assert event["url"] == upgrade["url"]
    assert (event["url"]["scheme"], event["url"]["domain"], event["url"]["port"]) == ("https", "ws.example", 8443)
    assert event["url"]["original"] == "/chat?room=1"
    assert upgrade["appliance"]["tunnel"] == {"protocol": "websocket"}
    assert event["appliance"]["transaction"] == upgrade["appliance"]["transaction"] == 0
    assert outcome.counts["websockets.started"] == outcome.counts["websockets.ended"] == 1
    assert "anomalies" not in upgrade["appliance"]


def test_many_websockets_on_one_connection():
    streams = range(1, 41, 2)
    one = ws_frame(TEXT, b"one", mask=MASK)
    said = turns(b"".join(opened(s, chat()) for s in streams), b"".join(opened(s, answer()) for s in streams),
                 b"".join(data(s, one * s) for s in streams), b"")  # fmt: skip
    outcome = outcome_of(said.frames)
    assert differences(outcome) == {}
    found = {event["appliance"]["transaction"]: event["appliance"]["websocket"]["client"]["messages"]
             for event in by_dataset(outcome, "websocket")}  # fmt: skip
    assert found == dict(enumerate(streams))


def test_another_protocol_is_counted():
    said = turns(opened(1, chat(protocol=b"connect-udp")), opened(1, answer()), data(1, GET), data(1, OK))
    outcome = outcome_of(said.frames)
    assert outcome.only["appliance"]["tunnel"] == {"protocol": "connect-udp"}
    assert outcome.counts["tunnel_bytes"] == len(GET) + len(OK)


def test_a_reset_ends_the_tunnel():
    one = ws_frame(TEXT, b"one", mask=MASK)
    said = turns(opened(1, chat()), opened(1, answer()), data(1, one) + reset(1, 8), b"", message(3, ask()),
                 message(3, answer()))  # fmt: skip
    outcome = outcome_of(said.frames)
    assert differences(outcome) == {}
    (event,) = by_dataset(outcome, "websocket")
    assert event["appliance"]["websocket"]["client"]["messages"] == 1
    assert by_dataset(outcome, "http")[0]["appliance"]["http2"]["reset"] == {"error": "CANCEL", "by": "client"}


def test_lost_frames_make_a_websocket_incomplete():
    made = turns(opened(1, chat()), opened(1, answer()), close="")
    many = b"".join(data(1, ws_frame(BINARY, bytes(100))) for _ in range(100))
    made.server_sends(many, 1000).idle(MILLISECOND).acknowledge(made.client)
    frames = made.close().frames
    places = [at for at, (_, one) in enumerate(frames) if len(one) > 1000]
    del frames[places[4]]
    outcome = outcome_of(frames)
    assert differences(outcome) == {}
    (event,) = by_dataset(outcome, "websocket")
    server = event["appliance"]["websocket"]["server"]
    assert server["complete"] is False
    assert 80 <= server["binary"] < 100


def test_a_stream_that_a_limit_ends_ends_its_tunnel():
    limits = config(http={"max_streams": 4})
    streams = range(1, 21, 2)
    said = turns(b"".join(opened(s, CONNECT) for s in streams[:4]), b"".join(opened(s, answer()) for s in streams[:4]),
                 b"".join(data(s, GET) for s in streams[:4]) + b"".join(message(s, ask()) for s in streams[4:]),
                 b"".join(message(s, answer()) for s in streams[4:]))  # fmt: skip
    outcome = outcome_of(said.frames, config=limits)
    assert differences(outcome) == {}
    assert outcome.counts["http2_streams_given_up"] > 0
    assert sum("path" in event["url"] and event["url"]["path"] == "/inner" for event in outcome.events) == 4


def test_waiting_bytes_inside_of_a_tunnel_do_not_end_its_own_stream():
    limits = config(http={"max_total_waiting_bytes": 65536})
    many = b"".join(request(b"/%04d" % each + b"x" * 500, host=b"inside.example") for each in range(400))
    parts = [many[at : at + 16000] for at in range(0, len(many), 16000)]
    said = turns(opened(1, CONNECT) + opened(3, CONNECT), opened(1, answer()) + opened(3, answer()),
                 b"".join(data(s, part) for part in parts for s in (1, 3)), data(1, OK * 3))  # fmt: skip
    outcome = outcome_of(said.frames, config=limits)
    assert differences(outcome) == {}
    assert outcome.counts["given_up"] > 0
    assert sum(len(event["url"].get("path", "")) > 500 for event in outcome.events if "url" in event) == 800
