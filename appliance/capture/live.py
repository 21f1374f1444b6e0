"""A live capture: it reads an interface until it is stopped, and never waits for a worker.

It leaves out whole new connections while the machine is not enough (load_shedding). A link that goes down, an
interface that vanishes or is renamed: interface_monitor waits for it, and counts the time in which nothing was seen.
"""

from __future__ import annotations

import select
import time
from pathlib import Path

from appliance.capture.capture import TURN_FRAMES, Capture
from appliance.capture.filter_compiler import Compilation
from appliance.capture.interface_monitor import InterfaceMonitor
from appliance.capture.load_shedding import RING_CHECK_INTERVAL_S, Shedder, refusal
from appliance.config.schema import Config
from appliance.pcap import opening as pcap
from appliance.runtime import log
from appliance.runtime.child import ChildRuntime
from appliance.stats.names import DRAINING, READY
from appliance.stats.page import Page
from appliance.stats.reconcile import close_capture

RING_DRAIN_S = 1.0  # how long the frames already in the kernel's ring are waited for at a stop
STATS_INTERVAL_S = 1.0  # libpcap's 32-bit counters wrap after 4.8 minutes at 14.88 million frames a second
LINGER_S = 1.0  # how long a failing live capture, which will be back, lets its queues leave
MIRRORS = ("lo", "any")  # where libpcap reads every loopback frame twice and throws the outgoing copy away


def prepare(config: Config) -> None:
    """Load the modules that only some captures need: a sandboxed capture opens no files."""
    if config.capture.fanout > 1:
        import appliance.capture.fanout  # noqa: F401


