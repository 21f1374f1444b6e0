"""Keys that were made to collide, and ports that are used again."""

from __future__ import annotations

import struct

import pytest
from builders import (
    KEY,
    MILLISECOND,
    SECOND,
    Conversation,
    batches_of,
    differences,
    get,
    outcome_of,
    summaries,
    talk,
    without,
)
from impair import interleave
from tcp_scenes import flood, put
from wire import ACK, SYN

from appliance.wire.flow_key import siphash_bytes

RECORD = struct.Struct("<QQQIIIHH")  # appliance/ipc/frame_batch.pxd
HEADER_BYTES = 64


def hashes_of(frames, key=KEY):
    """The flow hash of every frame, as its record says it."""
    (messages,), _ = batches_of(frames, key=key, batch_bytes=1 << 20)
    out = []
    for message in messages:
        at = HEADER_BYTES
        while at < len(message):
            _, value, _, caplen, *_ = RECORD.unpack_from(message, at)
            out.append(value)
            at += RECORD.size + (caplen + 7 & ~7)
    return out


def flows(count, seed=14):
    """One SYN each of so many flows."""
    return flood(count, SYN, seed=seed)


def longest_probe(hashes, mask):
    """Places that the longest search goes through in an open-addressing table of mask + 1 places."""
    taken = set()
    longest = 0
    for value in hashes:
        at, steps = value & mask, 1
        while at in taken:
            at, steps = (at + 1) & mask, steps + 1
        taken.add(at)
        longest = max(longest, steps)
    return longest


def test_flows_that_collide_under_one_key_are_spread_under_another():
    """Prevent a choice of flows for a bucket without the key; here they are chosen for the key of zeros."""
    frames = flows(40_000)
    chosen = [frame for frame, value in zip(frames, hashes_of(frames, bytes(16)), strict=True) if value & 0xFF == 0]
    assert len(chosen) > 100
    assert longest_probe(hashes_of(chosen, bytes(16)), 0xFF) > 50
    assert longest_probe(hashes_of(chosen), 0x3FF) <= 12


def test_flows_that_share_a_worker_under_one_key_are_spread_under_another():
    frames = flows(8_000)
    links = batches_of(frames, 8, key=bytes(16))[1]
    mine = [frame for frame, value in zip(frames, hashes_of(frames, bytes(16)), strict=True) if value >> 61 == 3]
    assert links["offered.3"] == len(mine)
    spread = batches_of(mine, 8)[1]
    shares = [spread[f"offered.{worker}"] for worker in range(8)]
    assert max(shares) < 1.3 * len(mine) / 8


def test_flows_spread_evenly_over_workers_and_over_each_workers_table():
    """The shard takes the hash's high bits, the table its low ones: they must not depend on each other."""
    frames = flows(100_000)
    _, counts = batches_of(frames, 8)
    shares = [counts[f"offered.{worker}"] for worker in range(8)]
    assert max(shares) < 1.05 * 100_000 / 8
    assert min(shares) > 0.95 * 100_000 / 8
    values = [value for value in hashes_of(frames) if value >> 61 == 5]
    assert longest_probe(values, (1 << 15) - 1) < 60


def test_both_directions_of_a_flow_have_one_hash_and_it_is_the_keyed_one():
    said = talk(get(0), vlans=[7])
    assert len(set(hashes_of(said.frames))) == 1
    assert set(hashes_of(said.frames)) != set(hashes_of(said.frames, bytes(16)))
    assert siphash_bytes(KEY, b"a") != siphash_bytes(bytes(16), b"a")


# -- ports that are used again -----------------------------------------------------------------------------------------

ENDS = {
    "open": lambda said: said,
    "fin": lambda said: said.close(),
    "fin of the server": lambda said: said.close("server"),
    "rst": lambda said: said.reset(),
    "half closed": lambda said: half_closed(said),
}


def half_closed(said):
    """One direction is over, the other not."""
    said.close()
    del said.frames[-2:]
    return said


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    "pause", [1000, 50 * MILLISECOND, SECOND, 10 * SECOND, 400 * SECOND], ids=lambda ns: f"{ns} ns"
)
@pytest.mark.parametrize("step", [100, 64_000, 1 << 30, 2**32 - 5000])
def test_ports_that_are_used_again_make_a_new_connection(end, pause, step):
    first = ENDS[end](Conversation().handshake().exchange(get(0)).exchange(get(1)))
    again = talk(
        get(2),
        get(3),
        client_isn=(first.client.next + step) % 2**32,
        server_isn=(first.server.next + step // 2) % 2**32,
        start_ns=first.now + pause,
    )
    outcome = outcome_of(first.frames + again.frames)
    assert sorted(summaries(outcome.events)) == [(f"/{number}", 200, "verified") for number in range(4)]
    assert outcome.counts["flows_opened"] == 2
    assert [event["appliance"]["transaction"] for event in outcome.events] == [0, 0, 1, 1]
    assert differences(outcome) == {}


@pytest.mark.parametrize("lost", [(0,), (0, 1), (0, 1, 2)], ids=["SYN", "SYN and SYN-ACK", "handshake"])
def test_ports_that_are_used_again_while_the_syn_is_lost(lost):
    first = talk(get(0), close="")
    again = talk(
        *(get(number) for number in range(1, 6)),
        client_isn=500_000_000,
        server_isn=600_000_000,
        start_ns=first.now + SECOND,
    )
    outcome = outcome_of(first.frames + without(again.frames, *lost))
    assert summaries(outcome.events)[-1] == ("/5", 200, "uncertain")


def test_two_forged_segments_do_not_replace_a_connection():
    said = Conversation().handshake().exchange(get(0))
    put(said, said.client, 77_000_000, SYN)
    put(said, said.client, 77_000_001, ACK, b"x")
    outcome = outcome_of(said.idle(SECOND).exchange(get(1)).exchange(get(2)).close().frames)
    assert [one[0] for one in summaries(outcome.events)] == ["/0", "/1", "/2"]


def test_addresses_of_the_same_bits_in_both_families_are_never_one_flow():
    four = talk(get(4), client="192.0.2.1", server="198.51.100.2")
    six = [
        talk(get(6), client=f"{prefix}c000:201", server=f"{prefix}c633:6402")
        for prefix in ("::", "::ffff:", "2001:db8::")
    ]
    outcome = outcome_of(interleave([four, *six]))
    assert outcome.counts["flows_opened"] == 4
    assert sorted(one[0] for one in summaries(outcome.events)) == ["/4", "/6", "/6", "/6"]
    assert len(set(hashes_of([four.frames[0], *(one.frames[0] for one in six)]))) == 4


def test_an_endpoint_is_not_its_peer():
    """The same two addresses with the ports exchanged are another flow."""
    one = talk(get(1), client_port=1000, server_port=2000)
    other = talk(get(2), client_port=2000, server_port=1000)
    outcome = outcome_of(interleave([one, other]))
    assert outcome.counts["flows_opened"] == 2
    assert sorted(one[0] for one in summaries(outcome.events)) == ["/1", "/2"]
