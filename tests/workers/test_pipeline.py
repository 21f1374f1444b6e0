"""The data path by example: what each kind of traffic becomes."""

from __future__ import annotations

import pytest
from builders import (
    MILLISECOND,
    SECOND,
    START_NS,
    Conversation,
    Outcome,
    batches_of,
    carrying,
    collect,
    config,
    counts_of,
    differences,
    events_of,
    get,
    outcome_of,
    payload_of,
    post,
    request,
    response,
    spoken,
    summaries,
    talk,
    timeless,
    without,
)
from exchange import exchange
from impair import interleave
from wire import ACK, FIN, RST, SYN

from appliance.ipc.frame_batch import BadBatch
from appliance.stats.names import NOT_HTTP
from workers.pipeline import Pipeline

LOW_SERVER = {"client": "198.51.100.20", "server": "192.0.2.10"}
SIDES = pytest.mark.parametrize("where", [{}, LOW_SERVER], ids=["client is low", "server is low"])


def pairs(frames, **how):
    """(target, reason, pairing) of every event."""
    return [
        (
            event.get("url", {}).get("original"),
            event["http"].get("response", {}).get("reason"),
            event["appliance"]["pairing"],
        )
        for event in events_of(frames, **how)
    ]


def at(frames, *texts):
    """The places of the frames that start with one of the texts."""
    return [place for place, (_, frame) in enumerate(frames) if payload_of(frame).startswith(texts)]


def later(frames, ns):
    """The same frames at a later time."""
    return [(ts_ns + ns, frame) for ts_ns, frame in frames]


def until_close(end):
    """A response whose body reaches to the end of the connection, which `end` brings about."""
    said = Conversation().handshake().client_sends(b"GET / HTTP/1.0\r\n\r\n")
    return end(said.server_sends(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 5000)).frames


# -- one transaction -------------------------------------------------------------------------------------------------


def test_a_transaction_is_one_event():
    event = outcome_of(talk(get(3)).frames).only
    assert event["http"]["request"]["method"] == "GET"
    assert event["http"]["response"]["status_code"] == 200
    assert event["appliance"]["pairing"] == "verified"
    assert event["source"]["port"] == 40000


def test_times_are_those_of_first_and_last_bytes():
    said = Conversation().handshake().idle(5 * MILLISECOND)
    made = post(size=3000, body=b"x" * 3000)
    begin = said.now
    said.client_sends(made.request)
    sent = said.frames[-2][0] if not payload_of(said.frames[-1][1]) else said.frames[-1][0]
    said.idle(7 * MILLISECOND)
    answered = said.now
    said.server_sends(made.response)
    last = [ts for ts, frame in said.frames if payload_of(frame)][-1]
    event = outcome_of(said.frames).only
    timing = {"send_ns": sent - begin, "wait_ns": answered - sent, "receive_ns": last - answered}
    assert event["appliance"]["timing"] == timing
    assert event["event"]["duration"] == last - begin


@SIDES
def test_roles_follow_from_what_is_said_not_from_ports(where):
    (event,) = events_of(talk(get(), client_port=80, server_port=51234, **where).frames)
    assert (event["source"]["port"], event["destination"]["port"]) == (80, 51234)


@pytest.mark.parametrize(
    ("client", "server", "kind"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76", "tls"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", b"SSH-2.0-OpenSSH_9.7\r\n", "ssh"),
        (b"EHLO a.example\r\n", b"220 b.example ESMTP\r\n", "smtp"),
        (b"\0\1\2\3" * 100, b"\xff" * 100, "other"),
    ],
    ids=["tls", "ssh", "smtp", "binary"],
)
def test_other_protocols_make_no_event(client, server, kind):
    outcome = outcome_of(spoken(client, server).frames)
    assert outcome.events == []
    assert {name for name in NOT_HTTP if outcome.counts[f"not_http_streams.{name}"]} == {kind}
    assert outcome.counts[f"not_http_streams.{kind}"] == 2
    assert outcome.counts["not_http_bytes"] == len(client) + len(server)
    assert outcome.counts["messages.started"] == 0


def test_methods_and_status_classes_are_counted():
    counts = counts_of(talk(get(), post(), get(status=404), exchange("BREW", "/tea", status=301)).frames)
    assert (counts["requests.GET"], counts["requests.POST"], counts["requests.other"]) == (2, 1, 1)
    assert (counts["responses.2xx"], counts["responses.3xx"], counts["responses.4xx"]) == (2, 1, 1)


