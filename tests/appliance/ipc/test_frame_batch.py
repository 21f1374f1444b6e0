"""The batch: what one side writes the other reads, and damage is noticed before anything is believed."""

from __future__ import annotations

import pytest
from builders import batches_of, config, talk
from exchange import exchange
from hypothesis import given
from hypothesis import strategies as st

from appliance.ipc.frame_batch import BadBatch, frames, header, stamp
from workers.pipeline import Pipeline

HEADER, RECORD = 64, 40
FRAMES = talk(exchange(body=b"x" * 100)).frames[:4]
MESSAGE = batches_of(FRAMES)[0][0][0]


def with_bytes(at, value):
    damaged = bytearray(MESSAGE)
    damaged[at : at + len(value)] = value
    return bytes(damaged)


def number(value, size):
    return value.to_bytes(size, "little")


def test_a_header_says_what_the_batch_holds():
    one = header(MESSAGE)
    assert (one.frames, one.length, one.end, one.epoch) == (4, len(MESSAGE), False, 7)


def test_a_stamp_writes_sequence_and_cumulative_and_nothing_else():
    stamped = bytearray(MESSAGE)
    stamp(stamped, 5, 1234)
    assert header(stamped)._replace(sequence=0, cumulative=0) == header(MESSAGE)
    assert (header(stamped).sequence, header(stamped).cumulative) == (5, 1234)
    assert frames(stamped) == frames(MESSAGE)


def test_any_contiguous_bytes_are_read():
    assert header(bytearray(MESSAGE)) == header(memoryview(MESSAGE)) == header(MESSAGE)


DAMAGE = {
    "empty": b"",
    "shorter than a header": MESSAGE[:63],
    "cut off": MESSAGE[:-1],
    "too long": MESSAGE + b"\0",
    "other magic": with_bytes(0, b"HCB2"),
    "other length": with_bytes(36, number(len(MESSAGE) - 1, 4)),
    "a frame less than there is": with_bytes(32, number(3, 4)),
    "a frame more than there is": with_bytes(32, number(5, 4)),
    "very many frames": with_bytes(32, b"\xff" * 4),
    "caplen beyond the message": with_bytes(HEADER + 24, number(len(MESSAGE), 4)),
    "caplen of 4 GiB": with_bytes(HEADER + 24, b"\xff" * 4),
    "tcp beyond the frame": with_bytes(HEADER + 38, number(60, 2)),
    "net beyond tcp": with_bytes(HEADER + 36, number(15, 2)),
    "tcp before net": with_bytes(HEADER + 38, number(0, 2)),
    "ipv6 without room for its header": with_bytes(HEADER + RECORD + 14, b"\x60"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_batch_is_refused(name):
    with pytest.raises(BadBatch):
        frames(DAMAGE[name])


@pytest.mark.parametrize("name", DAMAGE)
def test_a_pipeline_refuses_it_too(name):
    with pytest.raises(BadBatch):
        Pipeline(config()).feed(DAMAGE[name])


@pytest.mark.parametrize("at", [*range(4), *range(36, 40)])
def test_every_bit_of_magic_and_length_counts(at):
    for bit in range(8):
        with pytest.raises(BadBatch):
            frames(with_bytes(at, bytes([MESSAGE[at] ^ 1 << bit])))


@pytest.mark.parametrize("at", range(HEADER, HEADER + RECORD))
def test_a_flipped_bit_in_a_record_is_refused_or_harmless(at):
    for bit in range(8):
        try:
            read = frames(with_bytes(at, bytes([MESSAGE[at] ^ 1 << bit])))
        except BadBatch:
            continue
        assert len(read) == 4


@given(st.integers(0, 500), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=5))
def test_a_pipeline_survives_any_damage(length, damage):
    damaged = bytearray(MESSAGE)
    for at, value in damage:
        if not 4 <= at < 6:  # the capture's index is checked against the configuration where it is received
            damaged[at % len(damaged)] = value
    pipeline = Pipeline(config())
    try:
        pipeline.feed(bytes(damaged[: length or None]))
    except BadBatch:
        pass
    pipeline.finish()
    assert pipeline.counts()["messages.open"] == 0


@given(st.binary(max_size=300))
def test_random_bytes_behind_a_good_header_do_no_harm(tail):
    message = MESSAGE[:36] + number(HEADER + len(tail), 4) + MESSAGE[40:HEADER] + tail
    try:
        Pipeline(config()).feed(message)
    except BadBatch:
        pass
