"""What is not HTTP is told from it by its first bytes and then only counted; HTTP that starts late is found."""

from __future__ import annotations

import pytest
from builders import MILLISECOND, Conversation, config, differences, outcome_of, request, response, summaries
from readings import OK

from appliance.stats import NOT_HTTP

CUTS = pytest.mark.parametrize("cut", [None, 1, 3], ids=["whole", "by byte", "by three"])
ASK = request()
TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200))
FINAL = {  # by kind: who begins, what each side says
    "tls": (TLS_HELLO, b"\x16\x03\x03\x00\x7a\x02" + bytes(100)),
    "http2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", b"\0\0\0\4\0\0\0\0\0"),
    "ssh": (b"SSH-2.0-OpenSSH_9.6\r\n", b"SSH-2.0-OpenSSH_9.7\r\n"),
}


def turns(*said, cut=None, close="client", established=False):
    """Client and server in turns."""
    made = Conversation()
    made.established() if established else made.handshake()
    for place, text in enumerate(said):
        (made.server_sends if place % 2 else made.client_sends)(text, cut).idle(MILLISECOND)
    return made.close(close) if close else made


def kinds(outcome):
    """The streams that are not HTTP, by kind."""
    return {name: count for name in NOT_HTTP if (count := outcome.counts[f"not_http_streams.{name}"])}


@CUTS
@pytest.mark.parametrize("kind", FINAL)
def test_a_final_protocol_is_counted_once_a_side_and_never_looked_at_again(kind, cut):
    near, far = FINAL[kind]
    said = [near, far, ASK, OK, ASK * 20, OK * 20]
    outcome = outcome_of(turns(*said, cut=cut).frames)
    assert outcome.events == []
    assert kinds(outcome) == {kind: 2}
    assert outcome.counts["not_http_bytes"] == sum(map(len, said))
    assert outcome.counts["parse_errors"] == outcome.counts["messages.started"] == 0
    assert differences(outcome) == {}


@CUTS
@pytest.mark.parametrize("kind", FINAL)
def test_a_final_protocol_is_told_by_one_side_alone(kind, cut):
    near, _ = FINAL[kind]
    outcome = outcome_of(Conversation().handshake().client_sends(near + ASK, cut).close().frames)
    assert outcome.events == []
    assert kinds(outcome) in ({kind: 1}, {kind: 2})
    assert outcome.counts["not_http_bytes"] == len(near + ASK)


@CUTS
def test_smtp_is_told_by_its_greeting(cut):
    said = Conversation().handshake().server_sends(b"220 mail.example ESMTP\r\n", cut).idle(MILLISECOND)
    said.client_sends(b"EHLO a.example\r\n", cut).server_sends(b"250 ok\r\n", cut).client_sends(b"DATA\r\n" + ASK, cut)
    outcome = outcome_of(said.close().frames)
    assert outcome.events == []
    assert kinds(outcome) == {"smtp": 2}


@CUTS
@pytest.mark.parametrize(
    "said",
    [
        (b"\x05\x01\x00", b"\x05\x00"),
        (b"\x05\x01\x00", b"\x05\x00", b"\x05\x01\x00\x03\x09a.example\x00\x50", b"\x05\x00\x00\x01\0\0\0\0\0\0"),
        (b"\x04\x01\x00\x50\xc0\x00\x02\x01\x00", b"\x00\x5a\x00\x50\xc0\x00\x02\x01"),
        (b"hello there\r\n", b"welcome here\r\n"),
    ],
    ids=["short", "socks5", "socks4", "text"],
)
def test_http_that_starts_late_is_found(said, cut):
    outcome = outcome_of(turns(*said, ASK, OK, request(b"/1"), OK, cut=cut).frames)
    assert [summary[:2] for summary in summaries(outcome.events)] == [("/", 200), ("/1", 200)]
    assert outcome.events[0]["appliance"]["anomalies"] == ["extra_bytes"]
    assert "anomalies" not in outcome.events[1]["appliance"]
    assert kinds(outcome) == {"other": 2}
    assert outcome.counts["not_http_bytes"] == sum(map(len, said))


@pytest.mark.parametrize("kind", [b"\xff", b"x"], ids=["binary", "letters"])
def test_binary_data_cost_nothing_but_counting_and_http_after_them_is_found(kind):
    much = kind * 300_000
    said = turns(much, kind * 100_000, ASK, OK)
    outcome = outcome_of(said.frames)
    assert [summary[:2] for summary in summaries(outcome.events)] == [("/", 200)]
    assert outcome.counts["not_http_bytes"] == 400_000


