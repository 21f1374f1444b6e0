"""HTTP/2 through the whole data path: frames of TCP in, events out, and every counter closed."""

from __future__ import annotations

import gzip
import hashlib
import json

import pytest
from builders import (
    MILLISECOND,
    Conversation,
    config,
    differences,
    events_of,
    outcome_of,
    request,
    response,
    summaries,
    without,
)
from h2_talk import START, answer, ask, block, message, turns
from h2_wire import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PREFACE,
    PUSH_PROMISE,
    WINDOW_UPDATE,
    frame,
    headers,
    reset,
    settings,
)

from appliance.stats.names import HTTP2_ANOMALIES

CUTS = pytest.mark.parametrize("cut", [None, 1, 3], ids=["whole", "by byte", "by three"])
ONE = message(1, ask(b"/a?b=1", (b"user-agent", b"curl/8"), (b"referer", b"http://b.example/")))
OK = message(1, answer(b"200", (b"content-type", b"text/plain; charset=utf-8")), b"hello")


@CUTS
def test_a_stream_is_a_transaction(cut):
    outcome = outcome_of(turns(ONE, OK, cut=cut).frames)
    event = outcome.only
    assert event["url"] == {
        "original": "/a?b=1", "domain": "a.example", "path": "/a", "query": "b=1", "scheme": "http",
    }  # fmt: skip
    assert event["user_agent"] == {"original": "curl/8"}
    assert event["http"]["version"] == "2"
    assert event["http"]["request"] == {
        "method": "GET", "referrer": "http://b.example/", "bytes": len(ONE), "body": {"bytes": 0},
    }  # fmt: skip
    assert event["http"]["response"] == {
        "status_code": 200, "mime_type": "text/plain", "bytes": len(OK), "body": {"bytes": 5},
    }  # fmt: skip
    assert event["event"]["outcome"] == "success"
    own = event["appliance"]
    assert (own["transaction"], own["pairing"], own["midstream"]) == (0, "verified", False)
    assert own["request"] == own["response"] == {"complete": True, "missing_bytes": 0}
    assert own["http2"] == {"stream_id": 1, "headers": "exact"}
    assert "anomalies" not in own
    assert outcome.topics == {1: 1}
    assert differences(outcome) == {}
    assert outcome.counts["messages.complete"] == 2
    assert outcome.counts["connections.http2"] == 1
    assert outcome.counts["not_http_bytes"] == 0


@CUTS
def test_a_server_that_speaks_first_is_http2(cut):
    said = Conversation().handshake().server_sends(settings(), cut).idle(MILLISECOND).client_sends(START + ONE, cut)
    outcome = outcome_of(said.idle(MILLISECOND).server_sends(OK, cut).close().frames)
    assert summaries(outcome.events) == [("/a?b=1", 200, "verified")]
    assert outcome.only["source"]["port"] > outcome.only["destination"]["port"] == 80
    assert differences(outcome) == {}


def test_streams_end_in_any_order_and_keep_their_places():
    asked = message(1, ask(b"/1")) + message(3, ask(b"/3")) + message(5, ask(b"/5"))
    said = message(5, answer(b"204")) + message(1, answer(b"404")) + message(3, answer(b"500"))
    outcome = outcome_of(turns(asked, said).frames)
    assert [json.loads(line)["appliance"]["transaction"] for line in outcome.lines] == [2, 0, 1]
    assert summaries(outcome.events) == [("/1", 404, "verified"), ("/3", 500, "verified"), ("/5", 204, "verified")]
    assert (outcome.counts["responses.2xx"], outcome.counts["responses.4xx"]) == (1, 1)
    assert outcome.counts["requests.GET"] == 3


def test_times_are_those_of_the_stream():
    said = turns(close="")
    said.client_sends(headers(1, block(*ask()))).idle(2 * MILLISECOND).client_sends(frame(DATA, END_STREAM, 1, b"x"))
    said.idle(5 * MILLISECOND).server_sends(headers(1, block(*answer(b"103"))))
    said.idle(7 * MILLISECOND).server_sends(headers(1, block(*answer()))).idle(3 * MILLISECOND)
    said.client_sends(frame(WINDOW_UPDATE, 0, 1, bytes(4))).server_sends(frame(DATA, END_STREAM, 1, b"y"))
    event = outcome_of(said.close().frames).only
    timing = event["appliance"]["timing"]
    assert event["appliance"]["informational"] == [103]
    assert 2 * MILLISECOND <= timing["send_ns"] < 3 * MILLISECOND
    assert 12 * MILLISECOND <= timing["wait_ns"] < 13 * MILLISECOND
    assert 3 * MILLISECOND <= timing["receive_ns"] < 4 * MILLISECOND


