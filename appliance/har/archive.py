"""An HTTP Archive: entries in the order of their start, written as one JSON document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, Any

import msgspec

from appliance.har.entry import entry

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode

DATASET = "appliance.http"


class Archive:
    """Entries of events. They are encoded at once, so memory is that of the file to write.

    most: the limit of entries. Counters: left_out (beyond the limit), no_request (responses alone), invalid (lines that
    are no event).
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: list[tuple[str, bytes]] = []
        self.left_out = self.no_request = self.invalid = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, line: bytes) -> None:
        """Add the event of one line, if it is a transaction with a request."""
        try:
            event = _decode(line)
            if event["event"]["dataset"] != DATASET:
                return
            made = entry(event)
            encoded = _encode(made) if made else b""
        except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
            self.invalid += 1
            return
        if made is None:
            self.no_request += 1
        elif len(self._entries) == self._most:
            self.left_out += 1
        else:
            self._entries.append((made["startedDateTime"], encoded))

    def write(self, out: IO[bytes], version: str) -> None:
        """Write the archive. version: of the program that made it."""
        creator = _encode({"name": "appliance", "version": version})
        out.write(b'{"log":{"version":"1.2","creator":%s,"entries":[' % creator)
        for number, (_, encoded) in enumerate(sorted(self._entries, key=lambda one: one[0])):
            out.write(b",\n" * (number > 0) + encoded)
        out.write(b"]}}\n")


def add_all(archive: Archive, lines: Iterable[bytes]) -> None:
    """Add the event of every line that is not empty."""
    for line in lines:
        if line.strip():
            archive.add(line)
