"""Sources of frames: capture files, which are read from end to end, and the ring of a recorder, which has an index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from appliance.extract.connections import Connections
from appliance.pcap.errors import TruncatedCapture
from appliance.pcap.opening import open_offline
from appliance.ring.frame_blocks import connection_number
from appliance.ring.reader import Place, Ring

REASSEMBLED = " (reassembled)"  # behind the name of an interface whose datagrams came in fragments


class Seen(NamedTuple):
    """A frame of a source. link_type: a DLT_ value of libpcap."""

    data: bytes
    ts_ns: int
    wirelen: int
    link_type: int
    interface: str


class Source(Protocol):
    """A source of frames. It gives the same ones each time, in the same order."""

    def frames(self) -> Iterator[Seen]:
        """Yield the frames, of the wanted connections at least. Raises PcapError and OSError."""
        ...


class CaptureFiles:
    """Capture files, one behind the other. cut: the names of those that end within a frame."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths
        self.cut: list[str] = []

    def frames(self) -> Iterator[Seen]:
        """Yield all frames. Raises PcapError."""
        self.cut.clear()
        for path in self._paths:
            with open_offline(path) as handle:
                try:
                    for packet in handle.packets():
                        about = packet.metadata
                        yield Seen(packet.data, about.ts_ns, about.wirelen, packet.link_type, about.interface)
                except TruncatedCapture:
                    self.cut.append(path)


class RecordedFrames:
    """The frames that a ring has of some connections. left_out: those that its files lack, of all connections."""

    def __init__(self, folder: Path, connections: Connections) -> None:
        """Find them. Raises OSError."""
        self._ring = Ring(folder)
        self._places: list[Place] = self._ring.places(lambda key: numbers_of(key, connections))
        used = {id(place.file): place.file for place in self._places}
        self.left_out = sum(file.header.left_out for file in used.values() if file.header)

    def frames(self) -> Iterator[Seen]:
        """Yield the frames by time; those of a connection stay in the order in which they were recorded."""
        for place in self._places:
            found = place.file.read(place.offset)
            if found is not None:
                frame, interface = found
                name = interface.name.removesuffix(REASSEMBLED)
                yield Seen(frame.data, frame.ts_ns, frame.wirelen, interface.link_type, name)

    def close(self) -> None:
        self._ring.close()


def numbers_of(key: bytes, connections: Connections) -> set[int]:
    """Return the numbers of the wanted connections in an index with this key."""
    return {
        connection_number(key, b"".join(low), b"".join(high), transport == "udp")
        for transport, low, high in (wanted.key for wanted in connections.all)
    }
