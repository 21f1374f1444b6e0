"""Sends numbered datagrams until standard input ends, as many as a reader in Python can take; prints how many.
ADDRESS PORT"""

from __future__ import annotations

import select
import socket
import struct
import sys
import time

BURST = 20  # between two looks at standard input
PAUSE_S = 0.0002  # behind each: some 50,000 a second


def main(address: str, port: str) -> None:
    channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    number = 0
    while not select.select([0], [], [], 0)[0]:
        for _ in range(BURST):
            channel.sendto(struct.pack(">Q", number) + bytes(12), (address, int(port)))
            number += 1
        time.sleep(PAUSE_S)
    print(number)


if __name__ == "__main__":
    main(*sys.argv[1:])
