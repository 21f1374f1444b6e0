"""gRPC calls over HTTP/2: method, status, messages; what is not known is absent."""

from __future__ import annotations

import pytest
from builders import MILLISECOND, config, differences, events_of, outcome_of, without
from h2_talk import answer, ask, block, message, turns
from h2_wire import DATA, END_HEADERS, END_STREAM, PADDED, frame, headers, reset

KIND = (b"content-type", b"application/grpc")
CALL = ask(b"/pkg.Service/Method", KIND, (b"te", b"trailers"), method=b"POST")
CUTS = pytest.mark.parametrize("cut", [None, 1, 3], ids=["whole", "by byte", "by three"])


def wrapped(*messages: bytes, flags: int = 0) -> bytes:
    return b"".join(bytes([flags]) + len(one).to_bytes(4, "big") + one for one in messages)


def status(code: bytes, *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return [(b"grpc-status", code), *more]


@CUTS
def test_a_call_has_its_method_status_and_messages(cut):
    asked = message(1, CALL, wrapped(b"one", b"", b"three"))
    said = message(1, answer(b"200", KIND), wrapped(b"x" * 70000), status(b"0"))
    event = outcome_of(turns(asked, said, cut=cut if cut != 1 else 7).frames).only
    assert event["rpc"] == {
        "system": "grpc", "service": "pkg.Service", "method": "Method", "response": {"status_code": "OK"},
    }  # fmt: skip
    assert event["appliance"]["grpc"] == {
        "request": {"messages": 3, "bytes": 8}, "response": {"messages": 1, "bytes": 70000},
    }  # fmt: skip
    assert event["event"]["outcome"] == "success"


@pytest.mark.parametrize(
    ("code", "name", "outcome"),
    [
        (b"0", "OK", "success"),
        (b"5", "NOT_FOUND", "failure"),
        (b"16", "UNAUTHENTICATED", "failure"),
        (b"99", "99", "failure"),
    ],
)
def test_every_status_but_ok_is_a_failure(code, name, outcome):
    said = headers(
        1, block(*answer(b"200", KIND), *status(code, (b"grpc-message", b"no%20way"))), END_HEADERS | END_STREAM
    )
    event = outcome_of(turns(message(1, CALL, wrapped(b"x")), said).frames).only
    assert event["rpc"]["response"] == {"status_code": name}
    assert event["appliance"]["grpc"]["message"] == "no%20way"
    assert event["event"]["outcome"] == outcome


def test_a_call_with_messages_both_ways_at_a_time_has_no_early_response():
    begun = headers(1, block(*CALL)) + frame(DATA, 0, 1, wrapped(b"one"))
    said = headers(1, block(*answer(b"200", KIND))) + frame(DATA, 0, 1, wrapped(b"two"))
    ended = headers(1, block(*status(b"0")), END_HEADERS | END_STREAM)
    event = outcome_of(turns(begun, said, frame(DATA, END_STREAM, 1, wrapped(b"three")), ended).frames).only
    assert event["appliance"]["grpc"]["request"]["messages"] == 2
    assert "anomalies" not in event["appliance"]


def test_a_cancelled_call_is_a_reset_without_status():
    said = headers(1, block(*answer(b"200", KIND))) + frame(DATA, 0, 1, wrapped(b"one", b"two")[:-1])
    event = outcome_of(turns(message(1, CALL, wrapped(b"x")), said, reset(1, 8)).frames).only
    assert event["rpc"] == {"system": "grpc", "service": "pkg.Service", "method": "Method"}
    assert event["appliance"]["http2"]["reset"] == {"error": "CANCEL", "by": "client"}
    assert event["appliance"]["grpc"]["response"] == {"messages": 1, "bytes": 3}
    assert event["event"]["outcome"] == "unknown"


def test_messages_cross_frames_and_padding():
    data = wrapped(b"a" * 10, b"b" * 20)
    asked = headers(1, block(*CALL)) + frame(DATA, PADDED, 1, b"\3" + data[:3] + bytes(3))
    asked += frame(DATA, END_STREAM, 1, data[3:])
    event = outcome_of(turns(asked, message(1, answer(b"200", KIND), b"", status(b"0"))).frames).only
    assert event["appliance"]["grpc"]["request"] == {"messages": 2, "bytes": 30}


@pytest.mark.parametrize(
    ("place", "found"), [(3, {"messages": 1, "bytes": 9000}), (-1, None)], ids=["inside", "prefix"]
)
def test_a_gap_is_skipped_inside_of_a_message_only(place, found):
    data = wrapped(b"x" * 9000) if place == 3 else wrapped(*[b"y" * 5] * 900)
    said = turns(message(1, CALL, wrapped(b"x")), close="").server_sends(
        message(1, answer(b"200", KIND), data, status(b"0")), 1000
    )
    frames = said.idle(MILLISECOND).acknowledge(said.client).close().frames
    places = [at for at, (_, one) in enumerate(frames) if len(one) > 1000]
    event = events_of(without(frames, places[3]))[0]
    assert event["appliance"]["grpc"].get("response") == found
    assert event["rpc"]["response"]["status_code"] == "OK"


def test_grpc_web_has_its_status_in_the_body():
    web = (b"content-type", b"application/grpc-web+proto")
    asked = message(1, ask(b"/a.B/C", web, method=b"POST"), wrapped(b"x"))
    trailers = wrapped(b"grpc-status:7\r\ngrpc-message:no\r\n", flags=0x80)
    event = outcome_of(turns(asked, message(1, answer(b"200", web), wrapped(b"one") + trailers)).frames).only
    assert event["rpc"]["response"] == {"status_code": "PERMISSION_DENIED"}
    assert event["appliance"]["grpc"]["response"] == {"messages": 1, "bytes": 3}
    assert event["appliance"]["grpc"]["message"] == "no"


@pytest.mark.parametrize("path", [b"/", b"//", b"/a", b"a/b", b"/a/", b"//a", b""])
def test_a_path_that_is_no_method_is_read_within_its_bytes(path):
    asked = message(1, ask(path, KIND, method=b"POST"), wrapped(b"x"))
    rpc = outcome_of(turns(asked, message(1, answer(b"200", KIND), b"", status(b"0"))).frames).only["rpc"]
    assert rpc["system"] == "grpc"
    assert rpc.get("service", "") in ("", "a")


@pytest.mark.parametrize("kind", [b"application/json", b"application/grpcx", b"application/grp"])
def test_another_content_type_is_no_call(kind):
    other = (b"content-type", kind)
    event = outcome_of(
        turns(message(1, ask(b"/a/b", other), b"x"), message(1, answer(b"200", other), b"y")).frames
    ).only
    assert "rpc" not in event
    assert "grpc" not in event["appliance"]


def test_kept_trailers_of_grpc_web_count_among_the_bytes_of_streams():
    web = (b"content-type", b"application/grpc-web+proto")
    begun = b"\x80\0\0\x10\0grpc"  # a frame of trailers that goes on
    streams = range(1, 61, 2)
    asked = b"".join(message(stream, ask(b"/a.B/C", web, method=b"POST"), wrapped(b"x")) for stream in streams)
    said = b"".join(headers(stream, block(*answer(b"200", web))) + frame(DATA, 0, stream, begun) for stream in streams)
    frames = turns(asked, said).frames[:-3]  # the streams are open at the end
    whole = outcome_of(frames)
    assert whole.running["waiting_bytes"] > 30 * 4096
    limited = outcome_of(frames, config=config(http={"max_streams_bytes": 16384}))
    assert limited.counts["http2_streams_given_up"] > 20
    assert differences(limited) == {}