class LiveCapture(Capture):
    """The capture of one interface."""

    def __init__(
        self,
        config: Config,
        run_dir: Path,
        index: int,
        page: Page,
        runtime: ChildRuntime,
        key: bytes,
        last_turn_ns: int = 0,
    ) -> None:
        """Close the counters of a predecessor. last_turn_ns: time.monotonic_ns() of its last turn; 0 without one."""
        self.interface = config.interface_of(index)
        if self._loopback:  # a killed predecessor knew this only as of its last look at the kernel
            unseen = page["kernel_received"] - page["kernel_dropped"] - page["frames"] - page["looped_frames"]
            page.add("looped_frames", max(0, min(unseen, page["frames"] - page["looped_frames"])))
        close_capture(page, config.worker_count)
        # Frames of a predecessor that died before it asked the kernel.
        page["kernel_received"] = max(page["kernel_received"], page["frames"])
        super().__init__(config, run_dir, index, page, runtime, key)
        self.stats_at = 0.0
        self.shedder = Shedder(config, run_dir, index, page) if config.shedding.enabled else None
        self.monitor = InterfaceMonitor(page, self.interface, last_turn_ns)
        self.received_before = 0  # kernel_received − kernel_dropped of this process at the last reading

    def open(self) -> pcap.Handle:
        """Open and filter the interface. Raises PcapError."""
        settings = self.config.capture
        handle = pcap.open_live(
            self.interface,
            snaplen=settings.snaplen,
            promiscuous=settings.promiscuous,
            timeout=settings.timeout_ms / 1000,
            ring_bytes=settings.ring_bytes,
        )
        if settings.fanout > 1:
            from appliance.capture import fanout

            fanout.join(handle, self.interface, self.key)
        return self._opened(handle)

    def _open_source(self) -> pcap.Handle:
        return self.monitor.open(self.open, self.runtime, log.warning)

    def _apply_filter(self, handle: pcap.Handle, compilation: Compilation) -> bool:
        began_ns, seamless = time.monotonic_ns(), handle.seamless
        followed = super()._apply_filter(handle, compilation)
        if followed and self.shedder is not None and self.shedder.refused:
            self._refuse(handle, self.shedder.refused)
        if not (seamless and handle.seamless):
            self.monitor.blind(began_ns)
        return followed

    def _read(self, handle: pcap.Handle) -> int:
        """Read until SIGTERM, then the frames that the kernel had taken by then."""
        waiting = select.poll()
        waiting.register(handle.fileno(), select.POLLIN)
        age_ns = self.config.shard.batch_age_ms * 1_000_000
        self._kernel_stats(handle)
        self.runtime.state(READY)
        while not self.runtime.stopping:
            self.runtime.heartbeat()
            self._poll_config(handle)
            frames = handle.read_into(self.links.sharder, TURN_FRAMES)
            self.links.sharder.seal(age_ns)
            self.links.send_ready()
            now = time.monotonic()
            if now >= self.stats_at:
                self._kernel_stats(handle)
            if now >= self.monitor.next_look:
                strayed = self.monitor.look(now, handle.fileno())
                if strayed:
                    self._leave_ring(handle, waiting)
                    raise pcap.NoSuchDevice(strayed)
            if self.shedder is not None and now >= self.shedder.next_look:
                if frames >= TURN_FRAMES or now >= self.shedder.next_ring:  # fewer: the ring is empty
                    self.shedder.see_ring(handle.stats(), self.links.sharder, mirror=self._mirror)
                    self.shedder.next_ring = now + RING_CHECK_INTERVAL_S
                refused = self.shedder.refused
                self.shedder.look(now, self.links.backlog_fill(), self.links.sharder)
                if self.shedder.refused != refused:
                    self._refuse(handle, self.shedder.refused)
            if frames == 0:
                waiting.poll(self.config.shard.batch_age_ms)
        self.runtime.state(DRAINING)
        self.links.drain()
        self._leave_ring(handle, waiting)
        return 0

    def _leave_ring(self, handle: pcap.Handle, waiting: select.poll) -> None:
        """Read the frames that the kernel has taken, and no others."""
        handle.stop_accepting()
        self._drain_ring(handle, waiting)

    def _refuse(self, handle: pcap.Handle, steps: int) -> None:
        """Refuse in the kernel this share of all flows, if its filter can change without a loss."""
        assert self.shedder is not None
        try:
            if not handle.seamless:
                raise pcap.BadFilter("the filter of this interface cannot be changed")
            self._set_filter(handle, self.filter, refusal(self.links.sharder.salt, steps) if steps else "")
        except pcap.BadFilter as reason:
            self.shedder.spare_kernel()
            log.warning(f"{handle.source}: the kernel's buffer overflows, and nothing can be refused there: {reason}")
        else:
            if self.page["kernel_shed_ns"] == 0:
                log.warning(
                    f"{handle.source}: the kernel's buffer overflows; it refuses a share of all connections, unseen"
                )

    def _drain_ring(self, handle: pcap.Handle, waiting: select.poll) -> None:
        settings = self.config.capture
        end = time.monotonic() + max(RING_DRAIN_S, 3 * settings.timeout_ms / 1000)
        quiet_since = time.monotonic()
        mirror = self._mirror
        while time.monotonic() < end:
            self.runtime.heartbeat()
            if handle.read_into(self.links.sharder, TURN_FRAMES):
                quiet_since = time.monotonic()
                self.links.send_ready()
                continue
            received, dropped, _ = handle.stats()
            if not mirror and received - dropped <= self.links.sharder.counts()["frames"]:
                break
            if mirror and time.monotonic() - quiet_since > 3 * settings.timeout_ms / 1000:
                break  # on a mirror, frames to come look like those thrown away: no block is open any more
            waiting.poll(10)
        self._kernel_stats(handle, final=True)

    def _kernel_stats(self, handle: pcap.Handle, *, final: bool = False) -> None:
        received, dropped, if_dropped = handle.stats()
        if not self.config.is_first(self.index):
            if_dropped = 0  # the card drops for all of them
        frames = self.links.sharder.counts()["frames"]
        self.links.publish_counters()
        base = self.base
        self.page["kernel_received"] = base["kernel_received"] + received
        self.page["kernel_dropped"] = base["kernel_dropped"] + dropped
        self.page["kernel_if_dropped"] = base["kernel_if_dropped"] + if_dropped
        if self._mirror:
            # libpcap throws frames away that the kernel took, and others are still in the ring. The difference to
            # the count of the last reading is of the first kind: its frames have left the ring since.
            known = received - dropped if final else self.received_before
            looped = base["looped_frames"] + max(0, known - frames)
            self.page["looped_frames"] = looped if final else max(looped, self.page["looped_frames"])
        self.received_before = received - dropped
        self.stats_at = time.monotonic() + STATS_INTERVAL_S

    @property
    def _mirror(self) -> bool:
        return self.interface in MIRRORS

    @property
    def _loopback(self) -> bool:
        """Return whether every single frame comes twice."""
        return self.interface == MIRRORS[0]

    def _finish(self, code: int) -> int:
        """Send the rest. A source that failed sends no END, because the supervisor restarts its capture."""
        self.runtime.state(DRAINING)
        if self.links.deadline is None:
            self.links.drain()
        if self.shedder is not None:
            self.shedder.rest()
        self._send_rest()
        if not self.runtime.stopping:
            self.links.bus.close(linger_s=LINGER_S)
            return code
        return self._end_links(code)
