"""Law 9 over random encoders: no value that was not in the block or in the entry it refers to, whatever was lost."""

from __future__ import annotations

import random

import hpack
from hpack_encoder import Field, RandomEncoder, integer, string, traffic
from hypothesis import given
from hypothesis import strategies as st

from workers.http2.hpack import HpackDecoder

seeds = st.integers(0, 2**48)


class Scene:
    """Blocks of a random encoder, what the oracle reads from them, and their encoder's table size."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        request = self.chance.random() < 0.5
        self.section = "request" if request else "response"
        self.limit = self.chance.choice((4096, 4096, 256, 16384))
        encoder = RandomEncoder(self.chance, self.limit, sensible=self.chance.random() < 0.5)
        lists = traffic(self.chance, request, self.chance.randrange(4, 60))
        self.blocks = [encoder.block(fields)[0] for fields in lists]
        oracle = hpack.Decoder()
        oracle.max_allowed_table_size = 1 << 16
        self.truth = [[(bytes(n), bytes(v)) for n, v in oracle.decode(block, raw=True)] for block in self.blocks]
        assert self.truth == lists, "the encoder of the tests is wrong"

    def decoder(self) -> HpackDecoder:
        decoder = HpackDecoder()
        decoder.note_table_size(self.limit)
        return decoder


def wrong(read: list[tuple[bytes | None, bytes | None]], truth: list[Field]) -> list[object]:
    """The fields that were read as something else."""
    assert len(read) == len(truth)
    return [
        (got, right)
        for got, right in zip(read, truth, strict=True)
        if got[0] not in (None, right[0]) or got[1] not in (None, right[1])
    ]


@given(seeds)
def test_from_the_start_every_block_is_read_exactly(seed):
    scene = Scene(seed)
    decoder = scene.decoder()
    for block, truth in zip(scene.blocks, scene.truth, strict=True):
        assert decoder.read(block, scene.section) == (truth, "exact", "sound")


@given(seeds)
def test_joined_at_any_block_no_value_is_wrong(seed):
    scene = Scene(seed)
    first = scene.chance.randrange(len(scene.blocks))
    decoder = HpackDecoder(joined=True)
    for block, truth in zip(scene.blocks[first:], scene.truth[first:], strict=True):
        read, certainty, fault = decoder.read(block, scene.section)
        assert (wrong(read, truth), certainty, fault) == ([], "joined", "sound")


@given(seeds)
def test_behind_lost_blocks_no_value_is_wrong(seed):
    scene = Scene(seed)
    first = scene.chance.randrange(1, len(scene.blocks))
    count = scene.chance.choice((1, 1, 1, 2, 3))
    decoder = scene.decoder()
    for block in scene.blocks[:first]:
        decoder.read(block, scene.section)
    beside = scene.chance.choice((0, 0, 50, 500))
    decoder.note_loss(
        sum(map(len, scene.blocks[first : first + count])) + beside, scene.chance.choice((-1, count, count + 2))
    )
    for block, truth in zip(scene.blocks[first + count :], scene.truth[first + count :], strict=True):
        read, _, fault = decoder.read(block, scene.section)
        assert (wrong(read, truth), fault) == ([], "sound")


@given(seeds)
def test_behind_a_lost_short_block_after_long_ones_no_value_is_wrong(seed):
    """A long value in each block says nothing about how many entries a lost block without one has inserted."""
    chance = random.Random(seed)
    section = chance.choice(("request", "response"))
    encoder = RandomEncoder(chance, 4096)
    lists = traffic(chance, section == "request", 40)
    lost = chance.randrange(4, 30)
    for place in range(1, lost):
        lists[place] = [*lists[place], (b"x-long", b"%d" % place + b"g" * chance.randrange(300, 1500))]
    blocks = [encoder.block(fields)[0] for fields in lists]
    decoder = HpackDecoder()
    for block in blocks[:lost]:
        decoder.read(block, section)
    decoder.note_loss(len(blocks[lost]))
    for block, truth in zip(blocks[lost + 1 :], lists[lost + 1 :], strict=True):
        read, _, fault = decoder.read(block, section)
        assert (wrong(read, truth), fault) == ([], "sound")


@given(seeds)
def test_behind_a_block_cut_off_no_value_is_wrong(seed):
    scene = Scene(seed)
    lost = scene.chance.randrange(len(scene.blocks))
    decoder = scene.decoder()
    for place, (block, truth) in enumerate(zip(scene.blocks, scene.truth, strict=True)):
        if place == lost:
            kept = scene.chance.randrange(len(block) + 1)
            read, _, _ = decoder.read(block[:kept], scene.section, whole=False)
            assert wrong(read, truth[: len(read)]) == []
            decoder.note_loss(len(block) - kept)
        else:
            assert wrong(decoder.read(block, scene.section)[0], truth) == []


@given(st.lists(st.binary(max_size=60), max_size=30), st.integers(0, 500))
def test_any_bytes_are_survived_in_bounded_memory(blocks, loss):
    decoder = HpackDecoder()
    for block in blocks:
        decoder.read(block, "client")
        decoder.note_loss(loss)
    assert decoder.memory < 1 << 16


def field(name: bytes, value: bytes) -> bytes:
    return integer(0, 6, 0x40) + string(name, False) + string(value, False)


USER = (b":path", b":authority", b"user-agent", b"accept")


def asks(*refs: int) -> bytes:
    return b"\x82\x86" + bytes(0x80 | 62 + ref for ref in refs)


def test_a_lost_set_of_the_same_shape_is_not_mistaken_for_the_one_before():
    """The lost block inserted other values of the same names: the indices fit both sets."""
    decoder = HpackDecoder()
    for _ in range(8):
        decoder.read(b"\x82\x86" + b"".join(field(name, b"/a") for name in USER), "request")
    decoder.note_loss(2 + len(b"".join(field(name, b"/b") for name in USER)), 1)
    for _ in range(5):
        assert decoder.read(asks(3, 2, 1, 0), "request")[0][2:] == [(None, None)] * 4


def test_a_loss_without_insertions_is_seen_through():
    decoder = HpackDecoder()
    decoder.read(b"\x82\x86" + b"".join(field(name, b"/" + name) for name in USER), "request")
    for _ in range(20):
        assert decoder.read(asks(3, 2, 1, 0), "request")[1] == "exact"
    decoder.note_loss(len(asks(3, 2, 1, 0)), 1)
    read, certainty, _ = decoder.read(asks(3, 2, 1, 0), "request")
    assert read[2:] == [(name, b"/" + name) for name in USER]
    assert certainty == "inferred"


def test_lists_that_no_receiver_accepts_infer_nothing():
    """Infer nothing of the table from the order of pseudo-headers that stand behind other fields."""
    decoder = HpackDecoder()
    decoder.read(field(b"accept", b"x") + field(b":path", b"/a") + b"\x82\x86", "request")
    decoder.note_loss(6, 1)
    assert decoder.read(b"\xbe\xbf", "any")[0] == [(None, None)] * 2
