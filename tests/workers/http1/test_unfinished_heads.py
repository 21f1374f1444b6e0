"""Heads without an end: answered too early, or cut off by the snapshot length, a gap or the connection's end."""

from __future__ import annotations

import pytest
from body_summaries import NEXT, NEXT_OK, OK
from builders import (
    MILLISECOND,
    SECOND,
    Conversation,
    config,
    differences,
    outcome_of,
    payload_of,
    request,
    response,
    without,
)

FIRST, SLOW = request(b"/first"), request(b"/slow", b"X-Half: abcdef", b"Cookie: a=b", method=b"POST")
LINE = SLOW.index(b"\n") + 1
REFUSED = {
    status: response(status, b"Content-Length: 4", body=b"late")
    for status in (b"400 Bad Request", b"408 Request Time-out", b"414 URI Too Long", b"431 Too Large")
}
LATE = REFUSED[b"408 Request Time-out"]
ALL_HEADERS = config(http={"headers": ["all"]})


def turns(*said: bytes, cut: int | None = None) -> Conversation:
    """Client and server in turns, the client first."""
    made = Conversation().handshake()
    for place, text in enumerate(said):
        (made.server_sends if place % 2 else made.client_sends)(text, cut).idle(MILLISECOND)
    return made


def told(outcome):
    """(target, status, request complete, early?) of every event; the ledger closes."""
    assert differences(outcome) == {}
    return [
        (
            event.get("url", {}).get("original"),
            event["http"].get("response", {}).get("status_code"),
            event["appliance"].get("request", {}).get("complete"),
            "early_response" in event["appliance"].get("anomalies", ()),
        )
        for event in outcome.events
    ]


def target_of(cut: int) -> bytes | None:
    """Return the target that the first `cut` bytes of SLOW show: None before its line has ended."""
    return "/slow" if cut >= LINE else None


# -- an answer before the head has ended -----------------------------------------------------------------------------


@pytest.mark.parametrize("before", [False, True], ids=["first", "later"])
@pytest.mark.parametrize("cut", range(1, len(SLOW)))
def test_an_answer_to_a_head_cut_anywhere_is_one_event(cut, before):
    said = turns(FIRST, OK, SLOW[:cut], LATE) if before else turns(SLOW[:cut], LATE)
    known = None if target_of(cut) is None else False
    assert told(outcome_of(said.close("server").frames)) == [("/first", 200, True, False)] * before + [
        (target_of(cut), 408, known, True)
    ]


@pytest.mark.parametrize("piece", [None, 1, 7])
@pytest.mark.parametrize("cut", range(1, len(SLOW), 3))
@pytest.mark.parametrize("status", REFUSED, ids=lambda status: status[:3].decode())
def test_a_head_that_ends_behind_its_answer_is_one_event_and_the_connection_goes_on(status, cut, piece):
    said = turns(FIRST, OK, SLOW[:cut], REFUSED[status], SLOW[cut:] + NEXT, NEXT_OK, cut=piece)
    outcome = outcome_of(said.close().frames)
    assert told(outcome) == [
        ("/first", 200, True, False),
        ("/slow", int(status[:3]), True, True),
        ("/next", 200, True, False),
    ]
    assert [event["appliance"]["pairing"] for event in outcome.events] == ["verified"] * 3
    assert outcome.events[1]["http"]["request"]["bytes"] == len(SLOW)


@pytest.mark.parametrize("cut", range(1, len(SLOW)))
def test_an_answer_that_acknowledges_half_of_a_head_which_was_captured_whole_is_its_answer(cut):
    # The server wrote before the rest had reached it; the capture is nearer to the client.
    said = turns(FIRST, OK, SLOW)
    behind = said.client.next
    said.client.next -= len(SLOW) - cut
    said.server_sends(LATE)
    said.client.next = behind
    said.idle(MILLISECOND).client_sends(NEXT).idle(MILLISECOND).server_sends(NEXT_OK).close()
    outcome = outcome_of(said.frames)
    assert told(outcome) == [("/first", 200, True, False), ("/slow", 408, True, True), ("/next", 200, True, False)]
    assert [event["appliance"]["pairing"] for event in outcome.events] == ["verified"] * 3


