"""KeyStore: the secrets of TLS sessions that a worker knows, by client random.

A secret lives in a bytearray, which is overwritten when it goes: with the connection that used it, by age, or because a
limit was reached.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Protocol

from appliance.keylog.secrets import CLIENT_RANDOM_BYTES, LABELS, unpacked

MOST_LINGERING = 16384  # ended connections, some KB each


class Waiter(Protocol):
    """A connection that waits for its secrets."""

    def keys_came(self) -> None:
        """Look at the secrets again; a new one is there."""

    def expire(self) -> None:
        """End the wait: the connection has ended, and no secret came in time."""


class Secrets:
    """The secrets of one session, by place in LABELS; None: not known."""

    __slots__ = ("arrived_ns", "known", "users")

    def __init__(self, now_ns: int) -> None:
        self.known: list[bytearray | None] = [None] * len(LABELS)
        self.arrived_ns = now_ns
        self.users = 0  # connections that read with them

    def count(self) -> int:
        return sum(secret is not None for secret in self.known)

    def erase(self) -> None:
        """Erase the secrets."""
        for secret in self.known:
            if secret is not None:
                secret[:] = bytes(len(secret))
        self.known = [None] * len(LABELS)


class KeyStore:
    """The secrets of a worker. max_keys: secrets that are kept; the oldest session goes first. max_age_ns: 0 is any.

    expects: connections wait for secrets even if none has come yet. lingers: even connections that have ended wait.
    """

    def __init__(self, max_keys: int, max_age_ns: int, expects: bool, lingers: bool) -> None:
        self.configure(max_keys, max_age_ns, expects, lingers)
        self.held = 0  # secrets now
        self.received = 0
        self.over_limit = 0  # secrets that went because of max_keys
        self.too_old = 0
        self.used = 0  # secrets that went with their connection
        # The oldest first, in dictionaries whose first entry is found at once, however many were before it.
        self._sessions: OrderedDict[bytes, Secrets] = OrderedDict()
        self._waiting: dict[bytes, list[Any]] = {}
        self._lingering: OrderedDict[int, tuple[int, Waiter]] = OrderedDict()  # by id: deadline and connection

    def configure(self, max_keys: int, max_age_ns: int, expects: bool, lingers: bool) -> None:
        """Apply other options from now on."""
        self.active = True  # False: an option has turned decryption off
        self.lingers = lingers
        self.expects = expects
        self._max_keys = max_keys
        self._max_age_ns = max_age_ns

    def add(self, packed: bytes, now_ns: int) -> list[Waiter]:
        """Add secrets of a link; return the connections that waited for one of them."""
        came: dict[int, Waiter] = {}
        for place, random, secret in unpacked(packed):
            self.received += 1
            session = self._sessions.get(random)
            if session is None:
                session = self._sessions[random] = Secrets(now_ns)
            old = session.known[place]
            if old is None:
                self.held += 1
            else:
                old[:] = bytes(len(old))
            session.known[place] = bytearray(secret)
            for waiter in self._waiting.get(random, ()):
                came[id(waiter)] = waiter
            if self.held > self._max_keys:
                self._make_room()
        return list(came.values())

    def opens(self) -> bool:
        """Return whether connections that begin now may be decrypted."""
        return self.active and (self.expects or self.received > 0)

    def find(self, random: bytes) -> Secrets | None:
        """Return the secrets of a session; a caller that keeps them counts itself in `users`."""
        return self._sessions.get(random)

    def wait(self, random: bytes, waiter: Waiter) -> None:
        """Add a waiter, which keys_came() tells of new secrets of this session until forget()."""
        if len(random) == CLIENT_RANDOM_BYTES:
            waiters = self._waiting.setdefault(random, [])
            if not any(one is waiter for one in waiters):
                waiters.append(waiter)

    def forget(self, random: bytes, waiter: Waiter) -> None:
        """End the wait of a connection."""
        waiters = self._waiting.get(random)
        if waiters is not None:
            waiters[:] = [one for one in waiters if one is not waiter]
            if not waiters:
                del self._waiting[random]

    def linger(self, waiter: Waiter, deadline_ns: int) -> None:
        """Keep a connection that has ended until its secrets come, or until this time of the data path."""
        while len(self._lingering) >= MOST_LINGERING:
            self._lingering.pop(next(iter(self._lingering)))[1].expire()
        self._lingering[id(waiter)] = deadline_ns, waiter

    def linger_no_more(self, waiter: Waiter) -> None:
        """Let a connection go that has ended."""
        self._lingering.pop(id(waiter), None)

    def expire(self, now_ns: int | None = None) -> None:
        """End the waits of ended connections up to this time; None: of all."""
        while self._lingering:
            place, (deadline_ns, waiter) = next(iter(self._lingering.items()))
            if now_ns is not None and now_ns < deadline_ns:
                return
            del self._lingering[place]
            waiter.expire()

    def leave(self, random: bytes, session: Secrets) -> None:
        """End the use of a session by a connection; the secrets go with the last one."""
        session.users -= 1
        if session.users > 0:
            return
        if self._sessions.get(random) is session:
            del self._sessions[random]
            count = session.count()
            self.held -= count
            self.used += count
        session.erase()

    def sweep(self, now_ns: int) -> None:
        """Forget sessions that came too long ago and that no connection uses."""
        while self._max_age_ns and self._sessions:
            random, session = next(iter(self._sessions.items()))
            if session.arrived_ns == 0:  # before the first frame
                session.arrived_ns = now_ns
            if session.arrived_ns + self._max_age_ns >= now_ns:
                return
            self.too_old += self._drop(random, session)

    def _make_room(self) -> None:
        while self.held > self._max_keys and self._sessions:
            random, session = next(iter(self._sessions.items()))
            self.over_limit += self._drop(random, session)

    def _drop(self, random: bytes, session: Secrets) -> int:
        """Forget the oldest session; a connection that reads with it keeps its ciphers. Return its secrets."""
        del self._sessions[random]
        count = session.count()
        self.held -= count
        if not session.users:
            session.erase()
        return count