def test_a_request_without_an_answer_is_alone():
    outcome = outcome_of(turns(ONE).frames)
    assert summaries(outcome.events) == [("/a?b=1", None, "request_only")]
    assert outcome.only["event"]["outcome"] == "unknown"
    assert differences(outcome) == {}


def test_headers_and_trailers_are_shown_where_they_are_asked_for_and_credentials_are_not():
    asked = message(1, ask(b"/?token=s", (b"cookie", b"secret"), (b"x-a", b"1"), (b"x-a", b"2")))
    said = message(1, answer(b"200", (b"set-cookie", b"s=1")), b"x", [(b"x-sum", b"9")])
    options = config(http={"headers": ["all"], "redact_parameters": ["token"]})
    event = outcome_of(turns(asked, said).frames, config=options).only
    assert event["url"]["original"] == "/?token=[redacted]"
    assert event["http"]["request"]["headers"] == {"cookie": ["[redacted]"], "x-a": ["1", "2"]}
    assert event["http"]["response"]["headers"] == {"set-cookie": ["[redacted]"]}
    assert event["http"]["response"]["trailers"] == {"x-sum": ["9"]}


@CUTS
def test_bodies_are_read_as_those_of_http_1(cut):
    text = b"some text " * 3000
    packed = gzip.compress(text)
    fields = answer(b"200", (b"content-type", b"text/plain"), (b"content-encoding", b"gzip"))
    options = config(bodies={"hashes": ["sha256"], "excerpt_bytes": 9})
    outcome = outcome_of(turns(ONE, message(1, fields, packed), cut=cut).frames, config=options)
    body = outcome.only["appliance"]["response"]["body"]
    assert body["sha256"] == hashlib.sha256(text).hexdigest()
    assert (body["codings"], body["decoded_bytes"]) == (["gzip"], len(text))
    assert outcome.only["http"]["response"]["body"] == {"bytes": len(packed), "content": "some text"}
    assert outcome.counts["bodies.decoded"] == 1


def test_a_gap_inside_of_data_is_skipped_exactly():
    said = turns(ONE, close="").server_sends(message(1, answer(), b"x" * 9000), 1000)
    said.idle(MILLISECOND).client_sends(message(3, ask(b"/3"))).idle(MILLISECOND).server_sends(message(3, answer()))
    frames = said.close().frames
    places = [place for place, (_, frame) in enumerate(frames) if frame.endswith(b"x" * 900)]
    outcome = outcome_of(without(frames, places[3]))
    assert summaries(outcome.events) == [("/a?b=1", 200, "verified"), ("/3", 200, "verified")]
    first, second = (event["appliance"] for event in outcome.events)
    assert outcome.events[0]["http"]["response"]["body"]["bytes"] == 9000
    assert first["response"] == {"complete": True, "missing_bytes": 1000}
    assert first["http2"]["headers"] == second["http2"]["headers"] == "exact"
    assert outcome.counts["http2_losses"] == 0
    assert differences(outcome) == {}


@pytest.mark.parametrize(("side", "place"), [("client", 0), ("server", 1)])
def test_a_reset_says_who_and_why(side, place):
    said = [headers(1, block(*ask()))] if place == 0 else [ONE]
    said += [b"", reset(1, 8)] if place == 0 else [headers(1, block(*answer())) + reset(1, 8)]
    outcome = outcome_of(turns(*said).frames)
    assert outcome.only["appliance"]["http2"]["reset"] == {"error": "CANCEL", "by": side}
    assert not outcome.only["appliance"]["request" if place == 0 else "response"]["complete"]
    assert outcome.counts[f"http2_resets.{side}"] == 1
    assert differences(outcome) == {}


def test_an_unknown_error_code_is_a_number():
    event = outcome_of(turns(ONE, reset(1, 0x1F)).frames).only
    assert event["appliance"]["http2"]["reset"]["error"] == "0x1f"


def test_a_promised_request_is_the_servers():
    promise = frame(PUSH_PROMISE, END_HEADERS, 1, (2).to_bytes(4, "big") + block(*ask(b"/pushed")))
    outcome = outcome_of(turns(ONE, promise + OK + message(2, answer(b"201"))).frames)
    assert summaries(outcome.events) == [("/a?b=1", 200, "verified"), ("/pushed", 201, "verified")]
    assert outcome.events[1]["appliance"]["http2"] == {"stream_id": 2, "headers": "exact", "pushed": True}
    assert outcome.events[1]["source"]["port"] == outcome.events[0]["source"]["port"]
    assert differences(outcome) == {}


