"""The longest packet that an interface sends."""

from __future__ import annotations

import fcntl
import struct

_SIOCGIFMTU = 0x8921  # netdevice(7)
_REQUEST = struct.Struct("16si12x")  # struct ifreq


def mtu_of(descriptor: int, interface: str) -> int:
    """Return the MTU in bytes, asked through any socket; 0 where the interface has none."""
    try:
        answer = fcntl.ioctl(descriptor, _SIOCGIFMTU, _REQUEST.pack(interface.encode(), 0))
    except OSError:
        return 0
    return int(_REQUEST.unpack(answer)[1])
