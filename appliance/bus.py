"""Every link between two of our processes. ZeroMQ is known here, in channels.py (the feed) and in curve.py (its lock).

    FrameOutlet -> FrameInlet     batches, capture to worker      shared memory; ipc, PUSH/PULL, one pair per worker
    EventLink  -> EventInlet      encoded events, worker to feed  ipc, PUSH/PULL

The inlet binds and the link connects: a queue belongs to the side that connects, so it survives the death of the
process it leads to. Nothing in ZeroMQ acknowledges: what is lost is found from the cumulative counts in every message,
and a sender stays until the receiver's stats page says that its end mark came. It may not leave earlier, even when all
is flushed: a receiver whose queue is full at that moment throws away what it has not read from the connection yet.
Messages on the ipc links have one part: of a multipart message whose peer dies half way the sender never learns.
No socket blocks, except where a method takes a timeout. Sockets are owned by the thread that made them.
"""

from __future__ import annotations

import errno
import math
import os
import stat
import struct
import time
from pathlib import Path
from typing import Any, NamedTuple

import zmq

from appliance.arena import Arena, ArenaError, View
from appliance.batch import KEPT_BATCHES
from appliance.options import Config

MAX_IPC_PATH = 107  # bytes in sockaddr_un.sun_path, less the final NUL
MIN_QUEUE = 4  # messages: below, ZeroMQ's batched acknowledgements stall the sender
RECONNECT_MS = 10  # a restarted process is back on its link at once; both ends are on this machine
HANDSHAKE_MS = 3000  # a peer that connects and says nothing holds a descriptor no longer than this
LONGEST_FRAME = (1 << 18) + 128  # bytes of a batch of one frame: libpcap's longest, with header and record
SPARE_SLOTS = 32  # what the capture fills, and has filled, while the workers have all that they may have
NAP_S = 0.0005  # between two looks at what a worker has let go; batches take it about as long
WAKE_S = 1.0
NO_SLOT = 0xFFFFFFFF
MAX_EVENT_MESSAGE = 64 << 20  # bytes; a larger one closes its connection, and the loss shows in the next cumulative

HANDLE_MAGIC = b"HCH1"
HANDLE = struct.Struct("<4sIIQQQQ")  # magic, capture, slot, epoch, serial, turn, length
EVENT_MAGIC = b"HCE1"
EVENT_HEADER = struct.Struct("<4sBBHIQQQ")  # magic, topic, flags, worker, events, epoch, sequence, cumulative
EVENT_END = 255  # the topic index that says: nothing more comes from this worker

Buffer = bytes | bytearray | memoryview
Socket = zmq.Socket[bytes]


class BusError(Exception):
    """A socket cannot be opened as configured. The text is for a person and says what to change."""


class BadMessage(ValueError):
    """The bytes are not a message of this version of the links."""


class EventMessage(NamedTuple):
    """One message from a worker to the feed; `cumulative` is the worker's events sent before it, over all its lives."""

    topic: int
    worker: int
    events: int
    epoch: int
    sequence: int
    cumulative: int
    body: Buffer

    @property
    def end(self) -> bool:
        """Whether it says that nothing follows."""
        return self.topic == EVENT_END


def pack_events(message: EventMessage) -> bytes:
    """The wire form: one part, header and body. Copies the body once."""
    topic, worker, events, epoch, sequence, cumulative, body = message
    return EVENT_HEADER.pack(EVENT_MAGIC, topic, 0, worker, events, epoch, sequence, cumulative) + body


def unpack_events(data: Buffer) -> EventMessage:
    """Reads a message; its body is a view into `data`. Raises BadMessage."""
    if len(data) < EVENT_HEADER.size:
        raise BadMessage(f"a message of events has at least {EVENT_HEADER.size} bytes, not {len(data)}")
    magic, topic, _flags, worker, events, epoch, sequence, cumulative = EVENT_HEADER.unpack_from(data)
    if magic != EVENT_MAGIC:
        raise BadMessage("a message of events starts with HCE1")
    return EventMessage(topic, worker, events, epoch, sequence, cumulative, memoryview(data)[EVENT_HEADER.size :])


def queue_length(budget_bytes: int, message_bytes: int, links: int = 1) -> int:
    """High-water mark of one end of a link, in messages: ZeroMQ counts messages, and both ends hold a queue."""
    return max(MIN_QUEUE, budget_bytes // (message_bytes * links * 2))


def shard_path(run_dir: Path, worker: int) -> Path:
    """Where worker `worker` takes its batches."""
    return run_dir / f"shard-{worker}"


def events_path(run_dir: Path) -> Path:
    """Where the feed takes the workers' events."""
    return run_dir / "events"


def _ipc(path: Path) -> str:
    length = len(os.fsencode(path))
    if length > MAX_IPC_PATH:
        raise BusError(
            f"{path}: {length} bytes are too long for a socket, at most {MAX_IPC_PATH}; choose a shorter run directory"
        )
    return f"ipc://{path}"


def _private_ipc(path: Path) -> str:
    """The address to bind. Access to an ipc socket is access to its directory, so that has to be ours alone."""
    about = path.parent.stat()
    if about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) & 0o077:
        raise BusError(f"{path.parent}: a run directory belongs to its user alone; do: chmod 0700 {path.parent}")
    return _ipc(path)


