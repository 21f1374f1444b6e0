"""The secrets of a run: from the key log file and the capture to the workers.

The supervisor keeps the latest ones, because a restarted worker needs them again. No other process reads the file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from appliance.config.schema import Config
from appliance.keylog.follower import KeyLogFollower
from appliance.keylog.link import SecretLink
from appliance.keylog.parser import KeyLogParser
from appliance.keylog.ring import KeyRing
from appliance.stats.page import Page
from appliance.supervisor.child_process import Child

FOLLOW_INTERVAL_S = 0.1
TURN_BYTES = 4 << 20  # of the file that are read in a turn


class RunSecrets:
    """Follows the key log file of the configuration, and supplies the workers. warn: reports a fault."""

    def __init__(self, config: Config, page: Page, warn: Callable[[str], None]) -> None:
        self.ring = KeyRing(config.tls.max_keys, _age_s(config))
        self._page = page
        self._warn = warn
        self._follower: KeyLogFollower | None = None
        self._fault = ""
        self._counted = (0, 0, 0, 0, 0)  # of the present file
        self.configure(config)

    @property
    def follows(self) -> bool:
        """Return whether there is a file to look at again and again."""
        return self._follower is not None

    def configure(self, config: Config) -> None:
        """Follow the file of a configuration; read what it has now."""
        self.ring.configure(config.tls.max_keys, _age_s(config))
        path = config.tls.keylog
        if self._follower and self._follower.path != path:
            self._follower.close()
            self._follower = None
        if path and self._follower is None:
            self._follower = KeyLogFollower(path, config.tls.max_keys)
            self._counted = (0, 0, 0, 0, 0)
            self._fault = ""
            while self.poll():
                pass

    def poll(self) -> bool:
        """Read what is new in the file; return whether there may be more."""
        follower = self._follower
        if follower is None:
            return False
        before = follower.bytes_read
        self.ring.add(follower.poll(TURN_BYTES), time.monotonic())
        self.ring.sweep(time.monotonic())
        if follower.fault != self._fault:
            self._fault = follower.fault
            if self._fault:
                self._warn(f"tls.keylog {follower.path}: {self._fault}; retrying until it can be read")
            else:
                self._warn(f"tls.keylog {follower.path}: it is read now")
        self._count()
        return follower.bytes_read - before >= TURN_BYTES

    def take(self, link: SecretLink) -> None:
        """Take the secrets of a capture, and tell it how far the workers must have come."""
        for message in link.receive():
            parser = KeyLogParser()
            self.ring.add(parser.feed(message.content) + parser.finish(), time.monotonic())
            self._add(parser.secrets, parser.ignored, parser.junk)
            self._page["keys_added"] = self.ring.added
            self._page["keys_told"] = message.number

    def supply(self, workers: Iterable[Child]) -> None:
        """Send the workers what they do not have yet."""
        for worker in workers:
            worker.supply()
        self._page["keys_kept"] = len(self.ring)

    def _count(self) -> None:
        follower = self._follower
        if follower is None:
            return
        parser = follower.parser
        now = (parser.secrets, parser.ignored, parser.junk, follower.bytes_read, follower.restarts)
        if now == self._counted:
            return
        secrets, ignored, junk, size, restarts = (new - old for new, old in zip(now, self._counted, strict=True))
        self._counted = now
        self._add(secrets, ignored, junk)
        self._page.add("keylog_bytes", size)
        self._page.add("keylog_restarts", restarts)

    def _add(self, secrets: int, ignored: int, junk: int) -> None:
        self._page.add("keylog_lines.secret", secrets)
        self._page.add("keylog_lines.ignored", ignored)
        self._page.add("keylog_lines.junk", junk)


def _age_s(config: Config) -> float:
    """Return the age at which secrets go: a capture file may be of any time."""
    return 0.0 if config.lossless else config.tls.max_key_age_s
