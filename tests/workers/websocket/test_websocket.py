"""WebSocket connections behind an upgrade: what their event counts, and what it does not know."""

from __future__ import annotations

import pytest
from builders import MILLISECOND, SECOND, config, differences, outcome_of
from conversation import Conversation
from ws_wire import (
    BINARY,
    CONTINUATION,
    DEFLATE,
    MASK,
    PING,
    PONG,
    TEXT,
    UPGRADE,
    Deflater,
    close,
    frame,
    lost,
    switched,
    websocket,
)

CUTS = pytest.mark.parametrize("cut", [None, 1, 7], ids=["whole", "by byte", "by seven"])
SMALL = frame(TEXT, b"hello", mask=MASK)
ANSWER = frame(BINARY, bytes(300))


def events_of(outcome):
    return [event for event in outcome.events if event["event"]["dataset"] == "appliance.websocket"]


def event_of(said: Conversation, **how):
    """The one event of a conversation, whose ledger closes."""
    outcome = outcome_of(said.frames, **how)
    assert differences(outcome) == {}
    assert outcome.counts["websockets.started"] == outcome.counts["websockets.ended"] == 1
    (event,) = events_of(outcome)
    return event


def own(said: Conversation, **how):
    return event_of(said, **how)["appliance"]["websocket"]


@CUTS
def test_messages_control_frames_and_bytes_are_counted_by_side(cut):
    client = SMALL + frame(PING, b"p", mask=MASK) + frame(TEXT, b"ab", fin=False, mask=MASK)
    client += frame(PONG, mask=MASK) + frame(CONTINUATION, b"c", mask=MASK) + close(1000, mask=MASK)
    found = own(websocket((0, client), (1, ANSWER + frame(PONG, b"p") + close(1001)), cut=cut))
    assert found["client"] == {
        "messages": 2,
        "text": 2,
        "binary": 0,
        "ping": 1,
        "pong": 1,
        "fragments": 1,
        "bytes": 8,
        "masked_wrong": 0,
        "close_code": 1000,
        "complete": True,
        "missing_bytes": 0,
    }
    assert (found["server"]["binary"], found["server"]["bytes"], found["server"]["close_code"]) == (1, 300, 1001)
    assert (found["closed_by"], found["compressed"], found["final"], found["index"]) == ("client", False, True, 0)


def test_the_event_has_the_url_of_its_upgrade_and_its_number():
    outcome = outcome_of(websocket((0, SMALL)).frames)
    upgrade, event = sorted(outcome.events, key=lambda each: each["event"]["dataset"])
    assert event["url"] == upgrade["url"]
    assert event["appliance"]["connection"] == upgrade["appliance"]["connection"]
    assert event["appliance"]["transaction"] == upgrade["appliance"]["transaction"] == 0
    assert event["source"] == upgrade["source"]
    assert upgrade["appliance"]["tunnel"] == {"protocol": "websocket"}
    assert outcome.counts["tunnel_bytes"] == 0
    assert outcome.counts["websocket_bytes"] == len(SMALL)


def test_parameters_are_redacted_and_a_long_url_is_left_out():
    said = websocket((0, SMALL))
    event = event_of(said, config=config(http={"redact_parameters": ["room"]}))
    assert event["url"]["query"] == "room=[redacted]"
    assert "url" not in event_of(said, config=config(websocket={"max_url_bytes": 8}))


def test_a_dataset_that_is_off_writes_nothing_and_counts():
    outcome = outcome_of(websocket((0, SMALL)).frames, config=config(events={"datasets": ["http"]}))
    assert events_of(outcome) == []
    assert outcome.counts["websocket_messages"] == 1


def test_a_connection_that_lasts_has_an_event_after_each_interval():
    made = websocket((0, SMALL), end="")
    for _ in range(3):
        made.idle(10 * SECOND).client_sends(SMALL).idle(MILLISECOND).server_sends(ANSWER)
    outcome = outcome_of(made.close().frames, config=config(events={"interval_s": 10}))
    found = sorted(events_of(outcome), key=lambda event: event["appliance"]["websocket"]["index"])
    totals = [event["appliance"]["websocket"] for event in found]
    assert [(each["index"], each["final"]) for each in totals] == [(0, False), (1, False), (2, False), (3, True)]
    assert [each["client"]["messages"] for each in totals] == [1, 2, 3, 4]
    assert len({event["event"]["id"] for event in found}) == 4
    assert totals[-1]["longest_pause_ns"] >= 10 * SECOND