class Bus:
    """The sockets of one process, with one I/O thread. Close it last; see `close` for what that waits for."""

    def __init__(self) -> None:
        self._context = zmq.Context(io_threads=1)
        self._sockets: list[Socket] = []

    def socket(self, kind: int, **options: int | bytes) -> Socket:
        """A socket with the options every socket here needs, and `options` by their lower-case ZeroMQ names."""
        made = self._context.socket(kind)
        made.setsockopt(zmq.LINGER, 0)
        made.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        made.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        for name, value in options.items():
            made.setsockopt(getattr(zmq, name.upper()), value)
        self._sockets.append(made)
        return made

    def drop(self, socket: Socket) -> None:
        """Closes one socket before the others."""
        self._sockets.remove(socket)
        socket.close(linger=0)

    def close(self, linger_s: float = 0.0) -> None:
        """Closes every socket, after giving what waits in their queues linger_s seconds to leave."""
        for made in self._sockets:
            made.close(linger=round(linger_s * 1000))
        self._context.term()


class _Link:
    """The sending end of an ipc link. Its queue outlives the process it leads to."""

    def __init__(self, bus: Bus, path: Path, queue: int) -> None:
        self.socket = bus.socket(zmq.PUSH, sndhwm=queue)
        self.socket.connect(_ipc(path))

    def send(self, message: Buffer) -> bool:
        """Queues the message, or returns False at once when the queue is full. The buffer is free afterwards."""
        try:
            self.socket.send(message, zmq.DONTWAIT, copy=True)
        except zmq.Again:
            return False
        return True

    def wait(self, timeout_s: float) -> bool:
        """Waits until `send` has room, at most timeout_s; whether it has."""
        return bool(self.socket.poll(max(0, round(timeout_s * 1000)), zmq.POLLOUT))


class _Inlet:
    """The receiving end of an ipc link. It takes over the path from a dead predecessor."""

    def __init__(self, bus: Bus, path: Path, queue: int, max_bytes: int) -> None:
        self.socket = bus.socket(zmq.PULL, rcvhwm=queue, maxmsgsize=max_bytes)
        bind(self.socket, _private_ipc(path), "the run directory")

    def receive(self) -> memoryview | None:
        """The next message, or None when there is none now. The view keeps the message alive; nothing is copied."""
        try:
            return self.socket.recv(zmq.DONTWAIT, copy=False).buffer
        except zmq.Again:
            return None


class FrameOutlet:
    """Batches from one capture to every worker. They lie in shared memory, where the capture writes and the workers
    read them; what ZeroMQ carries is which slot a worker may read now. A worker has at most `quota` of them, the last
    few of which it keeps to compare retransmissions with; so a slow one costs the others nothing.

    Raises BusError when there is no room for a single batch."""

    def __init__(self, bus: Bus, config: Config, run_dir: Path, capture: int, epoch: int) -> None:
        shard, workers = config.shard, config.worker_count
        self.batch_bytes = shard.batch_bytes
        self.quota = KEPT_BATCHES + queue_length(shard.link_bytes, shard.batch_bytes, config.capture_count)
        path = run_dir / f"frames-{capture}-{epoch:x}"
        try:
            for old in run_dir.glob(f"frames-{capture}-*"):
                old.unlink()
            slots = workers * (self.quota + 2) + SPARE_SLOTS
            self._arena = Arena(path, workers, slots, max(shard.batch_bytes, LONGEST_FRAME))
            first = self._arena.lend()
        except (OSError, ArenaError) as error:
            raise BusError(f"no memory for batches: {error}; choose another run directory (--run-dir)") from error
        if first is None:
            raise BusError(f"{path}: no room for a batch of {shard.batch_bytes} bytes; choose another run directory")
        self._arena.take_back(self._arena.slot_of(first))
        self._capture, self._epoch = capture, epoch
        self._sockets = [bus.socket(zmq.PUSH, sndhwm=0) for _ in range(workers)]
        for worker, made in enumerate(self._sockets):
            made.connect(_ipc(shard_path(run_dir, worker)))
        self._woken = [0.0] * workers

    def lend(self) -> memoryview | None:
        """A slot of batch_bytes to write a batch into, None when there is none."""
        slot = self._arena.lend()
        return None if slot is None else slot[: self.batch_bytes]

    def take_back(self, message: Buffer) -> bool:
        """Ends a loan: the message will not be sent. False if it lies in no slot."""
        slot = self._arena.slot_of(message)
        if slot >= 0:
            self._arena.take_back(slot)
        return slot >= 0

    def room(self, worker: int) -> bool:
        """Whether the worker may be given another batch now."""
        if self._arena.out(worker) >= self.quota:
            self._arena.collect()
        return self._arena.out(worker) < self.quota and self._arena.available()

    def send(self, worker: int, message: Buffer) -> bool:
        """Passes a batch on, or returns False at once when there is no room. A batch that lies in no slot is copied
        into one; one that does is not the caller's any more."""
        if not self.room(worker):
            return False
        slot = self._arena.slot_of(message)
        if slot < 0:
            lent = self._arena.lend()
            assert lent is not None  # there is room
            lent[: len(message)] = message
            slot = self._arena.slot_of(lent)
        turn, serial = self._arena.give(slot, worker)
        self._say(worker, serial, slot, turn, len(message))
        return True

    def wait(self, worker: int, timeout_s: float) -> bool:
        """Waits until the worker may be given a batch, at most timeout_s; whether it may."""
        end = time.monotonic() + timeout_s
        while not self.room(worker):
            if time.monotonic() >= end:
                self._wake(worker)
                return False
            time.sleep(NAP_S)
        return True

    def _wake(self, worker: int) -> None:
        """Says something without a batch. A worker that was started again while its predecessor had every slot learns
        from it that these are free."""
        now = time.monotonic()
        if now - self._woken[worker] >= WAKE_S:
            self._woken[worker] = now
            self._say(worker, self._arena.serial(worker), NO_SLOT, 0, 0)

    def _say(self, worker: int, serial: int, slot: int, turn: int, length: int) -> None:
        said = HANDLE.pack(HANDLE_MAGIC, self._capture, slot, self._epoch, serial, turn, length)
        self._sockets[worker].send(said, zmq.DONTWAIT)


