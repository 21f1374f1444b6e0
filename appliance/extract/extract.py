"""Two passes over captures: where the wanted connections begin and end, and then their frames into one file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from appliance.extract.connections import Connections
from appliance.extract.pcapng import PcapngWriter
from appliance.packet.packet import Packet
from appliance.pcap.errors import TruncatedCapture
from appliance.pcap.opening import open_offline


class Extract:
    """The frames of some connections in captures, in the order of the captures.

    cut: the names of captures that end within a frame.
    """

    def __init__(self, captures: Sequence[str], connections: Connections) -> None:
        self._captures = captures
        self._connections = connections
        self.cut: list[str] = []

    def survey(self) -> None:
        """Find where the connections begin and end. Raises PcapError."""
        for number, packet in self._frames():
            found, syn = self._connections.of(packet.link_type, packet.data, packet.metadata.wirelen)
            if syn:
                for wanted in found:
                    wanted.pass_syn(number, packet.metadata.ts_ns, syn)
        self.cut.clear()

    def write(self, writer: PcapngWriter) -> None:
        """Write their frames; the frame with which an event begins has its comment. Raises PcapError and OSError."""
        for number, packet in self._frames():
            about = packet.metadata
            found, _ = self._connections.of(packet.link_type, packet.data, about.wirelen)
            mine = [wanted for wanted in found if wanted.has(number)]
            if mine:
                begun = [event for wanted in mine for event in wanted.begun.get(about.ts_ns, ())]
                comment = "; ".join(map(comment_of, begun))
                writer.write(packet.data, about.ts_ns, about.wirelen, packet.link_type, about.interface, comment)
                for wanted in mine:
                    wanted.written += 1

    def _frames(self) -> Iterator[tuple[int, Packet]]:
        number = 0
        for path in self._captures:
            with open_offline(path) as handle:
                try:
                    for packet in handle.packets():
                        yield number, packet
                        number += 1
                except TruncatedCapture:
                    self.cut.append(path)


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
