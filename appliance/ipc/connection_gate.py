"""The gate of a port: a thread that watches each connection of a socket, and closes those beyond the limits of peers.

ZeroMQ receives in a thread of its own, as fast as its peers send, also while the thread of the socket is busy. The gate
therefore depends on neither thread. The kernel counts the bytes received on each connection (tcp(7), TCP_INFO) and
wakes the gate with each arrival. ZeroMQ's monitor reports connections, and the thread of the socket reports whole
messages. The gate closes a connection by shutdown(2): ZeroMQ finds it closed, and frees its memory.

The bytes between an arrival and the gate's turn are not bounded: on loopback some hundred KB, rarely some MB. An ipc
connection has no count; the permissions of its folder protect it.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from collections import deque

import zmq

from appliance.ipc.peer_limits import Peers, origin
from appliance.ipc.sockets import Bus, Socket

FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL  # of a peer, before it was in
GONE = zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED
EVENT = struct.Struct("=HI")  # the event, and the descriptor of its connection
INFO_BYTES = 136  # of struct tcp_info, up to …
RECEIVED = struct.Struct("=Q")  # … tcpi_bytes_received,
RECEIVED_AT = 128  # … which stands here
RESET = struct.pack("=ii", 1, 0)  # struct linger
# epoll drops an arrival that ZeroMQ has read already, unless the descriptor is writable.
ARRIVALS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLET
CHECK_INTERVAL_S = 0.2  # between two checks of all connections, for those without room to write


class _Connection:
    """One of ZeroMQ's descriptors. Another connection may get its number at any time; the inode tells them apart."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.inode = os.fstat(fd).st_ino
        self.socket = socket.socket(fileno=fd)
        try:
            peer = self.socket.getpeername()
            self.where = origin(self.socket.family, peer[0] if isinstance(peer, tuple) else "")
        except OSError:
            self.socket.detach()
            raise

    def received(self) -> int:
        """Return the bytes received on it; 0 if the kernel does not tell."""
        try:
            info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_BYTES)
        except OSError:
            return 0
        return int(RECEIVED.unpack_from(info, RECEIVED_AT)[0]) if len(info) == INFO_BYTES else 0

    def cut(self) -> None:
        try:
            if os.fstat(self.fd).st_ino == self.inode:
                # Reset it, because the kernel would keep receiving on a connection that is merely closed.
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # its peer was faster

    def forget(self) -> None:
        self.socket.detach()