@pytest.mark.parametrize(
    ("side", "data", "anomaly"),
    [
        (0, frame(TEXT, b"a", mask=MASK, rsv=2), "reserved_bits"),
        (0, frame(TEXT, b"a", mask=MASK, rsv=4), "reserved_bits"),
        (0, frame(3, b"a", mask=MASK), "reserved_opcode"),
        (0, frame(15, b"a", mask=MASK), "reserved_opcode"),
        (0, frame(TEXT, b"a"), "masked_wrong"),
        (1, frame(TEXT, b"a", mask=MASK), "masked_wrong"),
        (0, frame(TEXT, b"a", mask=MASK, size=2), "length_not_minimal"),
        (1, frame(TEXT, b"a" * 200, size=8), "length_not_minimal"),
        (1, frame(TEXT, b"a", length=1 << 63, size=8), "length_invalid"),
        (1, frame(PING, b"a" * 126), "control_too_long"),
        (1, frame(PING, b"a", fin=False), "control_fragmented"),
        (1, frame(CONTINUATION, b"a"), "continuation_alone"),
        (1, frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), "message_interrupted"),
        (1, frame(8, b"a"), "bad_close_code"),
        (1, close(999), "bad_close_code"),
        (1, close(1006), "bad_close_code"),
        (1, close(5000), "bad_close_code"),
        (1, close(1000) + frame(PING), "frame_after_close"),
    ],
)
@pytest.mark.parametrize("cut", [None, 1])
def test_an_anomaly_is_named_and_counted(side, data, anomaly, cut):
    outcome = outcome_of(websocket((side, data), cut=cut).frames)
    (event,) = events_of(outcome)
    assert event["appliance"]["anomalies"] == [anomaly]
    assert outcome.counts[f"websocket_anomalies.{anomaly}"] == 1
    assert differences(outcome) == {}


def test_wrong_masks_are_counted_and_the_frames_are_read():
    found = own(websocket((0, frame(TEXT, b"abc") * 3 + SMALL)))["client"]
    assert (found["messages"], found["bytes"], found["masked_wrong"]) == (4, 14, 3)


def test_an_impossible_length_ends_the_counts_of_its_side_only():
    found = own(websocket((1, ANSWER + frame(TEXT, b"a", length=1 << 63, size=8) + bytes(99)), (0, SMALL)))
    assert (found["server"]["messages"], found["server"]["complete"]) == (1, False)
    assert (found["client"]["messages"], found["client"]["complete"]) == (1, True)


def test_a_client_that_sends_frames_before_the_response_is_not_counted():
    made = Conversation().handshake().client_sends(UPGRADE + SMALL).idle(MILLISECOND).server_sends(switched() + ANSWER)
    found = own(made.idle(MILLISECOND).client_sends(SMALL).close())
    assert (found["client"]["messages"], found["client"]["complete"]) == (0, False)
    assert found["client"]["missing_bytes"] == len(SMALL)
    assert (found["server"]["messages"], found["server"]["complete"]) == (1, True)


def test_the_largest_length_is_skipped_to_the_end_of_the_connection():
    found = own(websocket((1, frame(BINARY, b"abc", length=(1 << 63) - 1, size=8))))["server"]
    assert (found["binary"], found["messages"], found["bytes"], found["complete"]) == (1, 0, 3, False)


def test_bytes_behind_the_response_in_its_frame_are_the_first_of_the_server():
    made = Conversation().handshake().client_sends(UPGRADE).idle(MILLISECOND).server_sends(switched() + ANSWER)
    assert own(made.close())["server"]["messages"] == 1


# -- losses ----------------------------------------------------------------------------------------------------------


