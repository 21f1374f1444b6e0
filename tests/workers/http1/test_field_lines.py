"""The lines of a head. What is not as RFC 9112 has it is read as it was seen, and told."""

from __future__ import annotations

import json

import pytest
from body_summaries import OK, request_reading
from builders import config, events_of, outcome_of, request, response, spoken

from appliance.text.event_text import wire_bytes

MANY = config(http={"max_headers": 4000})
ALL = config(http={"headers": ["all"], "redaction": False})


def first(said: bytes, answer: bytes = OK, how=ALL):
    """The first event."""
    return events_of(spoken(said, answer).frames, config=how)[0]


def anomalies(event):
    return event["appliance"].get("anomalies", [])


# -- start lines -----------------------------------------------------------------------------------------------------

REQUEST_LINES = {  # line: (method, target, version, anomalies)
    b"GET /a HTTP/1.1": ("GET", "/a", "1.1", []),
    b"GET /a HTTP/1.0": ("GET", "/a", "1.0", []),
    b"GET  /a HTTP/1.1": ("GET", "/a", "1.1", ["odd_request_line"]),
    b"GET /a  HTTP/1.1": ("GET", "/a", "1.1", ["odd_request_line"]),
    b"GET\t/a HTTP/1.1": ("GET", "/a", "1.1", ["odd_request_line"]),
    b"GET /a\tHTTP/1.1": ("GET", "/a", "1.1", ["odd_request_line"]),
    b"GET /a HTTP/1.1 ": ("GET", "/a", "1.1", ["odd_request_line"]),
    b"GET /a b HTTP/1.1": ("GET", "/a b", "1.1", ["spaces_in_target"]),
    b"GET /a\tb  c HTTP/1.1": ("GET", "/a\tb  c", "1.1", ["spaces_in_target"]),
    b"GET /a HTTP/1.1 HTTP/1.1": ("GET", "/a HTTP/1.1", "1.1", ["spaces_in_target"]),
    b"GET /a http/1.1": ("GET", "/a", "1.1", ["odd_version"]),
    b"GET /a HTTP/1.2": ("GET", "/a", "1.2", ["odd_version"]),
    b"GET /a HTTP/0.9": ("GET", "/a", "0.9", ["odd_version"]),
    b"GET /a HTTP/2.0": ("GET", "/a", "2.0", ["odd_version"]),
    b"GET /a HTTP/1.10": ("GET", "/a", "1.1", ["odd_version"]),
    b"GET /a HTTP/1": ("GET", "/a", "1.0", ["odd_version"]),
    b"GET /a HTTP/1.1x": ("GET", "/a", "1.1", ["odd_version"]),
    b"BREW /a HTTP/1.1": ("BREW", "/a", "1.1", ["unknown_method"]),
    b"get /a HTTP/1.1": ("get", "/a", "1.1", ["unknown_method"]),
    b"M" * 32 + b" /a HTTP/1.1": ("M" * 32, "/a", "1.1", ["unknown_method"]),
    b"GET a HTTP/1.1": ("GET", "a", "1.1", ["odd_target"]),
    b"GET /a#b HTTP/1.1": ("GET", "/a#b", "1.1", ["odd_target"]),
    b"GET /\xff HTTP/1.1": ("GET", "/\\xff", "1.1", ["odd_target"]),
    b"GET /\xc3\xa9 HTTP/1.1": ("GET", "/\u00e9", "1.1", ["odd_target"]),
    b"GET a:b HTTP/1.1": ("GET", "a:b", "1.1", ["odd_target"]),
    b"GET  HTTP/1.1": ("GET", "", "1.1", ["odd_request_line", "odd_target"]),
    b"OPTIONS * HTTP/1.1": ("OPTIONS", "*", "1.1", []),
    b"GET https://a.example/b HTTP/1.1": ("GET", "https://a.example/b", "1.1", []),
}
NO_REQUEST_LINES = [
    b"M" * 33 + b" /a HTTP/1.1",
    b"G\0T /a HTTP/1.1",
    b"G\xc9T /a HTTP/1.1",
    b" GET /a HTTP/1.1",
    b"GET",
    b"GET ",
    b"GET:/a HTTP/1.1",
    b"GET /a HTTP",
    b"get /a",
    b"hello world",
]


