"""The share of new flows that an overloaded capture sheds.

ShedController decides for one link, Shedder for all of a capture. Inputs are fill levels and losses; the output is a
share in 256ths. shed_flows selects the flows of that share, and keeps followed flows whole. Time is an argument, in
seconds of any clock that does not go back.

Growth is fast, because queues hold tenths of a second. The share grows by up to FASTEST of all flows a second while a
queue is full or a tenth of the frames is lost, and slower with more room or fewer losses. It pauses while the queue
drains, because flows followed before still end. The share therefore overshoots, by the growth within one delay.

Shrinking follows TCP's window after a loss (CUBIC, RFC 9438). It is fast at first, and then ever slower towards the
share at which the pressure began, which nearly sufficed. A tenth is taken off that share, so that single losses do not
add up. From there shrinking accelerates to nothing, release_s after the last pressure. Between a quarter of the high
mark and the mark nothing changes, so that a steady queue does not make the share oscillate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from appliance.capture.sharder import Sharder
from appliance.config.schema import Config
from appliance.runtime.paths import Paths
from appliance.stats.names import READY
from appliance.stats.page import Page

STEPS = 256  # of the flow-hash space; one step always stays, so that counts can be scaled up
MOST = STEPS - 1
SLOWEST, FASTEST = 0.5, 4.0  # of all flows, per second
FULL_LOSS = 0.1  # of the frames: as bad as a full queue
LONGEST_CHECK_INTERVAL_S = 0.05  # between two looks; a process that slept does not jump
CALM = 0.25  # of the high mark
BACK = 0.9  # of the share at which the pressure began
KNEE = 0.5  # of the release time: when the share at which the pressure began is reached
CHECK_INTERVAL_S = 0.01
RING_CHECK_INTERVAL_S = 0.1  # between two looks at the ring, while reading does not lag behind
KERNEL_CHECK_INTERVAL_S = 0.5  # between two looks at what the kernel refuses
KERNEL_STEPS = 16  # the share of the kernel changes by this: each change compiles its filter anew
RING_FRAME = 96  # bytes that a frame takes in the kernel's ring beside its own: tpacket3_hdr, address, alignment


class ShedController:
    """One link's. high: how full, 0 to 1, its queue may be before new flows are left out."""

    def __init__(self, high: float, release_s: float) -> None:
        self.high = high
        self.release_s = release_s
        self.steps = 0
        self._level = 0.0  # the same, 0 to 1, between steps
        self._fill = 0.0  # at the last look
        self._looked: float | None = None
        self._calm_since: float | None = None
        self._calm_level = 0.0  # when that began
        self._onset = 0.0  # the level at which the last pressure began
        self._pressed = False

    def look(self, now: float, fill: float, lost: float) -> int:
        """Return the share from now on. fill: of the queue, 0 to 1; lost: of the frames since the last call, 0 to 1."""
        passed = 0.0 if self._looked is None else min(max(now - self._looked, 0.0), LONGEST_CHECK_INTERVAL_S)
        draining = fill < self._fill
        self._looked, self._fill = now, fill
        if lost or fill >= self.high:
            if not self._pressed:
                self._pressed, self._onset = True, BACK * self._level
            self._calm_since = None
            rate = FASTEST * min(lost / FULL_LOSS, 1.0)
            if fill >= self.high and not draining:
                part = min((fill - self.high) / (1.0 - self.high), 1.0)
                rate = max(rate, SLOWEST + (FASTEST - SLOWEST) * part)
            self._level += passed * rate
        elif fill >= self.high * CALM:
            self._calm_since = None
        else:
            if self._calm_since is None:
                self._calm_since, self._calm_level, self._pressed = now, self._level, False
            self._level = self._released((now - self._calm_since) / self.release_s)
        self._level = min(self._level, MOST / STEPS)
        self.steps = math.ceil(self._level * STEPS)
        return self.steps

    def _released(self, part: float) -> float:
        """Return the level at this part of the release time."""
        before = min(self._onset, self._calm_level)
        if part < KNEE:
            return before + (self._calm_level - before) * (1.0 - part / KNEE) ** 3
        return before * max(0.0, 1.0 - ((part - KNEE) / (1.0 - KNEE)) ** 3)


