"""Errors of libpcap and the kernel: one exception for each possible reaction of a caller."""

from __future__ import annotations

import errno
import os


class PcapError(Exception):
    """libpcap or the kernel reported an error; the message names the source and the fix."""


class Absent(PcapError):
    """The interface is missing or down; it may come later."""


class NoSuchDevice(Absent):
    """There is no interface of this name."""


class PermissionDenied(PcapError):
    """The process may not open packet sockets."""


class BadFilter(PcapError):
    """libpcap's compiler refused the filter."""


class NotACapture(PcapError):
    """The file is missing, empty, or in no format that libpcap reads."""


class TruncatedCapture(PcapError):
    """The file ends in the middle of a frame; every frame before the cut was delivered."""


class FrameRefused(PcapError):
    """The interface does not accept this frame, but may accept others. reason: without the numbers of this frame."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class QueueFull(PcapError):
    """The interface has no room for a frame now; a later attempt may succeed."""


def offline_failure(source: str, message: str) -> str:
    """Return the message for a file that libpcap did not open, from its own message."""
    if source != "-" and os.path.isdir(source):
        return f"{source} is a directory, not a capture file"
    if "only got 0" in message:
        return f"{source} is empty: not a capture file"
    if message.startswith(("unknown file format", "truncated ")):
        return f"{source} is not a pcap or pcapng capture file ({message})"
    return message if message.startswith(source) else f"{source}: {message}"


def reading_failure(source: str, message: str, live: bool) -> PcapError:
    """Return the exception for a source that failed during reading, from libpcap's message."""
    if not live and message.startswith("truncated "):
        return TruncatedCapture(f"{source}: {message}")
    return PcapError(f"{source}: {message}")


def sending_failure(device: str, number: int, size: int, mtu: int, message: str) -> PcapError:
    """Return the exception for a frame of `size` bytes that was not sent. number: the errno; mtu: 0 if unknown."""
    if number == errno.EMSGSIZE:
        limit = f" (MTU {mtu}, without the link header)" if mtu else ""
        text = f"{device}: a frame of {size} bytes is longer than the interface accepts{limit}"
        return FrameRefused(text, "too long (EMSGSIZE)")
    if number == errno.EINVAL:
        text = f"{device}: a frame of {size} bytes is too short for the link header of the interface"
        return FrameRefused(text, "too short (EINVAL)")
    if number in (errno.ENOBUFS, errno.EAGAIN):
        return QueueFull(f"{device}: the queue of the interface is full")
    if number == errno.ENETDOWN:
        return PcapError(f"{device} is down; bring it up: ip link set {device} up")
    if number in (errno.ENXIO, errno.ENODEV):
        return NoSuchDevice(f"{device}: the interface is gone")
    if number in (errno.EPERM, errno.EACCES):
        return PermissionDenied(f"{device}: sending needs the capability CAP_NET_RAW")
    return PcapError(f"{device}: {message or os.strerror(number)}")
