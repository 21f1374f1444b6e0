"""The TLS secrets of extracted connections: found by the client randoms of their frames, in key logs and captures.

A ClientHello is recognized at any place of a TCP stream, so behind STARTTLS or inside CONNECT, too. Its first 38 bytes
may be split over segments in their order, but not over TLS records or fragments of IP.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from appliance.extract.sources import Seen
from appliance.keylog.parser import KeyLogParser
from appliance.keylog.secrets import LABELS, Secret
from appliance.pcap.errors import TruncatedCapture
from appliance.pcap.opening import open_offline
from appliance.wire.tcp_locator import find

PIECE = 1 << 20  # bytes of a key log read at a time
# The type of a ClientHello, its length, its version (3.0 to 3.3), and the random.
_HELLO = re.compile(rb"\x01(?=.{3}\x03[\x00-\x03](.{32}))", re.DOTALL)
_UNFINISHED = 37  # bytes at the end of a segment in which a hello may have begun
NUMBERS = 1 << 32  # of TCP


class ClientRandoms:
    """The client randoms in frames; a few more 32 bytes may look like one."""

    def __init__(self) -> None:
        self.found: set[bytes] = set()
        self._ends: dict[bytes, tuple[int, bytes]] = {}  # by direction: its next number, its last bytes

    def look(self, seen: Seen) -> None:
        """Take the randoms of a frame. Those of a direction come in the order of the capture."""
        frame = seen.data
        verdict, net, at, _, _ = find(seen.link_type, frame, seen.wirelen)
        if verdict != "found" or net is None or at is None:
            return
        if frame[net] >> 4 == 4:
            hosts, size = frame[net + 12 : net + 20], int.from_bytes(frame[net + 2 : net + 4])
        else:
            hosts, size = frame[net + 8 : net + 40], 40 + int.from_bytes(frame[net + 4 : net + 6])
        end = net + size if net + size > at else len(frame)  # offloading may leave a length of zero
        payload = frame[at + (frame[at + 12] >> 4) * 4 : end]
        if not payload:
            return
        direction, sequence = hosts + frame[at : at + 4], int.from_bytes(frame[at + 4 : at + 8])
        expected, before = self._ends.get(direction, (sequence, b""))
        behind = (sequence - expected) % NUMBERS
        data = before + payload if behind == 0 else payload
        self.found.update(hello[1] for hello in _HELLO.finditer(data))
        if behind < NUMBERS // 2:  # else a repeated segment
            self._ends[direction] = (sequence + len(payload)) % NUMBERS, data[-_UNFINISHED:]


def secrets_of(randoms: set[bytes], keylogs: Iterable[str], captures: Iterable[str]) -> list[Secret]:
    """Return the secrets of these sessions, each once, the latest. Raises OSError and PcapError."""
    found: dict[tuple[int, bytes], Secret] = {}
    for pieces in (*map(_pieces_of_file, keylogs), *map(_pieces_of_capture, captures)):
        parser = KeyLogParser()
        for piece in pieces:
            secrets = parser.feed(piece)
            found |= {secret[:2]: secret for secret in secrets if secret[1] in randoms}
        found |= {secret[:2]: secret for secret in parser.finish() if secret[1] in randoms}
    return list(found.values())


def key_log(secrets: Iterable[Secret]) -> bytes:
    """Return the lines of a key log."""
    return b"".join(f"{LABELS[place]} {random.hex()} {secret.hex()}\n".encode() for place, random, secret in secrets)


def _pieces_of_file(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            yield piece


def _pieces_of_capture(path: str) -> Iterator[bytes]:
    """Yield the key logs inside a capture."""
    texts: list[bytes] = []
    with open_offline(path, texts.append) as handle:
        try:
            for _ in handle.packets():
                while texts:
                    yield texts.pop(0) + b"\n"
        except TruncatedCapture:
            pass
    yield from (text + b"\n" for text in texts)
