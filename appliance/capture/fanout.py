"""Several captures of one interface: the kernel gives each frame to one, by its flow (packet(7), PACKET_FANOUT).

Both directions of a connection hash alike, and all fragments of a datagram. The flow of a frame may move to another
capture when one ends or restarts, because the run's own hash (flow_key.pxd) selects the worker.
"""

from __future__ import annotations

import os
import socket
from hashlib import blake2b

from appliance.pcap import opening as pcap

SOL_PACKET = 263
PACKET_FANOUT = 18  # its value: a group's number, and how frames are spread, in the upper half: 0, by flow
GROUP_BYTES = 2


def group_of(interface: str, key: bytes) -> int:
    """Return the fanout group of an interface's captures, unique among runs in this network namespace.

    The number does not reveal the key, because any user may ask the kernel for it.
    """
    return int.from_bytes(blake2b(interface.encode(), key=key, digest_size=GROUP_BYTES).digest(), "big")


def join(handle: pcap.Handle, interface: str, key: bytes) -> None:
    """Join the fanout group: from now on the handle has its share of the frames, not all of them. Raises PcapError."""
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0, fileno=os.dup(handle.fileno())) as ring:
            ring.setsockopt(SOL_PACKET, PACKET_FANOUT, group_of(interface, key))
    except OSError as error:
        raise pcap.PcapError(
            f"{interface}: the captures cannot share it: {error.strerror}; set capture.fanout = 1"
        ) from error
