"""Facts of an interface: state, driver, features, rings. Read by ioctl, which sets nothing here.

The numbers are those of linux/ethtool.h and linux/sockios.h. Reading needs no privilege. A value that the driver does
not report is None or missing, never a guess.
"""

from __future__ import annotations

import array
import errno
import fcntl
import socket
import struct
from pathlib import Path
from typing import NamedTuple

SIOCGIFFLAGS, SIOCGIFMTU, SIOCETHTOOL = 0x8913, 0x8921, 0x8946
IFF_UP, IFF_LOOPBACK, IFF_RUNNING = 0x1, 0x8, 0x40
GDRVINFO, GRINGPARAM, GSTRINGS, GSSET_INFO, GFEATURES = 0x03, 0x10, 0x1B, 0x37, 0x3A
SET_FEATURES = 4  # ETH_SS_FEATURES
NAME_BYTES = 32  # ETH_GSTRING_LEN
COUNTERS = ("rx_packets", "rx_dropped", "rx_missed_errors", "rx_fifo_errors", "rx_over_errors", "rx_length_errors")


class Rings(NamedTuple):
    """Receive descriptors of the card: the current and the maximum number."""

    rx: int
    rx_max: int


class Feature(NamedTuple):
    """One feature of the driver, such as "rx-gro"; a fixed one cannot be changed."""

    on: bool
    fixed: bool


class Interface(NamedTuple):
    """The state of an interface."""

    name: str
    up: bool
    running: bool  # the interface has a carrier
    loopback: bool
    mtu: int
    driver: str
    speed_mbit: int | None
    features: dict[str, Feature]
    rings: Rings | None
    counters: dict[str, int]

    def on(self, *names: str) -> list[str]:
        """Return the names among these whose feature is on."""
        return [name for name in names if name in self.features and self.features[name].on]


def look(name: str) -> Interface | None:
    """Return the interface of this name in this network namespace, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        try:
            (flags,) = _request(channel, SIOCGIFFLAGS, name, "H")
            (mtu,) = _request(channel, SIOCGIFMTU, name, "i")
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.EINVAL):
                return None
            raise
        return Interface(
            name,
            up=bool(flags & IFF_UP),
            running=bool(flags & IFF_RUNNING),
            loopback=bool(flags & IFF_LOOPBACK),
            mtu=mtu,
            driver=_driver(channel, name),
            speed_mbit=_speed(name),
            features=_features(channel, name),
            rings=_rings(channel, name),
            counters=_counters(name),
        )


def _request(channel: socket.socket, number: int, name: str, form: str) -> tuple[int, ...]:
    """Return one field of a struct ifreq (netdevice(7)). Raises OSError."""
    answer = fcntl.ioctl(channel, number, struct.pack("16s24x", _bytes(name)))
    return struct.unpack_from(form, answer, 16)


def _bytes(name: str) -> bytes:
    packed = name.encode(errors="surrogateescape")
    if len(packed) > 15 or not packed:
        raise OSError(errno.ENODEV, "no such interface")
    return packed


def _ethtool(channel: socket.socket, name: str, command: bytes) -> bytes | None:
    """Return the driver's answer to an ethtool command, in the command's buffer; None if it does not support it."""
    buffer = array.array("B", command)
    address, _ = buffer.buffer_info()
    try:
        fcntl.ioctl(channel, SIOCETHTOOL, struct.pack("16sP16x", _bytes(name), address))
    except OSError:
        return None
    return buffer.tobytes()


def _driver(channel: socket.socket, name: str) -> str:
    answer = _ethtool(channel, name, struct.pack("I192x", GDRVINFO))
    return answer[4:36].split(b"\0")[0].decode(errors="replace") if answer else ""


def _rings(channel: socket.socket, name: str) -> Rings | None:
    answer = _ethtool(channel, name, struct.pack("I32x", GRINGPARAM))
    if answer is None:
        return None
    rx_max, _, _, _, rx = struct.unpack_from("5I", answer, 4)
    return Rings(rx, rx_max) if rx_max else None


def _features(channel: socket.socket, name: str) -> dict[str, Feature]:
    """Return the features by name. They come as bits, 32 to a block of four words: available, requested, active, never
    changed.
    """
    answer = _ethtool(channel, name, struct.pack("2IQI4x", GSSET_INFO, 0, 1 << SET_FEATURES, 0))
    count = struct.unpack_from("I", answer, 16)[0] if answer else 0
    if not count:
        return {}
    blocks = -(-count // 32)
    strings = _ethtool(channel, name, struct.pack(f"3I{count * NAME_BYTES}x", GSTRINGS, SET_FEATURES, count))
    bits = _ethtool(channel, name, struct.pack(f"2I{16 * blocks}x", GFEATURES, blocks))
    if strings is None or bits is None:
        return {}
    found = {}
    for number in range(count):
        named = strings[12 + number * NAME_BYTES : 12 + (number + 1) * NAME_BYTES].split(b"\0")[0].decode()
        available, _, active, never = struct.unpack_from("4I", bits, 8 + 16 * (number // 32))
        bit = 1 << number % 32
        found[named] = Feature(bool(active & bit), bool(never & bit) or not available & bit)
    return found


def _speed(name: str) -> int | None:
    try:
        speed = int(_system(name, "speed").read_text())
    except (OSError, ValueError):
        return None
    return speed if speed > 0 else None


def _counters(name: str) -> dict[str, int]:
    found = {}
    for counter in COUNTERS:
        try:
            found[counter] = int(_system(name, f"statistics/{counter}").read_text())
        except (OSError, ValueError):
            pass
    return found


def _system(name: str, fact: str) -> Path:
    return Path("/sys/class/net") / name / fact
