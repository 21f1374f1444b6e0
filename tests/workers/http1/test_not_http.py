"""Protocols other than HTTP: recognized by their first bytes, then only counted; HTTP that starts late is found."""

from __future__ import annotations

import pytest
from body_summaries import OK
from builders import MILLISECOND, Conversation, config, differences, outcome_of, request, response, summaries
from tcp_scenes import moved, put

from appliance.stats.names import NOT_HTTP, SPOKEN

CUTS = pytest.mark.parametrize("cut", [None, 1, 3], ids=["whole", "by byte", "by three"])
ASK = request()
HTTP_ALONE = config(events={"datasets": ["http"]})
TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200))
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FINAL = {  # by kind: who begins, what each side says
    "tls": (TLS_HELLO, b"\x16\x03\x03\x00\x7a\x02" + bytes(100)),
    "ssh": (b"SSH-2.0-OpenSSH_9.6\r\n", b"SSH-2.0-OpenSSH_9.7\r\n"),
}


def turns(*said, cut=None, close="client", established=False):
    """Client and server in turns."""
    made = Conversation()
    made.established() if established else made.handshake()
    for place, text in enumerate(said):
        (made.server_sends if place % 2 else made.client_sends)(text, cut).idle(MILLISECOND)
    return made.close(close) if close else made


def alone(frames):
    """Return the outcome of frames if only transactions are events."""
    return outcome_of(frames, config=HTTP_ALONE)


def kinds(outcome):
    """The streams that are not HTTP, by kind."""
    return {name: count for name in NOT_HTTP if (count := outcome.counts[f"not_http_streams.{name}"])}


@CUTS
@pytest.mark.parametrize("kind", FINAL)
def test_a_final_protocol_is_counted_once_a_side_and_never_looked_at_again(kind, cut):
    near, far = FINAL[kind]
    said = [near, far, ASK, OK, ASK * 20, OK * 20]
    outcome = alone(turns(*said, cut=cut).frames)
    assert outcome.events == []
    assert kinds(outcome) == {kind: 2}
    assert outcome.counts["not_http_bytes"] == sum(map(len, said))
    assert outcome.counts["parse_errors"] == outcome.counts["messages.started"] == 0
    assert differences(outcome) == {}


def spoken(outcome):
    """The connections that have ended, by what they spoke; the bytes that are not HTTP, by kind."""
    assert sum(outcome.counts[f"connections_open.{name}"] for name in SPOKEN[1:]) == 0
    ended = sum(count for name, count in outcome.counts.items() if name.startswith("flows_ended."))
    assert sum(outcome.counts[f"connections.{name}"] for name in SPOKEN) == ended
    assert sum(outcome.counts[f"not_http_bytes.{name}"] for name in NOT_HTTP) == outcome.counts["not_http_bytes"]
    connections = {name: count for name in SPOKEN if (count := outcome.counts[f"connections.{name}"])}
    return connections, {name: count for name in NOT_HTTP if (count := outcome.counts[f"not_http_bytes.{name}"])}


@CUTS
@pytest.mark.parametrize("close", ["client", ""])
@pytest.mark.parametrize("kind", FINAL)
def test_a_connection_and_its_bytes_are_counted_by_what_it_speaks(kind, cut, close):
    said = [*FINAL[kind], b"more" * 100, b"and more" * 50]
    assert spoken(alone(turns(*said, cut=cut, close=close).frames)) == (
        {kind: 1},
        {kind: sum(map(len, said))},
    )


@CUTS
@pytest.mark.parametrize(
    ("said", "kind", "octets"),
    [
        ((), "silent", {}),
        ((b"\x05\x01\x00", b"\x05\x00"), "other", {"other": 5}),
        ((b"GET / HT",), "other", {"other": 8}),
        ((b"P",), "other", {"other": 1}),
        ((ASK, OK), "http", {}),
        ((b"\x05\x01\x00", b"\x05\x00", ASK, OK), "http", {"other": 5}),
        ((TLS_HELLO, response(b"400 Bad Request", b"Content-Length: 0")), "http", {"tls": len(TLS_HELLO)}),
        ((b"EHLO a.example\r\n", b"220 mail.example\r\n"), "smtp", {"smtp": 34}),
    ],
    ids=["nothing", "unknown", "cut line", "one byte", "HTTP", "late HTTP", "refused TLS", "SMTP"],
)
def test_every_connection_is_of_one_kind(said, kind, octets, cut):
    assert spoken(alone(turns(*said, cut=cut).frames)) == ({kind: 1}, octets)