def test_response_times_go_into_their_buckets():
    said = Conversation().handshake().exchange(get(), wait_ns=3 * MILLISECOND).exchange(get(), wait_ns=20 * SECOND)
    counts = counts_of(said.close().frames)
    assert (counts["response_seconds.le.0.005"], counts["response_seconds.le.inf"]) == (1, 1)
    assert 20.003 * SECOND <= counts["response_seconds.sum_ns"] < 20.004 * SECOND


def test_blank_lines_before_a_request_belong_to_none():
    said = Conversation().handshake().client_sends(b"\r\n\r\n" + get(0).request).server_sends(get(0).response)
    event = outcome_of(said.close().frames).only
    assert event["http"]["request"]["bytes"] == len(get(0).request)


# -- order of messages -----------------------------------------------------------------------------------------------


def test_pipelined_requests_get_their_responses_in_order():
    said = Conversation().handshake().pipeline([get(number) for number in range(5)]).close()
    assert [pair[:2] for pair in pairs(said.frames)] == [(f"/{number}", f"R{number}") for number in range(5)]


def test_requests_sent_while_an_answer_is_on_its_way_get_their_own():
    first, second, third = get(0, body=b"x" * 4000), get(1), get(2)
    said = Conversation().handshake().client_sends(first.request).idle(MILLISECOND)
    said.server_sends(first.response[:1500]).client_sends(second.request)
    said.server_sends(first.response[1500:3000]).client_sends(third.request)
    said.server_sends(first.response[3000:] + second.response + third.response).close()
    assert [pair[:2] for pair in pairs(said.frames)] == [("/0", "R0"), ("/1", "R1"), ("/2", "R2")]
    assert {pair[2] for pair in pairs(said.frames)} <= {"ordered", "verified"}


def test_a_request_sent_after_an_informational_answer_gets_its_own():
    first, second = get(0, hints=(103,)), get(1)
    said = Conversation().handshake().client_sends(first.request).server_sends(first.interim)
    said.client_sends(second.request).server_sends(first.response + second.response).close()
    assert [pair[:2] for pair in pairs(said.frames)] == [("/0", "R0"), ("/1", "R1")]


def test_100_continue_is_told_with_its_final_response():
    event = outcome_of(talk(post(size=5000, expect_continue=True)).frames).only
    assert event["appliance"]["informational"] == [100]
    assert event["http"]["request"]["body"]["bytes"] == 5000
    assert event["http"]["response"]["status_code"] == 200


def test_an_answer_before_the_upload_ends_belongs_to_it():
    made = post(0, size=5000)
    said = Conversation().handshake().client_sends(made.request[:2000]).idle(MILLISECOND)
    said.server_sends(made.response).client_sends(made.request[2000:]).exchange(get(1)).close()
    events = events_of(said.frames)
    assert [event["url"]["original"] for event in events] == ["/0", "/1"]
    assert events[0]["http"]["request"]["body"]["bytes"] == 5000
    assert events[0]["appliance"]["request"]["complete"]
    assert "wait_ns" not in events[0]["appliance"]["timing"]


def test_more_requests_than_may_wait_are_reported_without_their_responses():
    said = Conversation().handshake().client_sends(b"".join(get(number).request for number in range(50)))
    outcome = outcome_of(said.frames, config=config(http={"max_total_waiting_bytes": 4096}))
    assert [summary[2] for summary in summaries(outcome.events)] == ["request_only"] * 50
    assert outcome.running["pairing.request_only"] == outcome.counts["given_up"] > 40
    assert differences(outcome) == {}


def test_connect_opens_a_tunnel():
    ask = request(b"a.example:443", b"Host: a.example:443", method=b"CONNECT")
    said = Conversation().handshake().client_sends(ask).server_sends(response(b"200 Connection established"))
    said.client_sends(get().request).server_sends(get().response).close()
    outcome = outcome_of(said.frames)
    assert summaries(outcome.events) == [("a.example:443", 200, "verified"), ("/0", 200, "verified")]
    assert outcome.events[0]["url"] == {
        "original": "a.example:443",
        "domain": "a.example",
        "port": 443,
        "scheme": "http",
    }
    assert outcome.counts["tunnels"] == 1


