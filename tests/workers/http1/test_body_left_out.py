"""A request that is refused before its body: its client may go on without the body, or send it after all."""

from __future__ import annotations

import hashlib

import pytest
from builders import MILLISECOND, SECOND, Conversation, config, differences, outcome_of, request, response, summaries
from tcp_scenes import moved, put

CUTS = pytest.mark.parametrize("cut", [None, 1, 3], ids=["whole", "by byte", "by three"])
REFUSALS = pytest.mark.parametrize("status", [b"417 No", b"401 Who", b"413 Too Large", b"302 There", b"200 Enough"])
LENGTHS = pytest.mark.parametrize("length", [1, 5, 16, 38, 5000, 10**12])
GET = request(b"/n")  # 37 bytes
OK = response(b"200 OK", b"Content-Length: 2", body=b"ok")
CONTINUE = response(b"100 Continue")


def up(length: int | None = 5000, *more: bytes) -> bytes:
    """The head of an upload that waits for 100; length None: in chunks."""
    framing = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
    return request(b"/up", b"Expect: 100-continue", framing, *more, method=b"POST")


def refusal(status: bytes = b"417 No") -> bytes:
    return response(status, b"Content-Length: 4", body=b"oops")


def turns(*said, cut=None, close="client"):
    """Client and server in turns."""
    made = Conversation().handshake()
    for place, text in enumerate(said):
        (made.server_sends if place % 2 else made.client_sends)(text, cut).idle(MILLISECOND)
    return made.close(close) if close else made


def anomalies(event):
    return set(event["appliance"].get("anomalies", ()))


def targets(outcome):
    return [event.get("url", {}).get("original") for event in outcome.events]


def shown(outcome):
    """(target, status, pairing, bytes of the request's body, is it whole) of each event; the ledger closes."""
    assert differences(outcome) == {}
    return [
        (*seen, event["http"]["request"]["body"]["bytes"], event["appliance"]["request"]["complete"])
        for seen, event in zip(summaries(outcome.events), outcome.events, strict=True)
    ]


# -- the client goes on without it -----------------------------------------------------------------------------------


@CUTS
@REFUSALS
@LENGTHS
def test_the_next_request_is_one_when_the_server_answers_it(length, status, cut):
    outcome = outcome_of(turns(up(length), refusal(status), GET, OK, GET, OK, cut=cut).frames)
    number = int(status[:3])
    assert shown(outcome) == [
        ("/up", number, "verified", 0, False),
        ("/n", 200, "verified", 0, True),
        ("/n", 200, "verified", 0, True),
    ]
    assert anomalies(outcome.events[0]) == {"body_left_out", "early_response"}
    assert anomalies(outcome.events[1]) == anomalies(outcome.events[2]) == set()
    assert outcome.counts["parse_errors"] == outcome.counts["resyncs"] == 0
    assert outcome.counts["skipped_bytes"] == 0


@CUTS
def test_of_a_body_in_chunks_nothing_else_is_needed(cut):
    outcome = outcome_of(turns(up(None), refusal(), GET, cut=cut).frames)
    assert shown(outcome) == [("/up", 417, "verified", 0, False), ("/n", None, "request_only", 0, True)]
    assert anomalies(outcome.events[0]) == {"body_left_out", "early_response"}


@CUTS
@pytest.mark.parametrize("first", [5, 3000, None], ids=["short", "long", "chunks"])
@pytest.mark.parametrize("rounds", [1, 3])
def test_the_same_upload_once_more(first, rounds, cut):
    said = [part for _ in range(rounds) for part in (up(first), refusal(b"401 Who"))]
    said += [up(3000, b"Authorization: x"), CONTINUE, b"u" * 3000, OK, GET, OK]
    outcome = outcome_of(turns(*said, cut=cut).frames, config=config(bodies={"hashes": ["sha256"]}))
    assert shown(outcome) == [
        *[("/up", 401, "verified", 0, False)] * rounds,
        ("/up", 200, "verified", 3000, True),
        ("/n", 200, "verified", 0, True),
    ]
    body = outcome.events[rounds]["appliance"]["request"]["body"]
    assert body["sha256"] == hashlib.sha256(b"u" * 3000).hexdigest()
    assert "sha256" not in outcome.events[0]["appliance"]["request"].get("body", {})
    assert outcome.events[rounds]["appliance"]["informational"] == [100]


