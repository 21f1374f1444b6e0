"""Flow: source and destination as a value, for programs that handle packets and streams one by one."""

from __future__ import annotations

import socket
from typing import Generic, NamedTuple, TypeVar

Endpoint = TypeVar("Endpoint")


class Flow(NamedTuple, Generic[Endpoint]):
    """One direction on one layer: addresses as text, or ports as numbers.

    Hashable and ordered, so that min(flow, flow.reverse()) is a key which both directions share.
    """

    src: Endpoint
    dst: Endpoint

    def reverse(self) -> Flow[Endpoint]:
        """Return the other direction."""
        return Flow(self.dst, self.src)

    def __str__(self) -> str:
        return f"{self.src}->{self.dst}"


def address_text(packed: bytes) -> str:
    """Return an address of 4 or 16 bytes as text, as events write it (RFC 5952). Raises ValueError on
    any other length.
    """
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
