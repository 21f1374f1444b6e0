"""The TLS secrets inside a capture, on their way to the workers before the frames behind them."""

from __future__ import annotations

import time
from pathlib import Path

from appliance.config.schema import Config
from appliance.keylog.link import child_link
from appliance.runtime import log
from appliance.runtime.child import ChildRuntime
from appliance.runtime.paths import Paths
from appliance.stats.page import Page

PAUSE_S = 0.0005
MOST_BLOCKS = 4096  # of secrets in a capture; each makes the capture wait for every worker
MOST_BYTES = 64 << 20


class SourceSecrets:
    """Sends key logs of a capture to the supervisor, which supplies the workers, and waits until they have them."""

    def __init__(self, config: Config, run_dir: Path, runtime: ChildRuntime) -> None:
        paths = Paths(run_dir)
        self._runtime = runtime
        self._supervisor = paths.supervisor_page
        self._workers = [paths.worker_page(worker) for worker in range(config.worker_count)]
        self._pages: list[Page] = []
        self._sent = 0
        self._bytes = 0

    def pass_on(self, text: bytes) -> None:
        """Pass a key log on. Frames that are read afterwards find its secrets in the workers."""
        link = child_link()
        if link is None or self._sent > MOST_BLOCKS or not text:
            return
        self._sent += 1
        self._bytes += len(text)
        if self._sent > MOST_BLOCKS or self._bytes > MOST_BYTES:
            self._sent = MOST_BLOCKS + 1
            log.warning("the capture has more blocks of secrets than are read: the rest is left out", reason="source")
            return
        while not link.send(self._sent, text) and self._goes_on():
            pass
        if not self._pages:
            self._pages = [Page.open(path, writable=False) for path in (self._supervisor, *self._workers)]
        supervisor, *workers = self._pages
        while supervisor["keys_told"] < self._sent and self._goes_on():
            pass
        added = supervisor["keys_added"]
        while any(worker["keys_taken"] < added for worker in workers) and self._goes_on():
            pass

    def _goes_on(self) -> bool:
        """Wait a moment; return whether to go on waiting."""
        self._runtime.heartbeat()
        time.sleep(PAUSE_S)
        return not self._runtime.stopping