class FrameInlet(_Inlet):
    """Batches from every capture, in one worker."""

    def __init__(self, bus: Bus, config: Config, run_dir: Path, worker: int) -> None:
        super().__init__(bus, shard_path(run_dir, worker), 0, HANDLE.size)
        self._run_dir, self._worker = run_dir, worker
        self._views: dict[int, tuple[int, View | None]] = {}  # by capture: epoch and arena of the one that lives

    def receive(self) -> memoryview | None:
        """The next batch, or None when there is none now. Its slot goes back to the capture when the view is let go.

        A batch whose capture and memory are gone is passed over: the next cumulative count shows its frames as lost."""
        while (said := super().receive()) is not None:
            if len(said) != HANDLE.size or said[:4] != HANDLE_MAGIC:
                raise BadMessage(f"a batch is announced by {HANDLE.size} bytes that start with HCH1")
            _, capture, slot, epoch, serial, turn, length = HANDLE.unpack(said)
            view = self._view(capture, epoch, serial)
            if view is not None and slot != NO_SLOT:
                return memoryview(view.batch(slot, turn, length))
        return None

    def _view(self, capture: int, epoch: int, serial: int) -> View | None:
        known, view = self._views.get(capture, (-1, None))
        if known != epoch:
            try:
                view = View(self._run_dir / f"frames-{capture}-{epoch:x}")
                view.begin(self._worker, serial)
            except FileNotFoundError:
                view = None
            self._views[capture] = epoch, view
        return view


class EventLink(_Link):
    """Encoded events from one worker to the feed."""

    def __init__(self, bus: Bus, config: Config, run_dir: Path) -> None:
        queue = queue_length(config.shard.link_bytes, config.feed.event_batch_bytes)
        super().__init__(bus, events_path(run_dir), queue)


class EventInlet(_Inlet):
    """Encoded events from every worker, in the feed."""

    def __init__(self, bus: Bus, config: Config, run_dir: Path) -> None:
        queue = queue_length(config.shard.link_bytes, config.feed.event_batch_bytes)
        super().__init__(bus, events_path(run_dir), queue, max(MAX_EVENT_MESSAGE, 4 * config.feed.event_batch_bytes))


class Waiter:
    """Waits for any of several sockets and file descriptors."""

    def __init__(self) -> None:
        self._poller = zmq.Poller()

    def watch(
        self, thing: zmq.Socket[Any] | int, *, read: bool = False, write: bool = False, broken: bool = False
    ) -> None:
        """Adds or changes what to wait for: readable, writable, or (descriptors only) the other end gone."""
        self._poller.register(thing, read * zmq.POLLIN | write * zmq.POLLOUT | broken * zmq.POLLERR)

    def forget(self, thing: zmq.Socket[Any] | int) -> None:
        """Removes it; nothing happens when it is not watched."""
        if thing in self._poller:
            self._poller.unregister(thing)

    def wait(self, timeout_s: float | None) -> set[zmq.Socket[Any] | int]:
        """What is ready, after at most timeout_s (None: no limit). A descriptor whose other end is gone is ready."""
        return {thing for thing, _ in self._poller.poll(None if timeout_s is None else math.ceil(timeout_s * 1000))}


def bind(bound: Socket, endpoint: str, where: str) -> None:
    try:
        bound.bind(endpoint)
    except zmq.ZMQError as error:
        advice = "; another program, or another run of this one, has it" if error.errno == errno.EADDRINUSE else ""
        raise BusError(f"{where}: cannot open {endpoint}: {error.strerror}{advice}") from error
