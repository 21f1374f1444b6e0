"""Effects of a RST, and urgent data. The settle time is 100 ms, as by default."""

from __future__ import annotations

import pytest
from builders import (
    MILLISECOND,
    SECOND,
    Conversation,
    config,
    differences,
    get,
    outcome_of,
    request,
    response,
    summaries,
)
from impair import interleave
from tcp_scenes import after, anomalies, moved, put
from wire import ACK, RST, SYN

URG = 0x20
BOTH = [("/0", 200, "verified"), ("/1", 200, "verified")]
SENDERS = pytest.mark.parametrize("by", ["client", "server"])


def begun():
    return Conversation().handshake().exchange(get(0))


def resets(said):
    """(flows_ended.rst, resets_ignored), and the outcome, a second after the last frame; the ledger closes."""
    outcome = outcome_of(after(said, SECOND))
    assert differences(outcome) == {}
    return outcome.counts["flows_ended.rst"], outcome.counts["resets_ignored"], outcome


@SENDERS
@pytest.mark.parametrize("flags", [RST, RST | ACK])
def test_a_true_reset_ends_the_connection_after_the_settle_time(by, flags):
    said = begun()
    put(said, getattr(said, by), getattr(said, by).next, flags)
    ended, ignored, outcome = resets(said)
    assert (ended, ignored) == (1, 0)
    assert summaries(outcome.events) == BOTH[:1]


@SENDERS
@pytest.mark.parametrize("ahead", [-(1 << 30), -1000, 2, 1000, 1 << 20, (1 << 31) - 1])
def test_a_reset_with_another_number_is_not_believed(by, ahead):
    """RFC 5961 section 3: only the number that the receiver waits for; here, any that it may wait for."""
    said = begun()
    said.acknowledge(said.client).acknowledge(said.server)
    put(said, getattr(said, by), getattr(said, by).next + ahead, RST)
    said.idle(SECOND).exchange(get(1)).close()
    ended, ignored, outcome = resets(said)
    assert (ended, ignored) == (0, 1)
    assert summaries(outcome.events) == BOTH


@SENDERS
def test_a_reset_that_answers_a_syn_ends_the_attempt(by):
    said = Conversation()
    put(said, said.client, said.client.isn, SYN)
    if by == "server":
        put(said, said.server, 0, RST | ACK, ack=said.client.at(0))
    else:
        put(said, said.server, said.server.isn, SYN | ACK, ack=said.client.at(0))
        put(said, said.client, said.client.at(0), RST)
    assert resets(said)[:2] == (1, 0)


@SENDERS
def test_data_of_its_own_sender_within_the_settle_time_undo_a_reset(by):
    said = begun()
    put(said, getattr(said, by), getattr(said, by).next, RST)
    said.idle(10 * MILLISECOND).exchange(get(1)).idle(SECOND).exchange(get(2)).close()
    ended, ignored, outcome = resets(said)
    assert (ended, ignored) == (0, 1)
    assert summaries(outcome.events) == [*BOTH, ("/2", 200, "verified")]
    assert outcome.counts["flows_opened"] == 2  # with that of the frame that moves the clock


def test_requests_after_a_forged_reset_of_their_sender_are_followed_although_the_settle_time_is_over():
    said = begun()
    put(said, said.client, said.client.next, RST)
    said.idle(SECOND).exchange(get(1)).exchange(get(2)).close()
    ended, ignored, outcome = resets(said)
    assert (ended, ignored) == (1, 1)
    assert [one[:2] for one in summaries(outcome.events)] == [("/0", 200), ("/1", 200), ("/2", 200)]
    assert [event["appliance"]["midstream"] for event in outcome.events] == [False, True, True]


def test_responses_after_a_forged_reset_of_the_server_are_followed_although_the_settle_time_is_over():
    said = begun()
    put(said, said.server, said.server.next, RST)
    said.idle(SECOND).exchange(get(1)).exchange(get(2)).close()
    _, ignored, outcome = resets(said)
    assert ignored == 1
    assert [one[:2] for one in summaries(outcome.events)][-1] == ("/2", 200)


