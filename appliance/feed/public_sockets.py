"""The public sockets of a running feed: they open, serve readers, and open again when a key was removed.

Only a process with a feed loads this module, and the ones of the sockets with it.
"""

from __future__ import annotations

import resource
import time
from contextlib import suppress
from typing import Any

from appliance.config.address import OFF
from appliance.config.schema import Config
from appliance.feed.authenticator import ZapAuthenticator
from appliance.feed.numbering import Numbering
from appliance.feed.replay_server import Replay
from appliance.feed.sockets import REOPEN_INTERVAL_S, FeedSocket, GuardedSocket, ReplaySocket
from appliance.ipc.peer_limits import STRANGERS
from appliance.ipc.sockets import Bus, BusError, Waiter
from appliance.pubsub.curve_keys import KeyFault, read_allowed, read_pair
from appliance.runtime import log
from appliance.runtime.child import ChildRuntime
from appliance.runtime.paths import Paths, part_of
from appliance.stats.page import Page

OWN_DESCRIPTORS = 128  # of the process, beside one a worker: more than it needs
MIN_PEERS = 8
PORTS = 2


class PublicSockets:
    """The socket of the feed, that of the replay unless it is off, and the keys that may use them.

    Raises BusError or KeyFault.
    """

    def __init__(
        self, config: Config, paths: Paths, page: Page, bus: Bus, waiter: Waiter, numbering: Numbering
    ) -> None:
        self.config = config
        self.replay: Replay | None = None
        self.replay_endpoint = ""
        self._paths = paths
        self._page = page
        self._bus = bus
        self._waiter = waiter
        self._numbering = numbering
        self._lock = read_pair(config.feed.curve_key) if config.feed.curve_key else None
        self._authenticator = self._start_authenticator() if self._lock else None
        self._open(config.feed.bind, config.feed.replay)

    def _open(self, bind: str, replay: str) -> None:
        """Open the feed and, unless it is off, the replay. Raises BusError."""
        options = self.config.feed
        guarded_sockets: list[GuardedSocket] = []
        peers = _max_peers(self.config)
        if replay != OFF:
            socket = ReplaySocket(self._bus, replay, self._lock, peers, options.peer_bytes)
            guarded_sockets.append(socket)
        try:
            self.feed = FeedSocket(self._bus, bind, options.subscriber_queue, self._lock, peers, options.peer_bytes)
        except BusError:
            for guarded in guarded_sockets:
                guarded.close()
            raise
        guarded_sockets.append(self.feed)
        self._announce("feed", self.feed.endpoint)
        if replay != OFF:
            numbers = self._numbering
            self.replay = Replay(socket, numbers.store, self._page, options, numbers.epoch, numbers.sequences)
            self.replay_endpoint = socket.endpoint
            self._announce("replay", socket.endpoint)
        for guarded in guarded_sockets:
            self._waiter.watch(guarded.socket, read=True)

    def _announce(self, name: str, endpoint: str) -> None:
        """Publish the address of a socket, which may have any free port: a file, with a link in the run directory."""
        path = self._paths.own_endpoint(name)
        part = part_of(path)
        part.write_text(endpoint)
        part.rename(path)

    @property
    def _guarded(self) -> list[GuardedSocket]:
        return [self.feed, *([self.replay.socket] if self.replay else [])]

    # -- readers -----------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Wait for replay requests only while there is room for another."""
        if self.replay and self.replay.listening:
            self._waiter.watch(self.replay.socket.socket, read=True)
        elif self.replay:
            self._waiter.forget(self.replay.socket.socket)

    def serve(self, ready: set[Any]) -> None:
        """Accept allowed peers, read subscriptions, answer replay requests, and count the refused peers."""
        if self._authenticator:
            self._page.add("refused.key", self._authenticator.serve())
        self.feed.read_subscriptions()
        self._page["subscribers"] = self.feed.subscribers
        if self.replay and self.replay.socket.socket in ready:
            self.replay.receive()
        if self.replay:
            self.replay.serve()
        for guarded in self._guarded:
            self._count_refused(guarded)

    def _count_refused(self, guarded: GuardedSocket) -> None:
        for reason, count in guarded.refused().items():
            self._page.add(f"refused.{reason}", count)

    # -- keys --------------------------------------------------------------------------------------------------------

    def _start_authenticator(self) -> ZapAuthenticator:
        authenticator = ZapAuthenticator(self._bus, self._allowed())
        self._waiter.watch(authenticator.socket, read=True)
        return authenticator

    def _allowed(self) -> dict[bytes, str]:
        """Return the allowed keys. Raises KeyFault."""
        allowed, faults = read_allowed(self.config.feed.curve_clients)
        for fault in faults:
            log.warning(f"{fault}; left out", reason="keys")
        self._page["clients_allowed"] = len(allowed)
        return allowed

    def reload(self, config: Config, runtime: ChildRuntime) -> None:
        """Apply a new configuration: read the folder of keys again, and disconnect removed ones at once.

        All sockets then open again, and allowed peers reconnect. These lose nothing, because they can request the
        messages published meanwhile.
        """
        self.config = config
        if self._authenticator is None:
            return
        try:
            allowed = self._allowed()
        except KeyFault as fault:
            runtime.reject_config(f"{fault}; the keys read before stay")
            return
        removed = self._authenticator.allowed.keys() - allowed.keys()
        self._authenticator.allowed = allowed
        self._page.add("reloads", 1)
        if not removed:
            return
        bind, replay = self.feed.endpoint, self.replay_endpoint or OFF
        for guarded in self._guarded:
            self._count_refused(guarded)
            self._waiter.forget(guarded.socket)
            guarded.close()
        deadline = time.monotonic() + REOPEN_INTERVAL_S
        while True:
            try:
                self._open(bind, replay)
                return
            except BusError:
                if time.monotonic() >= deadline:
                    raise
                runtime.heartbeat()
                time.sleep(0.01)


def _max_peers(config: Config) -> int:
    """Return the peers of a port: the feed keeps the descriptors that it needs, whatever the limit of the process."""
    own = OWN_DESCRIPTORS + config.worker_count
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = own + PORTS * (config.feed.peers + config.feed.peers // STRANGERS)
    if limit < wanted:
        with suppress(OSError, ValueError):  # the limit cannot be raised: there are fewer places
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, most), most))
            limit = min(wanted, most)
    return max(MIN_PEERS, min(config.feed.peers, (limit - own) // PORTS * STRANGERS // (STRANGERS + 1)))