@CUTS
@pytest.mark.parametrize("length", [5, 200, 5000])
def test_an_upload_that_waits_for_nothing(length, cut):
    again = request(b"/up", b"Content-Length: 300", method=b"PUT") + b"v" * 300
    outcome = outcome_of(
        turns(up(length), refusal(), again, OK, GET, OK, cut=cut).frames, config=config(bodies={"hashes": ["md5"]})
    )
    assert [one[3:] for one in shown(outcome)] == [(0, False), (300, True), (0, True)]
    body = outcome.events[1]["appliance"]["request"]["body"]
    assert body["md5"] == hashlib.md5(b"v" * 300).hexdigest()


@CUTS
@pytest.mark.parametrize("length", [5, 60, 5000, None])
def test_several_requests_in_one_go(length, cut):
    asked = b"".join(request(b"/%d" % n) for n in range(5))
    outcome = outcome_of(turns(up(length), refusal(), asked, OK * 5, GET, OK, cut=cut).frames)
    assert [one[:2] for one in shown(outcome)] == [
        ("/up", 417),
        *((f"/{n}", 200) for n in range(5)),
        ("/n", 200),
    ]
    assert anomalies(outcome.events[0]) == {"body_left_out", "early_response"}


def test_a_client_that_has_nothing_more_to_ask_is_answered():
    said = turns(up(), refusal(), GET, close="")
    said.close("client")
    fin = said.frames.pop(-2)  # the server's comes behind its answer
    said.frames.pop()
    said.server.next -= 1
    said.server_sends(OK)
    said.frames.append((said.now, said.server.wire.frame(said.server.next, said.client.next, 0x11)))
    assert fin
    outcome = outcome_of(said.frames)
    assert [one[:2] for one in shown(outcome)] == [("/up", 417), ("/n", 200)]


@CUTS
def test_an_answer_of_another_kind_proves_as_much(cut):
    outcome = outcome_of(turns(up(), refusal(), up(10), refusal(), GET, OK, cut=cut).frames)
    assert [one[:2] for one in shown(outcome)] == [("/up", 417), ("/up", 417), ("/n", 200)]


# -- it sends the body after all -------------------------------------------------------------------------------------

BODIES = {
    "letters": b"x" * 5000,
    "words": b"GET some words\r\n" * 300,
    "form": b"POST=1&GET=2",
    "one letter": b"G",
    "binary": bytes(range(256)) * 9,
    "a request": request(b"/in"),
    "a request and more": request(b"/in") + b"and so on",
    "many requests": request(b"/in") * 40,
    "a request with a body": request(b"/in", b"Content-Length: 10", method=b"POST") + b"x" * 10,
    "the begin of one": b"GET /in HTTP/1.1\r\nHost: a",
    "an upload": up(4000) + b"y" * 4000,
    "a response": OK,
    "the first words": b"PUT ",
}


@CUTS
@pytest.mark.parametrize("body", BODIES)
def test_a_body_is_one_whatever_it_looks_like(body, cut):
    said = turns(up(len(BODIES[body])), refusal(), BODIES[body], close="")
    outcome = outcome_of(
        said.client_sends(GET, cut).idle(MILLISECOND).server_sends(OK, cut).close().frames,
        config=config(bodies={"hashes": ["sha256"]}),
    )
    assert [one[:2] for one in shown(outcome)] == [("/up", 417), ("/n", 200)]
    assert shown(outcome)[0][3:] == (len(BODIES[body]), True)
    assert anomalies(outcome.events[0]) == {"early_response"}
    assert outcome.events[0]["appliance"]["request"]["body"]["sha256"] == hashlib.sha256(BODIES[body]).hexdigest()
    assert outcome.counts["parse_errors"] == outcome.counts["skipped_bytes"] == 0


