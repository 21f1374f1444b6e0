"""How much of the new flows a capture leaves out while the machine is not enough.

Controller decides for one link, Shedder for all of a capture. In goes how full things are, out comes a share in 256ths;
which flows that are, and that those followed stay whole, is the matter of appliance.shedset. Time is an argument, in
seconds of any clock that does not go back.

Growing is fast, because queues hold tenths of a second: by up to FASTEST of all flows a second while a queue is full
or a tenth of the frames is lost, and by less where there is more room or fewer are lost. It pauses while the queue
drains by itself, because flows that were followed before still end. So it grows too far, by as much as comes before
its work is seen. Shrinking therefore goes, as TCP's window does after a loss (CUBIC, RFC 9438), fast at first and
then ever slower to the share at which the pressure began, which all but sufficed (a tenth less, so that a loss now
and then does not add up), and from there ever faster to nothing, release_s after the last pressure. Between a quarter
of the high mark and the mark nothing changes, so that a queue which stands still does not make the share swing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from appliance.options import Config
from appliance.shard import Sharder
from appliance.stats import READY, Page

STEPS = 256  # of the flow-hash space; one step always stays, so that counts can be scaled up
MOST = STEPS - 1
SLOWEST, FASTEST = 0.5, 4.0  # of all flows, per second
FULL_LOSS = 0.1  # of the frames: as bad as a full queue
LONGEST_S = 0.05  # between two looks; a process that slept does not jump
CALM = 0.25  # of the high mark
BACK = 0.9  # of the share at which the pressure began
KNEE = 0.5  # of the release time: when the share at which the pressure began is reached
LOOK_S = 0.01
RING_S = 0.1  # between two looks at the ring, while reading does not lag behind
KERNEL_S = 0.5  # between two looks at what the kernel refuses
KERNEL_STEPS = 16  # it changes by so much, because its filter is compiled anew for that
RING_FRAME = 96  # bytes that a frame takes in the kernel's ring beside its own: tpacket3_hdr, address, alignment


class Controller:
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
        """The share from now on. fill: of the queue, 0 to 1; lost: of the frames since the last look, 0 to 1."""
        passed = 0.0 if self._looked is None else min(max(now - self._looked, 0.0), LONGEST_S)
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
        """The level when this part of the release time is over."""
        before = min(self._onset, self._calm_level)
        if part < KNEE:
            return before + (self._calm_level - before) * (1.0 - part / KNEE) ** 3
        return before * max(0.0, 1.0 - ((part - KNEE) / (1.0 - KNEE)) ** 3)


class KernelShare:
    """What the kernel is to refuse, in 256ths: never more than the capture has left out of new flows for a while, so
    that most of it is flows that are left out anyway."""

    def __init__(self) -> None:
        self.steps = 0
        self._next = 0.0
        self._lowest = [0, 0]  # share of the capture, in the last interval and in this one
        self._lost = 0

    def look(self, now: float, share: int, lost: int) -> int:
        """The share from now on. lost: frames that the ring had no room for, so far."""
        self._lowest[1] = min(self._lowest[1], share)
        if now >= self._next:
            most = min(self._lowest) // KERNEL_STEPS * KERNEL_STEPS
            if most < self.steps or lost > self._lost:
                self.steps = most
            self._lost, self._lowest, self._next = lost, [self._lowest[1], share], now + KERNEL_S
        return self.steps


def refusal(salt: int, steps: int, text: str) -> str:
    """A pcap-filter(7) expression: what `text` lets through, but no frame of a flow whose place is below `steps`.

    The place is that of flow.pxd. Flows in tunnels, fragments and frames whose VLAN tag is still in them go through."""
    four = f"ip and ip[9] = 6 and ip[6:2] & 0x3fff = 0 and (ip[12:4] ^ ip[16:4] ^ tcp[0:2] ^ tcp[2:2]) * {salt} >> 24"
    six = f"ip6 and ip6[6] = 6 and (ip6[20:4] ^ ip6[36:4] ^ ip6[40:2] ^ ip6[42:2]) * {salt} >> 24"
    # In this order: `vlan` in the text moves the offsets of everything behind it.
    refused = f"not (({four} < {steps}) or ({six} < {steps}))"
    return f"{refused} and ({text})" if text else refused


class Shedder:
    """What a capture leaves out of the new flows of each worker.

    All captures of a run do the same, or one half of a TAP would be followed alone: each says in its page what it
    wants, and does the most that any wants.
    """

    def __init__(self, config: Config, run_dir: Path, index: int, page: Page) -> None:
        self.config = config
        self.page = page
        self.next_look = 0.0
        self.next_ring = 0.0
        self.controllers = [
            Controller(config.shedding.high_fill, config.shedding.release_s) for _ in range(config.worker_count)
        ]
        others = [other for other in range(config.capture_count) if other != index]
        self.refused = 0  # by the kernel, of all flows, in 256ths
        self._kernel = KernelShare() if config.shedding.kernel else None
        self._others = [Page.open(run_dir / f"capture-{other}.stats") for other in others]
        self._ring_fill = 0.0
        self._ring_lost = 0.0  # of the frames, between the last two looks at the ring
        self._kernel_said = (0, 0)  # frames received and dropped by then
        self._read = (0, 0)  # frames and bytes by then
        self._lost = [page[f"dropped_backlog.{worker}"] for worker in range(config.worker_count)]  # at the last look
        self.rest()  # a predecessor may have been killed while it wanted something

    def see_ring(self, stats: tuple[int, int, int], sharder: Sharder, *, mirror: bool) -> None:
        """What the kernel says of its ring, for the looks until the next time: frames received and dropped so far.

        How full it is follows from the frames, about; not on a mirror, where some of them are never read."""
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

    def look(self, now: float, fills: Sequence[float], sharder: Sharder) -> None:
        """Decides anew. fills: of the backlog of each link, 0 to 1."""
        lowest = MOST
        for worker, controller in enumerate(self.controllers):
            dropped = self.page[f"dropped_backlog.{worker}"]
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
                self.page.add("kernel_shed_ns", max(0, round((now - self.next_look + LOOK_S) * 1e9)))
            self.refused = self._kernel.look(now, lowest, self._kernel_said[1])
            self.page["kernel_shed_steps"] = self.refused
        self.next_look = now + LOOK_S

    def spare_kernel(self) -> None:
        """The kernel cannot refuse anything."""
        self._kernel = None
        self.refused = self.page["kernel_shed_steps"] = 0

    def rest(self) -> None:
        """Wants nothing any more."""
        self.page["kernel_shed_steps"] = 0
        for worker in range(self.config.worker_count):
            self.page[f"shed_steps.{worker}"] = 0