def test_an_answer_that_acknowledges_nothing_of_a_head_is_not_its_answer():
    # A server may say 408 because nothing came, while the next request is on its way.
    said = turns(FIRST, OK, SLOW)
    behind = said.client.next
    said.client.next -= len(SLOW)
    said.server_sends(LATE)
    said.client.next = behind
    found = [(target, status) for target, status, *_ in told(outcome_of(said.close("server").frames))]
    assert sorted(found, key=str) == [("/first", 200), ("/slow", None), (None, 408)]


@pytest.mark.parametrize("piece", [None, 1, 7])
@pytest.mark.parametrize("cut", range(1, len(SLOW)))
def test_a_client_that_gives_its_head_up_begins_another_request(cut, piece):
    said = turns(FIRST, OK, SLOW[:cut], LATE, NEXT, NEXT_OK, request(b"/more"), OK, cut=piece)
    outcome = outcome_of(said.close().frames)
    assert told(outcome) == [
        ("/first", 200, True, False),
        (target_of(cut), 408, None if target_of(cut) is None else False, True),
        ("/next", 200, True, False),
        ("/more", 200, True, False),
    ]
    assert [event["appliance"]["pairing"] for event in outcome.events if "request" in event["http"]] == ["verified"] * (
        3 + (cut >= LINE)
    )


@pytest.mark.parametrize("piece", [None, 1, 7])
@pytest.mark.parametrize(
    "rest", [b"X: GET /in HTTP/1.1\r\nHost: b\r\n\r\n", b"GET /in\r\n\r\n", b"def\r\nGET /in HTTP/1.1\r\nA: b\r\n\r\n"]
)
def test_the_rest_of_an_answered_head_is_no_request_unless_it_looks_like_one(rest, piece):
    said = turns(FIRST, OK, SLOW[: LINE + 4], LATE, rest, cut=piece)
    assert told(outcome_of(said.close().frames)) == [("/first", 200, True, False), ("/slow", 408, True, True)]


def test_without_an_answer_a_request_line_inside_of_a_head_is_no_request():
    said = turns(FIRST, OK).client_sends(SLOW[: LINE + 4]).idle(SECOND).client_sends(NEXT)
    found = told(outcome_of(said.idle(MILLISECOND).server_sends(OK).close().frames))
    assert found == [("/first", 200, True, False), ("/slow", 200, True, False)]


@pytest.mark.parametrize("piece", [None, 1, 7])
def test_an_early_answer_waits_its_turn_behind_those_to_earlier_requests(piece):
    said = turns(FIRST + NEXT + SLOW[:-9], OK + NEXT_OK + LATE, SLOW[-9:] + request(b"/more"), OK, cut=piece)
    assert told(outcome_of(said.close().frames)) == [
        ("/first", 200, True, False),
        ("/next", 200, True, False),
        ("/slow", 408, True, True),
        ("/more", 200, True, False),
    ]


@pytest.mark.parametrize("close", ["server", "client", "reset", ""])
def test_a_head_that_was_answered_is_told_however_its_connection_ends(close):
    said = turns(FIRST, OK, SLOW[:-9], LATE)
    if close:
        said = said.reset("server") if close == "reset" else said.close(close)
    outcome = outcome_of(said.frames, config=ALL_HEADERS)
    assert told(outcome) == [("/first", 200, True, False), ("/slow", 408, False, True)]
    request = outcome.events[1]["http"]["request"]
    assert request["headers"] == {"host": ["a.example"], "x-half": ["abcdef"]}
    assert request["bytes"] == len(SLOW) - 9