@CUTS
@pytest.mark.parametrize("kind", FINAL)
def test_a_final_protocol_is_told_by_one_side_alone(kind, cut):
    near, _ = FINAL[kind]
    outcome = alone(Conversation().handshake().client_sends(near + ASK, cut).close().frames)
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
    outcome = alone(turns(*said, ASK, OK, request(b"/1"), OK, cut=cut).frames)
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
def test_tls_in_a_tunnel_is_counted_as_tls(cut):
    said = turns(request(b"a:443", method=b"CONNECT"), response(b"200 OK"), TLS_HELLO, b"\x16\x03\x03" * 9, cut=cut)
    outcome = outcome_of(said.frames)
    assert kinds(outcome) == {"tls": 2}
    assert outcome.counts["not_http_bytes.tls"] == len(TLS_HELLO) + 27
    assert outcome.counts["tunnel_bytes"] == 0


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
    outcome = alone(turns(PROXY[version] + ASK, OK, request(b"/1"), OK, cut=cut).frames)
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
    outcome = alone(turns(before + ASK, OK, cut=cut).frames)
    assert outcome.only["appliance"]["anomalies"] == names


@CUTS
@pytest.mark.parametrize("method", [b"POST", b"PUT", b"PROPFIND", b"PROXY", b"P"])
def test_a_method_that_begins_like_one_is_a_method(method, cut):
    # A request of the method PROXY would be one; its line is taken for a header of that protocol instead.
    outcome = alone(turns(request(method=method), OK, cut=cut).frames)
    found = [event["http"]["request"]["method"] for event in outcome.events if "request" in event["http"]]
    assert found == ([] if method == b"PROXY" else [method.decode()])


@CUTS
def test_a_header_of_the_proxy_protocol_before_tls_changes_nothing(cut):
    outcome = alone(turns(PROXY["1"] + TLS_HELLO, b"\x16\x03\x03", cut=cut).frames)
    assert (outcome.events, kinds(outcome)) == ([], {"tls": 2})


def test_an_answer_while_the_first_bytes_may_still_be_a_proxy_header_holds_nothing_up():
    said = Conversation().handshake().client_sends(b"P").idle(MILLISECOND)
    said.server_sends(response(b"200 OK", b"Content-Length: 0")).idle(MILLISECOND)
    said.client_sends(b"OST / HTTP/1.1\r\nHost: a.example\r\n\r\n").close()
    assert summaries(outcome_of(said.frames).events) == [("/", 200, "verified")]


# -- what one side speaks says nothing of the other -------------------------------------------------------------------

REFUSED = response(b"400 Bad Request", b"Content-Length: 4", b"Connection: close", body=b"oops")
STRANGE = {  # what a client says to a server of HTTP that does not understand it
    "tls": TLS_HELLO,
    "ssh": FINAL["ssh"][0],
    "smtp": b"EHLO a.example\r\n",
    "http2": PREFACE + b"\0\0\0\4\0\0\0\0\0" + b"\0\0\4\x08\0\0\0\0\0\0\xbf\0\1",
}
GREETINGS = {  # what a server says that is none of HTTP
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
    "smtp": b"220 mail.example ESMTP\r\n",
}


@CUTS
@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("close", ["server", "client", ""])
def test_an_answer_in_the_clear_to_another_protocol_is_a_response_alone(kind, cut, close):
    outcome = alone(turns(STRANGE[kind], REFUSED, cut=cut, close=close).frames)
    assert summaries(outcome.events) == [(None, 400, "response_only")]
    assert outcome.only["http"]["response"]["body"]["bytes"] == 4
    assert "anomalies" not in outcome.only["appliance"]
    assert kinds(outcome) == {kind: 1}
    assert outcome.counts["not_http_bytes"] == len(STRANGE[kind])
    assert differences(outcome) == {}


@CUTS
@pytest.mark.parametrize("kind", STRANGE)
def test_what_the_client_says_behind_its_refusal_makes_no_event(kind, cut):
    more = b"\x15\x03\x01\0\2\2\x46" if kind == "tls" else b"MAIL FROM:<a@b.example>\r\n"
    outcome = alone(turns(STRANGE[kind], REFUSED, more, cut=cut).frames)
    assert summaries(outcome.events) == [(None, 400, "response_only")]
    assert differences(outcome) == {}