@CUTS
def test_a_refused_preface_is_as_before_and_leaves_no_event_of_its_requests(cut):
    refused = response(b"400 Bad Request", b"Content-Length: 0")
    outcome = outcome_of(turns(START + ONE, refused, request(), response(b"204 No"), cut=cut, start=False).frames)
    assert [one[:2] for one in summaries(outcome.events)] == [(None, 400), ("/", 204)]
    assert outcome.counts["not_http_streams.http2"] == 1
    assert outcome.counts["not_http_bytes.http2"] == len(START + ONE)
    assert differences(outcome) == {}


def test_the_same_event_has_the_same_id_for_any_segments():
    ids = {events_of(turns(ONE, OK, cut=cut).frames)[0]["event"]["id"] for cut in (None, 4000)}
    assert len(ids) == 1


# -- limits ----------------------------------------------------------------------------------------------------------


def test_open_streams_of_a_connection_are_limited():
    asked = b"".join(message(stream, ask(b"/%d" % stream)) for stream in range(1, 100, 2))
    outcome = outcome_of(turns(asked).frames, config=config(http={"max_streams": 16}))
    assert len(outcome.events) == 50
    assert outcome.counts["http2_streams_given_up"] == 34
    assert outcome.counts["http2_streams"] == outcome.counts["http2_streams_ended.reported"] == 50
    assert differences(outcome) == {}


def test_the_bytes_of_the_streams_of_a_connection_are_limited():
    asked = b"".join(message(stream, ask(b"/" + b"x" * 1000)) for stream in range(1, 40, 2))
    outcome = outcome_of(turns(asked).frames, config=config(http={"max_streams_bytes": 4096}))
    assert len(outcome.events) == 20
    assert outcome.counts["http2_streams_given_up"] > 10
    assert differences(outcome) == {}


def test_the_bytes_of_the_streams_of_all_connections_are_limited():
    asked = b"".join(message(stream, ask(b"/" + b"x" * 1000)) for stream in range(1, 40, 2))
    outcome = outcome_of(turns(asked).frames, config=config(http={"max_total_waiting_bytes": 8192}))
    assert len(outcome.events) == 20
    assert outcome.counts["given_up"] > 10
    assert differences(outcome) == {}


def test_the_bytes_of_unfinished_header_blocks_of_all_connections_are_limited():
    said = frame(HEADERS, 0, 1, block(*ask())[:40]) + frame(CONTINUATION, 0, 1, b"x" * 300) * 8
    outcome = outcome_of(turns(said, cut=300).frames, config=config(http={"max_total_head_bytes": 256}))
    assert outcome.counts["http2_cut_blocks"] == 1
    assert differences(outcome) == {}


def test_the_bytes_of_header_tables_of_all_connections_are_limited():
    fields = [(b"x-%d" % place, b"y" * 60) for place in range(30)]
    frames = []
    for port in range(40):
        said = Conversation(client_port=50000 + port).handshake().client_sends(PREFACE + settings())
        said.server_sends(settings())
        for stream in (1, 3):
            said.client_sends(headers(stream, block(*ask(), *fields, indexed=True), END_HEADERS | END_STREAM))
            said.server_sends(message(stream, answer()))
        frames += said.frames
    outcome = outcome_of(frames, config=config(http={"max_total_table_bytes": 65536}))
    assert outcome.counts["http2_tables_emptied"] > 0
    assert outcome.running["http2_table_bytes"] < 65536
    assert outcome.counts["http2_table_bytes"] == 0
    assert len(outcome.events) == 80
    assert differences(outcome) == {}


# -- anomalies: each has frames that make it, and no others ------------------------------------------------------------

