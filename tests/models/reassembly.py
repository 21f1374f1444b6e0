"""One direction of TCP as a map from offset to byte: what reassembly has to equal, without any hurry.

The first copy of a byte wins. A byte leaves as soon as every byte before it has left; what left is not kept, so a later
copy of it can only be called a duplicate, whatever it holds.
"""

from __future__ import annotations


class ByteMap:
    """Offsets count from the first byte of the stream."""

    def __init__(self) -> None:
        self.bytes: dict[int, int] = {}
        self.frontier = 0  # every byte below it has left
        self.repeated = 0  # bytes that came although they were there
        self.differing = 0  # of these, bytes that differ from one still held

    def offer(self, offset: int, data: bytes) -> None:
        """A segment: its place and its bytes."""
        for place, byte in enumerate(data, offset):
            if place in self.bytes:
                self.repeated += 1
                self.differing += place >= self.frontier and self.bytes[place] != byte
            else:
                self.bytes[place] = byte
        while self.frontier in self.bytes:
            self.frontier += 1

    @property
    def delivered(self) -> int:
        """Bytes that have left."""
        return self.frontier

    @property
    def pending(self) -> int:
        """Bytes that wait for one before them."""
        return len(self.bytes) - self.frontier

    def stream(self) -> bytes:
        """The bytes that have left, in order."""
        return bytes(self.bytes[place] for place in range(self.frontier))
