"""Whether a live capture can see anything of its interface, and for how long it could not.

A link that is down, an interface that is gone (unplugged, or made anew), a capture that was killed, a filter that could
only be changed with frames refused meanwhile: what passed in that time is in no counter, so the time is counted.
"""

from __future__ import annotations

import fcntl
import struct
import time
from collections.abc import Callable
from typing import TypeVar

from appliance.station import Station
from appliance.stats import Page

SIOCGIFFLAGS = 0x8913
IFF_UP, IFF_RUNNING = 1, 0x40
ASK = struct.Struct("16sH22x")  # struct ifreq with flags
LOOK_S = 0.1
AGAIN_S = 0.2  # between two tries to open an interface that is not there

T = TypeVar("T")


class Lookout:
    """For one capture. Owns the slots blind_ns.… and link_down of its page."""

    def __init__(self, page: Page, interface: str, last_turn_ns: int) -> None:
        """last_turn_ns: time.monotonic_ns() when a predecessor last moved; 0 if there was none."""
        self.page = page
        self.interface = interface
        self.next_look = 0.0
        self._last_turn_ns = last_turn_ns if page["opened"] else 0
        self._looked_ns = 0

    def open(
        self, attempt: Callable[[], T], absent: type[Exception], station: Station, say: Callable[[str], None]
    ) -> T:
        """What `attempt` returns; waits while it raises `absent`, if the interface was there before in this run.

        Raises what it raises otherwise, and at a stop."""
        reason = "restart"
        while True:
            try:
                made = attempt()
            except absent as fault:
                if not self.page["opened"]:
                    raise
                if reason != "gone":
                    reason = "gone"
                    self.page["link_down"] = 1
                    say(f"{fault}; waiting for it")
                station.until(None)
                if station.stopping:
                    raise
                time.sleep(AGAIN_S)
                continue
            now = time.monotonic_ns()
            if self._last_turn_ns:
                self.page.add(f"blind_ns.{reason}", max(0, now - self._last_turn_ns))
                if reason == "gone":
                    say(f"{self.interface} is there again")
            self.page["link_down"] = 0
            self.page.add("opened", 1)
            self._looked_ns = now
            return made

    def look(self, now: float, descriptor: int) -> None:
        """Asks the kernel whether the link is up. descriptor: of any socket; what has no link is up."""
        self.next_look = now + LOOK_S
        now_ns = time.monotonic_ns()
        down = False
        try:
            asked = fcntl.ioctl(descriptor, SIOCGIFFLAGS, ASK.pack(self.interface.encode()[:15], 0))
            down = ASK.unpack(asked)[1] & (IFF_UP | IFF_RUNNING) != IFF_UP | IFF_RUNNING
        except OSError:
            pass  # "any"; or it is gone, and reading fails with that
        if down and self.page["link_down"]:
            self.page.add("blind_ns.down", now_ns - self._looked_ns)
        self.page["link_down"] = int(down)
        self._looked_ns = now_ns

    def blind(self, began_ns: int) -> None:
        """The filter could not be changed without refusing frames since then (time.monotonic_ns())."""
        self.page.add("blind_ns.filter", time.monotonic_ns() - began_ns)
