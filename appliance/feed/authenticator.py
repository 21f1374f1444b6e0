"""Let peers in to the feed by their keys (CURVE, ZeroMQ RFC 26; ZAP, RFC 27).

pyzmq's authenticator is a program for asyncio that writes refusals to a log; the feed waits in a loop of its own and
counts them. A key that is taken away ends no connection: see the feed for what it does then.
"""

from __future__ import annotations

from collections.abc import Mapping

import zmq
from zmq.utils import z85

from appliance.ipc.sockets import Bus

TURN_PEERS = 64  # answered per turn of the loop


class ZapAuthenticator:
    """Answers whether the key of a peer, which has proved to own it, is allowed. One for each Bus.

    Make it before the sockets it guards."""

    def __init__(self, bus: Bus, allowed: Mapping[bytes, str]) -> None:
        self.allowed = allowed
        self.socket = bus.socket(zmq.REP)
        self.socket.bind("inproc://zeromq.zap.01")

    def serve(self) -> int:
        """Answer waiting peers, a turn's worth; return how many were refused."""
        refused = 0
        for _ in range(TURN_PEERS):
            try:
                asked = self.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                break
            request = asked[1] if len(asked) > 1 else b""
            curve = len(asked) == 7 and asked[0] == b"1.0" and asked[5] == b"CURVE" and len(asked[6]) == 32
            name = self.allowed.get(z85.encode(asked[6])) if curve else None
            refused += name is None
            verdict = [b"400", b"key is not allowed", b""] if name is None else [b"200", b"OK", name.encode()]
            self.socket.send_multipart([b"1.0", request, *verdict, b""])
        return refused
