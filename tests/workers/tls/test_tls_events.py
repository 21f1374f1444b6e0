"""Connections with TLS to events: when they are written, what comes before the hello, what answers it."""

from __future__ import annotations

import struct

import pytest
from body_summaries import OK
from builders import MILLISECOND, Conversation, batches_of, config, differences, outcome_of, request, response, without
from tls_bytes import (
    APPLICATION_DATA,
    CLIENT,
    HANDSHAKE,
    USUAL,
    client_hello,
    full_1_2,
    full_1_3,
    key_exchange,
    record,
    server_hello,
)

from appliance.stats.names import TOPICS
from workers.pipeline import Pipeline

HELLO = record(HANDSHAKE, client_hello(USUAL))
BULK = record(APPLICATION_DATA, bytes(range(256)) * 40)
REFUSED = response(b"400 Bad Request", b"Content-Length: 0")
CUTS = pytest.mark.parametrize("cut", [None, 1, 7], ids=["whole", "by byte", "by seven"])


def turned(turns, cut=None, before=(), made=None):
    """A connection with what comes before TLS, by (side, bytes), and the turns of a handshake."""
    made = Conversation().handshake() if made is None else made
    for side, data in [*before, *turns]:
        (made.client_sends if side == CLIENT else made.server_sends)(data, cut if data not in before else None)
        made.idle(MILLISECOND)
    return made


def tls_of(outcome):
    return [event for event in outcome.events if event["event"]["dataset"] == "appliance.tls"]


def only(outcome):
    (event,) = tls_of(outcome)
    assert differences(outcome) == {}
    return event


@CUTS
@pytest.mark.parametrize("turns", [full_1_2(b"no der"), full_1_3()], ids=["1.2", "1.3"])
def test_a_handshake_is_one_event_at_any_split(turns, cut):
    event = only(outcome_of(turned(turns, cut).close().frames))
    assert event["event"]["outcome"] == "success"
    assert event["network"]["protocol"] == "tls"
    assert event["tls"]["client"]["server_name"] == "a.example"
    assert event["appliance"]["tls"]["client_hello"] == {"complete": True}
    whole = only(outcome_of(turned(turns).close().frames))
    assert event["tls"] == whole["tls"]
    assert event["appliance"]["tls"]["ja4"] == whole["appliance"]["tls"]["ja4"]


def test_the_event_is_written_as_soon_as_the_handshake_is_over():
    made = turned(full_1_3())
    open_connection = Pipeline(config())
    for batch in batches_of(made.frames)[0][0]:
        open_connection.feed(batch)
    assert [events for _, events, _ in open_connection.take()] == [1]
    assert open_connection.counts()["tls_handshakes_open"] == 0


def test_bytes_behind_the_handshake_are_counted_and_not_kept():
    turns = [*full_1_3(), (CLIENT, BULK * 20), (1 - CLIENT, BULK * 50)]
    outcome = outcome_of(turned(turns).close().frames)
    only(outcome)
    assert outcome.counts["not_http_bytes.tls"] == sum(len(data) for _, data in turns)
    assert outcome.counts["not_http_streams.tls"] == 2
    assert outcome.counts["connections.tls"] == 1
    assert outcome.counts["tls_buffered_bytes"] == 0
    assert outcome.counts["made.tls."] == outcome.counts["tls_handshakes.established"] == 1
    assert outcome.topics == {TOPICS.index("tls."): 1}


def test_a_hello_without_an_answer_is_an_event_at_the_end_of_its_connection():
    event = only(outcome_of(turned([(CLIENT, HELLO)]).close().frames))
    assert event["event"]["outcome"] == "failure"
    assert "server_hello" not in event["appliance"]["tls"]


def test_a_clear_answer_to_a_hello_is_a_transaction_of_its_own():
    outcome = outcome_of(turned([(CLIENT, HELLO), (1 - CLIENT, REFUSED)]).close().frames)
    event = only(outcome)
    assert event["event"]["outcome"] == "failure"
    (answer,) = [event for event in outcome.events if event not in tls_of(outcome)]
    assert answer["http"]["response"]["status_code"] == 400
    assert answer["appliance"]["connection"] == event["appliance"]["connection"]
    assert answer["event"]["id"] != event["event"]["id"]


def test_events_of_a_connection_stand_in_the_order_in_which_they_ended():
    turns = [(CLIENT, HELLO), (1 - CLIENT, REFUSED), (CLIENT, request(b"/again")), (1 - CLIENT, OK)]
    outcome = outcome_of(turned(turns).close().frames)
    assert [b'"appliance.tls"' in line for line in outcome.lines] == [True, False, False]