@pytest.mark.parametrize("pause", [5 * MILLISECOND, 40 * MILLISECOND])
def test_a_forged_reset_of_the_client_does_not_end_its_download(pause):
    made = get(0, body=b"y" * 300_000)
    said = Conversation().handshake().client_sends(made.request).server_sends(made.response[:100_000])
    put(said, said.client, said.client.next, RST)
    for place in range(100_000, len(made.response), 50_000):
        said.idle(pause).server_sends(made.response[place : place + 50_000])
    outcome = resets(said)[2]
    assert outcome.only["appliance"]["response"] == {"complete": True, "missing_bytes": 0}


@SENDERS
def test_text_in_a_reset_belongs_to_no_stream(by):
    """RFC 1122 section 4.2.2.12."""
    said = begun()
    text = request(b"/evil") if by == "client" else response(b"500 Evil", b"Content-Length: 0")
    put(said, getattr(said, by), getattr(said, by).next, RST, text)
    ended, _, outcome = resets(said)
    assert (ended, outcome.counts["payload.ignored"]) == (1, len(text))
    assert summaries(outcome.events) == BOTH[:1]


def overtaken(count):
    """A RST of the server that was captured before the last data segments that it follows."""
    made = get(1, body=b"x" * 6000)
    said = begun().client_sends(made.request)
    for place in range(0, len(made.response), 1000):
        said.raw(said.server, place + len(get(0).response), made.response[place : place + 1000])
    late = said.frames[-count:]
    del said.frames[-count:]
    put(said, said.server, said.server.next + len(made.response), RST)
    said.frames += [(said.now + MILLISECOND, frame) for _, frame in late]
    return said.idle(2 * MILLISECOND)


@pytest.mark.parametrize("count", [1, 3, 6])
def test_a_reset_that_overtook_the_data_before_it_loses_none(count):
    _, _, outcome = resets(overtaken(count))
    assert summaries(outcome.events) == BOTH
    assert outcome.events[1]["appliance"]["response"] == {"complete": True, "missing_bytes": 0}


@pytest.mark.parametrize("count", [1, 3, 6])
def test_a_reset_that_overtook_the_data_before_it_ends_the_connection(count):
    ended, ignored, _ = resets(overtaken(count))
    assert (ended, ignored) == (1, 0)


@SENDERS
@pytest.mark.parametrize("pause", [2, 4, 60])
def test_a_forged_reset_in_a_pause_hides_no_exchange_behind_it(by, pause):
    """A client that has the RST sends no request seconds later, so it has none."""
    made = get(1)
    said = begun()
    put(said, getattr(said, by), getattr(said, by).next, RST)
    said.idle(pause * SECOND).client_sends(made.request).idle(20 * MILLISECOND).server_sends(made.response)
    _, _, outcome = resets(said)
    assert [one[:2] for one in summaries(outcome.events)] == [("/0", 200), ("/1", 200)]


def test_data_of_the_other_side_that_crossed_a_reset_is_still_read():
    made = get(1)
    said = begun().client_sends(made.request)
    put(said, said.client, said.client.next, RST)
    said.idle(50 * MILLISECOND).server_sends(made.response)
    ended, _, outcome = resets(said)
    assert ended == 1
    assert summaries(outcome.events) == BOTH


def test_data_long_after_a_reset_of_both_sides_is_ignored():
    said = begun()
    put(said, said.client, said.client.next, RST)
    put(said, said.server, said.server.next, RST)
    said.idle(SECOND).server_sends(b"late")
    ended, _, outcome = resets(said)
    assert (ended, outcome.counts["flows_opened"]) == (1, 2)  # the frame that moves the clock
    assert outcome.counts["payload.ignored"] == 4


def test_a_second_reset_changes_nothing():
    said = begun()
    for _ in range(3):
        put(said, said.client, said.client.next, RST)
    assert resets(said)[:2] == (1, 0)