class KernelShedding:
    """The share of flows that the kernel refuses, in 256ths.

    It never exceeds the share of new flows that the capture has shed for a while, so most refused flows are shed
    anyway.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._next = 0.0
        self._lowest = [0, 0]  # share of the capture, in the last interval and in this one
        self._lost = 0

    def look(self, now: float, share: int, lost: int) -> int:
        """Return the share from now on. lost: frames so far that the ring had no room for."""
        self._lowest[1] = min(self._lowest[1], share)
        if now >= self._next:
            most = min(self._lowest) // KERNEL_STEPS * KERNEL_STEPS
            if most < self.steps or lost > self._lost:
                self.steps = most
            self._lost, self._lowest, self._next = lost, [self._lowest[1], share], now + KERNEL_CHECK_INTERVAL_S
        return self.steps


def refusal(salt: int, steps: int) -> str:
    """Return a pcap-filter(7) expression that refuses the flows whose place is below `steps`.

    flow_key.pxd defines the place. UDP, flows in tunnels, fragments and frames whose VLAN tag is still in them pass.
    """
    four = f"ip and ip[9] = 6 and ip[6:2] & 0x3fff = 0 and (ip[12:4] ^ ip[16:4] ^ tcp[0:2] ^ tcp[2:2]) * {salt} >> 24"
    six = f"ip6 and ip6[6] = 6 and (ip6[20:4] ^ ip6[36:4] ^ ip6[40:2] ^ ip6[42:2]) * {salt} >> 24"
    return f"not (({four} < {steps}) or ({six} < {steps}))"


class Shedder:
    """The load shedding of a capture, for each worker.

    All captures of a run shed the same share, because otherwise only one half of a TAP would be followed. Each
    publishes its wanted share in its page, and applies the largest of all.
    """

    def __init__(self, config: Config, run_dir: Path, index: int, page: Page) -> None:
        self.config = config
        self.page = page
        self.next_look = 0.0
        self.next_ring = 0.0
        self.controllers = [
            ShedController(config.shedding.high_fill, config.shedding.release_s) for _ in range(config.worker_count)
        ]
        others = [other for other in range(config.capture_count) if other != index]
        self.refused = 0  # by the kernel, of all flows, in 256ths
        self._kernel = KernelShedding() if config.shedding.kernel else None
        self._others = [Page.open(Paths(run_dir).capture_page(other), writable=False) for other in others]
        self._ring_fill = 0.0
        self._ring_lost = 0.0  # of the frames, between the last two looks at the ring
        self._kernel_said = (0, 0)  # frames received and dropped by then
        self._read = (0, 0)  # frames and bytes by then
        self._lost = [self._dropped(worker) for worker in range(config.worker_count)]  # at the last look
        self.rest()  # a predecessor may have been killed while its page asked for shedding

    def see_ring(self, stats: tuple[int, int, int], sharder: Sharder, *, mirror: bool) -> None:
        """Read the kernel's counters of its ring: frames received and dropped so far.

        The fill of the ring follows from the frames, roughly; not on a mirror, where libpcap skips some of them.
        """
        received, dropped, _ = stats
        taken, taken_bytes = sharder.taken
        frames, size = taken - self._read[0], taken_bytes - self._read[1]
        self._read = taken, taken_bytes
        self._ring_fill = 0.0
        if frames and not mirror:
            waiting = max(0, received - dropped - taken)
            self._ring_fill = min(1.0, waiting * (size / frames + RING_FRAME) / self.config.capture.ring_bytes)
        came = received - self._kernel_said[0]
        self._ring_lost = (dropped - self._kernel_said[1]) / came if came else 0.0
        self._kernel_said = received, dropped

    def _dropped(self, worker: int) -> int:
        """Return how many frames the link of a worker has refused so far."""
        return self.page[f"dropped_backlog.{worker}"] + self.page[f"dropped_memory.{worker}"]

    def look(self, now: float, fills: Sequence[float], sharder: Sharder) -> None:
        """Decide anew. fills: of the backlog of each link, 0 to 1."""
        lowest = MOST
        for worker, controller in enumerate(self.controllers):
            dropped = self._dropped(worker)
            lost = 1.0 if dropped > self._lost[worker] else self._ring_lost
            self._lost[worker] = dropped
            steps = controller.look(now, max(fills[worker], self._ring_fill), lost)
            self.page[f"shed_steps.{worker}"] = steps
            for page in self._others:
                if page["state"] == READY:
                    steps = max(steps, page[f"shed_steps.{worker}"])
            sharder.shed(worker, steps)
            lowest = min(lowest, steps)
        if self._kernel is not None:
            if self.refused:
                self.page.add("kernel_shed_ns", max(0, round((now - self.next_look + CHECK_INTERVAL_S) * 1e9)))
            self.refused = self._kernel.look(now, lowest, self._kernel_said[1])
            self.page["kernel_shed_steps"] = self.refused
        self.next_look = now + CHECK_INTERVAL_S

    def spare_kernel(self) -> None:
        """Record that the kernel cannot refuse flows."""
        self._kernel = None
        self.refused = self.page["kernel_shed_steps"] = 0

    def rest(self) -> None:
        """Ask for no shedding any more."""
        self.page["kernel_shed_steps"] = 0
        for worker in range(self.config.worker_count):
            self.page[f"shed_steps.{worker}"] = 0