@CUTS
def test_an_answer_that_ends_with_its_connection_is_whole(cut):
    refused = response(b"400 Bad Request", b"Connection: close", body=b"<html>oops</html>")
    outcome = alone(turns(TLS_HELLO, refused, cut=cut, close="server").frames)
    assert outcome.only["http"]["response"]["body"]["bytes"] == 17
    assert outcome.only["appliance"]["response"]["complete"]


@CUTS
@pytest.mark.parametrize("status", [b"400 Bad Request", b"405 No", b"505 HTTP Version Not Supported"])
def test_http_behind_a_refused_preface_is_read(status, cut):
    refused = response(status, b"Content-Length: 0")
    outcome = outcome_of(
        turns(STRANGE["http2"], refused, ASK, OK, request(b"/1"), OK, cut=cut).frames, config=HTTP_ALONE
    )
    number = int(status[:3])
    assert [summary[:2] for summary in summaries(outcome.events)] == [(None, number), ("/", 200), ("/1", 200)]
    assert outcome.events[1]["appliance"]["anomalies"] == ["extra_bytes"]
    assert "anomalies" not in outcome.events[2]["appliance"]
    assert kinds(outcome) == {"http2": 1}
    assert differences(outcome) == {}


@CUTS
def test_http_is_read_though_its_server_had_acknowledged_a_part_of_the_preface_only(cut):
    said = Conversation().handshake().client_sends(STRANGE["http2"], cut)
    refused = response(b"400 Bad Request", b"Content-Length: 0")
    put(said, said.server, said.server.next, payload=refused, ack=said.client.at(24))
    moved(said.server, len(refused))
    said.acknowledge(said.server).idle(MILLISECOND).client_sends(ASK, cut).idle(MILLISECOND).server_sends(OK, cut)
    outcome = outcome_of(said.close().frames)
    assert [summary[:2] for summary in summaries(outcome.events)] == [(None, 400), ("/", 200)]


@CUTS
def test_a_body_of_http2_behind_its_refusal_is_no_request(cut):
    frame = b"\0\0\x28\0\1\0\0\0\1"
    outcome = alone(turns(STRANGE["http2"], REFUSED, frame + ASK, cut=cut).frames)
    assert summaries(outcome.events) == [(None, 400, "response_only")]


@CUTS
@pytest.mark.parametrize("kind", GREETINGS)
def test_a_request_to_a_server_of_another_protocol_is_a_request_alone(kind, cut):
    said = Conversation().handshake().server_sends(GREETINGS[kind], cut).idle(MILLISECOND).client_sends(ASK, cut)
    said.idle(MILLISECOND).server_sends(b"500 unknown: GET / HTTP/1.1\r\n", cut).close()
    outcome = outcome_of(said.frames)
    assert summaries(outcome.events) == [("/", None, "request_only")]
    assert kinds(outcome) == {kind: 1}
    assert differences(outcome) == {}


@CUTS
@pytest.mark.parametrize("said", [b"USER a\r\n", b"GET /file\r\n", b"SITE / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x80\1"])
def test_beside_another_protocol_only_what_begins_well_is_http(said, cut):
    # 220 greets in FTP and in others too; their commands are no requests, and files are no messages.
    made = Conversation().handshake().server_sends(GREETINGS["smtp"], cut).idle(MILLISECOND).client_sends(said, cut)
    made.server_sends(b"331 and now?\r\n", cut).client_sends(b"DATA\r\n" + ASK + OK, cut)
    outcome = outcome_of(made.close().frames)
    assert outcome.events == []
    assert kinds(outcome) == {"smtp": 2}
    assert outcome.counts["parse_errors"] == 0


@CUTS
@pytest.mark.parametrize("kind", FINAL)
def test_http_inside_another_protocol_makes_no_event(kind, cut):
    near, far = FINAL[kind]
    quoted = b"\r\n\r\n" + ASK + OK
    outcome = outcome_of(
        turns(near + quoted, far + quoted, quoted, quoted, OK, ASK, OK, cut=cut).frames, config=HTTP_ALONE
    )
    assert outcome.events == []
    assert kinds(outcome) == {kind: 2}


@CUTS
def test_a_connection_of_another_protocol_is_told_though_the_first_bytes_of_its_server_are_lost(cut):
    said = Conversation().handshake().client_sends(STRANGE["http2"], cut).idle(MILLISECOND)
    said.server.next += 1000
    said.server_sends(b"abc" + OK, cut).acknowledge(said.client).idle(5000 * MILLISECOND).server_sends(OK, cut)
    outcome = outcome_of(said.close().frames)
    assert outcome.events == []