def lossy(parts: list[bytes], gone: int) -> Conversation:
    """A server that sends its parts, of which one is lost."""
    made = websocket(end="")
    for place, part in enumerate(parts):
        (lost(made, 1, part) if place == gone else made.server_sends(part)).idle(MILLISECOND)
        made.client_sends(SMALL).idle(MILLISECOND)
    return made.idle(SECOND).close()


def test_a_gap_inside_a_payload_is_skipped_exactly():
    big = frame(BINARY, bytes(5000))
    found = own(lossy([big[:1000], big[1000:3000], big[3000:] + ANSWER], 1))
    assert found["server"]["missing_bytes"] == 2000
    assert (found["server"]["messages"], found["server"]["bytes"], found["server"]["complete"]) == (2, 5300, True)
    assert (found["client"]["messages"], found["client"]["complete"]) == (3, True)


def test_a_gap_to_the_end_of_a_payload_ends_its_message():
    big = frame(BINARY, bytes(1000))
    found = own(lossy([big[:100], big[100:], ANSWER], 1))["server"]
    assert (found["messages"], found["bytes"], found["complete"]) == (2, 1300, True)


def test_behind_a_lost_close_frame_it_is_unknown_which_side_closed():
    said = websocket((0, SMALL), (0, close(1000, mask=MASK)), (1, close(1000)))
    [place] = [place for place, (_, each) in enumerate(said.frames) if each.endswith(close(1000, mask=MASK))]
    assert own(said)["closed_by"] == "client"
    del said.frames[place]
    found = own(said)
    assert (found["client"]["complete"], found["server"]["complete"]) == (False, True)
    assert "closed_by" not in found


def test_the_first_close_frame_is_that_of_the_earlier_frame():
    """It is read behind the other one, because a segment before it came late."""
    said = websocket((0, SMALL), (0, close(1000, mask=MASK)), (1, close(1000)))
    small, closing, answer = (
        next(place for place, (_, each) in enumerate(said.frames) if each.endswith(end))
        for end in (SMALL, close(1000, mask=MASK), close(1000))
    )
    assert small < closing < answer
    late = said.frames.pop(small)
    said.frames.insert(answer, (said.frames[answer - 1][0] + 1, late[1]))
    found = own(said)
    assert found["client"]["complete"]
    assert found["server"]["complete"]
    assert found["closed_by"] == "client"


def test_a_lost_code_of_a_close_frame_is_not_given():
    ends = close(1000)
    found = own(lossy([ANSWER + ends[:2], ends[2:3], ends[3:]], 1))
    assert "close_code" not in found["server"]
    assert (found["closed_by"], found["server"]["complete"]) == ("server", True)


@pytest.mark.parametrize(
    "after",
    [[ANSWER], [frame(PING) + ANSWER], [frame(TEXT, b"x" * 60)] * 2, [ANSWER[:100], ANSWER[100:], ANSWER, ANSWER]],
    ids=["one", "two together", "two", "in pieces"],
)
def test_frames_behind_a_loss_are_found_and_the_counts_are_incomplete(after):
    found = own(lossy([ANSWER, ANSWER, *after], 1))["server"]
    total = b"".join(after)
    assert found["complete"] is False
    assert found["bytes"] == 300 + total.count(bytes(300)) * 300 + total.count(b"x" * 60) * 60


@pytest.mark.parametrize("junk", [bytes(200), b"a" * 200, bytes(range(32, 127)) * 3, b"\xff" * 300], ids=range(4))
def test_no_frame_is_found_in_what_is_none(junk):
    big = frame(BINARY, b"\1" * 100)
    found = own(lossy([ANSWER, big, junk[:100], junk[100:]], 1))["server"]
    assert (found["messages"], found["bytes"], found["ping"], found["complete"]) == (1, 300, 0, False)


def test_a_loss_of_the_response_head_leaves_both_sides_countable():
    head = switched(b"Via: " + b"a" * 40)
    made = Conversation().handshake().client_sends(UPGRADE).idle(MILLISECOND)
    lost(made.server_sends(head[:60]), 1, head[60:])
    made.idle(MILLISECOND).client_sends(SMALL).idle(SECOND).server_sends(ANSWER).idle(MILLISECOND)
    outcome = outcome_of(made.client_sends(SMALL).close().frames)
    assert differences(outcome) == {}
    for event in events_of(outcome):
        assert event["appliance"]["websocket"]["server"]["complete"] is False