@pytest.mark.parametrize("known", [True, False], ids=["without a body", "with one"])
@pytest.mark.parametrize("rest", [True, False], ids=["it ends later", "it never ends"])
def test_whether_a_server_knew_that_it_answered_a_head_is_told_by_what_follows(known, rest):
    # nginx and Apache leave the body out once they know the method; HAProxy and lighttpd send it.
    head = request(b"/slow", b"X-Half: abcdef", method=b"HEAD")
    body = b"" if known else b"late"
    said = turns(head[:-9], LATE.removesuffix(b"late") + body, *((head[-9:] + NEXT, NEXT_OK) if rest else ()))
    outcome = outcome_of(said.close("server").frames)
    assert told(outcome) == [("/slow", 408, rest, True)] + [("/next", 200, True, False)] * rest
    answer = outcome.events[0]["http"]["response"]
    assert (answer["body"]["bytes"], outcome.events[0]["appliance"]["response"]["complete"]) == (len(body), True)


@pytest.mark.parametrize("filler", [b"/x HTTP/1.1", b"\0\1\2", b"\x16\x03\x01" * 9])
def test_an_answer_to_what_turns_out_to_be_no_request_stands_alone(filler):
    said = turns(FIRST, OK, b"GET", LATE, filler + b"\r\n\r\n", cut=None)
    found = told(outcome_of(said.close().frames))
    assert found == [("/first", 200, True, False), (None, 408, None, True)]


def test_a_second_answer_to_one_unfinished_head_stands_alone():
    said = turns(FIRST, OK, SLOW[:-9], LATE + response(b"400 Bad", b"Content-Length: 0"), SLOW[-9:])
    assert told(outcome_of(said.close().frames)) == [
        ("/first", 200, True, False),
        ("/slow", 408, True, True),
        (None, 400, None, False),
    ]


# -- heads that are cut off ------------------------------------------------------------------------------------------


def exchanges(count: int, *, asked: bytes = b"User-Agent: " + b"u" * 200, answered: bytes = b"Server: " + b"s" * 1200):
    """Exchanges with long heads, in frames of their own."""
    made = Conversation(mss=1400).handshake()
    for number in range(count):
        made.client_sends(request(b"/%d" % number, asked)).idle(MILLISECOND)
        made.server_sends(response(b"20%d R%d" % (number, number), answered, b"Content-Length: 0")).idle(MILLISECOND)
    return made.close()


FRAME = 54  # bytes of the headers before the payload


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kept", range(17, 120, 5))
def test_behind_cut_heads_each_answer_stays_with_its_request(kept, workers):
    # 17 bytes hold the first line of each head, more also hold a part of the next.
    outcome = outcome_of(exchanges(6).frames, workers, snaplen=FRAME + kept)
    expected = [(f"/{number}", 200 + number, False, False) for number in range(6)]
    assert told(outcome) == expected


@pytest.mark.parametrize("kept", [17, 40, 120])
@pytest.mark.parametrize("tail", [b"", b"w" * 5000], ids=["request first", "tail of an answer first"])
def test_a_connection_picked_up_with_cut_heads_keeps_its_first_pair(tail, kept):
    made = Conversation(mss=1400).established().server_sends(tail).idle(MILLISECOND)
    for number in range(3):
        made.client_sends(request(b"/%d" % number, b"User-Agent: " + b"u" * 200)).idle(MILLISECOND)
        made.server_sends(response(b"20%d R" % number, b"Server: " + b"s" * 1200, b"Content-Length: 0"))
    outcome = outcome_of(made.close().frames, snaplen=FRAME + kept)
    assert told(outcome) == [(f"/{number}", 200 + number, False, False) for number in range(3)]


def cut_off(frames, side: bytes, kept: int):
    """The frames, but of those whose payload begins like this only so many bytes of it are captured."""
    return [(at, frame[: FRAME + kept] if payload_of(frame).startswith(side) else frame) for at, frame in frames]


@pytest.mark.parametrize("kept", [17, 18, 20, 40, 80])
@pytest.mark.parametrize("side", [b"GET", b"HTTP"], ids=["requests", "responses"])
def test_where_the_heads_of_one_direction_are_cut_each_answer_stays_with_its_request(side, kept):
    outcome = outcome_of(cut_off(exchanges(6).frames, side, kept))
    whole = side == b"HTTP"
    assert told(outcome) == [(f"/{number}", 200 + number, whole, False) for number in range(6)]


