"""A Python program with dpkt that only decodes: Ethernet, VLAN, IP and TCP of each frame, nothing kept.

python ops/bench/dpkt_loop.py FILE.pcap
"""

from __future__ import annotations

import sys

import dpkt


def main(path: str) -> int:
    """Decode every frame; print frames, TCP segments and payload bytes."""
    frames = segments = payload = 0
    with open(path, "rb") as file:
        for _, frame in dpkt.pcap.Reader(file):
            frames += 1
            packet = dpkt.ethernet.Ethernet(frame).data
            if isinstance(packet, (dpkt.ip.IP, dpkt.ip6.IP6)) and isinstance(packet.data, dpkt.tcp.TCP):
                segments += 1
                payload += len(packet.data.data)
    print(f"{frames} frames {segments} segments {payload} bytes")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: dpkt_loop.py FILE.pcap")
    raise SystemExit(main(sys.argv[1]))
