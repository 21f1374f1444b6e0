"""The links between the processes of a run.

    frame_link.py    batches of frames, capture to worker, a pair of sockets for each worker; the same to the recorder
    event_link.py    encoded events, worker to feed
    file_link.py     decoded bodies, worker to the files process
    copy_link.py     encoded events once more, feed to keeper

Messages lie in shared memory (shared_memory.pyx), where their sender wrote them; ZeroMQ (ipc, PUSH/PULL) only carries
the numbers of readable slots. The receiver binds and the sender connects. A queue belongs to the side that connects, so
it survives the death of the process it leads to.

ZeroMQ has no acknowledgements, and loses what a sender gave to a connection whose receiver has died. The shared memory
says what was sent, so a receiver looks there for messages whose announcements it missed (MessageReceiver). Receivers
find other losses by the cumulative counts in every message. A sender stays until the receiver's stats page shows that
its end mark arrived, even when its queues are flushed, because a receiver whose queue is full drops the unread rest of
a closed connection. Messages on the ipc links have one part, because a sender does not notice that its peer died within
a multipart message. No socket blocks, except where a method takes a timeout. Each socket belongs to the thread that
made it.
"""

from __future__ import annotations

import os
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import zmq

from appliance.ipc.event_batch import BadMessage, Body
from appliance.ipc.shared_memory import SharedMemoryError, SlotLease, SlotReader, SlotWriter
from appliance.ipc.sockets import Bus, BusError, bind, ipc_address, private_ipc_address
from appliance.native.safe_files import make_folder
from appliance.runtime.paths import Paths, all_returns, epoch_of, returns

ROOM_CHECK_INTERVAL_S = 0.0005  # between two checks of returned slots, about the interval of messages
SEARCH_INTERVAL_S = 0.5  # between two searches of a receiver for messages whose announcements were lost

MAKE_ROOM = "make room there (df; in a container: --shm-size), or choose another run directory (--run-dir)"

NONE_ANNOUNCED = 1 << 64  # above the number of every message
HANDLE_MAGIC = b"HCH1"
HANDLE = struct.Struct("<4sIIQQQQ")  # magic, sender, slot, epoch, number, turn, length

Begin = Callable[[int, int], int]


class MessageSender:
    """Sends messages to one or several processes. They lie in shared memory: this process writes and the others read
    them. A receiver has at most `quota` of them, so a slow one costs the others nothing.

    kind and sender: the name of this memory within the run. Raises BusError if there is no room for a single message.
    """

    def __init__(
        self,
        bus: Bus,
        run_dir: Path,
        kind: str,
        sender: int,
        epoch: int,
        receivers: Sequence[Path],
        *,
        quota: int,
        slots: int,
        slot_bytes: int,
        shared: bool = False,
    ) -> None:
        self.quota = quota
        self.sent_slot = -1  # of the last message; -1: none
        self.slot_bytes = slot_bytes
        self.path = path = Paths(run_dir).arena(kind, sender, epoch)
        try:
            make_folder(path.parent)
            for old in Paths(run_dir).arenas(kind, sender):
                old.unlink()
            return_files = [returns(receiver, kind, sender, epoch) for receiver in receivers]
            self._slots = SlotWriter(path, return_files, slots, slot_bytes, shared=shared)
            first = self._slots.acquire()
        except (OSError, SharedMemoryError) as error:
            raise BusError(f"no memory for {kind}: {error}; {MAKE_ROOM}") from error
        if first is None:
            why = os.strerror(self._slots.refusal)
            raise BusError(f"no memory for {kind}: {path}: no room for {slot_bytes:,} bytes: {why}; {MAKE_ROOM}")
        self._slots.release(self._slots.slot_of(first))
        self._sender, self._epoch = sender, epoch
        self._sockets = [bus.socket(zmq.PUSH, sndhwm=0) for _ in receivers]
        for receiver, made in zip(receivers, self._sockets, strict=True):
            made.connect(ipc_address(receiver))

    def room(self, receiver: int) -> bool:
        """Return whether the receiver's quota has room for another message now."""
        if self._slots.in_use(receiver) >= self.quota:
            self._slots.reclaim()
        return self._slots.in_use(receiver) < self.quota and self._slots.available()

    def out_of_memory(self, receiver: int) -> bool:
        """Return whether the quota has room, but the file system has none for another slot."""
        return self._slots.refusal != 0 and self._slots.in_use(receiver) < self.quota

    def send(self, receiver: int, *parts: Body) -> bool:
        """Send a message, or return False at once if there is no room. `sent_slot` is then its slot.

        A message in a slot then belongs to the receiver. Any other is copied into a slot, its parts behind each other.
        """
        if not self.room(receiver):
            return False
        slot, length = self._slots.slot_of(parts[0]), len(parts[0])
        if slot < 0:
            acquired = self._slots.acquire()
            assert acquired is not None  # room() has found one
            slot, length = self._slots.slot_of(acquired), 0
            for part in parts:
                acquired[length : length + len(part)] = part
                length += len(part)
        self._announce(receiver, slot, length, *self._slots.grant(slot, receiver, length))
        self.sent_slot = slot
        return True

    def _announce(self, receiver: int, slot: int, length: int, turn: int, number: int) -> None:
        announcement = HANDLE.pack(HANDLE_MAGIC, self._sender, slot, self._epoch, number, turn, length)
        self._sockets[receiver].send(announcement, zmq.DONTWAIT)

    def wait(self, receiver: int, timeout_s: float) -> bool:
        """Wait until the receiver's quota has room, at most timeout_s; return whether it has."""
        end = time.monotonic() + timeout_s
        while not self.room(receiver):
            if time.monotonic() >= end:
                return False
            time.sleep(ROOM_CHECK_INTERVAL_S)
        return True