LDAP = bytes.fromhex("301d02010177188016312e332e362e312e342e312e313436362e3230303337")
MYSQL_GREETING = b"\x4a\0\0\0\x0a8.0.36\0" + bytes(66)
SOCKS_GRANTED = b"\x05\0\0\1" + bytes(6)
STARTS = {  # by protocol: client and server in the clear, by side
    "smtp": [(1, b"220 mail.example ESMTP\r\n"), (0, b"EHLO a\r\n"), (1, b"250 STARTTLS\r\n"), (0, b"STARTTLS\r\n")],
    "imap": [(1, b"* OK IMAP4rev1\r\n"), (0, b"a1 STARTTLS\r\n"), (1, b"a1 OK begin\r\n")],
    "pop3": [(1, b"+OK POP3\r\n"), (0, b"STLS\r\n"), (1, b"+OK\r\n")],
    "ftp": [(1, b"220 FTP\r\n"), (0, b"AUTH TLS\r\n"), (1, b"234 proceed\r\n")],
    "postgresql": [(0, struct.pack(">II", 8, 80877103)), (1, b"S")],
    "mysql": [(1, MYSQL_GREETING), (0, b"\x20\0\0\1" + bytes(32))],
    "ldap": [(0, LDAP), (1, b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\0\x04\0\x04\0")],
    "xmpp": [(0, b"<?xml version='1.0'?>"), (1, b"<starttls/>"), (0, b"<starttls/>"), (1, b"<proceed/>")],
    "socks": [(0, b"\5\1\0"), (1, b"\5\0"), (0, b"\5\1\0\3\x09a.example\1\xbb"), (1, SOCKS_GRANTED)],
    "proxy": [(0, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\n")],
}


@CUTS
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("turns", [full_1_2(b"no der"), full_1_3()], ids=["1.2", "1.3"])
def test_tls_begins_behind_another_protocol(start, turns, cut):
    outcome = outcome_of(turned(turns, cut, before=STARTS[start]).close().frames)
    event = only(outcome)
    assert event["event"]["outcome"] == "success"
    assert event["tls"]["client"]["server_name"] == "a.example"
    assert "ja4" in event["appliance"]["tls"]
    assert event["source"]["port"] == 40000
    assert outcome.counts["connections.tls"] == 1
    assert outcome.counts["not_http_streams.tls"] == 2


@pytest.mark.parametrize("start", STARTS)
def test_tls_begins_behind_single_bytes(start):
    made = Conversation().handshake()
    for side, data in [*STARTS[start], *full_1_3()]:
        (made.client_sends if side == CLIENT else made.server_sends)(data, 1)
        made.idle(MILLISECOND)
    assert only(outcome_of(made.close().frames))["tls"]["client"]["server_name"] == "a.example"


@pytest.mark.parametrize("size", range(1, 12))
def test_a_late_hello_may_begin_with_a_short_segment(size):
    (_, hello), *rest = full_1_3()
    turns = [*STARTS["smtp"], (CLIENT, hello[:size]), (CLIENT, hello[size:]), *rest]
    event = only(outcome_of(turned(turns).close().frames))
    whole = only(outcome_of(turned(full_1_3(), before=STARTS["smtp"]).close().frames))
    assert event["tls"] == whole["tls"]
    assert event["appliance"]["tls"]["bytes"] == whole["appliance"]["tls"]["bytes"]


@pytest.mark.parametrize("between", [b"x", b"\x16", HELLO[:5]])
def test_what_only_began_like_a_late_hello_is_left_behind(between):
    turns = [*STARTS["smtp"], (CLIENT, HELLO[:5]), (CLIENT, between), *full_1_3()]
    event = only(outcome_of(turned(turns).close().frames))
    assert event["tls"]["client"]["server_name"] == "a.example"
    assert event["appliance"]["tls"]["client_hello"] == {"complete": True}


def test_a_late_hello_across_a_gap_is_none():
    made = turned([(CLIENT, HELLO[:5])], before=STARTS["smtp"])
    made.client_sends(HELLO[5:9])
    lost = len(made.frames) - 1
    made.idle(MILLISECOND)
    turned([(CLIENT, HELLO[9:]), (1 - CLIENT, b"500 what?\r\n")], made=made)
    assert tls_of(outcome_of(without(made.close().frames, lost))) == []


def test_a_side_that_begins_late_does_not_break_the_handshake():
    late = [*STARTS["imap"][:2], *full_1_2()[:1], STARTS["imap"][2], *full_1_2()[1:]]
    assert only(outcome_of(turned(late).close().frames))["event"]["outcome"] == "success"


def test_text_that_holds_a_hello_within_a_piece_is_no_tls():
    said = turned([(CLIENT, b"\x05\x01\x00" + HELLO), (1 - CLIENT, b"\x05\x00")])
    assert tls_of(outcome_of(said.close().frames)) == []


def test_a_hello_in_the_body_of_a_request_is_part_of_the_body():
    ask = request(b"/", b"Content-Length: %d" % len(HELLO), method=b"POST")
    outcome = outcome_of(turned([(CLIENT, ask), (CLIENT, HELLO), (1 - CLIENT, OK)]).close().frames)
    assert [event["http"]["request"]["body"]["bytes"] for event in outcome.events] == [len(HELLO)]


def test_a_connection_joined_at_its_hello_is_read():
    outcome = outcome_of(turned(full_1_3(), made=Conversation().established()).close().frames)
    assert only(outcome)["appliance"]["midstream"] is True


def test_a_connection_joined_in_encrypted_data_has_no_event():
    turns = [(CLIENT, BULK), (1 - CLIENT, BULK)] * 3
    assert outcome_of(turned(turns, made=Conversation().established()).close().frames).events == []


@pytest.mark.parametrize("gone", range(2))
def test_a_lost_segment_of_a_hello_is_said(gone):
    large = [*USUAL, (21, bytes(4000))]
    made = turned([(CLIENT, record(HANDSHAKE, client_hello(large))), *full_1_2()[1:]])
    hello = [place for place, (_, frame) in enumerate(made.frames) if len(frame) > 1000]
    event = only(outcome_of(without(made.close().frames, hello[1 + gone])))
    assert event["appliance"]["tls"]["client_hello"]["complete"] is False
    assert event["appliance"]["tls"]["client_hello"]["missing_bytes"] > 0
    assert "ja4" not in event["appliance"]["tls"]


def test_a_gap_before_the_server_hello_leaves_the_client_s_part():
    made = turned([(CLIENT, HELLO)])
    made.server_sends(record(HANDSHAKE, server_hello() + key_exchange()))
    lost = len(made.frames) - 1
    made.idle(MILLISECOND).server_sends(BULK).client_sends(BULK)
    assert only(outcome_of(without(made.close().frames, lost)))["tls"]["client"]["server_name"] == "a.example"


def handshake_lost(*places):
    """The event of a handshake that ends by RST; turns of its client are acknowledged, and not captured."""
    made = Conversation().handshake()
    lost = []
    for place, (side, data) in enumerate(full_1_3()):
        if side == CLIENT and place in places:
            lost.append(len(made.frames))
        (made.client_sends if side == CLIENT else made.server_sends)(data)
        made.idle(MILLISECOND)
    made.server_sends(record(APPLICATION_DATA, bytes(200)))
    made.reset()
    return only(outcome_of(without(made.frames, *lost)))


@pytest.mark.parametrize("places", [(2,), (0,), (0, 2)])
def test_what_was_acknowledged_and_not_captured_is_no_failure(places):
    assert handshake_lost(*places)["tls"].get("established") in (None, True)


def test_without_the_dataset_tls_is_only_counted():
    outcome = outcome_of(turned(full_1_2(b"no der")).close().frames, config=config(events={"datasets": ["http"]}))
    assert (outcome.events, differences(outcome)) == ([], {})
    assert outcome.counts["not_http_streams.tls"] == 2
    assert outcome.counts["made.tls."] == outcome.counts["made.http.none."] == 0


def test_options_of_tls_reach_its_reader():
    outcome = outcome_of(turned(full_1_2()).close().frames, config=config(tls={"ja3": True}))
    assert len(only(outcome)["tls"]["client"]["ja3"]) == 32
    small = outcome_of(
        turned([(CLIENT, record(HANDSHAKE, client_hello([*USUAL, (21, bytes(2000))])))]).close().frames,
        config=config(tls={"max_hello_bytes": 1024}),
    )
    assert small.counts["tls_limits.hello_bytes"] == 1


def test_limits_change_while_connections_go_on():
    made = turned(full_1_2()[:1])
    half = len(made.frames)
    turned(full_1_2()[1:], made=made).close()
    pipeline = Pipeline(config())
    for batch in batches_of(made.frames[:half])[0][0]:
        pipeline.feed(batch)
    pipeline.configure(config(events={"datasets": ["http"]}))
    pipeline.configure(config(tls={"ja3": True}))
    for batch in batches_of(made.frames[half:])[0][0]:
        pipeline.feed(batch)
    pipeline.finish()
    assert sum(events for _, events, _ in pipeline.take()) == 1
    assert pipeline.counts()["tls_hellos.client"] == 1


@pytest.mark.parametrize("count", range(1, 8))
def test_few_bytes_of_a_hello_are_what_they_were_before(count):
    outcome = outcome_of(turned([(CLIENT, HELLO[:count])]).close().frames)
    assert (tls_of(outcome), differences(outcome)) == ([], {})
    kind = "tls" if count > 1 else "other"
    assert outcome.counts[f"connections.{kind}"] == 1
