"""Several captures of one interface: each frame comes to one of them, by its flow (packet(7), PACKET_FANOUT).

Both directions of a connection hash alike, and all fragments of a datagram. Which capture a flow comes to matters to
nobody: the worker is chosen by the run's own hash (flow.pxd), so a capture that ends or comes back may change it.
"""

from __future__ import annotations

import os
import socket
from hashlib import blake2b

from appliance import pcap

SOL_PACKET = 263
PACKET_FANOUT = 18  # its value: a group's number, and how frames are spread, in the upper half: 0, by flow
GROUP_BYTES = 2


def group_of(interface: str, key: bytes) -> int:
    """The number that the captures of an interface agree on, and no other run in this network namespace has.

    The key stays a secret: anybody may ask the kernel for the number."""
    return int.from_bytes(blake2b(interface.encode(), key=key, digest_size=GROUP_BYTES).digest(), "big")


def join(handle: pcap.Handle, interface: str, key: bytes) -> None:
    """From now on the handle has its share of the frames; until now it had all of them. Raises PcapError."""
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0, fileno=os.dup(handle.fileno())) as ring:
            ring.setsockopt(SOL_PACKET, PACKET_FANOUT, group_of(interface, key))
    except OSError as error:
        raise pcap.PcapError(
            f"{interface}: the captures cannot share it: {error.strerror}; set capture.fanout = 1"
        ) from error
