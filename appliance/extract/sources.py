"""Sources of frames: capture files, which are read from end to end, and the ring of a recorder, which has an index."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from appliance.extract.connections import Connections
from appliance.pcap.errors import TruncatedCapture
from appliance.pcap.opening import open_offline
from appliance.ring.frame_blocks import connection_number
from appliance.ring.reader import Ring

if TYPE_CHECKING:
    from appliance.ring.sealing import PrivateKey

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

    def __init__(
        self,
        folder: Path,
        connections: Connections,
        on_frame: Callable[[], object] = bool,
        identity: PrivateKey | None = None,
    ) -> None:
        """Find them. on_frame: a call for each frame. identity: the private key to a sealed ring. Raises OSError."""
        self._on_frame = on_frame
        self._ring = Ring(folder, identity)

        def numbers(key: bytes) -> set[int]:  # of one file
            on_frame()
            return numbers_of(key, connections)

        self._places = self._ring.places(numbers)
        self.left_out = sum(file.header.left_out for file in self._places.files if file.header)

    def frames(self) -> Iterator[Seen]:
        """Yield the frames by time; those of a connection stay in the order in which they were recorded."""
        for place in self._places:
            self._on_frame()
            found = place.file.read(place.offset)
            if found is not None:
                frame, interface = found
                name = interface.name.removesuffix(REASSEMBLED)
                yield Seen(frame.data, frame.ts_ns, frame.wirelen, interface.link_type, name)

    def close(self) -> None:
        self._ring.close()


class MergedFrames:
    """Sources of one sensor, each in the order of time, as one. A frame that several of them have is one."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    def frames(self) -> Iterator[Seen]:
        """Yield the frames by time. Raises PcapError and OSError."""
        if len(self._sources) == 1:
            yield from self._sources[0].frames()
            return
        known: list[Counter[tuple[int, int]]] = [Counter() for _ in self._sources]  # by source: its frames so far
        yielded: Counter[tuple[int, int]] = Counter()
        numbered = [self._numbered(number) for number in range(len(self._sources))]
        for _, number, seen in heapq.merge(*numbered, key=itemgetter(0)):
            key = seen.ts_ns, hash(seen.data)
            known[number][key] += 1
            if known[number][key] > yielded[key]:  # within one source, copies are frames
                yielded[key] += 1
                yield seen

    def _numbered(self, number: int) -> Iterator[tuple[int, int, Seen]]:
        for seen in self._sources[number].frames():
            yield seen.ts_ns, number, seen


def numbers_of(key: bytes, connections: Connections) -> set[int]:
    """Return the numbers of the wanted connections in an index with this key."""
    return {
        connection_number(key, b"".join(low), b"".join(high), transport == "udp")
        for transport, low, high in (wanted.key for wanted in connections.all)
    }