def test_a_refused_connect_opens_none():
    ask = request(b"a.example:443", method=b"CONNECT")
    refused = response(b"403 No", b"Content-Length: 2", body=b"no")
    said = Conversation().handshake().client_sends(ask).server_sends(refused).exchange(get(1)).close()
    assert summaries(events_of(said.frames)) == [("a.example:443", 403, "verified"), ("/1", 200, "verified")]


def test_101_opens_a_tunnel():
    ask = request(b"/chat", b"Upgrade: chat", b"Connection: Upgrade")
    said = Conversation().handshake().client_sends(ask)
    said.server_sends(response(b"101 Switching Protocols", b"Upgrade: chat") + b"\x81\x05hello")
    said.client_sends(get().request).close()
    outcome = outcome_of(said.frames)
    assert summaries(outcome.events) == [("/chat", 101, "verified")]
    assert "informational" not in outcome.only["appliance"]


def test_a_body_without_length_ends_with_the_connection():
    event = outcome_of(talk(get(body=b"x" * 3000, framing="close"), close="server").frames).only
    assert event["http"]["response"]["body"]["bytes"] == 3000
    assert event["appliance"]["response"]["complete"]


# -- begin and end of a connection -----------------------------------------------------------------------------------


@SIDES
def test_a_connection_is_picked_up_in_the_middle(where):
    said = Conversation(**where).established().exchange(get(0)).exchange(get(1)).close()
    events = events_of(said.frames)
    assert [event["url"]["original"] for event in events] == ["/0", "/1"]
    assert all(event["appliance"]["midstream"] for event in events)


def test_pairs_behind_a_pick_up_are_uncertain_until_slow_turns_prove_them():
    said = Conversation().established().exchange(get(0)).exchange(get(1)).exchange(get(2))
    for number in range(3, 9):
        said.idle(300 * MILLISECOND).exchange(get(number))
    assert [pair[2] for pair in pairs(said.close().frames)] == ["uncertain"] * 7 + ["verified"] * 2


def test_a_pick_up_inside_a_response_loses_only_that_one():
    frames = talk(get(0, body=b"x" * 20000), get(1), get(2)).frames
    first = at(frames, b"x")[3]
    assert [pair[:2] for pair in pairs(frames[first:])] == [("/1", "R1"), ("/2", "R2")]


@pytest.mark.parametrize(("close", "end"), [("client", "fin"), ("server", "fin"), ("reset", "rst"), ("", "shutdown")])
def test_a_connection_ends_as_its_endpoints_end_it(close, end):
    others = later(talk(get(), close="", client_port=7).frames, SECOND)
    counts = counts_of(talk(get(), close=close).frames + others)
    assert counts[f"flows_ended.{end}"] == (2 if end == "shutdown" else 1)


def test_an_idle_connection_ends_by_time():
    frames = talk(get(), close="").frames
    outcome = outcome_of(frames + later(talk(get(), client_port=7).frames, 302 * SECOND))
    assert outcome.counts["flows_ended.timeout"] == 1
    assert outcome.running["flows"] == 1


def test_a_quiet_line_needs_no_frame_for_time_to_pass():
    (messages,), _ = batches_of(talk(get(), close="").frames)
    pipeline = Pipeline(config())
    pipeline.feed(messages[0])
    pipeline.advance(START_NS + 302 * SECOND)
    assert pipeline.counts()["flows_ended.timeout"] == 1


def test_an_answer_leaves_at_once_not_at_the_end_of_the_connection():
    (messages,), _ = batches_of(talk(get(), close="").frames)
    pipeline = Pipeline(config())
    pipeline.feed(messages[0])
    assert pipeline.pending_events == 1
    assert len(collect(pipeline, Outcome()).events) == 1
    assert pipeline.pending_events == pipeline.pending_output == 0


def test_ports_may_be_used_again_after_fin():
    again = talk(get(1), client_isn=50_000, server_isn=60_000, start_ns=START_NS + SECOND)
    frames = talk(get(0)).frames + again.frames
    assert [pair[:2] for pair in pairs(frames)] == [("/0", "R0"), ("/1", "R1")]
    assert counts_of(frames)["flows_ended.fin"] == 2


