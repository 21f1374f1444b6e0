"""The laws of the data path, as properties: what may not change an event, and what must always add up."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from builders import (
    MILLISECOND,
    Outcome,
    batches_of,
    collect,
    config,
    differences,
    events_of,
    outcome_of,
    payload_of,
    talk,
    timeless,
    whole,
)
from conversation import Conversation
from early_clients import early, early_frames, wrong
from exchange import exchange
from hypothesis import given
from hypothesis import strategies as st
from impair import drop, duplicate, interleave, reorder
from tcp_strategies import delayed, flipped, frames_of, sizes, talks

from workers.pipeline import Pipeline

seeds = st.integers(0, 2**32)


def told(drawn):
    """(target, status, request body, response body) of every transaction that was said."""
    return Counter(
        (one.target, one.status, one.request_body, one.response_body, one.informational)
        for each in drawn
        for one in each.made
    )


def found(events):
    """The same of every event."""
    return Counter(
        (
            event["url"]["original"],
            event["http"]["response"]["status_code"],
            event["http"]["request"]["body"]["bytes"],
            event["http"]["response"]["body"]["bytes"],
            tuple(event["appliance"].get("informational", ())),
        )
        for event in events
    )


@given(talks())
def test_every_transaction_that_was_said_is_reported_once(drawn):
    events = events_of(frames_of(drawn))
    assert found(events) == told(drawn)
    assert {event["appliance"]["pairing"] for event in events} <= {"ordered", "verified"}
    # Without a FIN nobody said that a body up to the end of the connection was whole (RFC 9112 section 8).
    whole = all(event["appliance"]["response"]["complete"] for event in events)
    assert whole or any(talk.close not in ("client", "server") for talk in drawn)
    assert not any(event["appliance"]["midstream"] for event in events)


# -- 1: any split ----------------------------------------------------------------------------------------------------


@given(talks(), sizes, sizes)
def test_law_1_any_split_into_segments_gives_the_same_events(drawn, request_sizes, response_sizes):
    assert timeless(events_of(frames_of(drawn, request_sizes, response_sizes))) == timeless(events_of(frames_of(drawn)))


@given(talks(), st.sampled_from((4096, 5000, 1 << 20)))
def test_law_1_any_size_of_batch_gives_the_same_events_to_the_nanosecond(drawn, batch_bytes):
    frames = frames_of(drawn)
    assert whole(events_of(frames, batch_bytes=batch_bytes)) == whole(events_of(frames))


MALFORMED = [
    b"GET  / HTTP/1.1\r\nHost: a.example\r\n\r\n",
    b"GET / HTTP/1.1 \r\nHost: a.example\r\n\r\n",
    b"GET \x01 HTTP/1.1\r\n\r\n",
    b"GET\t/ HTTP/1.1\r\n\r\n",
    b"M" * 33 + b" / HTTP/1.1\r\n\r\n",
    b"M" * 32 + b" / HTTP/1.1\r\n\r\n",
    b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\n\n",
    b"GET / HTTP/1.1\r\n folded\r\n\r\n",
    b"GET /\r\n\r\n",
    b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
    b"HTTX/1.1 200 OK\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3 ;x=1\r\nabc\r\n0\r\nX: y\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 33, 34])
@pytest.mark.parametrize("said", MALFORMED)
def test_law_1_holds_for_malformed_messages_too(said, size):
    split = Conversation().handshake().client_sends(said, size).close()
    at_once = Conversation().handshake().client_sends(said).close()
    assert timeless(events_of(split.frames)) == timeless(events_of(at_once.frames))


# -- 2: any reordering, any duplication ------------------------------------------------------------------------------


@given(talks(longest=3000), st.integers(1, 12), seeds)
def test_law_2_any_reordering_within_a_window_gives_the_same_events(drawn, window, seed):
    frames = frames_of(drawn, 300, 300)
    assert timeless(events_of(reorder(frames, window, seed))) == timeless(events_of(frames))


@given(talks(), st.integers(1, 4), st.integers(1, 200), seeds)
def test_law_2_a_few_frames_that_come_very_late_change_nothing(drawn, count, places, seed):
    frames = frames_of(drawn, 100, 100)
    late = delayed(frames, random.Random(seed), count, places)
    assert timeless(events_of(late)) == timeless(events_of(frames))


@given(talks(), st.floats(0, 1), seeds)
def test_law_2_any_duplication_gives_the_same_events(drawn, p, seed):
    frames = frames_of(drawn, 300, 300)
    assert timeless(events_of(duplicate(frames, p, seed))) == timeless(events_of(frames))


@given(talks(longest=2000), st.integers(0, 8), st.floats(0, 1), seeds)
def test_law_2_reordering_and_duplication_together_lose_no_byte(drawn, window, p, seed):
    frames = frames_of(drawn, 500, 500)
    outcome = outcome_of(duplicate(reorder(frames, window, seed), p, seed))
    assert found(outcome.events) == told(drawn)
    assert outcome.counts["gap_bytes"] == 0
    assert differences(outcome) == {}


@given(talks(), st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(1, 999)), max_size=12), seeds)
def test_law_2_retransmissions_cut_otherwise_give_the_same_events(drawn, again, seed):
    plain = [each.conversation(200, 200) for each in drawn]
    repeated = []
    for said in plain:
        frames = list(said.frames)
        for where, start, size in again:
            place = 3 + int(where * (len(frames) - 3))
            for side, port in ((said.client, frames[0][1]), (said.server, frames[1][1])):
                bytes_sent = stream_of(said.frames, port)
                offset = int(start * len(bytes_sent))
                sent_before = len(stream_of(frames[:place], port))
                data = bytes_sent[offset : min(offset + size, sent_before)]
                if data:
                    ack = acknowledged(frames[:place], port)
                    frame = side.wire.frame(side.at(offset), ack, 0x10, data)
                    frames.insert(place, (frames[place - 1][0], frame))
        repeated.append(frames)
    # Which acknowledgement a byte came with may change how sure a pair is, but not the pair.
    shuffled = events_of(reorder(interleave(repeated), 3, seed))
    assert unpaired(shuffled) == unpaired(events_of(interleave(plain)))


def unpaired(events):
    """Events without time and without how sure their pair is."""
    return timeless({**event, "appliance": {**event["appliance"], "pairing": "-"}} for event in events)


def ports_of(frame):
    """The two ports of a frame of these talks, tagged or not."""
    at = 12
    while frame[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
        at += 4
    tcp = at + (42 if frame[at : at + 2] == b"\x86\xdd" else 22)
    return frame[tcp : tcp + 4], tcp


def stream_of(frames, like):
    """All payload bytes in the direction of one frame, each byte once, in order of sequence numbers."""
    ports, _ = ports_of(like)
    parts = {}
    for _, frame in frames:
        other, tcp = ports_of(frame)
        if other == ports:
            data = frame[tcp + (frame[tcp + 12] >> 4) * 4 :]
            parts.setdefault((int.from_bytes(frame[tcp + 4 : tcp + 8], "big"), len(data)), data)
    first = int.from_bytes(like[ports_of(like)[1] + 4 :][:4], "big") + 1
    out = bytearray()
    for (seq, _), data in sorted(parts.items(), key=lambda item: (item[0][0] - first) % 2**32):
        offset = (seq - first) % 2**32
        if offset < 2**31:
            out[offset : offset + len(data)] = data
    return bytes(out)


def acknowledged(frames, like):
    """The last acknowledgement number in the direction of one frame."""
    ports, _ = ports_of(like)
    found = [frame[tcp + 8 : tcp + 12] for _, frame in frames for other, tcp in [ports_of(frame)] if other == ports]
    return int.from_bytes(found[-1], "big")


# -- 3: any number of workers ----------------------------------------------------------------------------------------

PAUSES = [round(seconds * 1e9) for seconds in (0.003, 0.05, 0.15, 0.9, 1.2, 7, 11, 250, 320, 2000, -0.5, -30, -1500)]


@given(talks(most=6, exchanges_most=2), st.integers(2, 8))
def test_law_3_any_number_of_workers_gives_the_same_events(drawn, workers):
    frames = frames_of(drawn)
    assert whole(events_of(frames, workers)) == whole(events_of(frames))


@given(talks(most=4, exchanges_most=2), st.integers(2, 8), seeds)
def test_law_3_holds_for_lossy_traffic_too(drawn, workers, seed):
    frames = drop(frames_of(drawn), 0.2, seed)
    assert whole(events_of(frames, workers)) == whole(events_of(frames))


@given(
    talks(most=4, exchanges_most=2),
    st.integers(2, 8),
    seeds,
    st.lists(st.tuples(st.integers(0, 200), st.sampled_from(PAUSES)), max_size=6),
)
def test_law_3_holds_across_pauses_and_for_a_clock_that_turns_back(drawn, workers, seed, pauses):
    """The timers of a connection depend on its own frames, not on those of others on the same worker."""
    frames = drop(frames_of(drawn), 0.2, seed)
    paused = [
        (at + sum(pause for place, pause in pauses if place <= number), frame)
        for number, (at, frame) in enumerate(frames)
    ]
    one, many = outcome_of(paused), outcome_of(paused, workers)
    assert whole(many.events) == whole(one.events)
    assert whole(many.flows) == whole(one.flows)


@given(talks(most=4, exchanges_most=2), st.binary(min_size=16, max_size=16))
def test_law_3_the_hash_key_changes_no_event(drawn, key):
    frames = frames_of(drawn)
    assert whole(events_of(frames, 3, key=key)) == whole(events_of(frames))


# -- 4: any initial sequence numbers ---------------------------------------------------------------------------------


@given(talks(), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_law_4_shifted_sequence_numbers_give_the_same_events(drawn, client, server):
    shifted = interleave(each.conversation(shift=(client, server)) for each in drawn)
    assert whole(events_of(shifted)) == whole(events_of(frames_of(drawn)))


@given(talks(most=1), st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 6), seeds)
def test_law_4_sequence_numbers_may_wrap_in_reordered_traffic(drawn, client, server, window, seed):
    (each,) = drawn
    shift = (2**32 - client - each.client_isn, 2**32 - server - each.server_isn)
    frames = each.conversation(70, 70, shift).frames
    assert timeless(events_of(reorder(frames, window, seed))) == timeless(events_of(each.conversation().frames))


# -- 6: the ledger closes --------------------------------------------------------------------------------------------


@given(talks(longest=2000), st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 0.5), st.integers(0, 8), seeds)
def test_law_6_the_ledger_closes_on_impaired_traffic(drawn, lost, twice, bits, window, seed):
    frames = drop(duplicate(reorder(frames_of(drawn, 300, 300), window, seed), twice, seed), lost, seed)
    assert differences(outcome_of(flipped(frames, random.Random(seed), bits))) == {}


@given(talks(longest=2000), st.floats(0, 0.3), st.integers(20, 200), seeds)
def test_law_6_the_ledger_closes_on_cut_frames(drawn, lost, snaplen, seed):
    assert differences(outcome_of(drop(frames_of(drawn), lost, seed), snaplen=snaplen)) == {}


TIGHT = config(
    tcp={
        "max_connections": 2,
        "max_pending_bytes": 1024,
        "max_pending_segments": 3,
        "max_total_pending_bytes": 1500,
        "gap_timeout_s": 0.002,
        "settle_ms": 1,
        "idle_timeout_s": 0.1,
        "closed_linger_s": 0.0,
    },
    http={"max_head_bytes": 256, "max_total_waiting_bytes": 4096},
)


@given(talks(most=5, longest=2000), st.floats(0, 0.5), st.floats(0, 0.3), st.integers(0, 20), seeds)
def test_law_6_the_ledger_closes_while_every_limit_is_reached(drawn, lost, bits, window, seed):
    frames = flipped(drop(reorder(frames_of(drawn), window, seed), lost, seed), random.Random(seed), bits)
    assert differences(outcome_of(frames, 1, TIGHT)) == {}


# -- 7: no input crashes, memory is bounded --------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=200), max_size=20), st.sampled_from((0, 1, 12, 101, 108, 113, 276, 9999)))
def test_law_7_random_bytes_as_frames_do_no_harm(frames, link_type):
    outcome = outcome_of(enumerate(frames), 2, link_type=link_type)
    assert differences(outcome) == {}


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 300), st.integers(0, 63), st.binary(max_size=80)), max_size=30))
def test_law_7_random_segments_do_no_harm(said):
    conversation = Conversation().established()
    for from_client, offset, flags, data in said:
        side = conversation.client if from_client else conversation.server
        conversation.raw(side, offset, data, flags)
    assert differences(outcome_of(conversation.frames)) == {}


WORDS = [
    b"GET / HTTP/1.1\r\n",
    b"POST /a HTTP/1.1\r\n",
    b"CONNECT a.example:1 HTTP/1.1\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n",
    b"HTTP/1.0 204\r\n",
    b"HTTP/1.1 999 ?\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 99999999999999999999999\r\n",
    b"Content-Length: 1, 2\r\n",
    b"Content-Length: +1_0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked, gzip\r\n",
    b"Connection: close\r\n",
    b"Upgrade: x\r\n",
    b" folded\r\n",
    b"Host : a\r\n",
    b": \r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"fffffffffffffff\r\n",
    b"5;x\r\n",
    b"hello",
    b"\0",
    b"\xff\xfe",
    b" ",
]
_talk = st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=6)), max_size=14).map(b"".join)


@given(_talk, _talk, st.integers(1, 40), st.sampled_from((0.0, 0.0, 0.2)), seeds)
def test_law_7_hostile_http_does_no_harm(client, server, size, lost, seed):
    said = Conversation().handshake().client_sends(client, size).idle(MILLISECOND).server_sends(server, size).close()
    frames = drop(said.frames, lost, seed)
    outcome = outcome_of(frames, 1, config(http={"headers": ["all"]}))
    assert differences(outcome) == {}


@given(talks(most=4, longest=6000), st.integers(0, 40), st.floats(0, 0.5), seeds)
def test_law_7_what_is_held_stays_below_its_limit(drawn, window, lost, seed):
    frames = drop(reorder(frames_of(drawn, 400, 400), window, seed), lost, seed)
    (messages,), _ = batches_of(frames, batch_bytes=4096)
    limit = TIGHT.tcp.max_total_pending_bytes
    pipeline = Pipeline(TIGHT)
    for message in messages:
        pipeline.feed(message)
        counts = pipeline.counts()
        assert counts["pending_bytes"] <= limit
        assert counts["flows"] <= TIGHT.tcp.max_connections


def test_law_7_a_pipeline_that_has_finished_can_be_finished_again():
    (messages,), _ = batches_of(talk(exchange()).frames)
    pipeline = Pipeline(config())
    for message in messages:
        pipeline.feed(message)
    pipeline.finish()
    pipeline.finish()
    assert len(collect(pipeline, Outcome()).events) == 1


# -- 8: no wrong pair ------------------------------------------------------------------------------------------------


def numbers(event):
    """(number in the request, number in the response) of an event, None for what is missing."""
    target = event.get("url", {}).get("original", "/")[1:]
    reason = event["http"].get("response", {}).get("reason", "R")[1:]
    return target or None, reason or None


@given(talks(longest=3000), st.floats(0, 0.6), st.integers(0, 4), seeds)
def test_law_8_a_pair_that_is_not_marked_uncertain_is_right_whatever_was_lost(drawn, lost, window, seed):
    frames = reorder(drop(frames_of(drawn), lost, seed), window, seed)
    for event in events_of(frames):
        if event["appliance"]["pairing"] in ("ordered", "verified"):
            asked, answered = numbers(event)
            assert asked == answered


@given(early)
def test_law_8_a_pair_of_a_client_that_does_not_wait_is_right_unless_it_is_marked_uncertain(frames):
    assert wrong(events_of(frames)) == []


@pytest.mark.parametrize("seed", [9795, 106_975, 109_311, 112_368])
def test_law_8_holds_where_the_first_responses_come_late(seed):
    """The first captured bytes of the server are those of a later response; its SYN-ACK comes behind them."""
    assert wrong(events_of(early_frames(seed, 1))) == []


@pytest.mark.parametrize("seed", range(6))
def test_law_8_holds_for_many_clients_that_do_not_wait(seed):
    assert wrong(events_of(early_frames(seed, 250))) == []


@st.composite
def calls(draw):
    """One connection of plain calls, one after the other, and the frames of it that get lost (no handshake frame)."""
    many = draw(st.integers(1, 8))
    said = Conversation(*draw(st.sampled_from((("192.0.2.1", "198.51.100.2"), ("198.51.100.2", "192.0.2.1")))))
    said.handshake()
    for number in range(many):
        method = draw(st.sampled_from(("GET", "POST")))
        framing = draw(st.sampled_from(("length", "chunked")))
        upload = b"u" * draw(st.integers(0, 5000)) if method == "POST" else b""
        body = b"b" * draw(st.integers(0, 5000))
        said.exchange(exchange(method, f"/{number}", reason=f"R{number}", upload=upload, body=body, framing=framing))
    said.close()
    lost = draw(st.sets(st.integers(3, len(said.frames) - 1), max_size=len(said.frames) // 3))
    return many, said.frames, lost


@given(calls())
def test_law_8_a_transaction_whose_heads_were_captured_is_reported(drawn):
    many, frames, lost = drawn
    kept = [frame for place, frame in enumerate(frames) if place not in lost]
    payloads = [payload_of(frame) for _, frame in kept]
    pairs = {numbers(event) for event in events_of(kept)}
    for number in range(many):
        asked = any(f" /{number} HTTP/1.1\r\n".encode() in payload for payload in payloads)
        answered = any(f" R{number}\r\n".encode() in payload for payload in payloads)
        if asked and answered:
            assert (str(number), str(number)) in pairs
        elif asked:
            assert str(number) in {pair[0] for pair in pairs}
        elif answered:
            assert str(number) in {pair[1] for pair in pairs}


def test_an_empty_capture_gives_no_event():
    outcome = outcome_of([])
    assert outcome.events == []
    assert differences(outcome) == {}