# -- contents --------------------------------------------------------------------------------------------------------

DECODE = config(websocket={"decode": True})
TEXTS = [b"hello " * 40, b"", b"hello " * 40, bytes(range(256)) * 40, b"x" * 70_000]


def squeezed(deflater: Deflater, side: int, parts: int = 1) -> bytes:
    mask = MASK if side == 0 else None
    out = b""
    for text in TEXTS:
        packed = deflater(text)
        step = -(-len(packed) // parts) or 1
        cuts = [packed[at : at + step] for at in range(0, len(packed), step)]
        for place, one in enumerate(cuts):
            last = place == len(cuts) - 1
            out += frame(0 if place else BINARY, one, fin=last, mask=mask, rsv=0 if place else 4)
    return out


@pytest.mark.parametrize("takeover", [True, False])
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("cut", [None, 700])
def test_compressed_messages_are_decoded(takeover, parts, side, cut):
    said = websocket((side, squeezed(Deflater(takeover), side, parts)), fields=[DEFLATE], cut=cut)
    found = own(said, config=DECODE)
    assert found["compressed"] is True
    one = found["server" if side else "client"]
    assert (one["messages"], one["decoded_bytes"]) == (5, sum(map(len, TEXTS)))
    assert "decoded_bytes" not in own(said)["server"]


def test_a_message_with_a_final_block_is_decoded():
    # RFC 7692 section 7.2.3.5: BFINAL set, and a byte so that the removed tail forms a block.
    final = bytes.fromhex("f348cdc9c907000000")[:8]
    said = websocket((1, frame(TEXT, final, rsv=4) * 2), fields=[DEFLATE])
    found = own(said, config=DECODE)["server"]
    assert (found["messages"], found["decoded_bytes"]) == (2, 10)


def test_messages_without_compression_need_no_decoder():
    found = own(websocket((1, ANSWER), (0, SMALL)), config=DECODE)
    assert (found["server"]["decoded_bytes"], found["client"]["decoded_bytes"]) == (300, 5)


def test_what_no_decoder_understands_is_said():
    event = event_of(websocket((1, frame(TEXT, b"\xff" * 20, rsv=4) * 2), fields=[DEFLATE]), config=DECODE)
    assert "decoded_bytes" not in event["appliance"]["websocket"]["server"]
    assert event["appliance"]["websocket"]["server"]["messages"] == 2
    assert event["appliance"]["anomalies"] == ["decoding_failed"]


@pytest.mark.parametrize(
    "limits",
    [{"max_decoded_bytes": 1 << 20}, {"max_ratio": 100}, {"decode_ns": 0, "decode_reserve_ms": 1}],
    ids=["size", "ratio", "time"],
)
def test_a_bomb_reaches_a_limit_and_the_frames_go_on(limits):
    bomb = frame(BINARY, Deflater()(bytes(4 << 20)), rsv=4)
    event = event_of(
        websocket((1, bomb + ANSWER), fields=[DEFLATE]), config=config(websocket={"decode": True}, bodies=limits)
    )
    found = event["appliance"]["websocket"]["server"]
    assert (found["messages"], "decoded_bytes" in found) == (2, False)
    assert event["appliance"]["anomalies"] == ["decoding_limit"]


def test_a_gap_in_a_compressed_message_leaves_the_contents_unknown():
    packed = frame(BINARY, Deflater()(bytes(range(256)) * 9), rsv=4)
    made = websocket(fields=[DEFLATE], end="")
    lost(made.server_sends(packed[:50]), 1, packed[50:90])
    made.server_sends(packed[90:] + ANSWER).idle(MILLISECOND).client_sends(SMALL).idle(SECOND)
    found = own(made.close(), config=DECODE)
    assert (found["server"]["messages"], found["server"]["complete"]) == (2, True)
    assert "decoded_bytes" not in found["server"]
    assert found["client"]["decoded_bytes"] == 5