@pytest.mark.parametrize("lost", [[], [1]], ids=["whole", "no SYN-ACK"])
def test_ports_may_be_used_again_without_an_end(lost):
    again = talk(get(1), client_isn=50_000_000, server_isn=60_000_000, start_ns=START_NS + SECOND)
    frames = talk(get(0), close="").frames + without(again.frames, *lost)
    assert [pair[:2] for pair in pairs(frames)] == [("/0", "R0"), ("/1", "R1")]
    assert counts_of(frames)["flows_ended.reused"] == 1


def test_a_forged_syn_does_not_end_a_connection():
    said = Conversation().handshake().exchange(get(0))
    said.frames.append((said.now, said.client.wire.frame(77_000_000, 0, SYN)))
    said.exchange(get(1)).close()
    assert [pair[:2] for pair in pairs(said.frames)] == [("/0", "R0"), ("/1", "R1")]
    assert counts_of(said.frames)["flows_opened"] == 1


def test_a_reset_far_out_of_the_window_is_not_believed():
    said = Conversation().handshake().exchange(get(0))
    said.frames.append((said.now, said.server.wire.frame((said.server.next + (1 << 25)) % 2**32, 0, RST)))
    said.idle(SECOND).exchange(get(1)).close()
    assert [pair[:2] for pair in pairs(said.frames)] == [("/0", "R0"), ("/1", "R1")]


def test_late_copies_of_a_closed_connection_open_none():
    frames = talk(get()).frames
    outcome = outcome_of(frames + later(frames, SECOND))
    assert len(outcome.events) == 1
    assert outcome.counts["flows_opened"] == 1
    assert outcome.counts["payload.ignored"] > 0


def test_a_lone_acknowledgement_opens_no_connection():
    said = Conversation().established()
    counts = counts_of(said.acknowledge(said.client).frames)
    assert (counts["flows_opened"], counts["rejected.no_connection"]) == (0, 1)


def test_data_in_the_syn_is_the_start_of_the_stream():
    made = get()
    said = Conversation()
    said.frames.append((said.now, said.client.wire.frame(said.client.isn, 0, SYN, made.request)))
    said.client.next = said.client.at(len(made.request))
    said.frames.append((said.now, said.server.wire.frame(said.server.isn, said.client.next, SYN | ACK)))
    said.server.next = said.server.at(0)
    said.server_sends(made.response).close()
    assert pairs(said.frames) == [("/0", "R0", "verified")]


def test_data_before_the_first_byte_is_out_of_window():
    said = Conversation()
    said.frames += [
        (said.now, said.client.wire.frame(5000, 0, ACK, b"x")),
        (said.now, said.client.wire.frame(6000, 0, SYN)),
    ]
    outcome = outcome_of(said.frames)
    assert outcome.counts["payload.out_of_window"] == 1
    assert differences(outcome) == {}


# -- segments --------------------------------------------------------------------------------------------------------


def test_a_retransmission_after_its_acknowledgement_is_a_duplicate():
    said = Conversation().handshake().exchange(get(0))
    size = len(get(0).request)
    said.raw(said.client, 0, get(0).request).exchange(get(1)).close()
    outcome = outcome_of(said.frames)
    assert [event["url"]["original"] for event in outcome.events] == ["/0", "/1"]
    assert outcome.counts["payload.duplicate"] == size


def test_a_segment_out_of_the_window_is_thrown_away():
    said = Conversation().handshake().exchange(get(0))
    said.raw(said.client, (1 << 30) + 1000, b"GET /wrong HTTP/1.1\r\n\r\n").exchange(get(1)).close()
    outcome = outcome_of(said.frames)
    assert [event["url"]["original"] for event in outcome.events] == ["/0", "/1"]
    assert outcome.counts["payload.out_of_window"] == len(b"GET /wrong HTTP/1.1\r\n\r\n")


def test_a_keep_alive_probe_changes_nothing():
    said = Conversation().handshake().exchange(get(0))
    said.raw(said.client, len(get(0).request) - 1, b"\0").exchange(get(1)).close()
    assert [pair[:2] for pair in pairs(said.frames)] == [("/0", "R0"), ("/1", "R1")]


