"""Case: one input of a target, and how it is changed.

A case is a few knobs (numbers that choose a configuration, a link type, …) and a list of items, each a few numbers and
some bytes: a frame with its time, a piece of what a client says. What the numbers mean is the target's own business;
the mutator knows only how wide they are, so that every mutation of a case is again a case.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

MAGIC = b"CASE"
INTERESTING = (0, 1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 19, 20, 21, 39, 40, 41, 59, 60, 63, 64, 100, 127, 128, 255)
EDGES = (256, 1460, 1500, 4095, 4096, 0x7FFF, 0x8000, 0xFFF8, 0xFFFE, 0xFFFF, 0x10000)
WIDE = (0xFFFFFFF, 1 << 30, (1 << 31) - 1, 1 << 31, (1 << 32) - 2, (1 << 32) - 1, 1 << 32)
LARGEST = 1 << 17  # bytes of an item: more than the longest IP datagram, less than would slow everything down
MOST_ITEMS = 200
MOST_BYTES = 1 << 19  # of a case

Item = tuple[tuple[int, ...], bytes]


class BadCase(ValueError):
    """The file is not a case, or one of another layout of its target."""


@dataclass
class Case:
    """One input. `knobs` may be fewer than the target reads: the others are 0."""

    knobs: list[int] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)

    def knob(self, place: int, below: int) -> int:
        """A knob as a number from 0 to below - 1."""
        return self.knobs[place] % below if place < len(self.knobs) else 0

    def pack(self, target: str, layout: struct.Struct) -> bytes:
        """The case as a file, which names its target and its layout."""
        name = f"{target} {layout.format}".encode()
        parts = [MAGIC, bytes((len(name), len(self.knobs))), name, struct.pack(f"<{len(self.knobs)}Q", *self.knobs)]
        for numbers, data in self.items:
            parts += layout.pack(*numbers), len(data).to_bytes(4, "little"), data
        return b"".join(parts)

    @classmethod
    def unpack(cls, packed: bytes, layout: struct.Struct) -> Case:
        """Return the case that pack() packed."""
        if described(packed)[1].format != layout.format:
            raise BadCase(f"the target's items are {layout.format} now: the case is of an older layout")
        try:
            at = 6 + packed[4]
            case = cls(list(struct.unpack_from(f"<{packed[5]}Q", packed, at)))
            at += 8 * packed[5]
            while at < len(packed):
                numbers = layout.unpack_from(packed, at)
                at += layout.size
                (size,) = struct.unpack_from("<I", packed, at)
                at += 4
                case.items.append((numbers, packed[at : at + size]))
                at += size
        except struct.error as error:
            raise BadCase(f"the case is cut off: {error}") from error
        return case


def described(packed: bytes) -> tuple[str, struct.Struct]:
    """The target that a case file was written for, and the layout of its items."""
    if packed[:4] != MAGIC or len(packed) < 6:
        raise BadCase("a case starts with CASE")
    name, _, layout = packed[6 : 6 + packed[4]].decode().partition(" ")
    return name, struct.Struct(layout)


class Mutator:
    """Changes cases. words: bytes that mean something to the target; fixed by its seed."""

    def __init__(self, seed: int, layout: struct.Struct, words: Sequence[bytes]) -> None:
        self.random = random.Random(seed)
        self.words = list(words) or [b"\0"]
        kinds = {"B": (8, False), "H": (16, False), "I": (32, False), "Q": (64, False)}
        kinds |= {name.lower(): (bits, True) for name, (bits, _) in kinds.items()}
        self.widths = [kinds[name] for name in layout.format.lstrip("<")]

    def mutated(self, case: Case, other: Case) -> Case:
        """A changed copy; `other` is another case of the corpus, to take pieces from."""
        pick = self.random.random
        out = Case(list(case.knobs), list(case.items))
        if out.knobs and pick() < 0.15:
            out.knobs[self._below(len(out.knobs))] = self._below(256)
        for _ in range(1 + self._below(4)):
            self._items(out, other)
        for _ in range(1 + int(len(out.items) * pick() * pick() * 0.5)):
            if out.items:
                place = self._below(len(out.items))
                out.items[place] = self._item(out.items[place], other)
        while sum(len(data) for _, data in out.items) > MOST_BYTES:
            out.items.pop()
        return out

    def _below(self, limit: int) -> int:
        return int(self.random.random() * limit)

    def _items(self, case: Case, other: Case) -> None:
        """Drops, repeats, moves or borrows items."""
        items = case.items
        what = self._below(14)
        if what == 0 and len(items) > 1:
            del items[self._below(len(items))]
        elif what == 1 and items and len(items) < MOST_ITEMS:
            items.insert(self._below(len(items) + 1), items[self._below(len(items))])
        elif what == 2 and len(items) > 1:
            one, two = self._below(len(items)), self._below(len(items))
            items[one], items[two] = items[two], items[one]
        elif what == 3 and len(items) > 1:
            items.insert(self._below(len(items)), items.pop(self._below(len(items))))
        elif what == 4 and other.items and len(items) < MOST_ITEMS:
            items.insert(self._below(len(items) + 1), other.items[self._below(len(other.items))])
        elif what == 5 and other.items and len(items) + len(other.items) < MOST_ITEMS:
            start = self._below(len(other.items))
            place = self._below(len(items) + 1)
            items[place:place] = other.items[start : start + 1 + self._below(12)]
        elif what == 6 and len(items) > 2 and self._below(4) == 0:
            start = self._below(len(items))
            del items[start : start + self._below(len(items) // 2 + 1)]

    def _item(self, item: Item, other: Case) -> Item:
        numbers, data = item
        if self.widths and self._below(3) == 0:
            place = self._below(len(numbers))
            changed = self.number(numbers[place], *self.widths[place])
            return (*numbers[:place], changed, *numbers[place + 1 :]), data
        borrowed = other.items[self._below(len(other.items))][1] if other.items else b""
        return numbers, self.changed(data, borrowed)

    def number(self, value: int, bits: int, signed: bool = False) -> int:
        """Another value of the same width."""
        what = self._below(5)
        if what == 0:
            value ^= 1 << self._below(bits)
        elif what == 1:
            value += self._below(33) - 16
        elif what == 2:
            value = self._interesting(bits)
        elif what == 3:
            value = self.random.getrandbits(bits) >> self._below(bits)
        else:
            value += self._interesting(bits) * (1 if self._below(2) else -1)
        value &= (1 << bits) - 1
        return value - (1 << bits) if signed and value >> (bits - 1) else value

    def _interesting(self, bits: int) -> int:
        pool = INTERESTING if bits == 8 else INTERESTING + EDGES if bits == 16 else INTERESTING + EDGES + WIDE
        value = pool[self._below(len(pool))]
        return -value if self._below(8) == 0 else value

    def changed(self, data: bytes, borrowed: bytes) -> bytes:
        """Other bytes: bits, numbers of the wire, words, pieces moved, dropped, repeated or borrowed."""
        out = bytearray(data)
        for _ in range(1 + self._below(3)):
            self._ways[self._below(len(self._ways))](self, out, borrowed)
        return bytes(out[:LARGEST])

    def _bit(self, out: bytearray, _: bytes) -> None:
        if out:
            out[self._below(len(out))] ^= 1 << self._below(8)

    def _byte(self, out: bytearray, _: bytes) -> None:
        if out:
            out[self._below(len(out))] = self._below(256)

    def _wire_number(self, out: bytearray, _: bytes) -> None:
        width = (1, 2, 2, 4)[self._below(4)]
        if len(out) >= width:
            at = self._below(len(out) - width + 1)
            order = "little" if self._below(4) == 0 else "big"
            value = self.number(int.from_bytes(out[at : at + width], order), 8 * width)
            out[at : at + width] = value.to_bytes(width, order)

    def _insert_word(self, out: bytearray, _: bytes) -> None:
        at = self._below(len(out) + 1)
        out[at:at] = self.words[self._below(len(self.words))]

    def _write_word(self, out: bytearray, _: bytes) -> None:
        word = self.words[self._below(len(self.words))]
        at = self._below(len(out) + 1)
        out[at : at + len(word)] = word

    def _cut(self, out: bytearray, _: bytes) -> None:
        if out:
            del out[self._below(len(out)) :]

    def _drop(self, out: bytearray, _: bytes) -> None:
        if out:
            at = self._below(len(out))
            del out[at : at + 1 + self._below(1 << self._below(8))]

    def _repeat(self, out: bytearray, _: bytes) -> None:
        if out and len(out) < LARGEST // 2:
            at = self._below(len(out))
            piece = out[at : at + 1 + self._below(1 << self._below(10))]
            out[at:at] = piece * (1 + self._below(4) if self._below(30) else 200)

    def _borrow(self, out: bytearray, borrowed: bytes) -> None:
        start = self._below(len(borrowed) + 1)
        at = self._below(len(out) + 1)
        stop = at + self._below(min(64, len(out) - at) + 1) if self._below(2) else at
        out[at:stop] = borrowed[start : start + 1 + self._below(256)]

    _ways: tuple[Callable[[Mutator, bytearray, bytes], None], ...] = (
        _bit, _bit, _byte, _wire_number, _wire_number, _wire_number, _insert_word, _write_word, _cut, _drop, _repeat,
        _borrow,
    )  # fmt: skip
