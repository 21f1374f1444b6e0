"""Passes over sources of frames: where the wanted connections begin and end, then their frames into one file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from appliance.extract.connections import Connections, Wanted
from appliance.extract.session_secrets import ClientRandoms
from appliance.extract.sources import Seen, Source
from appliance.ring.pcapng import PcapngWriter


class Extract:
    """The frames of some connections in several sources, in the order of the sources. A frame in two of them is one."""

    def __init__(self, sources: Sequence[Source], connections: Connections) -> None:
        self._sources = sources
        self._connections = connections

    def survey(self) -> None:
        """Find where the connections begin and end. Raises PcapError and OSError."""
        for number, seen in self._frames():
            found, opening = self._connections.of(seen.link_type, seen.data, seen.wirelen)
            if opening:
                for wanted in found:
                    wanted.pass_opening(number, seen.ts_ns, opening)

    def client_randoms(self) -> set[bytes]:
        """Return the client randoms of their TLS sessions. Raises PcapError and OSError."""
        randoms = ClientRandoms()
        for seen, _ in self._chosen():
            randoms.look(seen)
        return randoms.found

    def write(self, writer: PcapngWriter) -> None:
        """Write their frames; the frame with which an event begins has its comment. Raises PcapError and OSError."""
        for seen, mine in self._chosen():
            begun = [event for wanted in mine for event in wanted.begun.get(seen.ts_ns, ())]
            comment = "; ".join(map(comment_of, begun))
            writer.write(seen.data, seen.ts_ns, seen.wirelen, seen.link_type, seen.interface, comment)
            for wanted in mine:
                wanted.written += 1

    def _chosen(self) -> Iterator[tuple[Seen, list[Wanted]]]:
        """Yield their frames, each with its connections."""
        written: set[tuple[int, int]] = set()
        for number, seen in self._frames():
            found, _ = self._connections.of(seen.link_type, seen.data, seen.wirelen)
            mine = [wanted for wanted in found if wanted.has(number)]
            if mine and not self._repeats(written, seen):
                yield seen, mine

    def _repeats(self, written: set[tuple[int, int]], seen: Seen) -> bool:
        """Return whether another source had the frame, at the same nanosecond. Within one source, copies are frames."""
        if len(self._sources) == 1:
            return False
        known = seen.ts_ns, hash(seen.data)
        if known in written:
            return True
        written.add(known)
        return False

    def _frames(self) -> Iterator[tuple[int, Seen]]:
        number = 0
        for source in self._sources:
            for seen in source.frames():
                yield number, seen
                number += 1


def comment_of(event: dict[str, Any]) -> str:
    """Return one line about an event: its id, what it is, and what is missing of it."""
    http, own = event.get("http", {}), event["appliance"]
    parts = [f"event {event['event']['id']}"]
    if "request" in http:
        url = event.get("url", {})
        parts.append(f"{http['request'].get('method', '')} {url.get('domain', '')}{url.get('original', '')}".strip())
    if "response" in http:
        parts.append(f"status {http['response'].get('status_code', 'unknown')}")
    for side in ("request", "response"):
        if missing := own.get(side, {}).get("missing_bytes"):
            parts.append(f"{missing} bytes of the {side} are missing")
    return ", ".join(parts)