def test_an_acknowledgement_of_bytes_never_sent_delays_but_makes_no_gap():
    said = Conversation().handshake().exchange(get(0))
    made = get(1)
    said.frames.append((said.now, said.client.wire.frame(said.client.next, said.server.at(1 << 20), ACK, made.request)))
    said.client.next = said.client.at(len(get(0).request + made.request))
    said.idle(MILLISECOND).server_sends(made.response).close()
    outcome = outcome_of(said.frames)
    assert [event["url"]["original"] for event in outcome.events] == ["/0", "/1"]
    assert outcome.counts["gaps"] == 0


def test_a_header_whose_length_makes_no_sense_is_rejected():
    frames = talk(get()).frames
    ts_ns, frame = frames[3]
    frames[3] = (ts_ns, frame[:46] + b"\x40" + frame[47:])
    assert counts_of(frames)["rejected.bad_header"] == 1


@SIDES
def test_the_halves_of_a_tap_may_be_apart_in_time(where):
    said = talk(get(0), post(1, size=4000), get(2), **where)
    ahead, behind = [], []
    for ts_ns, frame in said.frames:
        mine = frame[6:12] == said.frames[0][1][6:12]
        (behind if mine else ahead).append((ts_ns + (40 * MILLISECOND if mine else 0), frame))
    assert [pair[:2] for pair in pairs(interleave([ahead, behind]))] == [("/0", "R0"), ("/1", "R1"), ("/2", "R2")]


# -- loss ------------------------------------------------------------------------------------------------------------


@SIDES
@pytest.mark.parametrize("side", ["request", "response"])
def test_a_gap_in_a_body_of_known_length_is_skipped_exactly(where, side):
    frames = talk(post(0, size=6000, body=b"x" * 6000), get(1), get(2), **where).frames
    lost = at(frames, b"u" if side == "request" else b"x")[1]
    outcome = outcome_of(without(frames, lost))
    assert [pair[:2] for pair in pairs(without(frames, lost))] == [("/0", "R0"), ("/1", "R1"), ("/2", "R2")]
    missing = len(payload_of(frames[lost][1]))
    assert outcome.events[0]["appliance"][side] == {"complete": True, "missing_bytes": missing}
    assert outcome.events[0]["http"][side]["body"]["bytes"] == 6000
    assert (outcome.counts["gaps"], outcome.counts["gap_bytes"]) == (1, missing)


@SIDES
def test_a_gap_in_chunks_ends_the_body_and_the_next_pair_is_right(where):
    frames = talk(get(0, body=b"x" * 9000, framing="chunked"), get(1), get(2), **where).frames
    lost = at(frames, b"x")[1]
    events = events_of(without(frames, lost))
    assert [pair[:2] for pair in pairs(without(frames, lost))] == [("/0", "R0"), ("/1", "R1"), ("/2", "R2")]
    assert events[0]["appliance"]["response"]["complete"] is False
    assert {event["appliance"]["pairing"] for event in events} <= {"verified", "ordered"}


def test_a_gap_ends_with_its_waiting_time():
    said = Conversation().handshake().exchange(get(0, body=b"x" * 6000)).idle(2 * SECOND)
    frames = without(said.frames, at(said.frames, b"x")[0])
    (messages,), _ = batches_of(frames)
    pipeline = Pipeline(config())
    pipeline.feed(messages[0])
    assert pipeline.pending_events == 0
    pipeline.advance(said.now)
    assert pipeline.pending_events == 1


def test_several_gaps_cost_one_wait():
    said = Conversation().handshake().exchange(get(0, body=b"x" * 30000)).idle(1100 * MILLISECOND)
    frames = without(said.frames, *at(said.frames, b"x")[::3])
    (messages,), _ = batches_of(frames)
    pipeline = Pipeline(config())
    pipeline.feed(messages[0])
    pipeline.advance(said.now)
    assert pipeline.pending_events == 1
    assert pipeline.counts()["gaps"] == 7


def test_a_retransmission_in_time_makes_no_gap():
    said = Conversation().handshake().exchange(get(0, body=b"x" * 6000))
    place = at(said.frames, b"x")[0]
    frames = [*without(said.frames, place), (said.now + 900 * MILLISECOND, said.frames[place][1])]
    outcome = outcome_of(frames)
    assert outcome.counts["gaps"] == 0
    assert outcome.only["appliance"]["response"] == {"complete": True, "missing_bytes": 0}


