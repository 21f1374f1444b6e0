"""RandomEncoder: an HPACK encoder that makes every choice that RFC 7541 leaves to it at random."""

from __future__ import annotations

import random

from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable

Field = tuple[bytes, bytes]

STATIC: tuple[Field, ...] = tuple(HeaderTable.STATIC_TABLE)
OVERHEAD = 32
_huffman = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


def integer(value: int, bits: int, first: int) -> bytes:
    """RFC 7541 section 5.1; `first` are the bits above the prefix."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    out = bytearray([first | most])
    value -= most
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def string(text: bytes, huffman: bool) -> bytes:
    """RFC 7541 section 5.2."""
    if huffman and text:
        coded = _huffman.encode(text)
        return integer(len(coded), 7, 128) + coded
    return integer(len(text), 7, 0) + text


class RandomEncoder:
    """Encodes header lists. sensible: it never inserts what its table holds, as every known encoder."""

    def __init__(self, chance: random.Random, limit: int = 4096, sensible: bool = False) -> None:
        self.chance = chance
        self.limit = limit
        self.size_limit = limit
        self.announced = limit == 4096
        self.table: list[Field] = []
        self.sensible = sensible
        self.indexing = chance.random()
        self.matching = 1.0 if sensible else chance.random()
        self.huffman = chance.random()

    def block(self, fields: list[Field]) -> tuple[bytes, int]:
        """Encode a header list; return the block and how many entries it inserted."""
        out = bytearray()
        inserted = 0
        if not self.announced:
            out += integer(self.limit, 5, 0x20)
            self.announced = True
        elif self.chance.random() < 0.03:
            for limit in (self.chance.choice((0, 64, 200)), self.chance.randrange(self.limit + 1)):
                if self.chance.random() < 0.5:
                    out += integer(limit, 5, 0x20)
                    self.size_limit = limit
                    self._evict()
        for name, value in fields:
            places = [place for place, entry in enumerate(STATIC, 1) if entry == (name, value)]
            places += [place for place, entry in enumerate(self.table, 62) if entry == (name, value)]
            if places and self.chance.random() < self.matching:
                out += integer(self.chance.choice(places), 7, 0x80)
                continue
            names = [place for place, entry in enumerate([*STATIC, *self.table], 1) if entry[0] == name]
            index = self.chance.choice(names) if names and self.chance.random() < 0.9 else 0
            insert = self.chance.random() < self.indexing and not (self.sensible and places)
            bits, first = (6, 0x40) if insert else (4, self.chance.choice((0, 0x10)))
            out += integer(index, bits, first)
            if not index:
                out += string(name, self.chance.random() < self.huffman)
            out += string(value, self.chance.random() < self.huffman)
            if insert:
                inserted += 1
                self._insert((name, value))
        return bytes(out), inserted

    def _insert(self, entry: Field) -> None:
        size = OVERHEAD + len(entry[0]) + len(entry[1])
        if size > self.size_limit:
            self.table.clear()
            return
        self.table.insert(0, entry)
        self._evict()

    def _evict(self) -> None:
        while sum(OVERHEAD + len(name) + len(value) for name, value in self.table) > self.size_limit:
            self.table.pop()


REGULAR = (
    b"accept", b"accept-encoding", b"user-agent", b"cookie", b"content-type", b"x-a", b"x-request-id", b"te", b"date",
    b"etag", b"server", b"grpc-status", b"content-length",
)  # fmt: skip


def text(chance: random.Random, most: int) -> bytes:
    """A header value."""
    return bytes(chance.choices(b"abcdefghij0123456789-/;= ", k=chance.randrange(most + 1)))


def traffic(chance: random.Random, request: bool, count: int) -> list[list[Field]]:
    """Header lists of one direction: well-formed, with values and orders that repeat more or less."""
    pools = {
        name: [text(chance, chance.choice((3, 12, 40))) for _ in range(1 + chance.randrange(4))] for name in REGULAR
    }
    pools[b":path"] = [b"/" + text(chance, 20) for _ in range(1 + chance.randrange(6))]
    pools[b":authority"] = [text(chance, 20) for _ in range(1 + chance.randrange(3))]
    pools[b":method"] = [b"GET", b"POST", b"PROPFIND"]
    pools[b":scheme"] = [b"http", b"https"]
    pools[b":status"] = [b"200", b"201", b"404", b"503"]
    pseudo = [b":method", b":scheme", b":path", b":authority"] if request else [b":status"]
    usual = chance.sample(REGULAR, chance.randrange(len(REGULAR)))
    fresh, mixed = chance.random() * 0.5, chance.random() * 0.4
    lists = []
    for _ in range(count):
        names = list(pseudo)
        if chance.random() < mixed:
            chance.shuffle(names)
        if request and chance.random() < 0.1:
            names.remove(b":authority")
        tail = list(usual)
        if chance.random() < mixed:
            tail = chance.choices(REGULAR, k=chance.randrange(8))
        fields = []
        for name in [*names, *tail]:
            if name in (b":method", b":scheme", b":status") or chance.random() >= fresh:
                fields.append((name, chance.choice(pools[name])))
            else:
                fields.append((name, (b"/" if name == b":path" else b"") + text(chance, 30)))
        lists.append(fields)
    return lists
