"""Blocks of pcapng (draft-ietf-opsawg-pcapng, sections 3 and 4), and a writer of files with comments: nanoseconds, one
section.
"""

from __future__ import annotations

import struct
from typing import IO

SECTION, INTERFACE, STATISTICS, ENHANCED_PACKET, SECRETS = 0x0A0D0D0A, 1, 5, 6, 10
TLS_KEY_LOG = 0x544C534B
BYTE_ORDER = 0x1A2B3C4D
END, COMMENT, APPLICATION, NAME, RESOLUTION, RECEIVED, DROPPED = 0, 1, 4, 2, 9, 4, 5  # options
# LINKTYPE_ values of files that libpcap has another DLT_ value for on Linux (tcpdump.org/linktypes.html)
LINK_TYPES = {11: 100, 12: 101, 15: 102, 16: 103, 19: 106}
DATA_LINKS = {linktype: dlt for dlt, linktype in LINK_TYPES.items()}
SECRETS_IN_BLOCK = 20_000  # some MB; readers pass over a longer block than 16 MiB
LONGEST_COMMENT = 4096  # bytes; a field of 16 bits has its length


def section(comment: str) -> bytes:
    """Return the block that begins a file."""
    body = struct.pack("<IHHq", BYTE_ORDER, 1, 0, -1)
    return _block(
        SECTION, body + _option(COMMENT, comment.encode()) + _option(APPLICATION, b"appliance") + _option(END)
    )


def interface(link_type: int, name: str) -> bytes:
    """Return the block of an interface with nanoseconds. link_type: a DLT_ value of libpcap."""
    options = _option(NAME, name.encode()) * bool(name) + _option(RESOLUTION, b"\x09") + _option(END)
    return _block(INTERFACE, struct.pack("<HHI", LINK_TYPES.get(link_type, link_type), 0, 0) + options)


def statistics(number: int, ts_ns: int, received: int, dropped: int) -> bytes:
    """Return the block that says how many frames of an interface came, and how many of them are not in the file."""
    counts = _option(RECEIVED, struct.pack("<Q", received)) + _option(DROPPED, struct.pack("<Q", dropped))
    return _block(STATISTICS, struct.pack("<III", number, ts_ns >> 32, ts_ns & 0xFFFFFFFF) + counts + _option(END))


def secrets(key_log: bytes) -> bytes:
    """Return the block of TLS secrets for the frames behind it. key_log: its lines."""
    return _block(SECRETS, struct.pack("<II", TLS_KEY_LOG, len(key_log)) + key_log + bytes(-len(key_log) % 4))


class PcapngWriter:
    """Writes frames to an open file. Each link type becomes an interface when its first frame comes.

    key_log: lines with TLS secrets, which stand in front of the frames.
    """

    def __init__(self, out: IO[bytes], comment: str, key_log: bytes = b"") -> None:
        self._out = out
        self._interfaces: dict[tuple[int, str], int] = {}
        self.frames = 0
        self._out.write(section(comment))
        lines = key_log.splitlines(keepends=True)
        for at in range(0, len(lines), SECRETS_IN_BLOCK):
            self._out.write(secrets(b"".join(lines[at : at + SECRETS_IN_BLOCK])))

    def write(self, data: bytes, ts_ns: int, wirelen: int, link_type: int, name: str, comment: str = "") -> None:
        """Write one frame. name: of its interface, in the capture that it comes from."""
        number = self._interfaces.get((link_type, name))
        if number is None:
            number = self._interfaces[link_type, name] = len(self._interfaces)
            self._out.write(interface(link_type, name))
        head = struct.pack("<IIIII", number, ts_ns >> 32, ts_ns & 0xFFFFFFFF, len(data), wirelen)
        options = _option(COMMENT, comment.encode()) + _option(END) if comment else b""
        self._out.write(_block(ENHANCED_PACKET, head + data + bytes(-len(data) % 4) + options))
        self.frames += 1


def _block(kind: int, body: bytes) -> bytes:
    size = len(body) + 12
    return struct.pack("<II", kind, size) + body + struct.pack("<I", size)


def _option(code: int, value: bytes = b"") -> bytes:
    value = value[:LONGEST_COMMENT].decode(errors="ignore").encode() if code == COMMENT else value
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)