def test_a_head_whose_end_is_lost_is_told_as_far_as_it_was_seen():
    ask = request(b"/0", b"Host: a.example", b"User-Agent: probe/1", b"X-Filler: " + b"f" * 100)
    said = Conversation().handshake().client_sends(ask, [60, 1000]).idle(MILLISECOND)
    said.server_sends(get(0).response).exchange(get(1)).close()
    events = events_of(without(said.frames, carrying(said.frames, b"ffff")[-1]))
    assert [event["url"]["original"] for event in events] == ["/0", "/1"]
    assert events[0]["url"]["domain"] == "a.example"
    assert events[0]["appliance"]["request"]["complete"] is False
    assert "body_cut" in events[0]["appliance"]["anomalies"]


@SIDES
def test_a_head_whose_start_is_lost_is_not_invented(where):
    said = Conversation(**where).handshake().client_sends(get(0).request, [10, 1000]).idle(MILLISECOND)
    said.server_sends(get(0).response).exchange(get(1)).close()
    # Nothing has shown yet that this client waits for its answers.
    found = pairs(without(said.frames, 3))
    assert found == [(None, "R0", "response_only"), ("/1", "R1", "uncertain")]


@SIDES
def test_a_lost_request_leaves_its_response_alone_and_the_next_pair_uncertain(where):
    frames = talk(get(0), get(1), get(2), **where).frames
    found = pairs(without(frames, *at(frames, b"GET /1 ")))
    assert sorted(found, key=str) == sorted(
        [("/0", "R0", "verified"), (None, "R1", "response_only"), ("/2", "R2", "uncertain")], key=str
    )


@SIDES
def test_a_lost_response_leaves_its_request_alone_and_makes_no_wrong_pair(where):
    frames = talk(get(0), get(1), get(2), **where).frames
    found = pairs(without(frames, *carrying(frames, b" R1\r\n")))
    assert found == [("/0", "R0", "verified"), ("/1", None, "request_only"), ("/2", "R2", "uncertain")]


@SIDES
def test_a_lost_response_and_the_request_behind_it_make_no_wrong_pair(where):
    frames = talk(get(0), get(1), get(2), **where).frames
    found = pairs(without(frames, *carrying(frames, b" R0\r\n"), *at(frames, b"GET /1 ")))
    assert ("/2", "R2") in [pair[:2] for pair in found]
    for target, reason, pairing in found:
        assert pairing == "uncertain" or None in (target, reason) or target[1:] == reason[1:]


def test_the_last_response_is_not_given_to_an_earlier_request():
    frames = talk(get(0), get(1)).frames
    found = pairs(without(frames, *carrying(frames, b" R0\r\n"), *at(frames, b"GET /1 ")))
    assert all(pairing == "uncertain" or None in (target, reason) for target, reason, pairing in found)


def test_a_pipelined_request_that_is_lost_shifts_no_pair_unmarked():
    said = Conversation().handshake().client_sends(b"".join(get(number).request for number in range(4)), 38)
    said.idle(MILLISECOND).server_sends(b"".join(get(number).response for number in range(4))).close()
    frames = said.frames
    for lost in range(4):
        for target, reason, pairing in pairs(without(frames, *at(frames, b"GET /%d " % lost))):
            assert pairing == "uncertain" or None in (target, reason) or target[1:] == reason[1:]


@SIDES
def test_both_heads_captured_make_a_pair_although_a_body_before_them_has_a_hole(where):
    made = [post(0, size=6000), get(1), get(2)]
    said = Conversation(**where).handshake().pipeline(made).close()
    assert [pair[:2] for pair in pairs(without(said.frames, at(said.frames, b"u")[1]))] == [
        ("/0", "R0"),
        ("/1", "R1"),
        ("/2", "R2"),
    ]


@pytest.mark.parametrize(("kept", "pairing"), [(0, "request_only"), (1, "response_only")])
@SIDES
def test_a_capture_of_one_side_gives_what_there_is(where, kept, pairing):
    said = talk(get(0), get(1), **where)
    mine = said.frames[kept][1][6:12]
    events = events_of([(ts, frame) for ts, frame in said.frames if frame[6:12] == mine])
    assert [event["appliance"]["pairing"] for event in events] == [pairing] * 2
    assert {event["source"]["ip"] for event in events} == {where.get("client", "192.0.2.10")}