@pytest.mark.parametrize("line", REQUEST_LINES)
def test_a_request_line_is_read_as_it_was_seen(line):
    method, target, version, names = REQUEST_LINES[line]
    event = first(line + b"\r\nHost: a.example\r\n\r\n")
    found = event["http"]["request"]["method"], event["url"]["original"], event["http"]["version"]
    assert found == (method, target, version)
    assert {*anomalies(event)} == {*names}


@pytest.mark.parametrize("line", NO_REQUEST_LINES)
def test_what_is_no_request_line_makes_no_request(line):
    outcome = outcome_of(spoken(line + b"\r\nHost: a.example\r\n\r\n", OK).frames)
    assert ["request" in event["http"] for event in outcome.events] == [False]  # the response is there


STATUS_LINES = {  # line: (status, reason, anomalies)
    b"HTTP/1.1 200 OK": (200, "OK", []),
    b"HTTP/1.1 200 ": (200, None, []),
    b"HTTP/1.1 200": (200, None, []),
    b"HTTP/1.1 200 Not so \xff bad": (200, "Not so \\xff bad", []),
    b"HTTP/1.1 599 \x01": (599, "\x01", ["control_in_head"]),
    b"HTTP/1.1 999 x": (999, "x", []),
    b"HTTP/1.1  200 OK": (200, "OK", ["odd_status_line"]),
    b"HTTP/1.1\t200 OK": (200, "OK", ["odd_status_line"]),
    b"HTTP/1.1 200\tOK": (200, "OK", ["odd_status_line"]),
    b"http/1.1 200 OK": (200, "OK", ["odd_version"]),
    b"HTTP/1.2 200 OK": (200, "OK", ["odd_version"]),
    b"HTTP/2.0 200 OK": (200, "OK", ["odd_version"]),
}


@pytest.mark.parametrize("line", STATUS_LINES)
def test_a_status_line_is_read_as_it_was_seen(line):
    status, reason, names = STATUS_LINES[line]
    event = first(request(), line + b"\r\nContent-Length: 0\r\n\r\n")
    assert event["http"]["response"]["status_code"] == status
    assert event["http"]["response"].get("reason") == reason
    assert anomalies(event) == names


@pytest.mark.parametrize(
    "text", [b"", b"20", b"2000", b"2OO OK", b"099 x", b"-200", b"\xb2\xb2\xb2", b"200OK", b"OK 200"]
)
def test_what_is_no_status_line_makes_no_response(text):
    (event,) = events_of(spoken(request(), b"HTTP/1.1 " + text + b"\r\nContent-Length: 0\r\n\r\n").frames)
    assert "response" not in event["http"]


@pytest.mark.parametrize("blank", [b"\r\n", b"\n", b"\r\n\r\n\n"])
def test_blank_lines_before_a_message_are_passed_over_and_told(blank):
    event = first(blank + request(), blank + OK)
    assert anomalies(event) == ["blank_lines"]
    assert event["http"]["request"]["bytes"] == len(request())
    assert event["http"]["response"]["bytes"] == len(OK)


NAMED = [b"host", b"referer", b"user-agent", b"content-type", b"content-length", b"transfer-encoding", b"upgrade"]
TOKEN = bytes(c for c in range(33, 127) if chr(c) not in '"(),/:;<=>?@[\\]{}')


def one_byte_away(name: bytes):
    """The name with each byte replaced by each other one of a token."""
    for place, byte in enumerate(name):
        for other in TOKEN:
            if other not in (byte, byte ^ 32):
                yield name[:place] + bytes([other]) + name[place + 1 :]


@pytest.mark.parametrize("name", NAMED)
def test_a_name_that_differs_in_one_byte_is_another_field(name):
    value = b"7" if name == b"content-length" else b"chunked" if name == b"transfer-encoding" else b"u.example"
    lines = b"".join(other + b": " + value + b"\r\n" for other in one_byte_away(name))
    plain = first(b"POST /a HTTP/1.1\r\nHost: a.example\r\n\r\n", how=MANY)
    found = first(b"POST /a HTTP/1.1\r\nHost: a.example\r\n" + lines + b"\r\n", how=MANY)
    for event in (plain, found):
        event["http"]["request"].pop("bytes")
    assert (found["http"], found["url"]) == (plain["http"], plain["url"])
    assert anomalies(found) == []


