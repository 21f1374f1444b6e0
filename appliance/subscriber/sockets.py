"""Sockets of a subscriber: they never block, and reconnect after a feed refused them."""

from __future__ import annotations

from collections.abc import Sequence

import zmq

from appliance.ipc.connection_gate import FAILED
from appliance.ipc.event_link import MAX_EVENT_MESSAGE
from appliance.ipc.sockets import Bus, BusError, Socket
from appliance.pubsub.curve_keys import Keys, client_options
from appliance.pubsub.protocol import HEARTBEAT, KEEPALIVE, REPLAY_QUEUE

REFUSED = FAILED | zmq.EVENT_HANDSHAKE_FAILED_AUTH  # refused by the peer
RETRY_INTERVAL_S = 1.0  # between two attempts to connect


class ConnectingSocket:
    """A connecting socket that retries after a refusal.

    ZeroMQ reconnects by itself, but not after a failed handshake. Here a retry follows, as the feed may accept our key
    later, or replace another program on its port.
    """

    def __init__(self, bus: Bus, socket: Socket, endpoint: str) -> None:
        self.socket = socket
        self.monitor = _monitor(bus, socket, REFUSED)
        self.refused = 0
        self._endpoint = endpoint
        self._bus = bus
        self._retry_at: float | None = None
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            raise BusError(f"{endpoint}: {error.strerror}; an endpoint looks like tcp://127.0.0.1:5556") from error

    def retry(self, now: float) -> float | None:
        """Retry if it is due. Return the seconds until the next attempt, None if none is due."""
        refused = _count(self.monitor)
        self.refused += refused
        if refused and self._retry_at is None:
            self._retry_at = now + RETRY_INTERVAL_S
        if self._retry_at is None:
            return None
        if now >= self._retry_at:
            self._retry_at = None
            try:
                self.socket.disconnect(self._endpoint)
            except zmq.ZMQError:
                pass  # the socket has no such connection any more
            self.socket.connect(self._endpoint)
            return None
        return self._retry_at - now

    def receive(self) -> list[bytes] | None:
        """Return the parts of the next message, or None if there is none now."""
        return _receive(self.socket)

    def close(self) -> None:
        """Close the socket before the rest of its Bus."""
        self.socket.disable_monitor()
        self._bus.drop(self.monitor)
        self._bus.drop(self.socket)


class FeedClient(ConnectingSocket):
    """Subscribes to a feed and its heartbeats; reconnects by itself."""

    def __init__(self, bus: Bus, endpoint: str, topics: Sequence[str], queue: int, keys: Keys | None = None) -> None:
        lock = client_options(keys)
        socket = bus.socket(zmq.SUB, rcvhwm=queue, maxmsgsize=MAX_EVENT_MESSAGE, **KEEPALIVE, **lock)
        # In this order, the first heartbeat proves that every other subscription is active.
        for topic in [*(topic for topic in topics if topic != HEARTBEAT), HEARTBEAT]:
            socket.subscribe(topic)
        super().__init__(bus, socket, endpoint)


class ReplayClient(ConnectingSocket):
    """Sends replay requests to a feed. Reconnects by itself, but a request is lost with its connection."""

    def __init__(self, bus: Bus, endpoint: str, keys: Keys | None = None) -> None:
        options = {"sndhwm": REPLAY_QUEUE, "maxmsgsize": MAX_EVENT_MESSAGE}
        super().__init__(bus, bus.socket(zmq.DEALER, **options, **KEEPALIVE, **client_options(keys)), endpoint)

    def ask(self, question: bytes) -> None:
        """Send a request, unless the queue is full."""
        try:
            self.socket.send_multipart([b"", question], zmq.DONTWAIT)
        except zmq.Again:
            pass

    def receive(self) -> list[bytes] | None:
        """Return the parts of the next message of an answer, without the empty one before them; None if
        there is none.
        """
        parts = _receive(self.socket)
        return parts and parts[1:]


async def readable(sockets: Sequence[Socket], timeout_s: float | None) -> None:
    """Wait in the running event loop until a socket may be readable, or timeout_s is over."""
    import asyncio  # here: no process of ours needs it, and it is slow to load

    loop, woken = asyncio.get_running_loop(), asyncio.Event()
    descriptors = [int(socket.getsockopt(zmq.FD)) for socket in sockets]
    for descriptor in descriptors:
        loop.add_reader(descriptor, woken.set)
    try:
        # In this order: reading EVENTS consumes the wake-up, and later messages make the descriptor readable again.
        if not any(int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN for socket in sockets):
            await asyncio.wait_for(woken.wait(), timeout_s)
    except TimeoutError:
        pass
    finally:
        for descriptor in descriptors:
            loop.remove_reader(descriptor)


def _monitor(bus: Bus, socket: Socket, events: int) -> Socket:
    address = f"inproc://monitor-{int(socket.getsockopt(zmq.FD))}"
    socket.monitor(address, events)
    monitor = bus.socket(zmq.PAIR, rcvhwm=0)  # unlimited: a full one would block the I/O thread of all sockets
    monitor.connect(address)
    return monitor


def _count(monitor: Socket) -> int:
    count = 0
    while _receive(monitor) is not None:
        count += 1
    return count


def _receive(socket: Socket) -> list[bytes] | None:
    try:
        return socket.recv_multipart(zmq.DONTWAIT)
    except zmq.Again:
        return None
