"""The peers of a public port: the memory that each of them uses, and the choice of a peer to disconnect.

Pure. ZeroMQ bounds each part of a message and the queued messages, but neither the parts of one message nor the
memory of subscriptions. This module subtracts the whole messages of a peer from the bytes that it sent. The rest is
its unfinished message. That and its subscriptions are bounded, for one peer and for all together. Bytes that the
socket's thread has not had yet may all become topics, so they cost as much. Else a burst of subscriptions on many
connections would fill ZeroMQ's tree of topics, which it walks through for each connection that ends. The number of
peers is bounded, too, and so are those of another host. A place is for a peer that talks; newcomers, which are silent
so far, have a few places of their own, and the oldest of them is disconnected first.
"""

from __future__ import annotations

import socket
from collections import Counter

OVERHEAD = 64  # bytes of a message beside its own, with CURVE; and of a topic in memory
TOPIC_BYTE = 16  # the cost of a byte of a topic; ZeroMQ keeps topics in a tree with a node for each byte
STRANGERS = 4  # silent newcomers may exceed the limit by this part of it
SHARE = 4  # of the memory for all peers, the part that one may use
PLACES = 16  # of the peers that may be connected, the part that another host may have
_THIS_HOST = bytes(8)  # the first 64 bits of ::1


def origin(family: int, address: str) -> bytes:
    """Return the origin of a peer: an IPv4 address, or the 64 bits of an IPv6 address that one host may fill."""
    if family == socket.AF_INET:
        return socket.inet_pton(socket.AF_INET, address)
    if family != socket.AF_INET6:
        return b""
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    return packed[12:] if packed.startswith(bytes(10) + b"\xff\xff") else packed[:8]


def _is_another(where: bytes) -> bool:
    """Return whether an origin is another host, and not this one or unknown."""
    return bool(where) and where[0] != 127 and where != _THIS_HOST


class _Peer:
    def __init__(self, where: bytes, handshake: int, byte_cost: int) -> None:
        self.where = where
        self.byte_cost = byte_cost
        self.handshake = self.known = handshake  # unfinished bytes that are none of a topic
        self.earlier = 0  # unfinished bytes at the last call of drained()
        self.sent = 0  # bytes, whatever their use
        self.finished = 0  # of these, those of whole messages
        self.topics: set[bytes] = set()
        self.live = 0  # bytes that its topics take
        self.talks = False

    @property
    def unfinished(self) -> int:
        return self.sent - self.finished

    @property
    def held(self) -> int:
        unknown = max(0, self.unfinished - self.known)
        return self.unfinished + unknown * (self.byte_cost - 1) + self.live


class Peers:
    """Peers by a number. most: of those that talk, at a time; most_held: bytes, for all of them.

    handshake: the longest one, in bytes, which belong to no message; byte_cost: of memory for each byte behind it that
    the socket's thread has not had yet.
    """

    def __init__(self, most: int, most_held: int, handshake: int = 0, byte_cost: int = 1) -> None:
        self.most = most
        self.most_held = most_held
        self._handshake, self._byte_cost = handshake, byte_cost
        self.held = 0
        self.subscribers = 0  # peers with a subscription
        self._peers: dict[int, _Peer] = {}  # the oldest first
        self._talking = 0  # peers that talk
        self._places: Counter[bytes] = Counter()  # peers by their origin
        self._crowding: set[bytes] = set()  # origins with too many

    def __len__(self) -> int:
        return len(self._peers)

    def __contains__(self, number: int) -> bool:
        return number in self._peers

    def come(self, number: int, where: bytes) -> None:
        """Add a peer."""
        self.go(number)
        self._peers[number] = _Peer(where, self._handshake, self._byte_cost)
        self._places[where] += 1
        if self._places[where] > max(1, self.most // PLACES) and _is_another(where):
            self._crowding.add(where)

    def go(self, number: int) -> None:
        """Remove a peer, and its share of the memory."""
        peer = self._peers.pop(number, None)
        if peer is not None:
            self.held -= peer.held
            self.subscribers -= bool(peer.topics)
            self._talking -= peer.talks
            self._places[peer.where] -= 1
            if self._places[peer.where] <= max(1, self.most // PLACES):
                self._crowding.discard(peer.where)
            if not self._places[peer.where]:
                del self._places[peer.where]

    def sent(self, number: int, total: int) -> None:
        """Set the total of bytes that it has sent."""
        if (peer := self._peers.get(number)) is not None:
            before = peer.held
            peer.sent = max(peer.sent, total)
            self.held += peer.held - before

    def finished(self, number: int, size: int) -> None:
        """Count a whole message that was received. Call `sent` before."""
        if (peer := self._peers.get(number)) is not None:
            before = peer.held
            peer.finished += min(size + OVERHEAD, peer.unfinished)
            self.held += peer.held - before
            self._set_talks(peer, True)

    def drained(self) -> None:
        """Note that the socket's thread has had every whole message that came before the last call of this method."""
        for peer in self._peers.values():
            before = peer.held
            peer.known = max(peer.handshake, min(peer.earlier, peer.unfinished))
            peer.earlier = peer.unfinished
            self.held += peer.held - before

    def wants(self, number: int, topic: bytes, on: bool) -> None:
        """Begin or end one of its subscriptions."""
        peer = self._peers.get(number)
        if peer is None or on == (topic in peer.topics):
            return
        step = TOPIC_BYTE * len(topic) + OVERHEAD
        self.subscribers -= bool(peer.topics)
        if on:
            peer.topics.add(topic)
        else:
            peer.topics.remove(topic)
            step = -step
        self.subscribers += bool(peer.topics)
        peer.live += step
        self.held += step
        self._set_talks(peer, bool(peer.topics))

    def _set_talks(self, peer: _Peer, talks: bool) -> None:
        self._talking += talks - peer.talks
        peer.talks = talks

    def greedy(self, number: int) -> int | None:
        """Return the peer to disconnect after this one sent something: itself, one with more memory, or None."""
        peer = self._peers.get(number)
        if peer is not None and peer.held > self.most_held // SHARE:
            return number
        if self.held > self.most_held:
            return max(self._peers, key=lambda one: self._peers[one].held)
        return None

    def crowded_out(self) -> int | None:
        """Return the peer to disconnect because there are too many, or None.

        The first choice is the newcomer that has been silent longest. If too many peers talk, it is the last of those
        from the origin of most peers. Of a host with too many it is likewise one that is silent, or the last one.
        """
        for crowding in self._crowding:
            mine = [number for number, peer in self._peers.items() if peer.where == crowding]
            return next((number for number in mine if not self._peers[number].talks), mine[-1])
        if self._talking > self.most:
            talking = [(number, peer.where) for number, peer in self._peers.items() if peer.talks]
            places = Counter(where for _, where in talking)
            most = max(places.values())
            return next(number for number, where in reversed(talking) if places[where] == most)
        if len(self._peers) > self.most and len(self._peers) - self._talking > self.most // STRANGERS:
            return next(number for number, peer in self._peers.items() if not peer.talks)
        return None
