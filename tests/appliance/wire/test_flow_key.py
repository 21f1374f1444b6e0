"""The flow key and its hash: published vectors, one shard for both directions, an even spread."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest
from builders import batches_of, talk
from eventually import PATIENCE_S

from appliance.wire.flow_key import siphash_bytes

KEY = bytes(range(16))
# SipHash-2-4 reference vectors (vectors.h of the reference implementation): message i is the bytes 0 … i-1.
VECTORS = [
    "310e0edd47db6f72",
    "fd67dc93c539f874",
    "5a4fa9d909806c0d",
    "2d7efbd796666785",
    "b7877127e09427cf",
    "8da699cd64557618",
    "cee3fe586e46c9cb",
    "37d1018bf50002ab",
    "6224939a79f5f593",
    "b0e4a90bdf82009e",
    "f3b9dd94c5bb5d7a",
    "a7ad6b22462fb3f4",
    "fbe50e86bc8f1e75",
    "903d84c02756ea14",
    "eef27a8e90ca23f7",
    "e545be4961ca29a1",
]


@pytest.mark.parametrize(("length", "expected"), list(enumerate(VECTORS)))
def test_siphash_2_4_gives_the_published_values(length, expected):
    assert siphash_bytes(KEY, bytes(range(length)), 2, 4).to_bytes(8, "little").hex() == expected


@pytest.mark.skipif(sys.hash_info.algorithm != "siphash13", reason="this Python hashes bytes otherwise")
def test_siphash_1_3_is_the_one_of_the_interpreter():
    texts = [bytes(range(length)) for length in range(1, 64)]
    program = f"print(*map(hash, {texts!r}))"
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    output = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=True, timeout=PATIENCE_S
    ).stdout
    ours = [siphash_bytes(bytes(16), text) for text in texts]
    assert [int(word) % 2**64 for word in output.split()] == ours


@pytest.mark.parametrize("length", [0, 15, 17])
def test_a_key_of_another_length_is_refused(length):
    with pytest.raises(ValueError, match="16 bytes"):
        siphash_bytes(bytes(length), b"")


def shards(conversation, workers=8, key=KEY):
    """The workers that got frames of a conversation."""
    _, counts = batches_of(conversation.frames, workers, key=key)
    return {worker for worker in range(workers) if counts[f"offered.{worker}"]}


@pytest.mark.parametrize(
    "where",
    [
        {},
        {"client": "198.51.100.9", "server": "192.0.2.9"},
        {"client": "192.0.2.9", "server": "192.0.2.9", "client_port": 80, "server_port": 5000},
        {"client": "192.0.2.9", "server": "192.0.2.9", "client_port": 80},
        {"client": "2001:db8::1", "server": "2001:db8::2"},
        {"client": "2001:db8:0:1::", "server": "2001:db8::1"},
        {"vlans": [7]},
        {"vlans": [7, 8, 9]},
        {"vlans": [0]},
    ],
)
def test_both_directions_reach_the_same_worker(where):
    for port in range(50):
        assert len(shards(talk(**{"client_port": 1024 + port, **where}))) == 1


def test_a_flow_stays_with_its_worker_whatever_its_interface():
    frames = talk().frames
    for capture in (0, 1, 9):
        _, counts = batches_of(frames, 8, capture=capture)
        assert counts == batches_of(frames, 8)[1]


def test_another_key_spreads_flows_otherwise():
    talks = [talk(client_port=1024 + port) for port in range(64)]
    assert [shards(one) for one in talks] != [shards(one, key=bytes(16)) for one in talks]


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_flows_spread_evenly_over_the_workers(workers):
    counts = Counter()
    for host in range(1, 41):
        frames = [talk(client=f"192.0.2.{host}", client_port=1024 + port).frames[0] for port in range(50)]
        counts.update(batches_of(frames, workers)[1])
    share = 2000 / workers
    assert all(abs(counts[f"offered.{worker}"] - share) < 5 * share**0.5 for worker in range(workers))


def test_vlan_tags_are_part_of_the_key():
    talks = [talk(vlans=[vlan]) for vlan in range(64)]
    assert len({worker for one in talks for worker in shards(one)}) == 8