class Gate:
    """Watches the connections of a socket that is bound or about to be. peers: their limits.

    failed, greedy, crowded: peers that did not complete the handshake, exceeded the memory limit, found no place.
    """

    def __init__(self, bus: Bus, bound: Socket, peers: Peers) -> None:
        self.failed = self.greedy = self.crowded = 0
        self.crash: BaseException | None = None  # of the thread, ours
        self._bus, self._bound = bus, bound
        address = f"inproc://gate-{int(bound.getsockopt(zmq.FD))}"
        bound.monitor(address, FAILED | GONE | zmq.EVENT_ACCEPTED)
        self._monitor = bus.socket(zmq.PAIR, rcvhwm=0)  # unlimited: a full one would hold up the thread of all sockets
        self._monitor.connect(address)
        self._peers = peers
        self._connections: dict[int, _Connection] = {}
        self._taken: deque[tuple[int, int, bytes | None, bool]] = deque()  # messages received by the socket's thread
        self._drained = False  # it has received every whole message since the last check
        self._sleeper, self._wake = os.pipe2(os.O_CLOEXEC)
        self._thread: threading.Thread | None = threading.Thread(target=self._run, name="gate", daemon=True)
        self._thread.start()
        bus.before_close(self.close)

    @property
    def subscribers(self) -> int:
        """Return how many of the peers have a subscription, each counted once."""
        return self._peers.subscribers

    # -- the socket's thread ---------------------------------------------------------------------------------------

    def took(self, last: zmq.Frame, size: int) -> None:
        """Count a whole message that was received: its last part, and its bytes."""
        self._take(last, size, None, False)

    def took_subscription(self, frame: zmq.Frame, topic: bytes, on: bool) -> None:
        """Count the begin or the end of a subscription."""
        self._take(frame, len(topic) + 1, topic, on)

    def _take(self, frame: zmq.Frame, size: int, topic: bytes | None, on: bool) -> None:
        try:
            fd = int(frame.get(zmq.SRCFD))
        except zmq.ZMQError:
            return  # of a peer that is gone
        self._taken.append((fd, size, topic, on))

    def drained(self) -> None:
        """Note that every whole message that came has been received."""
        self._drained = True

    def close(self) -> None:
        """Stop the watch; the connections stay."""
        if self._thread is None:
            return
        os.close(self._wake)
        self._thread.join()
        self._thread = None
        os.close(self._sleeper)
        if not self._bound.closed:
            self._bound.disable_monitor()
        self._bus.drop(self._monitor)

    # -- the gate's thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with select.epoll() as epoll:
                self._watch(epoll)
        except BaseException as error:  # the feed ends with it
            self.crash = error
        finally:
            for connection in self._connections.values():
                connection.forget()

    def _watch(self, epoll: select.epoll) -> None:
        monitor = int(self._monitor.getsockopt(zmq.FD))
        epoll.register(self._sleeper, select.EPOLLIN)
        epoll.register(monitor, select.EPOLLIN)
        swept = 0.0
        while True:
            self._hear(epoll)
            ready = [fd for fd, _ in epoll.poll(CHECK_INTERVAL_S if self._connections else None)]
            if self._sleeper in ready:
                return
            taken = len(self._taken)
            self._hear(epoll)  # of every connection that these came on
            self._settle(taken)
            if (now := time.monotonic()) >= swept + CHECK_INTERVAL_S:
                swept = now
                if self._drained:
                    self._drained = False
                    self._peers.drained()
                ready = list(self._connections)
            for fd in ready:
                self._look(fd)

    def _hear(self, epoll: select.epoll) -> None:
        """Read all events of the monitor, which wakes the thread only for new ones."""
        while True:
            try:
                said, _ = self._monitor.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            event, fd = EVENT.unpack(said)
            if event == zmq.EVENT_ACCEPTED:
                self._come(epoll, fd)
            elif event & GONE:
                self._go(fd)
            elif event & FAILED:
                self.failed += 1

    def _come(self, epoll: select.epoll, fd: int) -> None:
        self._go(fd)
        try:
            connection = _Connection(fd)
        except OSError:
            return  # it is gone already
        self._connections[fd] = connection
        self._peers.come(fd, connection.where)
        try:
            epoll.register(fd, ARRIVALS)
        except OSError:
            self._go(fd)
            return
        self._look(fd)
        self._make_room()

    def _go(self, fd: int) -> None:
        self._peers.go(fd)
        if (connection := self._connections.pop(fd, None)) is not None:
            connection.forget()

    def _settle(self, taken: int) -> None:
        """Credit the messages received by the socket's thread, up to this many, to their peers."""
        for _ in range(taken):
            fd, size, topic, on = self._taken.popleft()
            if fd in self._peers:
                self._peers.sent(fd, self._connections[fd].received())
                self._peers.finished(fd, size)
                if topic is not None:
                    self._peers.wants(fd, topic, on)
                    self._weigh(fd)
                self._make_room()

    def _look(self, fd: int) -> None:
        """Check the bytes received on a connection against the limits."""
        if fd in self._peers:
            self._peers.sent(fd, self._connections[fd].received())
            self._weigh(fd)

    def _weigh(self, fd: int) -> None:
        while (one := self._peers.greedy(fd)) is not None:
            self.greedy += 1
            self._cut(one)

    def _make_room(self) -> None:
        while (one := self._peers.crowded_out()) is not None:
            self.crowded += 1
            self._cut(one)

    def _cut(self, fd: int) -> None:
        self._connections[fd].cut()
        self._go(fd)