def test_bytes_cut_off_by_the_snapshot_length_are_missing_not_lost():
    frames = talk(get(0, body=b"x" * 5000), get(1)).frames
    outcome = outcome_of(frames, snaplen=200)
    event = outcome.events[0]
    whole = sum(len(payload_of(frame)) for _, frame in frames)
    kept = sum(len(payload_of(frame[:200])) for _, frame in frames)
    assert event["http"]["response"]["body"]["bytes"] == 5000
    assert event["appliance"]["response"] == {"complete": True, "missing_bytes": whole - kept}
    assert [event["url"]["original"] for event in outcome.events] == ["/0", "/1"]
    assert outcome.counts["gaps"] == 0


@SIDES
def test_bytes_missing_at_the_end_of_a_connection_are_counted(where):
    said = Conversation(**where).handshake().exchange(get(0, body=b"x" * 6000)).close("server")
    lost = at(said.frames, b"x")[-1]
    frames = without(said.frames, lost)
    missing = len(payload_of(said.frames[lost][1]))
    outcome = outcome_of(frames)
    assert outcome.only["appliance"]["response"]["missing_bytes"] == missing
    assert outcome.counts["gap_bytes"] == missing


def test_a_connection_whose_last_bytes_are_lost_ends_with_its_fin():
    said = Conversation().handshake().exchange(get(0, body=b"x" * 6000)).close("server")
    frames = without(said.frames, at(said.frames, b"x")[-1])
    counts = counts_of(frames + later(talk(get(), client_port=7).frames, 3 * SECOND))
    assert counts["flows_ended.fin"] == 2


# -- limits ----------------------------------------------------------------------------------------------------------


def test_more_held_than_allowed_ends_the_wait():
    said = Conversation().handshake().exchange(get(0, body=b"x" * 60000)).exchange(get(1))
    frames = without(said.frames, at(said.frames, b"x")[0])
    tight = config(tcp={"max_pending_bytes": 8192})
    (messages,), _ = batches_of(frames)
    pipeline = Pipeline(tight)
    pipeline.feed(messages[0])
    outcome = collect(pipeline, Outcome())
    assert [event["url"]["original"] for event in outcome.events] == ["/0", "/1"]
    assert pipeline.counts()["gaps"] == 1


@pytest.mark.parametrize("limit", [{"max_pending_segments": 8}, {"max_total_pending_bytes": 8192}])
def test_other_limits_of_what_is_held_end_the_wait_too(limit):
    said = Conversation().handshake().exchange(get(0, body=b"x" * 60000))
    counts = outcome_of(without(said.frames, at(said.frames, b"x")[0]), config=config(tcp=limit)).running
    assert (counts["gaps"], counts["pending_bytes"]) == (1, 0)


def test_the_connection_that_is_idle_longest_makes_room():
    many = [
        talk(get(port), close="", client_port=port, start_ns=START_NS + port * 5 * SECOND).frames
        for port in range(1, 6)
    ]
    again = Conversation(client_port=1).handshake().exchange(get(1)).exchange(get(11)).frames[5:]
    outcome = outcome_of(interleave([*many, later(again, 17 * SECOND)]), config=config(tcp={"max_connections": 3}))
    assert outcome.counts["flows_ended.evicted"] == 2
    assert outcome.running["flows"] == 3
    assert [pair[0] for pair in summaries(outcome.events)] == ["/1", "/11", "/2", "/3", "/4", "/5"]


def test_an_evicted_connection_tells_what_it_has():
    first = Conversation(client_port=1).handshake().client_sends(get(1).request)
    second = talk(get(2), client_port=2, start_ns=START_NS + SECOND)
    events = events_of(first.frames + second.frames, config=config(tcp={"max_connections": 1}))
    assert summaries(events) == [("/1", None, "request_only"), ("/2", 200, "verified")]


def test_a_head_that_never_ends_is_cut_at_its_limit():
    ask = request(b"/0", b"X: " + b"f" * 2000)
    said = Conversation().handshake().client_sends(ask, 300).close()
    event = outcome_of(said.frames, config=config(http={"max_head_bytes": 512})).only
    assert event["url"]["original"] == "/0"
    assert event["appliance"]["anomalies"] == ["head_too_long", "body_cut"]