@pytest.mark.parametrize("kept", [1, 10, 16])
def test_a_head_cut_inside_of_its_first_line_says_nothing(kept):
    assert told(outcome_of(exchanges(3).frames, snaplen=FRAME + kept)) == []
    assert told(outcome_of(cut_off(exchanges(3).frames, b"GET", kept))) == [
        (None, 200 + number, None, False) for number in range(3)
    ]
    assert told(outcome_of(cut_off(exchanges(3).frames, b"HTTP", kept))) == [
        (f"/{number}", None, True, False) for number in range(3)
    ]


ANSWER = response(b"201 Made", b"Server: abcdef", b"Set-Cookie: a=b", b"Content-Length: 0")


def ended(said: Conversation, how: str):
    """Return the outcome of a connection that ends like this."""
    limits = {}
    if how == "reset":
        said.reset("client")
    elif how in ("client", "server"):
        said.close(how)
    elif how == "time-out":
        said.idle(400 * SECOND)
        limits = {"tcp": {"idle_timeout_s": 300.0}}
    frames = [*said.frames]
    if how == "evicted":
        limits = {"tcp": {"max_connections": 16}}
    if how in ("evicted", "time-out"):
        for port in range(41000, 41020):
            other = Conversation(client_port=port, start_ns=said.now + port * MILLISECOND).handshake()
            frames += other.client_sends(FIRST).idle(MILLISECOND).server_sends(OK).frames
    if how == "ports used again":
        frames += (
            Conversation(client_isn=77_000_000, server_isn=88_000_000, start_ns=said.now + SECOND).handshake().frames
        )
    outcome = outcome_of(frames, config=config(http={"headers": ["all"]}, **limits))
    outcome.events = [event for event in outcome.events if event["source"]["port"] == 40000]
    return outcome


ENDS = pytest.mark.parametrize(
    "how", ["client", "server", "reset", "shutdown", "time-out", "evicted", "ports used again"]
)
WHERE = pytest.mark.parametrize(
    "where", ["in the first line", "behind it", "in a field", "behind a field", "at the end"]
)


def place_in(text: bytes, where: str) -> int:
    """Return the place at which a head is cut."""
    line = text.index(b"\n") + 1
    return {
        "in the first line": line - 1,
        "behind it": line,
        "in a field": text.index(b"abcdef") + 3,
        "behind a field": text.index(b"abcdef") + 8,
        "at the end": len(text) - 1,
    }[where]


def fields_of(text: bytes) -> dict[str, list[str]]:
    """The fields in the whole lines of a head."""
    lines = text[: text.rindex(b"\n") + 1].decode().splitlines()[1:] if b"\n" in text else []
    return {name.lower(): [value] for name, value in (line.split(": ") for line in lines if line)}


REDACTED = {"cookie": ["[redacted]"], "set-cookie": ["[redacted]"]}


def redacted(fields):
    """As an event has them."""
    return {name: REDACTED.get(name, values) for name, values in fields.items()}


@ENDS
@WHERE
def test_a_request_whose_connection_ends_in_its_head_is_told_by_its_whole_lines(where, how):
    text = SLOW[: place_in(SLOW, where)]
    outcome = ended(turns(FIRST, OK, text), how)
    assert outcome.counts["messages.open"] == 0
    found = [event for event in outcome.events if event["url"]["original"] != "/first"]
    if where == "in the first line":
        assert found == []
        return
    (event,) = found
    assert event["http"]["request"]["headers"] == redacted(fields_of(text))
    assert event["url"]["original"] == "/slow"
    assert event["appliance"]["request"]["complete"] is False
    assert event["appliance"]["pairing"] == "request_only"
    assert event["appliance"]["anomalies"] == ["body_cut"]


