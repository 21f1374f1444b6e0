"""A capture file as the library reads it, by our reading and by that of libpcap: its frames, and how it ended."""

from __future__ import annotations

import os
from pathlib import Path

from appliance import PcapError
from appliance.pcap.opening import Handle, open_offline, open_stream

Read = tuple[list[tuple[bytes, int, int]], str]  # (bytes, ns, bytes on the wire) of each frame; the error, "" if none


def everything(handle: Handle) -> Read:
    """Reads it to its end, and closes it."""
    frames = []
    with handle:
        try:
            for packet in handle.packets():
                frames.append((packet.data, packet.metadata.ts_ns, packet.metadata.wirelen))
        except PcapError as fault:
            return frames, f"{type(fault).__name__} {fault}"
    return frames, ""


def by_us(path: Path | str) -> Read:
    """As a file."""
    return everything(open_offline(path))


def by_libpcap(path: Path | str) -> Read:
    """As a stream of the same bytes, of which libpcap reads every record."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return everything(open_stream(descriptor, lambda: True, name=str(path)))
    finally:
        os.close(descriptor)
