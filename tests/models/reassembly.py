"""One direction of TCP as a map from offset to byte: what reassembly has to equal, without any hurry.

A byte leaves as soon as every byte before it has left, and stays as it was then. Of a byte that is still held the first
or the last copy counts. Every copy after the first is equal (duplicate) or differs (conflicting).
"""

from __future__ import annotations


class ByteMap:
    """Offsets count from the first byte of the stream. policy: "first" or "last", of what is held."""

    def __init__(self, policy: str = "first") -> None:
        self.policy = policy
        self.bytes: dict[int, int] = {}
        self.frontier = 0  # every byte below it has left
        self.duplicate = 0  # bytes that came again, equal to what was there
        self.conflicting = 0  # bytes that came again and differ, from a held byte or from one that has left

    def offer(self, offset: int, data: bytes) -> None:
        """A segment: its place and its bytes."""
        for place, byte in enumerate(data, offset):
            if place not in self.bytes:
                self.bytes[place] = byte
            elif self.bytes[place] == byte:
                self.duplicate += 1
            else:
                self.conflicting += 1
                if place >= self.frontier and self.policy == "last":
                    self.bytes[place] = byte
        while self.frontier in self.bytes:
            self.frontier += 1

    @property
    def repeated(self) -> int:
        """Bytes that came although they were there."""
        return self.duplicate + self.conflicting

    @property
    def delivered(self) -> int:
        """Bytes that have left."""
        return self.frontier

    @property
    def pending(self) -> int:
        """Bytes that wait for one before them."""
        return len(self.bytes) - self.frontier

    def holes(self, end: int) -> list[range]:
        """The runs below `end` that no segment has brought."""
        out: list[range] = []
        for place in range(end):
            if place in self.bytes:
                continue
            if out and out[-1].stop == place:
                out[-1] = range(out[-1].start, place + 1)
            else:
                out.append(range(place, place + 1))
        return out

    def stream(self) -> bytes:
        """The bytes that have left, in order."""
        return bytes(self.bytes[place] for place in range(self.frontier))
