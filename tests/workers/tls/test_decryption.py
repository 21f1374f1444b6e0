"""TLS with secrets to the events inside: every version and cipher, late secrets, losses, wrong keys."""

from __future__ import annotations

import json
import time

import pytest
from builders import (
    MILLISECOND,
    SECOND,
    Conversation,
    Outcome,
    batches_of,
    collect,
    config,
    differences,
    outcome_of,
    request,
    response,
    with_flows,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from tls_bytes import CLIENT, SERVER
from tls_writer import Session12, Session13

from appliance.keylog.parser import KeyLogParser
from appliance.keylog.secrets import packed
from workers.pipeline import Pipeline

ON = config(tls={"keylog": "keys.log"})
BODY = bytes(range(256)) * 50
SESSIONS = {
    "1.3 AES-GCM": Session13,
    "1.3 ChaCha20": lambda: Session13(chacha=True),
    "1.3 with ALPN": lambda: Session13(b"http/1.1"),
    "1.2 AES-GCM": Session12,
    "1.2 AES-CBC": lambda: Session12(cbc=True),
    "1.2 encrypt-then-MAC": lambda: Session12(cbc=True, etm=True),
}
EVERY = pytest.mark.parametrize("session", SESSIONS.values(), ids=SESSIONS)


def secrets_of(text):
    parser = KeyLogParser()
    return b"".join(map(packed, parser.feed(text) + parser.finish()))


def exchanges(session, count=3, size=16384):
    for number in range(count):
        session.says(CLIENT, request(b"/%d" % number), size)
        head = b"Content-Length: %d" % len(BODY)
        session.says(SERVER, response(b"200 OK", head, body=BODY), size)
    return session


def frames_of(session, cut=None, close="client"):
    made = Conversation().handshake()
    for side, data in session.turns:
        (made.client_sends if side == CLIENT else made.server_sends)(data, cut)
        made.idle(MILLISECOND)
    return (made.close(close) if close else made).frames


def opened(frames, keylog, options=ON, when=0):
    """The outcome of frames; the key log is there before the batch `when`."""
    outcome = Outcome()
    pipeline = Pipeline(with_flows(options))
    (messages,), outcome.capture = batches_of(frames, batch_bytes=1 << 12)
    for place, message in enumerate(messages):
        if place == when:
            pipeline.add_keys(secrets_of(keylog))
        pipeline.feed(message)
    if when >= len(messages):
        pipeline.add_keys(secrets_of(keylog))
    outcome.running.update(pipeline.counts())
    pipeline.finish()
    outcome.counts.update(pipeline.counts())
    collect(pipeline, outcome)
    assert differences(outcome) == {}
    assert_accounted(outcome)
    return outcome


def assert_accounted(outcome):
    """L10, and that nothing is left behind."""
    counts = outcome.counts
    assert counts["tls_seen_bytes"] == sum(value for name, value in counts.items() if name.startswith("tls_bytes."))
    assert counts["tls_pending_bytes"] == counts["tls_open_bytes"] == 0


def https(outcome):
    return [event for event in outcome.events if event["event"]["dataset"] == "appliance.http"]


def handshake(outcome):
    (event,) = [event for event in outcome.events if event["event"]["dataset"] == "appliance.tls"]
    return event


def told(event):
    answer = event["http"].get("response", {})
    return event["url"]["original"], answer.get("status_code"), answer.get("body", {}).get("bytes")


ALL = [(f"/{number}", 200, len(BODY)) for number in range(3)]


@EVERY
@pytest.mark.parametrize("cut", [None, 1, 700], ids=["whole", "by byte", "by 700"])
def test_what_is_inside_is_an_event_at_any_split(session, cut):
    made = exchanges(session(), 1 if cut == 1 else 3)
    outcome = opened(frames_of(made.close(CLIENT).close(SERVER), cut), made.keylog)
    assert [told(event) for event in https(outcome)] == ALL[: 1 if cut == 1 else 3]
    for event in https(outcome):
        assert event["url"]["scheme"] == "https"
        assert event["appliance"]["pairing"] == "verified"
        assert event["appliance"]["response"]["complete"]
    assert handshake(outcome)["appliance"]["tls"]["decrypted"] == "key"
    assert outcome.counts["tls_bytes.unverified"] == outcome.counts["tls_keys"] == 0


def test_without_secrets_nothing_changes():
    frames = frames_of(exchanges(Session13()))
    outcome = outcome_of(frames)
    assert https(outcome) == []
    assert "decrypted" not in handshake(outcome)["appliance"]["tls"]
    assert outcome.counts["tls_seen_bytes"] == 0


@EVERY
@pytest.mark.parametrize("when", [1, 3, 1 << 20], ids=["early", "late", "at the end"])
def test_secrets_may_come_later(session, when):
    made = exchanges(session())
    outcome = opened(frames_of(made, close=""), made.keylog, when=when)
    assert [told(event) for event in https(outcome)] == ALL
    assert all(event["appliance"]["pairing"] == "verified" for event in https(outcome))


def test_secrets_may_come_line_by_line():
    made = exchanges(Session13())
    pipeline = Pipeline(ON)
    (messages,), _ = batches_of(frames_of(made, close=""), batch_bytes=1 << 14)
    for message in messages:
        pipeline.feed(message)
    for line in made.keylog.splitlines(keepends=True)[::-1]:
        pipeline.add_keys(secrets_of(line))
    assert pipeline.pending_events == 4
    assert pipeline.counts()["tls_pending_bytes"] == 0


@EVERY
def test_secrets_may_come_behind_the_end_of_a_connection(session):
    made = exchanges(session())
    outcome = opened(frames_of(made.close(CLIENT).close(SERVER)), made.keylog, when=1 << 20)
    assert [told(event) for event in https(outcome)] == ALL
    assert handshake(outcome)["appliance"]["tls"]["decrypted"] == "key"


def test_a_connection_that_has_ended_waits_up_to_a_time():
    made = exchanges(Session13())
    pipeline = Pipeline(ON)
    frames = frames_of(made)
    for message in batches_of(frames)[0][0]:
        pipeline.feed(message)
    assert pipeline.pending_events == 0
    pipeline.advance(frames[-1][0] + 11 * SECOND)
    assert (pipeline.pending_events, pipeline.counts()["tls_decrypted.no_key"]) == (1, 1)
    pipeline.add_keys(secrets_of(made.keylog))
    assert pipeline.pending_events == 1


@pytest.mark.parametrize("limit", ["max_pending_bytes", "max_total_pending_bytes"])
def test_bytes_wait_up_to_a_limit(limit):
    made = exchanges(Session13(), 10)
    options = config(tls={"keylog": "keys.log", limit: 65536})
    outcome = opened(frames_of(made, close=""), made.keylog, options, when=1 << 20)
    assert https(outcome) == []
    assert handshake(outcome)["appliance"]["tls"]["decrypted"] == "no_key"
    assert outcome.counts["tls_limits.pending_bytes"] == 1
    assert outcome.running["tls_pending_bytes"] == 0


def test_bytes_wait_up_to_a_time():
    made = Conversation().handshake()
    for side, data in exchanges(Session13()).turns:
        (made.client_sends if side == CLIENT else made.server_sends)(data)
    pipeline = Pipeline(ON)
    (messages,), _ = batches_of(made.idle(9 * SECOND).acknowledge(made.client).frames)
    for message in messages[:-1]:
        pipeline.feed(message)
    assert (pipeline.pending_events, pipeline.counts()["tls_decrypted.no_key"]) == (0, 0)
    pipeline.advance(made.now + 3 * SECOND)
    assert (pipeline.pending_events, pipeline.counts()["tls_decrypted.no_key"]) == (1, 1)
    assert pipeline.counts()["tls_pending_bytes"] == 0


@EVERY
def test_a_wrong_secret_opens_nothing(session):
    made = exchanges(session())
    wrong = b"".join(line[:-5] + b"0000\n" for line in made.keylog.splitlines(keepends=True))
    outcome = opened(frames_of(made), wrong)
    assert https(outcome) == []
    assert handshake(outcome)["appliance"]["tls"]["decrypted"] == "no_key"
    assert outcome.counts["tls_records.opened"] == 0


def test_a_suite_that_is_not_opened_is_named():
    made = Session12()
    turns = [(side, data.replace(b"\xc0\x2f", b"\xc0\x11")) for side, data in made.turns[:2]] + made.turns[2:]
    made.turns = turns  # ECDHE_RSA_WITH_RC4_128_SHA
    outcome = opened(frames_of(exchanges(made)), made.keylog)
    assert handshake(outcome)["appliance"]["tls"]["decrypted"] == "unsupported"
    assert outcome.counts["tls_bytes.unsupported"] > len(BODY)


def test_keys_are_updated():
    made = Session13()
    for number in range(4):
        made.says(CLIENT, request(b"/%d" % number)).update(CLIENT)
        made.says(SERVER, response(b"200 OK", b"Content-Length: 5", body=b"hello")).update(SERVER)
    outcome = opened(frames_of(made), made.keylog)
    assert [told(event) for event in https(outcome)] == [(f"/{number}", 200, 5) for number in range(4)]
    assert outcome.counts["tls_key_updates"] == 8


def test_early_data_are_read_if_the_server_takes_them():
    made = Session13(early=request(b"/early"))
    made.says(SERVER, response(b"200 OK", b"Content-Length: 2", body=b"ok"))
    made.says(CLIENT, request(b"/late")).says(SERVER, response(b"404 No", b"Content-Length: 0"))
    outcome = opened(frames_of(made), made.keylog)
    assert [told(event)[:2] for event in https(outcome)] == [("/early", 200), ("/late", 404)]


def test_the_certificate_and_alpn_of_tls_1_3_are_in_the_event():
    made = exchanges(Session13(b"http/1.1", der=b"0\x03abc"))
    event = handshake(opened(frames_of(made), made.keylog))
    assert event["tls"]["next_protocol"] == "http/1.1"
    assert len(event["tls"]["server"]["hash"]["sha256"]) == 64


def test_padding_and_tickets_are_no_content():
    made = Session13().ticket().ticket()
    made.says(CLIENT, request(b"/0"), padding=100)
    made.says(SERVER, response(b"200 OK", b"Content-Length: 5", body=b"hello"), size=7, padding=9)
    assert [told(event) for event in https(opened(frames_of(made), made.keylog))] == [("/0", 200, 5)]


def test_a_close_notify_ends_a_body():
    made = Session13().says(CLIENT, request(b"/0")).says(SERVER, response(b"200 OK", body=b"until the end"))
    (event,) = https(opened(frames_of(made.close(SERVER), close=""), made.keylog))
    assert told(event) == ("/0", 200, len(b"until the end"))
    assert event["appliance"]["response"]["complete"]


def test_an_end_behind_a_lost_record_is_no_end():
    made = Session13().says(CLIENT, request(b"/0")).says(SERVER, response(b"200 OK", body=b"x" * 9000), size=3000)
    frames = frames_of(made)
    del frames[[place for place, (_, frame) in enumerate(frames) if len(frame) > 100][-1]]
    (event,) = https(opened(frames, made.keylog))
    assert not event["appliance"]["response"]["complete"]


@pytest.mark.parametrize("session", [SESSIONS["1.3 AES-GCM"], SESSIONS["1.2 AES-GCM"]], ids=["1.3", "1.2"])
def test_a_loss_inside_a_body_is_a_gap_of_its_exact_length(session):
    made = session()
    made.says(CLIENT, request(b"/0"))
    made.says(SERVER, response(b"200 OK", b"Content-Length: %d" % len(BODY), body=BODY), size=4000)
    made.says(CLIENT, request(b"/1")).says(SERVER, response(b"200 OK", b"Content-Length: 0"))
    frames = frames_of(made)
    bulk = [place for place, (_, frame) in enumerate(frames) if len(frame) > 1400]
    for lost in (bulk[3:4], bulk[3:6]):
        left = [frame for place, frame in enumerate(frames) if place not in lost]
        outcome = opened(left, made.keylog)
        first, second = https(outcome)
        assert (told(first), told(second)) == (("/0", 200, len(BODY)), ("/1", 200, 0))
        missing = first["appliance"]["response"]["missing_bytes"]
        assert missing == outcome.counts["tls_plaintext_lost_bytes"]
        assert missing > 0


@pytest.mark.parametrize("side", [CLIENT, SERVER])
def test_http2_may_begin_with_a_lost_record(side):
    """ALPN had named HTTP/2, and its reader had seen no byte yet: the worker died."""
    session = Session13(b"h2").ticket().update(CLIENT)
    first = len(session.turns)
    session.says(side, b"x" * 100).says(side, b"y" * 100).says(1 - side, b"z" * 100).close(side)
    frames = [frame for frame in frames_of(session) if not frame[1].endswith(session.turns[first][1])]
    outcome = opened(frames, session.keylog)
    assert_accounted(outcome)
    assert handshake(outcome)["appliance"]["tls"]["decrypted"] == "key"


def values(event):
    """The values of an event, which a loss must not change."""
    url, answer = event.get("url", {}), event["http"].get("response", {})
    return url.get("original"), url.get("domain"), answer.get("status_code")


@st.composite
def scenes(draw):
    kind = draw(st.sampled_from(sorted(SESSIONS)))
    size = draw(st.sampled_from([300, 700, 1400, 4000, 16384]))
    cut = draw(st.one_of(st.none(), st.integers(200, 1460)))
    return exchanges(SESSIONS[kind](), 4, size), cut


@settings(max_examples=40)
@given(scenes(), st.data())
def test_whatever_is_lost_no_value_is_wrong(scene, data):
    made, cut = scene
    frames = frames_of(made, cut)
    lost = data.draw(st.sets(st.integers(3, len(frames) - 1), max_size=12))
    left = [frame for place, frame in enumerate(frames) if place not in lost]
    right = [(f"/{number}", "a.example", 200) for number in range(4)]
    for event in https(opened(left, made.keylog)):
        target, domain, status = values(event)
        assert any((target or t, domain or d, status or s) == (t, d, s) for t, d, s in right), event
        size = event["http"].get("response", {}).get("body", {}).get("bytes")
        if event["appliance"].get("response", {}).get("complete"):
            assert size == len(BODY)


@settings(max_examples=25)
@given(scenes(), st.data())
def test_a_changed_bit_is_never_plaintext(scene, data):
    made, cut = scene
    frames = frames_of(made, cut)
    place = data.draw(st.sampled_from([at for at, (_, frame) in enumerate(frames) if len(frame) > 100]))
    stamp, frame = frames[place]
    at = data.draw(st.integers(60, len(frame) - 1))
    frames[place] = stamp, frame[:at] + bytes([frame[at] ^ 1 << data.draw(st.integers(0, 7))]) + frame[at + 1 :]
    options = config(tls={"keylog": "keys.log"}, tcp={"checksums": "count"})
    for event in https(opened(frames, made.keylog, options)):
        target, domain, status = values(event)
        assert target is None or target in ("/0", "/1", "/2", "/3"), event
        assert domain in (None, "a.example")
        assert status in (None, 200)


@given(st.sampled_from(sorted(SESSIONS)), st.integers(0, 60))
@settings(max_examples=20)
def test_when_the_secrets_come_does_not_matter(kind, when):
    made = exchanges(SESSIONS[kind](), 2)
    frames = frames_of(made)
    now, later = opened(frames, made.keylog), opened(frames, made.keylog, when=when)
    assert [json.dumps(event) for event in https(now)] == [json.dumps(event) for event in https(later)]


def test_the_text_of_a_secret_is_in_no_event_and_no_counter():
    made = exchanges(Session13())
    outcome = opened(frames_of(made), made.keylog)
    for secret in made.secrets.values():
        assert not any(secret.hex().encode() in line.lower() for line in outcome.lines)


def seconds_of_single_bytes(count):
    """Processor time of as many single bytes behind a ServerHello whose ClientHello was not captured."""
    server = next(data for side, data in Session13().turns if side == SERVER)
    made = Conversation().handshake()
    made.server_sends(server)
    made.server_sends(bytes(count), 1)
    (messages,), _ = batches_of(made.frames)
    pipeline = Pipeline(ON)
    begun = time.process_time()
    for message in messages:
        pipeline.feed(message)
    return time.process_time() - begun


def test_what_waits_is_not_read_again_with_each_piece():
    ratios = []
    for _ in range(5):  # a busy machine disturbs one or another
        ratios.append(seconds_of_single_bytes(4000) / seconds_of_single_bytes(1000))
        if ratios[-1] <= 7:  # 4 is linear, 16 quadratic
            return
    pytest.fail(f"four times the pieces take {min(ratios):.1f} times as long")
