"""A writer of pcapng with comments (draft-ietf-opsawg-pcapng, sections 3 and 4): nanoseconds, one section."""

from __future__ import annotations

import struct
from typing import IO

SECTION, INTERFACE, ENHANCED_PACKET = 0x0A0D0D0A, 1, 6
BYTE_ORDER = 0x1A2B3C4D
END, COMMENT, APPLICATION, NAME, RESOLUTION = 0, 1, 4, 2, 9  # options
# LINKTYPE_ values of files that libpcap has another DLT_ value for on Linux (tcpdump.org/linktypes.html)
LINK_TYPES = {11: 100, 12: 101, 15: 102, 16: 103, 19: 106}
LONGEST_COMMENT = 4096  # bytes; a field of 16 bits has its length


class PcapngWriter:
    """Writes frames to an open file. Each link type becomes an interface when its first frame comes."""

    def __init__(self, out: IO[bytes], comment: str) -> None:
        self._out = out
        self._interfaces: dict[tuple[int, str], int] = {}
        self.frames = 0
        body = struct.pack("<IHHq", BYTE_ORDER, 1, 0, -1)
        self._block(
            SECTION, body + _option(COMMENT, comment.encode()) + _option(APPLICATION, b"appliance") + _option(END)
        )

    def write(self, data: bytes, ts_ns: int, wirelen: int, link_type: int, interface: str, comment: str = "") -> None:
        """Write one frame. interface: its name, in the capture that it comes from."""
        number = self._interfaces.get((link_type, interface))
        if number is None:
            number = self._interfaces[link_type, interface] = len(self._interfaces)
            options = _option(NAME, interface.encode()) * bool(interface) + _option(RESOLUTION, b"\x09") + _option(END)
            self._block(INTERFACE, struct.pack("<HHI", LINK_TYPES.get(link_type, link_type), 0, 0) + options)
        head = struct.pack("<IIIII", number, ts_ns >> 32, ts_ns & 0xFFFFFFFF, len(data), wirelen)
        options = _option(COMMENT, comment.encode()) + _option(END) if comment else b""
        self._block(ENHANCED_PACKET, head + data + bytes(-len(data) % 4) + options)
        self.frames += 1

    def _block(self, kind: int, body: bytes) -> None:
        size = len(body) + 12
        self._out.write(struct.pack("<II", kind, size) + body + struct.pack("<I", size))


def _option(code: int, value: bytes = b"") -> bytes:
    value = value[:LONGEST_COMMENT].decode(errors="ignore").encode() if code == COMMENT else value
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)