LITERAL = {
    "authority_and_host_differ": ask(b"/", (b"host", b"b.example")),
    "crlf_in_header": ask(b"/", (b"x", b"a\r\nb: c")),
    "bad_pseudo_header": [*ask(), (b":path", b"/2")],
    "uppercase_in_header": ask(b"/", (b"X-a", b"1")),
    "connection_header": ask(b"/", (b"transfer-encoding", b"chunked")),
    "length_and_data_differ": ask(b"/", (b"content-length", b"5")),
}
MADE_BY = {
    **{name: message(1, fields) for name, fields in LITERAL.items()},
    "frame_on_stream_0": frame(DATA, 0, 0, b"x") + ONE,
    "header_block_split": frame(HEADERS, END_STREAM, 1, block(*ask())[:9])
    + frame(CONTINUATION, END_HEADERS, 1, block(*ask())[9:]),
    "hpack_unknown_index": headers(1, block(*ask()) + b"\xff\x20", END_HEADERS | END_STREAM),
    "bad_header_block": headers(1, block(*ask()) + b"\x00\x05ab", END_HEADERS | END_STREAM),
    "rapid_reset": b"".join(headers(n, block(*ask())) + reset(n, 8) for n in range(1, 203, 2)),
}


def test_every_anomaly_of_http2_has_its_frames():
    assert set(MADE_BY) == set(HTTP2_ANOMALIES)


@CUTS
@pytest.mark.parametrize("name", MADE_BY)
def test_an_anomaly_arises_alone(name, cut):
    event = events_of(turns(MADE_BY[name], b"" if name == "rapid_reset" else message(1, answer()), cut=cut).frames)[-1]
    assert event["appliance"]["anomalies"] == [name]


@pytest.mark.parametrize(
    "asked",
    [
        message(1, ask(b"/", (b"host", b"A.example"), (b"te", b"trailers"))),
        message(1, ask(b"/", (b"content-length", b"5"), method=b"POST"), b"hello"),
        headers(1, block(*ask()), END_HEADERS) + frame(DATA, PADDED | END_STREAM, 1, b"\2hi\0\0"),
        frame(HEADERS, END_STREAM, 1, block(*ask(b"/", (b"x", b"y" * 20000)))[:16384])
        + frame(CONTINUATION, END_HEADERS, 1, block(*ask(b"/", (b"x", b"y" * 20000)))[16384:]),
    ],
    ids=["host", "length", "padding", "large fields"],
)
def test_what_is_as_it_should_be_is_no_anomaly(asked):
    event = outcome_of(turns(asked, message(1, answer(b"200", (b"content-length", b"0")))).frames).only
    assert "anomalies" not in event["appliance"]


def test_a_response_to_head_has_the_length_of_another():
    event = outcome_of(
        turns(message(1, ask(method=b"HEAD")), message(1, answer(b"200", (b"content-length", b"9")))).frames
    )
    assert "anomalies" not in event.only["appliance"]


def test_an_answer_before_the_request_has_ended_is_early():
    said = [headers(1, block(*ask())), message(1, answer(b"413")), frame(DATA, END_STREAM, 1, b"x")]
    assert outcome_of(turns(*said).frames).only["appliance"]["anomalies"] == ["early_response"]


def test_a_preface_alone_makes_no_event():
    outcome = outcome_of(turns(PREFACE + settings(), settings(), start=False).frames)
    assert outcome.events == []
    assert outcome.counts["connections.http2"] == 1


@pytest.mark.parametrize("workers", [2, 7])
def test_times_behind_a_loss_do_not_depend_on_the_connections_of_the_same_worker(workers):
    """A gap had the time at which the worker's clock declared it: with other neighbours, another `event.end`."""
    frames = []
    for number in range(6):
        made = Conversation(client_port=40000 + number, start_ns=Conversation().now + number * 11 * MILLISECOND)
        made.handshake().client_sends(START).idle(MILLISECOND).server_sends(settings()).idle(MILLISECOND)
        made.client_sends(ONE).idle(MILLISECOND).server_sends(message(1, answer(), bytes(9000))).idle(MILLISECOND)
        sent = made.close("client").frames
        frames += without(sent, [place for place, (_, each) in enumerate(sent) if len(each) > 1000][-1])
    later = Conversation(client_port=41000, start_ns=max(at for at, _ in frames) + 7_000 * MILLISECOND)
    frames = sorted([*frames, *later.handshake().close("client").frames], key=lambda frame: frame[0])
    one, many = (outcome_of(frames, workers=count) for count in (1, workers))
    assert sum("http" in event for event in one.events) == 6
    assert one.counts["gaps"]
    assert sorted(map(json.dumps, one.events)) == sorted(map(json.dumps, many.events))


@CUTS
def test_a_frame_on_stream_0_marks_the_same_exchange_in_any_split(cut):
    """In one piece with the end of an exchange, it marked the next one."""
    events = outcome_of(turns(ONE, frame(DATA, 0, 0, b"x") + OK, cut=cut).frames).events
    assert ["frame_on_stream_0" in event["appliance"].get("anomalies", []) for event in events] == [True]
