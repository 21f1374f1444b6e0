"""Findings of fuzzing, each in a few lines; the way it was found is in tests/fuzz/."""

from __future__ import annotations

import pytest
from builders import SECOND, Conversation, config, counts_of, differences, outcome_of, request

FIN, ACK = 0x01, 0x10


def test_a_fin_inside_of_held_bytes_does_not_upset_an_overlapping_copy():
    said = Conversation().established()
    said.raw(said.server, 0, b"arly Hints\r\n\r\n")
    said.raw(said.server, 28, b"x" * 51)
    said.raw(said.server, 77, b"", FIN | ACK)
    said.raw(said.server, 78, b"y" * 17)
    said.raw(said.server, 20, b"z" * 70)
    assert differences(outcome_of(said.frames)) == {}


@pytest.mark.parametrize("cut", [30, 40, 53])
def test_a_known_hole_inside_of_held_bytes_does_not_upset_an_overlapping_copy(cut):
    said = Conversation().handshake()
    said.raw(said.client, 100, b"x" * 100)
    whole = Conversation().handshake()
    whole.raw(whole.client, 150, b"y" * 80)
    whole.raw(whole.client, 90, b"z" * 150)
    frames = [*said.frames, *((ts_ns, frame) for ts_ns, frame in whole.frames[3:])]
    assert differences(outcome_of(frames, snaplen=54 + cut)) == {}


def test_time_stamps_at_the_end_of_time_do_not_stop_the_worker():
    said = Conversation().established()
    said.raw(said.client, 10, b"x")
    (_, first), *_ = said.frames
    outcome = outcome_of([(2**64 - 32767, first), (2**64 - 1, first)])
    assert differences(outcome) == {}


def test_an_upgrade_before_the_end_of_its_request_ends_the_request():
    head = request(b"/1", b"Content-Length: 3000", method=b"POST")
    said = Conversation().handshake().client_sends(head + b"uuuu").server_sends(b"HTTP/1.1 101 \r\n\r\n\n")
    assert differences(outcome_of(said.frames)) == {}
    assert counts_of(said.frames)["tunnels"] == 1


def test_segments_that_nobody_believes_do_not_hold_more_than_all_may():
    said = Conversation().handshake()
    for place in range(4):
        said.raw(said.client, 500_000_000 + 1000 * place, b"x" * 1000)
    said.raw(said.client, 100, b"y" * 1000)
    outcome = outcome_of(said.frames, config=config(tcp={"max_pending_bytes": 1024, "max_total_pending_bytes": 2048}))
    assert outcome.running["pending_bytes"] <= 2048
    assert differences(outcome) == {}


def test_segments_that_nobody_believes_are_forgotten_in_time():
    said = Conversation().handshake()
    said.raw(said.client, 500_000_000, b"x" * 1000).idle(11 * SECOND).acknowledge(said.server)
    outcome = outcome_of(said.frames)
    assert (outcome.running["pending_bytes"], outcome.running["payload.out_of_window"]) == (0, 1000)
