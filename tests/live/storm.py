"""Puts the frames of a capture file on an interface at the pace of their time stamps:  storm.py INTERFACE FILE.pcap"""

from __future__ import annotations

import socket
import struct
import sys
import time
from pathlib import Path


def main() -> None:
    data = Path(sys.argv[2]).read_bytes()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((sys.argv[1], 0))
        at, start, began = 24, 0.0, time.monotonic()
        while at < len(data):
            seconds, nanos, length = struct.unpack_from("<III", data, at)
            due = seconds + nanos * 1e-9
            start = start or due
            ahead = due - start - (time.monotonic() - began)
            if ahead > 0.002:
                time.sleep(ahead)
            wire.send(data[at + 16 : at + 16 + length])
            at += 16 + length


if __name__ == "__main__":
    main()
