"""A sink of files that keeps everything, and bodies that are read into it."""

from __future__ import annotations

import hashlib

from appliance.config.section_bodies import Bodies as Options
from appliance.config.section_files import Files
from workers.body.file_tap import FileFacts, FileTaps
from workers.body.reader import Bodies


class Sink:
    """A sink that keeps everything, and counts outcomes as the publisher does."""

    def __init__(self, room: int = 1 << 30, places: int = 100) -> None:
        self.room, self.places = room, places
        self.offered = 0
        self.open: dict[int, bytes] = {}
        self.sent: list[bytes] = []
        self.left_out: list[str] = []

    def begin(self) -> int:
        self.offered += 1
        if len(self.open) >= self.places:
            self.left_out.append("open")
            return -1
        self.open[self.offered] = b""
        return self.offered

    def add(self, number: int, place: int, data: memoryview) -> bool:
        assert place == len(self.open[number])
        if len(data) > self.room:
            self.leave_out(number, "link")
            return False
        self.room -= len(data)
        self.open[number] += data
        return True

    def end(self, number: int, size: int, digest: bytes) -> bool:
        content = self.open.pop(number)
        assert (size, digest) == (len(content), hashlib.sha256(content).digest())
        self.sent.append(content)
        return True

    def leave_out(self, number: int, reason: str) -> None:
        del self.open[number]
        self.left_out.append(reason)

    def path_of(self, sha256: str) -> str:
        return f"/kept/{sha256}"

    def balance(self) -> bool:
        """Return whether every offered body has one outcome."""
        return not self.open and self.offered == len(self.sent) + len(self.left_out)


def bodies(sink: Sink, **options: object) -> Bodies:
    return Bodies(Options(), (), FileTaps(Files(path="/kept", **options), sink))  # type: ignore[arg-type]


def read(
    made: Bodies, head: bytes, *pieces: bytes | None, complete: bool = True, status: int = 200
) -> FileFacts | None:
    """Read a body; a piece that is None is a gap."""
    reader = made.begin(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n", status)
    for piece in pieces:
        if piece is None:
            reader.gap()
        else:
            reader.take(piece)
    return reader.end(complete).file
