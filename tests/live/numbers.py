"""Sends numbered datagrams, as fast as it can, until standard input ends; prints how many.   ADDRESS PORT"""

from __future__ import annotations

import select
import socket
import struct
import sys

BURST = 20  # between two looks at standard input


def main(address: str, port: str) -> None:
    channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    number = 0
    while not select.select([0], [], [], 0)[0]:
        for _ in range(BURST):
            channel.sendto(struct.pack(">Q", number) + bytes(12), (address, int(port)))
            number += 1
    print(number)


if __name__ == "__main__":
    main(*sys.argv[1:])
