"""Impairments of frames on the way: merged, reordered, duplicated, lost. Every function is fixed by its seed."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Sequence

from conversation import Conversation
from exchange import Expected
from pcapfile import Frame


def interleave(conversations: Iterable[Conversation | Sequence[Frame]]) -> list[Frame]:
    """The frames of many conversations (or lists of frames), merged by time; equal times keep the order given."""
    lists = [one.frames if isinstance(one, Conversation) else one for one in conversations]
    return list(heapq.merge(*lists, key=lambda frame: frame[0]))


def truth(conversations: Iterable[Conversation]) -> list[Expected]:
    """Return the transactions that must be reported for many conversations, in order of each connection."""
    return [one for conversation in conversations for one in conversation.expected]


def reorder(frames: Sequence[Frame], window: int, seed: int = 0, p: float = 1.0) -> list[Frame]:
    """Move frames by at most `window` places; each is held back with probability `p`. Time stamps stay in order."""
    rng = random.Random(seed)
    keys = [place + (rng.random() * (window + 1) if rng.random() < p else 0.0) for place in range(len(frames))]
    order = sorted(range(len(frames)), key=keys.__getitem__)
    return [(frames[place][0], frames[source][1]) for place, source in enumerate(order)]


def duplicate(frames: Sequence[Frame], p: float, seed: int = 0, delay: int = 3) -> list[Frame]:
    """Repeat frames with probability `p`, up to `delay` frames later, at the time of the frame they follow."""
    rng = random.Random(seed)
    keyed: list[tuple[float, Frame]] = []
    for place, frame in enumerate(frames):
        keyed.append((place, frame))
        if rng.random() < p:
            after = min(len(frames) - 1, place + rng.randrange(delay + 1))
            keyed.append((after + 0.5, (frames[after][0], frame[1])))
    keyed.sort(key=lambda item: item[0])
    return [frame for _, frame in keyed]


def drop(frames: Sequence[Frame], p: float, seed: int = 0) -> list[Frame]:
    """Lose frames with probability `p`."""
    rng = random.Random(seed)
    return [frame for frame in frames if rng.random() >= p]


def drop_bursts(frames: Sequence[Frame], p: float, seed: int = 0, length: int = 8) -> list[Frame]:
    """Lose runs of frames, `length` long in the mean, so that each frame is lost with probability `p`."""
    rng = random.Random(seed)
    begins = p / (1 - p) / length
    kept = []
    losing = False
    for frame in frames:
        losing = rng.random() >= 1 / length if losing else rng.random() < begins
        if not losing:
            kept.append(frame)
    return kept