@pytest.mark.parametrize("name", [b"HOST", b"hOsT", b"Host"])
def test_a_name_is_known_in_any_case(name):
    assert first(b"GET / HTTP/1.1\r\n" + name + b": a.example\r\n\r\n")["url"]["domain"] == "a.example"


# -- ends of lines ---------------------------------------------------------------------------------------------------

HEAD = b"POST /a HTTP/1.1\r\nHost: a.example\r\nX: 1\r\nContent-Length: 5\r\n\r\n"


@pytest.mark.parametrize("place", range(5))
def test_any_line_may_end_with_a_line_feed_alone(place):
    lines = HEAD.split(b"\r\n")[:-1]
    said = b"".join(line + (b"\n" if number == place else b"\r\n") for number, line in enumerate(lines))
    found, follows = request_reading(said + b"hello")
    assert (found.body, found.anomalies, follows) == (5, {"bare_lf"}, True)


@pytest.mark.parametrize("place", range(len(HEAD) - 4))
def test_a_cr_without_lf_anywhere_ends_no_line(place):
    said = HEAD[:place] + b"\r" + HEAD[place:]
    events = [event for event in events_of(spoken(said + b"hello", OK).frames) if "request" in event["http"]]
    if place and said[place + 1 : place + 2] != b"\n":
        assert all("bare_cr" in anomalies(event) for event in events)
    for event in events:
        assert event["http"]["request"]["body"]["bytes"] in (
            0,
            5,
        )  # 0: the CR stands in the length, its name or its line


# -- fields ----------------------------------------------------------------------------------------------------------

FIELDS = {  # lines: (fields of the event, anomalies)
    (b"X: a",): ({"x": ["a"]}, []),
    (b"X:a",): ({"x": ["a"]}, []),
    (b"X: \ta b\t ",): ({"x": ["a b"]}, []),
    (b"X:",): ({"x": [""]}, []),
    (b"X: a", b" b"): ({"x": ["a b"]}, ["folded_header"]),
    (b"X: a", b"\t b", b" c "): ({"x": ["a b c"]}, ["folded_header"]),
    (b"X:", b" a"): ({"x": ["a"]}, ["folded_header"]),
    (b"X: a", b" Y: b"): ({"x": ["a Y: b"]}, ["folded_header"]),
    (b"X : a",): ({"x": ["a"]}, ["space_before_colon"]),
    (b"X\t: a",): ({"x": ["a"]}, ["space_before_colon"]),
    (b"X",): ({}, ["bad_header_line"]),
    (b": a",): ({}, ["bad_header_line"]),
    (b"Y: 1", b" X: a"): ({}, ["folded_header"]),
    (b"X Y: a",): ({}, ["bad_header_line"]),
    (b"X\xa0: a",): ({}, ["bad_header_line"]),
    (b"X(: a",): ({}, ["bad_header_line"]),
    (b"X: \xa0a\x85",): ({"x": ["\\xa0a\\x85"]}, []),
    (b"X: a\0b",): ({"x": ["a\0b"]}, ["control_in_head"]),
    (b"X: a\x7f",): ({"x": ["a\x7f"]}, ["control_in_head"]),
    (b"X: \x0ba\x0c",): ({"x": ["\x0ba\x0c"]}, ["control_in_head"]),
    (b"X: a:b: c",): ({"x": ["a:b: c"]}, []),
}


@pytest.mark.parametrize("lines", FIELDS)
def test_a_field_is_read_as_it_was_seen(lines):
    fields, names = FIELDS[lines]
    for event, side in (
        (first(request(b"/", *lines)), "request"),
        (first(request(), response(b"204 No", *lines)), "response"),
    ):
        found = {name: value for name, value in event["http"][side].get("headers", {}).items() if name == "x"}
        assert anomalies(event) == names
        assert found == fields