def test_a_start_line_inside_other_data_is_not_believed():
    said = turns(b"\xff" * 100 + b"\r\n\r\n" + ASK + b"\xff" * 100, b"\xfe" * 50 + b"\r\n\r\n" + OK, b"\xff" * 10)
    outcome = outcome_of(said.frames)
    assert outcome.events == []


@CUTS
def test_http_that_becomes_tls_in_its_tunnel_is_counted_as_tunnel(cut):
    said = turns(request(b"a:443", method=b"CONNECT"), response(b"200 OK"), TLS_HELLO, b"\x16\x03\x03" * 9, cut=cut)
    outcome = outcome_of(said.frames)
    assert kinds(outcome) == {}
    assert outcome.counts["tunnel_bytes"] == len(TLS_HELLO) + 27
    assert outcome.counts["not_http_bytes"] == 0


def test_one_byte_of_a_record_tells_nothing_yet():
    said = Conversation().handshake().client_sends(b"\x16").idle(MILLISECOND).client_sends(b"\x05more").close()
    assert kinds(outcome_of(said.frames)) == {"other": 1}


@CUTS
def test_a_capture_that_begins_in_the_middle_does_not_guess_protocols(cut):
    # \x16\x03 may stand in any body; HTTP is found behind it.
    said = turns(b"\x16\x03\x01 of a body", b"SSH-2.0 of a body\r\n", ASK, OK, cut=cut, established=True)
    outcome = outcome_of(said.frames)
    assert [summary[:2] for summary in summaries(outcome.events)] == [("/", 200)]
    assert set(kinds(outcome)) <= {"other"}


def test_after_many_bytes_only_the_starts_of_pieces_are_looked_at():
    said = Conversation(mss=1 << 14).handshake()
    for _ in range(10):
        said.client_sends(b"\xff" * 10_000).idle(MILLISECOND).server_sends(b"\xff" * 10_000)
    said.client_sends(ASK).idle(MILLISECOND).server_sends(OK)
    outcome = outcome_of(said.close().frames, config=config(http={"headers": ["all"]}))
    assert [summary[:2] for summary in summaries(outcome.events)] == [("/", 200)]


PROXY = {
    "1": b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
    "1, unknown": b"PROXY UNKNOWN\r\n",
    "2": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x01\xbb",
    "2, local": b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00",
}


@CUTS
@pytest.mark.parametrize("version", PROXY)
def test_a_header_of_the_proxy_protocol_belongs_to_no_message(version, cut):
    outcome = outcome_of(turns(PROXY[version] + ASK, OK, request(b"/1"), OK, cut=cut).frames)
    assert [summary[:2] for summary in summaries(outcome.events)] == [("/", 200), ("/1", 200)]
    assert all("anomalies" not in event["appliance"] for event in outcome.events)
    assert outcome.events[0]["http"]["request"]["bytes"] == len(ASK)
    assert outcome.counts["not_http_bytes"] == len(PROXY[version])
    assert kinds(outcome) == {}


@CUTS
@pytest.mark.parametrize(
    ("before", "names"),
    [(b"\r\n\r\n", ["blank_lines"]), (b"\r", ["blank_lines"]), (b"\r\n\r\n\r\n", ["blank_lines"])],
)
def test_what_only_begins_like_one_is_what_it_is(before, names, cut):
    outcome = outcome_of(turns(before + ASK, OK, cut=cut).frames)
    assert outcome.only["appliance"]["anomalies"] == names


@CUTS
@pytest.mark.parametrize("method", [b"POST", b"PUT", b"PROPFIND", b"PROXY", b"P"])
def test_a_method_that_begins_like_one_is_a_method(method, cut):
    # A request of the method PROXY would be one; its line is taken for a header of that protocol instead.
    outcome = outcome_of(turns(request(method=method), OK, cut=cut).frames)
    found = [event["http"]["request"]["method"] for event in outcome.events if "request" in event["http"]]
    assert found == ([] if method == b"PROXY" else [method.decode()])


@CUTS
def test_a_header_of_the_proxy_protocol_before_tls_changes_nothing(cut):
    outcome = outcome_of(turns(PROXY["1"] + TLS_HELLO, b"\x16\x03\x03", cut=cut).frames)
    assert (outcome.events, kinds(outcome)) == ([], {"tls": 2})


def test_an_answer_while_the_first_bytes_may_still_be_a_proxy_header_holds_nothing_up():
    said = Conversation().handshake().client_sends(b"P").idle(MILLISECOND)
    said.server_sends(response(b"200 OK", b"Content-Length: 0")).idle(MILLISECOND)
    said.client_sends(b"OST / HTTP/1.1\r\nHost: a.example\r\n\r\n").close()
    assert summaries(outcome_of(said.frames).events) == [(None, 200, "response_only"), ("/", None, "request_only")]