def test_a_reset_ends_a_connection_that_waits_for_a_hole():
    made = get(1, body=b"x" * 6000)
    said = begun().client_sends(made.request).server_sends(made.response)
    said.frames.pop(-3)
    said.reset("server")
    ended, _, outcome = resets(said)
    assert ended == 1
    assert outcome.counts["pending_bytes"] == outcome.running["pending_bytes"] == 0
    assert [one[:2] for one in summaries(outcome.events)] == [("/0", 200), ("/1", 200)]
    assert outcome.events[1]["appliance"]["response"]["missing_bytes"] > 0


def test_a_reset_counts_while_the_bytes_of_others_are_given_up():
    first = Conversation(client_port=1).handshake().exchange(get(0)).reset()
    greedy = Conversation(client_port=2).handshake().idle(first.now - Conversation().now + MILLISECOND)
    greedy.raw(greedy.client, 1000, b"x" * 1000).raw(greedy.client, 2000, b"x" * 1000)
    frames = interleave([first, greedy, Conversation(client_port=3, start_ns=greedy.now + SECOND).handshake()])
    outcome = outcome_of(frames, config=config(tcp={"max_total_pending_bytes": 1024}))
    assert outcome.counts["flows_ended.rst"] == 1


def test_a_true_reset_is_believed_after_a_forged_acknowledgement():
    said = begun()
    put(said, said.server, said.server.next, ACK, ack=said.client.at(1 << 29))
    assert resets(said.exchange(get(1)).reset())[:2] == (1, 0)


# -- urgent data -------------------------------------------------------------------------------------------------------


def urgent(frame, pointer):
    """The frame with an urgent pointer; its checksum follows (RFC 1624)."""
    tcp = 34
    check = ~int.from_bytes(frame[tcp + 16 : tcp + 18], "big") & 0xFFFF
    total = check + pointer + int.from_bytes(frame[tcp + 18 : tcp + 20], "big")
    total = (total & 0xFFFF) + (total >> 16)
    field = (~total & 0xFFFF).to_bytes(2, "big")
    return frame[: tcp + 16] + field + pointer.to_bytes(2, "big") + frame[tcp + 20 :]


@pytest.mark.parametrize("pointer", [0, 1, 20, 0xFFFF])
def test_urgent_data_stays_in_line_and_is_counted(pointer):
    ask = request(b"/urgent", b"Host: a.example")
    said = Conversation().handshake()
    said.raw(said.client, 0, ask[:30], ACK | URG)
    said.frames[-1] = (said.frames[-1][0], urgent(said.frames[-1][1], pointer))
    said.client.next = said.client.at(30)
    said.client_sends(ask[30:]).server_sends(response(b"200 OK", b"Content-Length: 0"))
    outcome = outcome_of(said.frames)
    assert summaries(outcome.events) == [("/urgent", 200, "verified")]
    assert anomalies(outcome.only) == []
    assert (outcome.counts["urgent_segments"], outcome.counts["checksums.bad"]) == (1, 0)
    assert outcome.counts["payload.delivered"] == len(ask) + len(response(b"200 OK", b"Content-Length: 0"))


def test_a_hole_that_was_due_before_a_forged_reset_does_not_hasten_it():
    """The acknowledgement of what is behind a hole shortens its wait, to a time before the reset."""
    made = get(0, body=b"y" * 6000)
    said = Conversation().handshake().client_sends(made.request)
    said.raw(said.server, 0, made.response[:1000]).raw(said.server, 2000, made.response[2000:3000])
    said.idle(3 * SECOND)
    put(said, said.server, said.server.at(3000), RST)
    said.idle(10 * MILLISECOND)
    put(said, said.client, said.client.next, ack=said.server.at(3000))
    said.idle(10 * MILLISECOND).raw(said.server, 3000, made.response[3000:])
    moved(said.server, len(made.response))
    said.acknowledge(said.client).exchange(get(1)).close()
    ended, ignored, outcome = resets(said)
    assert (ended, ignored) == (0, 1)
    assert summaries(outcome.events) == BOTH
    assert outcome.events[0]["appliance"]["response"] == {"complete": True, "missing_bytes": 1000}