def test_a_line_that_goes_on_with_the_start_line_is_no_field():
    # RFC 9112 section 2.2: such lines are passed over, or the message refused.
    event = first(b"GET / HTTP/1.1\r\n Content-Length: 5\r\nHost: a.example\r\n\r\n")
    assert anomalies(event) == ["bad_header_line"]
    assert event["http"]["request"]["body"]["bytes"] == 0


@pytest.mark.parametrize(
    ("target", "hosts", "names", "domain"),
    [
        (b"/", [b"a"], [], "a"),
        (b"/", [], ["host_missing"], None),
        (b"/", [b""], [], None),
        (b"/", [b"a", b"a"], [], "a"),
        (b"/", [b"a", b"b"], ["hosts_differ"], "a"),
        (b"/", [b"", b"b"], ["hosts_differ"], None),
        (b"http://a/", [b"b"], ["hosts_differ"], "a"),
        (b"http://a", [b"a"], [], "a"),
        (b"http://A:80?x", [b"a"], [], "A"),
        (b"https://a/", [b"a:443"], [], "a"),
        (b"http://a:81/", [b"a"], ["hosts_differ"], "a"),
        (b"http://a/b@c?d://e", [b"a"], [], "a"),
        (b"http://a/", [], ["host_missing"], "a"),
        (b"http://a.b/", [b"a"], ["hosts_differ"], "a.b"),
    ],
)
def test_the_host_is_named_once_or_told(target, hosts, names, domain):
    event = first(request(target, *(b"Host: " + host for host in hosts), host=None))
    assert anomalies(event) == names
    assert event["url"].get("domain") == domain


# -- bytes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_in_every_text_comes_back_as_it_was(byte):
    odd = bytes([byte])
    said = request(b"/" + odd + b"x", b"X: a" + odd + b"b", b"User-Agent: a" + odd + b"b", b"Referer: a" + odd + b"b")
    outcome = outcome_of(spoken(said, response(b"200 a" + odd + b"b", b"Content-Length: 0")).frames, config=ALL)
    assert all(b"\n" not in line for line in outcome.lines)
    assert [json.loads(line) for line in outcome.lines] == outcome.events
    for event in outcome.events:
        asked, answered = event["http"].get("request", {}), event["http"].get("response", {})
        if "request" in event["http"] and odd not in (b"\n",):
            assert wire_bytes(event["url"]["original"]) == b"/" + odd + b"x"
            assert wire_bytes(asked["headers"]["x"][0]) == b"a" + odd + b"b"
            assert wire_bytes(event["user_agent"]["original"]) == b"a" + odd + b"b"
            assert wire_bytes(asked["referrer"]) == b"a" + odd + b"b"
        if "reason" in answered and odd != b"\n":
            assert wire_bytes(answered["reason"]) == b"a" + odd + b"b"


def test_who_asks_is_no_part_of_the_host():
    assert anomalies(first(request(b"http://user:word@a.example/", b"Host: a.example"))) == []


# -- places ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n", b"\n\r\n", b"\r\n\n"])
def test_a_head_ends_at_its_empty_line_however_long_it_is(end):
    for length in range(150):
        said = b"GET /" + b"a" * length + b" HTTP/1.1\r\nX: \r" + b"b" * (length % 5) + b"\r\nHost: a" + end
        events = events_of(spoken(said + b"GET /next HTTP/1.1\r\nHost: b\r\n\r\n", OK + OK).frames, config=ALL)
        assert [event["url"]["path"] for event in events] == ["/" + "a" * length, "/next"]


@pytest.mark.parametrize(("byte", "name"), [(0, "control_in_head"), (127, "control_in_head"), (13, "bare_cr")])
def test_an_odd_byte_is_told_wherever_it_stands(byte, name):
    for length in (0, 1, 14, 15, 16, 17, 30, 31, 32, 33, 63, 64, 65):
        for place in range(length + 1):
            value = b"v" * place + bytes([byte]) + b"v" * (length - place)
            assert name in anomalies(first(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + value + b"w\r\n\r\n"))
