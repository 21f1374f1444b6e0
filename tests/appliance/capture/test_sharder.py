"""The sharder: every frame in one batch of one worker, or counted under one verdict."""

from __future__ import annotations

import pytest
from builders import ETHERNET, KEY, batches_of, sharder_of, talk
from exchange import exchange
from wire import arp_request, udp

from appliance.ipc.frame_batch import frames, header
from appliance.wire.tcp_locator import VERDICTS


def sharder(workers=1, batch_bytes=4096, **how):
    return sharder_of(KEY, workers, batch_bytes, **how)


def test_frames_come_out_as_they_went_in():
    sent = talk(exchange(body=b"x" * 20000)).frames
    (messages,), _ = batches_of(sent, batch_bytes=4096)
    assert [(ts, frame) for message in messages for ts, _, frame in frames(message)] == sent


def test_a_batch_is_sealed_when_the_next_frame_does_not_fit():
    (messages,), _ = batches_of(talk(exchange(body=b"x" * 20000)).frames, batch_bytes=4096)
    assert len(messages) > 5
    assert max(map(len, messages)) <= 4096


def test_a_frame_longer_than_a_batch_gets_one_of_its_own():
    said = talk(exchange(body=b"x" * 20000), mss=20000)
    (messages,), _ = batches_of(said.frames, batch_bytes=4096)
    assert [(ts, frame) for message in messages for ts, _, frame in frames(message)] == said.frames
    assert max(map(len, messages)) > 20000


def test_a_cut_frame_keeps_its_length_on_the_wire():
    (messages,), counts = batches_of(talk(exchange(body=b"x" * 1000)).frames, snaplen=100)
    lengths = [(wirelen, len(frame)) for message in messages for _, wirelen, frame in frames(message)]
    assert all(captured == min(wire, 100) for wire, captured in lengths)
    assert counts["truncated_frames"] == sum(wire > 100 for wire, _ in lengths)


def test_every_worker_gets_an_end_and_only_at_the_end():
    links, _ = batches_of(talk(exchange()).frames, 5)
    for messages in links:
        assert [header(message).end for message in messages] == [False] * (len(messages) - 1) + [True]
        assert header(messages[-1]).frames == 0


def test_sequence_and_cumulative_count_batches_and_frames_of_a_link():
    (messages,), _ = batches_of(talk(exchange(body=b"x" * 20000)).frames, batch_bytes=4096)
    headers = [header(message) for message in messages]
    assert [one.sequence for one in headers] == list(range(len(headers)))
    assert [one.cumulative for one in headers] == [
        sum(one.frames for one in headers[:place]) for place in range(len(headers))
    ]


def test_a_batch_says_its_capture_and_epoch():
    made = sharder(epoch=123, capture=4)
    one = header(made.end()[0][2])
    assert (one.epoch, one.capture) == (123, 4)


def test_frames_without_a_segment_are_counted_by_verdict():
    others = [
        arp_request("192.0.2.1", "192.0.2.2"),
        udp("192.0.2.1", "192.0.2.2", (1, 2), b"x"),
        talk().frames[0][1][:40],
        b"",
    ]
    _, counts = batches_of(list(enumerate(others)))
    rejected = {verdict: counts[f"rejected.{verdict}"] for verdict in VERDICTS if counts[f"rejected.{verdict}"]}
    assert rejected == {"not_ip": 1, "not_tcp": 1, "truncated": 2}
    assert (counts["frames"], counts["offered.0"]) == (4, 0)


def test_bytes_are_counted_as_captured_and_as_on_the_wire():
    made = sharder()
    made.push(1, talk().frames[0][1], 5000)
    counts = made.counts()
    assert (counts["bytes"], counts["wire_bytes"], counts["last_frame_ns"]) == (66, 5000, 1)


def test_a_young_batch_stays_open_until_it_is_old_enough():
    made = sharder()
    made.push(1, talk().frames[0][1])
    made.seal(10**12)
    assert made.ready == 0
    made.seal()
    assert made.ready == 1
    assert [(worker, count) for worker, count, _ in made.take()] == [(0, 1)]
    assert made.take() == []


def test_a_recycled_buffer_is_used_again():
    made = sharder()
    for _ in range(3):
        made.push(1, talk().frames[0][1])
        made.seal()
        ((_, _, message),) = made.take()
        first = message.obj
        made.recycle(message)
    made.push(1, talk().frames[0][1])
    made.seal()
    assert made.take()[0][2].obj is first


def test_a_recycled_message_cannot_be_read_any_more():
    made = sharder()
    message = made.end()[0][2]
    made.recycle(message)
    with pytest.raises(ValueError, match="released"):
        bytes(message)


def test_a_buffer_that_grew_for_one_frame_is_not_kept():
    made = sharder()
    made.push(1, talk(exchange(body=b"x" * 20000), mss=20000).frames[4][1])
    made.seal()
    ((_, _, message),) = made.take()
    made.recycle(message)
    made.push(1, talk().frames[0][1])
    made.seal()
    assert len(made.take()[0][2].obj) == 4096


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"workers": 0}, "workers"),
        ({"workers": 257}, "workers"),
        ({"batch_bytes": 4095}, "batch_bytes"),
    ],
)
def test_unusable_sizes_are_refused(how, text):
    with pytest.raises(ValueError, match=text):
        sharder(**how)


def test_the_most_workers_there_can_be_all_get_frames_or_an_end():
    made = sharder(256, link_type=ETHERNET)
    assert [worker for worker, _, _ in made.end()] == list(range(256))