class MessageReceiver:
    """Receives messages from every MessageSender of a kind, on a socket at `path`, which a restart reuses.

    Unfinished messages of the predecessor come first. An announcement is lost when its sender has not yet noticed that
    the predecessor is gone. Then a later one tells, or none comes because the quota is used up: so a receiver also
    searches the shared memory.

    receiver: the index of this one among the senders' receivers. begin(sender, epoch): the number of the first message
    to read from this memory of a sender. max_bytes: of a message that comes through the socket itself, and has no
    number. copies, shared: see SlotReader.
    """

    def __init__(
        self,
        bus: Bus,
        run_dir: Path,
        path: Path,
        kind: str,
        senders: int,
        receiver: int,
        begin: Begin | None,
        max_bytes: int,
        *,
        copies: bool = False,
        shared: bool = False,
    ) -> None:
        self.socket = bus.socket(zmq.PULL, rcvhwm=0, maxmsgsize=max_bytes)
        make_folder(path.parent)
        bind(self.socket, private_ipc_address(path), "the run directory")
        self._paths, self._path, self._kind = Paths(run_dir), path, kind
        self._receiver, self._begin, self._copies, self._shared = receiver, begin, copies, shared
        self._readers: dict[int, tuple[int, SlotReader]] = {}  # by sender: epoch and arena of the one that lives
        self._next: dict[int, int] = {}  # by sender: the number of the next message
        self._stuck: dict[int, int] = {}  # by sender: the number that the last search found waiting
        self._search_at = time.monotonic() + SEARCH_INTERVAL_S
        self.queued: deque[tuple[int, int, SlotLease]] = deque()  # sender, number, message
        self.sender = self.number = -1  # of the last received message
        self._senders = senders
        self._open_all(NONE_ANNOUNCED)

    def next_message(self) -> SlotLease | memoryview | None:
        """Return the next message, or None if there is none now. Releasing it returns its slot to the sender.

        A message whose sender and memory are gone is skipped; the next cumulative count shows the loss.
        """
        while not self.queued:
            try:
                announcement = self.socket.recv(zmq.DONTWAIT, copy=False).buffer
            except zmq.Again:
                if time.monotonic() < self._search_at or not self._search():
                    return None
                continue
            if len(announcement) != HANDLE.size or announcement[:4] != HANDLE_MAGIC:
                self.sender = self.number = -1
                return self._inline(announcement)
            _, sender, slot, epoch, number, turn, length = HANDLE.unpack(announcement)
            reader = self._reader(sender, epoch, number)
            if reader is None:
                continue
            if number > self._next[sender]:
                self._queue(sender, reader, [one for one in self._unread(sender, reader) if one[0] < number])
            if number >= self._next[sender]:
                self._queue(sender, reader, [(number, slot, turn, length)])
        self.sender, self.number, message = self.queued.popleft()
        return message

    def _inline(self, announcement: memoryview) -> memoryview:
        """Return a message that came through the socket itself."""
        raise BadMessage(f"a message is announced by {HANDLE.size} bytes that start with HCH1")

    def _reader(self, sender: int, epoch: int, announced: int) -> SlotReader | None:
        """Return the memory of a sender, and queue its unread messages.

        announced: the number of the first message announced to this process.
        """
        known, reader = self._readers.get(sender, (-1, None))
        if known == epoch:
            return reader
        mine = returns(self._path, self._kind, sender, epoch)
        try:
            arena = self._paths.arena(self._kind, sender, epoch)
            reader = SlotReader(arena, mine, copies=self._copies, shared=self._shared)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BusError(f"no memory for {mine}: {error.strerror}") from error
        for old in all_returns(self._path, self._kind, sender):
            if old != mine:
                old.unlink()
        try:
            first = self._begin(sender, epoch) if self._begin else 0
        except KeyError as error:
            raise BadMessage(f"a message of sender {sender}, which does not exist") from error
        earlier = [one for one in reader.resume(self._receiver, first) if one[0] < announced]
        self._readers[sender] = epoch, reader
        self._next[sender] = first
        self._stuck.pop(sender, None)
        self._queue(sender, reader, earlier)
        return reader

    def _open_all(self, announced: int) -> None:
        """Open the memory of every sender that has one, and queue its unread messages below a number."""
        for sender in range(self._senders):
            for found in self._paths.arenas(self._kind, sender):
                try:
                    self._reader(sender, epoch_of(found), announced)
                except (SharedMemoryError, ValueError):
                    pass  # its sender is making it, and it is empty

    def _unread(self, sender: int, reader: SlotReader) -> list[tuple[int, int, int, int]]:
        return reader.unread(self._receiver, self._next[sender])

    def _queue(self, sender: int, reader: SlotReader, messages: list[tuple[int, int, int, int]]) -> None:
        """Queue messages: number, slot, turn, length."""
        for number, slot, turn, length in messages:
            self.queued.append((sender, number, reader.lease(slot, turn, length)))
            self._next[sender] = number + 1

    def _search(self) -> bool:
        """Queue messages whose announcements were lost, and return whether there are any.

        They are those that two searches in a row found waiting, each with nothing left on the socket. The announcement
        of a message that only one search found may be on its way, behind a message that lies in no slot.
        """
        with suppress(OSError, BusError):  # other connections hold every descriptor, so the next search tries again
            self._open_all(0)
        for sender, (_, reader) in self._readers.items():
            waiting = self._unread(sender, reader)
            if waiting and self._stuck.get(sender) == waiting[0][0]:
                self._queue(sender, reader, waiting)
                self._stuck.pop(sender)
            elif waiting:
                self._stuck[sender] = waiting[0][0]
            else:
                self._stuck.pop(sender, None)
        self._search_at = time.monotonic() + SEARCH_INTERVAL_S
        return bool(self.queued)