def test_a_head_that_was_cut_at_its_limit_is_counted():
    said = Conversation().handshake().client_sends(request(b"/0", b"X: " + b"f" * 2000), 300).close()
    assert counts_of(said.frames, config=config(http={"max_head_bytes": 512}))["parse_errors"] == 1


# -- anomalies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ([b"Transfer-Encoding: chunked", b"Content-Length: 5"], ["length_and_chunked"]),
        ([b"Content-Length: 3", b"Content-Length: 5"], ["lengths_differ"]),
        ([b"Content-Length: +3"], ["bad_length"]),
        ([b"Content-Length: 1_0"], ["bad_length"]),
        ([b"Content-Length: 3x"], ["bad_length"]),
        ([b"Content-Length: \xa03"], ["bad_length"]),
        ([b"Content-Length: 99999999999999999999"], ["bad_length"]),
        ([b"X: 1", b" 2"], ["folded_header"]),
        ([b"X : 1"], ["space_before_colon"]),
        ([b"no colon"], ["bad_header_line"]),
        ([b": no name"], ["bad_header_line"]),
        ([b"Transfer-Encoding: chunked, gzip"], ["chunked_not_last"]),
        ([b"Transfer-Encoding: xchunked"], ["unknown_coding"]),
    ],
)
def test_an_anomaly_is_named(lines, names):
    event = events_of(spoken(request(b"/", *lines), response(b"200 OK", b"Content-Length: 0")).frames)[0]
    assert [name for name in event["appliance"]["anomalies"] if name != "early_response"] == names  # no body comes


def test_a_broken_chunk_ends_the_body_as_an_anomaly():
    answer = response(b"200 OK", b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\nxyz\r\n")
    outcome = outcome_of(spoken(request(), answer).frames)
    assert outcome.only["appliance"]["anomalies"] == ["bad_chunk"]
    assert outcome.only["appliance"]["response"]["complete"] is False
    assert outcome.counts["messages.failed"] == 1


# -- addresses -------------------------------------------------------------------------------------------------------


def test_equal_addresses_on_two_vlans_are_two_connections():
    frames = interleave([talk(get(1), vlans=[1]), talk(get(2), vlans=[2])])
    events = events_of(frames)
    assert {(event["url"]["original"], event["network"]["vlan"]["id"]) for event in events} == {
        ("/1", "1"),
        ("/2", "2"),
    }


def test_ipv4_and_ipv6_addresses_of_the_same_bits_are_two_connections():
    frames = interleave([talk(get(4)), talk(get(6), client="::c000:20a", server="::c633:6414")])
    assert {event["network"]["type"] for event in events_of(frames)} == {"ipv4", "ipv6"}


def test_both_ends_may_have_the_same_address():
    frames = talk(get(0), client="192.0.2.1", server="192.0.2.1").frames
    assert pairs(frames) == [("/0", "R0", "verified")]


def test_a_fin_with_the_last_bytes_ends_the_body():
    made = get(0, framing="close")
    said = Conversation().handshake().client_sends(made.request)
    said.raw(said.server, 0, made.response, FIN | ACK)
    event = outcome_of(said.frames).only
    assert event["appliance"]["response"]["complete"]


def test_time_that_goes_back_changes_no_event():
    frames = talk(get(0), get(1)).frames
    back = [(2 * START_NS - ts_ns, frame) for ts_ns, frame in frames]
    assert timeless(events_of(back)) == timeless(events_of(frames))


@pytest.mark.parametrize(
    ("end", "complete"),
    [(lambda said: said.close(), True), (lambda said: said.reset(), False), (lambda said: said, False)],
    ids=["fin", "rst", "end of the capture"],
)
def test_a_body_up_to_the_end_is_complete_only_if_its_sender_said_so(end, complete):
    event = outcome_of(until_close(end)).only
    assert event["http"]["response"]["body"]["bytes"] == 5000
    assert event["appliance"]["response"] == {"complete": complete, "missing_bytes": 0}


def test_a_batch_of_an_unknown_capture_is_refused():
    batches, _ = batches_of(talk(get(0)).frames, capture=7)
    with pytest.raises(BadBatch, match="capture 7"):
        Pipeline(config()).feed(batches[0][0])
