"""hpack-test-case: header lists as eight encoders wrote them; whole, joined at each block, and with each block lost."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from workers.http2.hpack import HpackDecoder

pytestmark = pytest.mark.slow

STORIES = Path(__file__).resolve().parents[4] / "shared" / "corpora" / "hpack"
if not (STORIES / "headers").is_dir():
    pytest.skip("the stories are not here: there is no shared/corpora beside the project", allow_module_level=True)
ENCODERS = sorted(path.name for path in STORIES.iterdir() if path.name != "headers")


Fields = list[tuple[bytes, bytes]]


def stories(encoder: str) -> list[tuple[list[bytes], list[Fields], int]]:
    """(blocks, header lists, table size) of each story."""
    out = []
    for path in sorted((STORIES / encoder).glob("*.json")):
        cases = json.loads(path.read_text())["cases"]
        lists = json.loads((STORIES / "headers" / path.name).read_text())["cases"]
        truth = [[(n.encode(), v.encode()) for each in case["headers"] for n, v in each.items()] for case in lists]
        size = max(case.get("header_table_size") or 4096 for case in cases)
        out.append(([bytes.fromhex(case["wire"]) for case in cases], truth[: len(cases)], size))
    return out


def section(fields: Fields) -> str:
    names = {name for name, _ in fields}
    return "request" if b":method" in names else "response" if b":status" in names else "any"


def score(counts: Counter[str], read: list[tuple[bytes | None, bytes | None]], truth: Fields) -> None:
    for got, right in zip(read, truth, strict=True):
        kind = "pseudo" if right[0].startswith(b":") else "others"
        counts[kind] += 1
        counts[f"{kind}.right"] += got == right
        counts["wrong"] += got[0] not in (None, right[0]) or got[1] not in (None, right[1])


def shares(counts: Counter[str]) -> str:
    return ", ".join(f"{kind} {counts[f'{kind}.right'] / counts[kind]:.2%}" for kind in ("pseudo", "others"))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_story_is_read_exactly(encoder):
    for blocks, lists, size in stories(encoder):
        decoder = HpackDecoder()
        decoder.note_table_size(size)
        for block, truth in zip(blocks, lists, strict=True):
            assert decoder.read(block) == (truth, "exact", "sound")


def test_joined_at_each_block():
    counts: Counter[str] = Counter()
    for encoder in ENCODERS:
        for blocks, lists, _ in stories(encoder):
            for first in range(1, len(blocks), 1 + len(blocks) // 40):
                decoder = HpackDecoder(joined=True)
                for block, truth in zip(blocks[first:], lists[first:], strict=False):
                    score(counts, decoder.read(block, section(truth))[0], truth)
    print(f"joined: {shares(counts)}, {counts['wrong']} wrong")
    assert counts["wrong"] == 0
    assert counts["pseudo.right"] >= 0.96 * counts["pseudo"]


def test_with_each_block_lost():
    counts: Counter[str] = Counter()
    for encoder in ENCODERS:
        for blocks, lists, size in stories(encoder):
            for lost in range(1, len(blocks) - 1, 1 + len(blocks) // 40):
                decoder = HpackDecoder()
                decoder.note_table_size(size)
                for place, (block, truth) in enumerate(zip(blocks, lists, strict=True)):
                    if place == lost:
                        decoder.note_loss(len(block), 1)
                    elif place < lost:
                        decoder.read(block)
                    else:
                        score(counts, decoder.read(block, section(truth))[0], truth)
    print(f"behind a lost block: {shares(counts)}, {counts['wrong']} wrong")
    assert counts["wrong"] == 0
    assert counts["pseudo.right"] >= 0.989 * counts["pseudo"]
