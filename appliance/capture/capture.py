"""A capture of any source: its filter, and the links to the workers. Live and file captures derive from it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from pathlib import Path

from appliance.capture.filter_compiler import Compilation, FilterRequest
from appliance.capture.sharder import Sharder
from appliance.capture.worker_links import Links
from appliance.config.schema import Config
from appliance.pcap import opening as pcap
from appliance.runtime import log, sandbox
from appliance.runtime.child import ChildRuntime
from appliance.stats.names import DONE, DRAINING
from appliance.stats.page import Page

TURN_FRAMES = 8192  # frames per turn of the loop: some ms of work between two looks at signals and ages
HEARTBEAT_INTERVAL_S = 0.05  # between two signs of progress while the first filter is compiled
ETHERNET = 1  # DLT_EN10MB


class Capture(ABC):
    """One source on its way to the workers. `run` does everything, once."""

    def __init__(
        self, config: Config, run_dir: Path, index: int, page: Page, runtime: ChildRuntime, key: bytes
    ) -> None:
        """Begin with the counters of the page, where reconcile has closed those of a killed predecessor.

        key: of the hash of flows."""
        self.config = config
        self.run_dir = run_dir
        self.index = index
        self.page = page
        self.runtime = runtime
        self.base = page.snapshot()
        self.key = key
        # Its sharder is replaced when the source says what its frames are.
        self.links = Links(config, run_dir, index, page, runtime, self._sharder(ETHERNET), self.base)
        self.handle: pcap.Handle | None = None
        self.filter = FilterRequest("", False)  # in force
        self.compilation: Compilation | None = None  # of the filter of a new configuration
        self.pending_generation = 0  # of that configuration

    def _sharder(self, link_type: int) -> Sharder:
        config = self.config
        return Sharder(self.key, config.worker_count, config, time.time_ns(), self.index, link_type)

    # -- the source --------------------------------------------------------------------------------------------------

    @abstractmethod
    def open(self) -> pcap.Handle:
        """Open and filter the source. Raises PcapError."""

    def _opened(self, handle: pcap.Handle) -> pcap.Handle:
        """Return the handle, filtered, and prepare the sharder for its link type. Raises BadFilter."""
        source = self.config.source
        if handle.warning:
            log.warning(handle.warning)
        if source.filter:
            compilation = Compilation(handle, self._wanted_filter)
            while not compilation.done.wait(HEARTBEAT_INTERVAL_S):
                self.runtime.heartbeat()
            self._set_filter(handle, compilation.result())
        self.page["link_type"] = handle.link_type
        self.links.sharder = self._sharder(handle.link_type)
        return handle

    @property
    def _wanted_filter(self) -> FilterRequest:
        """Return the filter of the configuration."""
        return FilterRequest(self.config.source.filter, self.config.capture.vlan_aware)

    def connect(self) -> None:
        """Connect to the workers once the source is open: their thread must not have the capabilities for that.

        A second call has no effect. Raises BusError."""
        if not self.links.connected:
            sandbox.opened(self.config, self.page)
            self.links.connect()

    def _poll_config(self, handle: pcap.Handle) -> None:
        """Follow a new configuration. Only its filter concerns the capture.

        Its generation is in force when the filter is; until that is compiled, the filter before it stays."""
        if self.compilation is not None:
            if self.compilation.done.is_set():
                self._apply_filter(handle, self.compilation)
                self.compilation = None
                self.page["generation"] = self.pending_generation
            return
        generation = self.page["generation"]
        fresh = self.runtime.poll_config(self.run_dir)
        if fresh is None:
            return
        before = self._wanted_filter
        self.config = fresh
        if self._wanted_filter != before:
            self.compilation = Compilation(handle, self._wanted_filter)
            self.pending_generation, self.page["generation"] = self.page["generation"], generation

    def _apply_filter(self, handle: pcap.Handle, compilation: Compilation) -> bool:
        """Put a compiled filter in force. Return False if the one before has to stay."""
        try:
            self._set_filter(handle, compilation.result())
        except pcap.BadFilter as fault:
            self.runtime.reject_config(f"{handle.source}: {fault}; the filter set before stays")
            return False
        return True

    def _set_filter(self, handle: pcap.Handle, wanted: FilterRequest, only: str = "") -> None:
        """Set a filter, in the kernel where it can be. Raises BadFilter."""
        remark = handle.set_filter(wanted.text, vlan_aware=wanted.vlan_aware, only=only)
        self.filter = wanted
        if remark:
            log.warning(
                f"{handle.source}: the filter is applied outside the kernel, which takes more processor time: {remark}"
            )

    # -- its life ----------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Run the whole life of the process. Return its exit code. Raises BusError."""
        try:
            self.handle = self._open_source()
        except pcap.PcapError as error:
            self.connect()
            self.runtime.heartbeat()  # it handles a signal that interrupted libpcap
            if self.runtime.stopping:
                return self._finish(0)
            log.warning(str(error))
            self.page["error"] = 1
            return self._finish(2)
        self.connect()
        code = 0
        try:
            code = self._read(self.handle)
        except pcap.TruncatedCapture as warning:
            log.warning(f"{warning}; every whole frame before that was read")
        except pcap.PcapError as error:
            self.runtime.heartbeat()  # it handles a signal that interrupted libpcap
            if not self.runtime.stopping:
                log.warning(str(error))
                self.page["error"] = code = 1
        return self._finish(code)

    @abstractmethod
    def _open_source(self) -> pcap.Handle:
        """Open the source and count the opening. Raises PcapError."""

    @abstractmethod
    def _read(self, handle: pcap.Handle) -> int:
        """Read the source to its end, or to SIGTERM. Return the exit code. Raises PcapError."""

    def _finish(self, code: int) -> int:
        """Send the rest and end the links. Return the exit code."""
        self.runtime.state(DRAINING)
        self._send_rest()
        return self._end_links(code)

    def _send_rest(self) -> None:
        """Send the rest, and drop the frames that the links do not take."""
        self.links.sharder.settle()
        self.links.sharder.seal()
        self.links.send_ready()
        self.links.drop_backlogs()
        self.links.publish_counters()
        if self.handle is not None:
            self.handle.close()

    def _end_links(self, code: int) -> int:
        """Send END on every link until every worker has received it. Return the exit code."""
        if not self.links.send_end_marks():
            log.warning(f"{self.config.interface_names[self.index]}: not every worker took the last batches")
            self.page["error"] = 1
            code = code or 1
        self.links.bus.close()
        self.runtime.state(DONE)
        return code
