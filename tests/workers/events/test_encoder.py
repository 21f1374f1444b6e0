"""The encoder: one line of valid JSON an event, every byte of the wire can be had back, no secret gets out."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from datetime import UTC, datetime
from ipaddress import ip_address

import communityid
import pytest
from builders import (
    MILLISECOND,
    SECOND,
    START_NS,
    Conversation,
    batches_of,
    config,
    events_of,
    get,
    outcome_of,
    request,
    response,
    spoken,
    talk,
)
from exchange import exchange
from hypothesis import assume, given
from hypothesis import strategies as st

from appliance.ipc.event_runs import by_topic
from appliance.stats.names import TOPICS
from appliance.text.event_text import wire_bytes
from workers.events.json_text import text_json
from workers.events.schema import decode
from workers.pipeline import Pipeline

OK = response(b"200 OK", b"Content-Length: 0")
INSIDE = [byte for byte in range(256) if byte != 10]  # a line feed ends the line


def told(client, server=OK, **http):
    """The one event of one exchange of bytes."""
    (event,) = events_of(spoken(client, server).frames, config=config(http=http))
    return event


# -- text ------------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=60))
def test_any_bytes_come_back_from_their_json(data):
    assert wire_bytes(json.loads(text_json(data))) == data


@given(st.lists(st.sampled_from([b"\\", b"x", b"5c", b"ff", b"\xff", b"\xe2\x80\xa8", b"0", b"G"]), max_size=8))
def test_backslashes_and_escapes_do_not_get_mixed_up(parts):
    data = b"".join(parts)
    assert wire_bytes(json.loads(text_json(data))) == data


@given(st.text(max_size=40))
def test_utf_8_is_text_as_it_stands(text):
    assert re.sub(r"\\x5c(?=x[0-9a-fA-F]{2})", r"\\", json.loads(text_json(text.encode()))) == text


@given(st.binary(max_size=60))
def test_the_json_of_a_text_moves_no_terminal_and_breaks_no_line(data):
    text = text_json(data).decode()
    assert all(char.isprintable() or ord(char) > 0x9F for char in text)
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", '""'),
        (b'"\\', '"\\"\\\\"'),
        (b"\xff", '"\\\\xff"'),
        (b"\\xff", '"\\\\x5cxff"'),
        (b"\\xfg", '"\\\\xfg"'),
        (b"\\x5", '"\\\\x5"'),
        (b"\n\r\t\x7f", '"\\u000a\\u000d\\u0009\\u007f"'),
        (b"\xc2\x85", '"\\u0085"'),
        (b"\xe2\x80\xa9", '"\\u2029"'),
        (b"\xc0\x80", '"\\\\xc0\\\\x80"'),
        (b"\xed\xa0\x80", '"\\\\xed\\\\xa0\\\\x80"'),
        (b"\xf4\x90\x80\x80", '"\\\\xf4\\\\x90\\\\x80\\\\x80"'),
        (b"\xe2\x82", '"\\\\xe2\\\\x82"'),
        ("\U0001f600é".encode(), '"\U0001f600é"'),
    ],
)
def test_a_text_is_written_like_this(data, expected):
    assert text_json(data).decode() == expected


@pytest.mark.parametrize("before", range(10))
def test_a_byte_is_written_alike_wherever_it_stands(before):
    for byte in set(range(256)) - {ord("\\")}:  # which may be doubled for what stands behind it
        alone = text_json(bytes([byte]))[1:-1]
        text = text_json(b"p" * before + bytes([byte]) + b"q" * 9)
        assert text == b'"' + b"p" * before + alone + b"q" * 9 + b'"', byte


@pytest.mark.parametrize("digits", range(1, 11))
def test_numbers_have_all_their_digits(digits):
    for ns in (10**digits - 1, 10**digits, 10**digits + 1):
        asked = Conversation().handshake().client_sends(request())
        answered = asked.idle(asked.frames[-1][0] + ns - asked.now).server_sends(OK)
        (event,) = events_of(answered.frames)
        assert event["event"]["duration"] == event["appliance"]["timing"]["wait_ns"] == ns


@pytest.mark.parametrize("byte", INSIDE)
def test_every_byte_round_trips_through_an_event(byte):
    text = b"a" + bytes([byte]) + b"b"
    head = b"GET /%b HTTP/1.1\r\nHost: %b\r\nUser-Agent: %b\r\nReferer: %b\r\n\r\n" % (text, text, text, text)
    outcome = outcome_of(spoken(head, b"HTTP/1.1 200 %b\r\nContent-Length: 0\r\n\r\n" % text).frames)
    event = outcome.only
    decode(outcome.lines[0])
    assert wire_bytes(event["url"]["original"]) == b"/" + text
    assert wire_bytes(event["url"]["domain"]) == text
    assert wire_bytes(event["user_agent"]["original"]) == text
    assert wire_bytes(event["http"]["request"]["referrer"]) == text
    assert wire_bytes(event["http"]["response"]["reason"]) == text


@given(st.binary(max_size=400).filter(lambda data: b"\n" not in data))
def test_an_event_of_any_text_is_one_line_of_the_contract(data):
    head = b"GET /%b HTTP/1.1\r\nHost: %b\r\nX: %b\r\n\r\n" % (data, data, data)
    outcome = outcome_of(spoken(head, OK).frames, config=config(http={"headers": ["all"]}))
    for line in outcome.lines:
        decode(line)


def test_a_very_long_text_of_bytes_that_grow_most_fits():
    text = b"\x01" * 60000
    event = told(request(b"http://" + text + b"/?q"), headers=["all"])
    assert wire_bytes(event["url"]["original"]) == b"http://" + text + b"/?q"
    assert wire_bytes(event["url"]["domain"]) == text


# -- what stands in an event -----------------------------------------------------------------------------------------


def test_events_of_a_whole_conversation_keep_the_contract():
    made = [exchange("GET", "/a?b=c"), exchange("POST", upload=b"x", expect_continue=True), exchange(status=500)]
    lines = outcome_of(talk(*made, vlans=[5, 6]).frames, config=config(http={"headers": ["all"]})).lines
    assert sorted(decode(line).http.response.status_code for line in lines) == [200, 200, 500]


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        (b"/", b"a.example", {"domain": "a.example", "path": "/"}),
        (b"/a/b?c=d?e", b"a.example:8080", {"domain": "a.example", "port": 8080, "path": "/a/b", "query": "c=d?e"}),
        (b"/?", b"a.example", {"domain": "a.example", "path": "/", "query": ""}),
        (b"http://b.example:81/x?y", b"a.example", {"domain": "b.example", "port": 81, "path": "/x", "query": "y"}),
        (b"http://u:p@b.example/x", b"a.example", {"domain": "b.example", "path": "/x"}),
        (b"HTTP://b.example", b"a.example", {"domain": "b.example"}),
        (b"http://b.example?q", b"a.example", {"domain": "b.example", "query": "q"}),
        (b"/", b"[2001:db8::1]:80", {"domain": "[2001:db8::1]", "port": 80, "path": "/"}),
        (b"/", b"[2001:db8::1]:", {"domain": "[2001:db8::1]", "path": "/"}),
        (b"/", b"[2001:db8::1]", {"domain": "[2001:db8::1]", "path": "/"}),
        (b"/", b"[fe80::1%25eth0]:8080", {"domain": "[fe80::1%25eth0]", "port": 8080, "path": "/"}),
        (b"/", b"[::ffff:192.0.2.1]:80", {"domain": "[::ffff:192.0.2.1]", "port": 80, "path": "/"}),
        (b"http://[::1]:81/x", b"a.example", {"domain": "[::1]", "port": 81, "path": "/x"}),
        (b"http://u:p@[::1]/x", b"a.example", {"domain": "[::1]", "path": "/x"}),
        (b"/", b"2001:db8::1", {"domain": "2001:db8::1", "path": "/"}),
        (b"/", b"::1", {"domain": "::1", "path": "/"}),
        (b"*", b"a.example", {"domain": "a.example"}),
        (b"/", b"a.example:", {"domain": "a.example", "path": "/"}),
        (b"/", b"a.example:http", {"domain": "a.example:http", "path": "/"}),
        (b"/", b"", {"path": "/"}),
    ],
)
def test_a_url_is_taken_apart(target, host, expected):
    method = b"OPTIONS" if target == b"*" else b"GET"
    event = told(request(target, b"Host: " + host, method=method))
    assert event["url"] == {"original": target.decode(), "scheme": "http", **expected}


def test_what_was_not_said_is_absent():
    event = told(b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.0 200\r\n\r\n")
    assert "user_agent" not in event
    assert set(event["url"]) == {"original", "path", "scheme"}
    assert set(event["http"]["request"]) == {"method", "bytes", "body"}
    assert set(event["http"]["response"]) == {"status_code", "bytes", "body"}
    assert "anomalies" not in event["appliance"]
    assert "informational" not in event["appliance"]


@pytest.mark.parametrize(("value", "expected"), [(b"text/html; a=b", "text/html"), (b"text/html ;", "text/html")])
def test_a_mime_type_is_without_its_parameters(value, expected):
    event = told(request(b"/", b"Content-Type: " + value))
    assert event["http"]["request"]["mime_type"] == expected


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, "success"), (399, "success"), (400, "failure"), (599, "failure")]
)
def test_the_outcome_is_that_of_the_status(status, outcome):
    event = told(request(), response(b"%d X" % status, b"Content-Length: 0"))
    assert event["event"]["outcome"] == outcome


@pytest.mark.parametrize(
    ("status", "topic"), [(101, 0), (200, 1), (304, 2), (404, 3), (500, 4), (600, 5), (999, 5), (None, 5)]
)
def test_the_topic_is_that_of_the_status_class(status, topic):
    answer = b"" if status is None else response(b"%d X" % status, b"Content-Length: 0")
    assert list(outcome_of(spoken(request(), answer).frames).topics) == [topic]


def test_observer_and_interface_have_the_names_of_the_configuration():
    event = told(request())
    assert event["observer"] == {"name": "sensor-1", "ingress": {"interface": {"name": "mon0"}}}


def test_the_interface_is_the_one_that_saw_the_connection_first():
    several = config(source={"interfaces": ["mon0", 'mon"1']})
    (event,) = events_of(talk(exchange()).frames, config=several, capture=1)
    assert event["observer"]["ingress"]["interface"]["name"] == 'mon"1'


@given(
    st.one_of(
        st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)), st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6))
    ),
    st.integers(1, 65535),
    st.integers(1, 65535),
)
def test_the_community_id_is_the_published_one(addresses, client_port, server_port):
    client, server = map(str, addresses)
    assume((client, client_port) != (server, server_port))  # who talks to itself has no directions
    (event,) = events_of(
        talk(exchange(), client=client, server=server, client_port=client_port, server_port=server_port).frames
    )
    expected = communityid.CommunityID().calc(communityid.FlowTuple.make_tcp(client, server, client_port, server_port))
    assert event["network"]["community_id"] == expected
    ends = [(ip_address(event[side]["ip"]), event[side]["port"]) for side in ("source", "destination")]
    assert ends == [(addresses[0], client_port), (addresses[1], server_port)]


@pytest.mark.parametrize(
    ("vlans", "expected"),
    [
        ([], {}),
        ([7], {"vlan": {"id": "7"}}),
        ([0], {}),  # a priority, no VLAN (IEEE 802.1Q)
        ([200, 31], {"vlan": {"id": "200"}, "inner": {"vlan": {"id": "31"}}}),
        ([3, 2, 1], {"vlan": {"id": "3"}, "inner": {"vlan": {"id": "1"}}}),
    ],
)
def test_vlans_are_told_outermost_and_innermost(vlans, expected):
    network = events_of(talk(exchange(), vlans=vlans).frames)[0]["network"]
    assert {key: value for key, value in network.items() if key in ("vlan", "inner")} == expected


@given(st.integers(1, 4_102_444_800 * 10**9 * 4))
def test_times_are_those_of_the_calendar(ns):
    said = Conversation().established()
    frame = said.client.wire.frame(1, 1, 0x18, request())
    (event,) = events_of([(ns, frame)])
    second = datetime.fromtimestamp(ns // 10**9, UTC)
    assert event["@timestamp"] == f"{second:%Y-%m-%dT%H:%M:%S}.{ns % 10**9:09d}Z"


@pytest.mark.parametrize(
    "day", ["1970-01-01", "1972-02-29", "2000-02-29", "2000-03-01", "2100-02-28", "2100-03-01", "2400-02-29"]
)
def test_times_are_right_at_the_corners_of_the_calendar(day):
    ns = int(datetime.fromisoformat(f"{day}T23:59:59+00:00").timestamp()) * 10**9 + 999_999_999
    said = Conversation().established()
    (event,) = events_of([(ns, said.client.wire.frame(1, 1, 0x18, request()))])
    assert event["@timestamp"] == f"{day}T23:59:59.999999999Z"


def test_an_id_is_the_same_in_every_run_and_different_for_every_event():
    frames = talk(exchange(), exchange(), exchange()).frames + talk(exchange(), client_port=5).frames
    ids = [event["event"]["id"] for event in events_of(frames)]
    assert ids == [event["event"]["id"] for event in events_of(frames, 4, key=bytes(16))]
    assert len(set(ids)) == 4


def ids_of(frames, workers=1, **how):
    """The ids of the events of some frames, sorted: unique, and the same with other numbers of workers."""
    ids = sorted(event["event"]["id"] for event in events_of(frames, workers, **how))
    assert len(set(ids)) == len(ids)
    for others in (1, 2, 5):
        assert ids == sorted(event["event"]["id"] for event in events_of(frames, others, key=bytes([others] * 16)))
    return ids


def crowd():
    """Connections of which some overlap, half a minute in all."""
    return sorted(
        frame
        for number in range(12)
        for frame in talk(get(0), get(1), client_port=1000 + number, start_ns=START_NS + number * 3 * SECOND).frames
    )


@pytest.mark.parametrize("times", [2, 3])
def test_ids_of_frames_that_come_again_with_their_old_stamps_are_unique(times):
    once = ids_of(crowd())
    ids = ids_of(crowd() * times)
    assert set(once) < set(ids)


def test_ids_are_unique_where_the_clock_turns_back_at_each_frame():
    """As in a file that somebody has put together on purpose: two captures, frame by frame."""
    late = [frame for port in range(40) for frame in talk(get(0), client_port=1000 + port).frames]
    early = [frame for port in range(40) for frame in talk(get(0), client_port=3000 + port, start_ns=SECOND).frames]
    mixed = [frame for pair in zip(late, early, strict=True) for frame in pair]
    hours_later = talk(get(0), client_port=9, start_ns=START_NS + 9999 * SECOND).frames
    assert len(ids_of(mixed + hours_later + mixed)) == 161


def test_ids_are_unique_where_all_frames_have_the_same_stamp():
    frames = [
        (5, frame)
        for number in range(20)
        for _, frame in talk(get(0), client_isn=1000 + number * 100_000, server_isn=7000 + number * 100_000).frames
    ]
    assert len(ids_of(frames)) == 20


def test_frames_out_of_order_by_less_than_the_skew_of_interfaces_keep_their_ids():
    frames = crowd()
    chosen = random.Random(1)
    late = sorted((ts_ns + chosen.randrange(40 * MILLISECOND), ts_ns, frame) for ts_ns, frame in frames)
    assert ids_of(frames) == ids_of([frame for _, *frame in late])


# -- headers ---------------------------------------------------------------------------------------------------------

SECRETS = (b"Authorization: Basic s3", b"Proxy-Authorization: s3", b"Cookie: a=s3", b"X-Plain: shown")


def headers(event, side="request"):
    return event["http"][side].get("headers")


def test_headers_are_off_by_default():
    assert headers(told(request(b"/", *SECRETS))) is None


def test_all_headers_come_in_lower_case_and_in_order():
    event = told(request(b"/", b"B: 1", b"a: 2", b"b:3", host=None), headers=["all"])
    assert list(headers(event).items()) == [("b", ["1", "3"]), ("a", ["2"])]


def test_named_headers_come_alone():
    event = told(request(b"/", b"A: 1", b"B: 2"), response(b"200 OK", b"b: 3", b"Content-Length: 0"), headers=["B"])
    assert headers(event) == {"b": ["2"]}
    assert headers(event, "response") == {"b": ["3"]}


def test_credentials_are_redacted():
    outcome = outcome_of(
        spoken(request(b"/", *SECRETS), response(b"200 OK", b"Set-Cookie: s3", b"Content-Length: 0")).frames,
        config=config(http={"headers": ["all"]}),
    )
    assert b"s3" not in outcome.lines[0]
    assert headers(outcome.only)["cookie"] == ["[redacted]"]
    assert headers(outcome.only)["x-plain"] == ["shown"]


def test_a_folded_credential_is_redacted_to_its_last_line():
    event = told(request(b"/", b"Cookie: a", b" s3", b"\ts3", b"X: 1", b" 2", host=None), headers=["all"])
    assert headers(event) == {"cookie": ["[redacted]"], "x": ["1 2"]}


def test_a_space_before_the_colon_hides_no_credential():
    assert headers(told(request(b"/", b"Cookie : s3", host=None), headers=["all"])) == {"cookie": ["[redacted]"]}


def test_configured_headers_are_redacted_too():
    event = told(request(b"/", b"X-Key: s3", b"Cookie: s3", host=None), headers=["all"], redact=["x-KEY"])
    assert headers(event) == {"x-key": ["[redacted]"], "cookie": ["[redacted]"]}


def test_redaction_can_be_taken_off():
    event = told(request(b"/", b"Cookie: shown", host=None), headers=["all"], redaction=False)
    assert headers(event) == {"cookie": ["shown"]}


# -- bodies ------------------------------------------------------------------------------------------------------------


def topic_of(line: bytes) -> int:
    return TOPICS.index(f"http.{json.loads(line)['http']['response']['status_code'] // 100}xx.")


@given(targets=st.lists(st.integers(1, 3000), min_size=1, max_size=8), limit=st.integers(1024, 8000))
def test_bodies_are_whole_events_within_the_limit(targets, limit):
    frames = talk(*(exchange("GET", "/" + "a" * size, status=(200, 404)[size % 2]) for size in targets)).frames
    pipeline = Pipeline(config(feed={"event_batch_bytes": limit}))
    for batch in batches_of(frames)[0][0]:
        pipeline.feed(batch)
    pipeline.finish()
    taken = pipeline.take()
    for runs, count, body in taken:
        assert len(body.split(b"\n")) == count
        assert len(runs) + len(body) <= limit or count == 1
        told = [(topic, n) for topic, n, _, _ in by_topic(runs, body, len(TOPICS), False)]
        assert told == sorted(Counter(topic_of(line) for line in body.split(b"\n")).items())
    assert b"\n".join(body for _, _, body in taken).split(b"\n") == outcome_of(frames).lines
    assert pipeline.take() == []