@ENDS
@WHERE
def test_a_response_whose_connection_ends_in_its_head_is_told_by_its_whole_lines(where, how):
    text = ANSWER[: place_in(ANSWER, where)]
    (_, event) = ended(turns(FIRST, OK, NEXT, text), how).events
    assert event["url"]["original"] == "/next"
    if where == "in the first line":
        assert event["appliance"]["pairing"] == "request_only"
        return
    answer = event["http"]["response"]
    assert (answer["status_code"], answer["reason"]) == (201, "Made")
    assert answer["headers"] == redacted(fields_of(text))
    assert event["appliance"]["response"]["complete"] is False
    assert event["appliance"]["pairing"] == "verified"


@WHERE
@pytest.mark.parametrize("side", ["request", "response"])
def test_a_gap_inside_of_a_head_leaves_its_whole_lines(side, where):
    whole = SLOW if side == "request" else ANSWER
    cut = place_in(whole, where)
    said = turns(FIRST, OK)
    lost = len(said.frames) + (1 if side == "request" else 2)
    if side == "request":
        said.client_sends(whole, [cut, 1, len(whole)]).idle(MILLISECOND).server_sends(ANSWER)
    else:
        said.client_sends(SLOW).idle(MILLISECOND).server_sends(whole, [cut, 1, len(whole)])
    said.idle(MILLISECOND).client_sends(NEXT).idle(MILLISECOND).server_sends(NEXT_OK).idle(20 * SECOND).close()
    frames = without(said.frames, lost)
    outcome = outcome_of(frames, config=ALL_HEADERS)
    assert differences(outcome) == {}
    found = [
        (event["url"]["original"], event["http"]["response"]["status_code"])
        for event in outcome.events
        if event["appliance"]["pairing"] not in ("request_only", "response_only")
    ]
    if where == "in the first line":
        assert found == [("/first", 200), ("/next", 200)]
        return
    assert found == [("/first", 200), ("/slow", 201), ("/next", 200)]
    event = outcome.events[1]
    assert event["http"][side]["headers"] == redacted(fields_of(whole[:cut]))
    assert event["appliance"][side]["complete"] is False


@pytest.mark.parametrize("rest", [b" ", b"\t", b" b", b" b\r\n c", b" b\r\n c\r\n d"])
def test_a_field_that_goes_on_where_the_head_is_cut_is_not_told_by_half(rest):
    said = turns(request(b"/", b"X: a")[:-2] + rest)
    event = outcome_of(said.frames, config=ALL_HEADERS).only
    assert event["http"]["request"]["headers"] == {"host": ["a.example"]}


def test_what_a_cut_head_lacks_may_stand_behind_the_cut():
    event = outcome_of(turns(b"GET / HTTP/1.1\r\nAccept: */*\r\nHo").frames).only
    assert event["appliance"]["anomalies"] == ["body_cut"]  # and not host_missing


@pytest.mark.parametrize("kept", [18, 24, 40, 80])
@pytest.mark.parametrize("fake", [b"HTTP/1.1 200 R9\r\nX: ", b"GET /9 HTTP/1.1\r\nX: "], ids=["response", "request"])
def test_text_in_a_body_behind_a_cut_head_is_no_message_where_a_segment_begins_with_it(fake, kept):
    mss = 1400
    body = fake.ljust(mss, b"x") * 3
    made = Conversation(mss=mss).handshake()
    for number in range(3):
        asked = request(b"/%d" % number, b"Content-Length: %d" % len(body), b"X: ", method=b"POST")
        answered = response(b"20%d R%d" % (number, number), b"Content-Length: %d" % len(body), b"X: ")
        for send, head in ((made.client_sends, asked), (made.server_sends, answered)):
            send(head[:-4] + b"x" * (mss - len(head)) + head[-4:] + body).idle(MILLISECOND)
    outcome = outcome_of(made.close().frames, snaplen=FRAME + kept)
    assert told(outcome) == [(f"/{number}", 200 + number, False, False) for number in range(3)]
