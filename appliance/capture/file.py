"""The reading of a capture file or stream: every frame of it arrives, however long that takes."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from appliance.capture.capture import TURN_FRAMES, Capture
from appliance.capture.source_secrets import SourceSecrets
from appliance.config.schema import Config
from appliance.keylog.link import child_link
from appliance.pcap import opening as pcap
from appliance.runtime import log
from appliance.runtime.child import ChildRuntime
from appliance.stats.names import READY
from appliance.stats.page import Page
from appliance.stats.reconcile import close_capture
from appliance.wire.tcp_locator import LINK_TYPES

PIPE_BYTES = 1 << 20


def widen(descriptor: int) -> None:
    """Enlarge a pipe to the limit for users (pipe(7)): reading it is half as fast again."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:
        pass  # it is no pipe, or its user has too many large ones already


class FileCapture(Capture):
    """One file, or a stream in a pipe."""

    def __init__(
        self, config: Config, run_dir: Path, index: int, page: Page, runtime: ChildRuntime, key: bytes
    ) -> None:
        close_capture(page, config.worker_count)
        super().__init__(config, run_dir, index, page, runtime, key)
        self.input = -1  # descriptor of what is read

    def open(self) -> pcap.Handle:
        """Open and filter the file. Raises PcapError."""
        source = self.config.source
        self.input = self._open_file(source.file)
        on_secrets = SourceSecrets(self.config, self.run_dir, self.runtime).pass_on if child_link() else None
        if stat.S_IFMT(os.stat(self.input).st_mode) in (stat.S_IFREG, stat.S_IFDIR):
            handle = pcap.open_offline(source.file, on_secrets)
        else:
            widen(self.input)
            self.connect()  # opening a stream waits for its first bytes, and passes on meanwhile
            age_ms = self.config.shard.batch_age_ms
            handle = pcap.open_stream(self.input, self._idle, age_ms, source.file, on_secrets)
        return self._opened(handle)

    @staticmethod
    def _open_file(path: str) -> int:
        """Return a descriptor of the file; 0 for standard input. Raises PcapError."""
        try:
            return 0 if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise pcap.NotACapture(f"{path}: {error.strerror}") from error

    def run(self) -> int:
        """Run the whole life of the process. Return its exit code. Raises BusError."""
        if self.page["starts"] > 1 and self.base["frames"]:
            log.warning("reading was interrupted and cannot be resumed: the events of the rest of the file are missing")
            self.page["error"] = 1
            self.connect()
            return self._finish(1)
        return super().run()

    def _open_source(self) -> pcap.Handle:
        handle = self.open()
        self.page.add("opened", 1)  # it is a capture: now its events may replace others
        return handle

    def _undecoded(self, handle: pcap.Handle) -> int:
        """Log the link types of a file that are not decoded, if there were frames of them. Return the exit code."""
        frames = self.links.sharder.counts()["rejected.unknown_link"]
        if not frames:
            return 0
        unknown = [number for number in handle.link_types if number not in LINK_TYPES]
        names = " or ".join(f"{number} ({pcap.name_of_link(number) or 'without a name'})" for number in unknown)
        log.warning(f"{handle.source}: {frames:,} frames of link type {names} are not decoded: they give no events")
        self.page["error"] = 1
        return 1

    def _read(self, handle: pcap.Handle) -> int:
        """Read to the end of the file, or to SIGTERM."""
        self.runtime.state(READY)
        about = os.stat(self.input)
        regular = stat.S_ISREG(about.st_mode)
        if regular:
            self.page["input_bytes_total"] = about.st_size
        while not self.runtime.stopping:
            self.runtime.heartbeat()
            self._poll_config(handle)
            if handle.read_into(self.links.sharder, TURN_FRAMES) < 0:
                break
            self.links.send_ready()
            self.page["input_bytes_read"] = handle.tell()
        if self.runtime.stopping:
            self.links.drain()
        self.page["input_bytes_read"] = about.st_size if regular and self.links.deadline is None else handle.tell()
        return self._undecoded(handle)

    def _idle(self) -> bool:
        """Send what came while a stream has nothing, or keeps libpcap busy. Return whether to go on."""
        self.runtime.heartbeat()
        self.links.sharder.seal(self.config.shard.batch_age_ms * 1_000_000)
        self.links.send_ready()
        return not self.runtime.stopping
