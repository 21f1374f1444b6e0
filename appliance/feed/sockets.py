"""The sockets of the feed, on both sides, with or without a lock.

    FeedSocket   -> FeedClient    the feed                        tcp, XPUB/SUB
    ReplaySocket <- ReplayClient  questions about the past        tcp, ROUTER/DEALER

No socket blocks. Each socket belongs to the thread that made it.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Sequence

import zmq

from appliance.ipc.connection_gate import Gate
from appliance.ipc.event_batch import Buffer
from appliance.ipc.peer_limits import OVERHEAD, TOPIC_BYTE, Peers
from appliance.ipc.sockets import Bus, BusError, Socket, bind
from appliance.pubsub.curve_keys import Pair, server_options
from appliance.pubsub.protocol import FEED_HEADER, KEEPALIVE, REPLAY_QUEUE

MAX_SUBSCRIPTION = 4096  # bytes; topics are short, and the limit holds for all messages of a subscriber
MAX_REQUEST = 4096  # bytes of a replay request
NULL_HANDSHAKE, CURVE_HANDSHAKE = 256, 1024  # bytes; a greeting has 64, a command of CURVE up to some 300
SENT, FULL, LEFT = range(3)  # outcomes of an answer
REOPEN_INTERVAL_S = 2.0  # an address is free again soon after its socket was closed, not at once

TURN_SUBSCRIPTIONS = 256  # read per turn; a peer that changes them faster waits, and its messages are held
_STRANGERS = {"rcvbuf": 1 << 16, "backlog": 1024}  # a peer has little to say; many may come at once


class GuardedSocket:
    """A public socket, and the gate before it. peers: the limits of its connections."""

    def __init__(self, bus: Bus, socket: Socket, peers: Peers) -> None:
        self.socket = socket
        self.endpoint = ""
        self.gate = Gate(bus, socket, peers)
        self._bus = bus
        self._said: Counter[str] = Counter()

    def open(self, endpoint: str, where: str) -> None:
        """Bind it. Raises BusError after closing it."""
        try:
            bind(self.socket, endpoint, where)
        except BusError:
            self.close()
            raise
        self.endpoint = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def refused(self) -> dict[str, int]:
        """Return how many peers were refused or disconnected since the last call, by reason."""
        gate = self.gate
        if gate.crash is not None:
            raise gate.crash
        now = Counter(handshake=gate.failed, greedy=gate.greedy, crowded=gate.crowded)
        new = now - self._said
        self._said = now
        return new

    def close(self) -> None:
        """Close it for good, with all its connections."""
        self.gate.close()
        self._bus.drop(self.socket)


class FeedSocket(GuardedSocket):
    """Publishes to all subscribers. A subscriber with a full queue loses only its own messages. ZeroMQ skips it
    silently, and the subscriber detects the loss by the sequence numbers."""

    def __init__(
        self,
        bus: Bus,
        endpoint: str,
        subscriber_queue: int,
        pair: Pair | None,
        peers: int,
        held_bytes: int,
    ) -> None:
        options = {"sndhwm": subscriber_queue, "maxmsgsize": MAX_SUBSCRIPTION, "xpub_verboser": 1}
        made = bus.socket(zmq.XPUB, **options, **_STRANGERS, **KEEPALIVE, **server_options(pair))
        handshake = CURVE_HANDSHAKE if pair else NULL_HANDSHAKE
        super().__init__(bus, made, Peers(peers, held_bytes, handshake, TOPIC_BYTE))
        self.open(endpoint, "feed.bind (--feed)")

    def publish(self, topic: str, header: tuple[int, int, int], body: Buffer) -> None:
        """Send one message of three parts; header is epoch, sequence, events."""
        self.socket.send_multipart([topic.encode(), FEED_HEADER.pack(*header), body], zmq.DONTWAIT)

    def read_subscriptions(self) -> None:
        """Receive begins and ends of subscriptions, a turn's worth. Call it in every turn."""
        for _ in range(TURN_SUBSCRIPTIONS):
            try:
                frame = self.socket.recv(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                self.gate.drained()
                return
            said = frame.bytes
            if said[:1] not in (b"\x00", b"\x01"):
                self.gate.took(frame, len(said))
                continue
            self.gate.took_subscription(frame, said[1:], said[:1] == b"\x01")

    @property
    def subscribers(self) -> int:
        """Return how many peers have a subscription, each counted once."""
        return self.gate.subscribers


class ReplaySocket(GuardedSocket):
    """Takes questions and sends answers, to any number of clients."""

    def __init__(
        self,
        bus: Bus,
        endpoint: str,
        pair: Pair | None,
        peers: int,
        held_bytes: int,
    ) -> None:
        options = {"router_mandatory": 1, "sndhwm": REPLAY_QUEUE, "rcvhwm": REPLAY_QUEUE, "maxmsgsize": MAX_REQUEST}
        made = bus.socket(zmq.ROUTER, **options, **_STRANGERS, **KEEPALIVE, **server_options(pair))
        super().__init__(bus, made, Peers(peers, held_bytes))
        self.open(endpoint, "feed.replay")

    def receive(self) -> tuple[bytes, bytes] | None:
        """Return (client, question), or None if there is none now. Empty delimiter parts are removed."""
        try:
            parts = self.socket.recv_multipart(zmq.DONTWAIT, copy=False)
        except zmq.Again:
            return None
        client, question = parts[0].bytes, b"".join(part.bytes for part in parts[1:])
        self.gate.took(parts[-1], len(question) + OVERHEAD * len(parts))
        return client, question

    def answer(self, client: bytes, parts: Sequence[Buffer]) -> int:
        """Send one message of an answer, behind an empty delimiter: SENT, FULL (try again) or LEFT (it is gone)."""
        try:
            self.socket.send_multipart([client, b"", *parts], zmq.DONTWAIT)
        except zmq.Again:
            return FULL
        except zmq.ZMQError as error:
            if error.errno != errno.EHOSTUNREACH:
                raise
            return LEFT
        return SENT
