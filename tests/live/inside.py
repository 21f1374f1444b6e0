"""This thread in the network namespace of a host: what is opened there stays there, and can be used from anywhere."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from hosts import Host

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def inside(host: Host) -> Iterator[None]:
    """The body runs in this host, as far as the network is concerned (setns(2))."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{host.name}", os.O_RDONLY)
    try:
        _enter(there)
        try:
            yield
        finally:
            _enter(home)
    finally:
        os.close(home)
        os.close(there)


class Sender:
    """Numbered datagrams from the client to a port of the server where nobody listens; payload_of() reads them back."""

    def __init__(self, client: Host, port: int = 9, address: str = "192.0.2.1") -> None:
        with inside(client):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._to = (address, port)
        self.number = 0

    def send(self, count: int = 1, size: int = 20) -> None:
        for _ in range(count):
            try:
                self._socket.sendto(struct.pack(">Q", self.number) + bytes(size - 8), self._to)
            except ConnectionRefusedError:
                pass  # the answer to an earlier one
            self.number += 1

    def close(self) -> None:
        self._socket.close()


def number_of(frame: bytes) -> int:
    """The number in an untagged Ethernet frame with an IPv4 datagram of a Sender."""
    return int(struct.unpack_from(">Q", frame, 42)[0])