@CUTS
@pytest.mark.parametrize("body", BODIES)
def test_the_next_request_may_stand_right_behind_it(body, cut):
    outcome = outcome_of(turns(up(len(BODIES[body])), refusal(), BODIES[body] + GET, OK, cut=cut).frames)
    assert [one[:2] for one in shown(outcome)] == [("/up", 417), ("/n", 200)]
    assert shown(outcome)[0][3:] == (len(BODIES[body]), True)


@CUTS
@pytest.mark.parametrize("body", BODIES)
def test_a_body_in_chunks_after_all(body, cut):
    text = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODIES[body]), BODIES[body])
    outcome = outcome_of(turns(up(None), refusal(), text, cut=cut, close="").client_sends(GET).close().frames)
    assert [one[:2] for one in shown(outcome)] == [("/up", 417), ("/n", None)]
    assert shown(outcome)[0][3:] == (len(BODIES[body]), True)


@CUTS
@pytest.mark.parametrize("body", ["a request", "many requests", "letters"])
def test_a_body_that_comes_late_is_one(body, cut):
    said = turns(up(len(BODIES[body])), refusal(), cut=cut, close="").idle(20 * SECOND)
    outcome = outcome_of(said.client_sends(BODIES[body], cut).close().frames)
    assert shown(outcome) == [("/up", 417, "verified", len(BODIES[body]), True)]


@CUTS
@pytest.mark.parametrize("ending", ["client", "server", ""])
def test_what_no_answer_proves_is_a_body(ending, cut):
    outcome = outcome_of(turns(up(), refusal(), GET, cut=cut, close=ending).frames)
    assert shown(outcome) == [("/up", 417, "verified", len(GET), False)]


@CUTS
def test_an_answer_that_does_not_acknowledge_the_request_proves_nothing(cut):
    said = turns(up(), refusal(), cut=cut, close="")
    before = said.client.next
    said.client_sends(GET, cut)
    put(said, said.server, said.server.next, payload=OK, ack=before)
    moved(said.server, len(refusal()) + len(OK))
    outcome = outcome_of(said.idle(MILLISECOND).close().frames)
    assert targets(outcome) == ["/up", None]
    assert differences(outcome) == {}


@CUTS
def test_a_body_that_was_sent_before_its_client_knew_of_the_answer_is_one(cut):
    said = turns(up(), cut=cut, close="")
    before = said.server.next
    said.server_sends(refusal())
    put(said, said.client, said.client.next, payload=GET, ack=before)
    moved(said.client, len(up()) + len(GET))
    said.idle(MILLISECOND).server_sends(OK).close()
    assert "/n" not in targets(outcome_of(said.frames))


def test_a_hole_in_it_makes_it_a_body():
    said = turns(up(), refusal(), GET, close="")
    said.client.next += 100
    said.client_sends(b"x").acknowledge(said.server).idle(5000 * MILLISECOND).server_sends(OK)
    outcome = outcome_of(said.close().frames)
    assert targets(outcome)[:1] == ["/up"]
    assert differences(outcome) == {}


# -- bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [b"\r\n", b"\n", b"G", b"GET / HTTP/1.1\r\nX: ", GET])
@pytest.mark.parametrize("length", [5, 40, 10**9, None])
def test_what_is_kept_of_a_doubtful_body_is_bounded(text, length):
    said = turns(up(length), refusal(), GET, close="").client_sends(text * (400_000 // len(text)))
    outcome = outcome_of(said.frames)
    assert outcome.running["head_bytes"] <= 2 * 65536
    assert differences(outcome) == {}
