"""A header of the PROXY protocol in front of the preface of HTTP/2: it belongs to no stream."""

from __future__ import annotations

import pytest
from builders import MILLISECOND, Conversation, differences, outcome_of, request, response
from h2_talk import START, answer, ask, message
from h2_wire import settings

CUTS = pytest.mark.parametrize("cut", [None, 1, 7, 50], ids=["whole", "by byte", "by seven", "by fifty"])
PROXY = {
    "1": b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
    "1, unknown": b"PROXY UNKNOWN\r\n",
    "2": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x01\xbb",
    "2, local": b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00",
}
ASKED = START + message(1, ask(b"/one")) + message(3, ask(b"/three"))
ANSWERED = settings() + message(1, answer(b"201")) + message(3, answer(b"203"))


def read(*said: tuple[int, bytes], cut: int | None = None):
    made = Conversation().handshake()
    for side, data in said:
        (made.server_sends if side else made.client_sends)(data, cut).idle(MILLISECOND)
    outcome = outcome_of(made.close().frames)
    assert differences(outcome) == {}
    return outcome


@CUTS
@pytest.mark.parametrize("version", PROXY)
@pytest.mark.parametrize("together", [False, True], ids=["apart", "together"])
def test_http2_behind_it_is_read(version, together, cut):
    before = [(0, PROXY[version] + ASKED)] if together else [(0, PROXY[version]), (0, ASKED)]
    outcome = read(*before, (1, ANSWERED), cut=cut)
    assert [(event["url"]["path"], event["http"]["response"]["status_code"]) for event in outcome.events] == [
        ("/one", 201), ("/three", 203),
    ]  # fmt: skip
    for event in outcome.events:
        assert event["http"]["version"] == "2"
        assert event["appliance"]["http2"]["headers"] == "exact"
        assert event["appliance"]["pairing"] == "verified"
        assert "anomalies" not in event["appliance"]
    assert outcome.counts["messages.started"] == outcome.counts["messages.complete"] == 4
    assert outcome.counts["not_http_bytes"] == len(PROXY[version])


@CUTS
def test_a_server_that_speaks_first_is_read_too(cut):
    said = b"".join(message(stream, answer(b"20%d" % stream)) for stream in (1, 3, 5))
    asked = START + b"".join(message(stream, ask(b"/%d" % stream)) for stream in (1, 3, 5))
    outcome = read((0, PROXY["1"]), (1, settings()), (0, asked), (1, said), cut=cut)
    found = [(event["url"]["path"], event["http"]["response"]["status_code"]) for event in outcome.events]
    assert found == [("/1", 201), ("/3", 203), ("/5", 205)]


def test_a_server_without_http2_answers_in_http1():
    outcome = read((0, PROXY["1"] + ASKED), (1, response(b"400 Bad Request", b"Content-Length: 0")))
    assert [event["http"]["response"]["status_code"] for event in outcome.events if "response" in event["http"]] == [
        400
    ]


@pytest.mark.parametrize("line", [b"PRI * HTTP/1.0", b"PRI / HTTP/2.0", b"GET * HTTP/2.0"])
def test_a_head_that_only_resembles_it_is_a_request(line):
    outcome = read((0, PROXY["1"] + line + b"\r\n\r\n"), (1, response(b"400 Bad Request", b"Content-Length: 0")))
    assert "request" in outcome.only["http"]


def test_the_preface_behind_a_request_is_a_request():
    outcome = read((0, request(b"/")), (1, response(b"200 OK", b"Content-Length: 0")), (0, ASKED))
    assert outcome.events[0]["url"]["path"] == "/"
    assert outcome.events[0]["http"]["response"]["status_code"] == 200
