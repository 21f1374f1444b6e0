"""Puts the frames of a capture file on an interface, as they are:  replay.py INTERFACE FILE.pcap"""

from __future__ import annotations

import socket
import struct
import sys
from pathlib import Path


def main() -> None:
    data = Path(sys.argv[2]).read_bytes()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((sys.argv[1], 0))
        at = 24
        while at < len(data):
            length = struct.unpack_from("<I", data, at + 8)[0]
            wire.send(data[at + 16 : at + 16 + length])
            at += 16 + length


if __name__ == "__main__":
    main()
