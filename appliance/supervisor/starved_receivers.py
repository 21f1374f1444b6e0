"""Receivers that wait for end marks that will not come, because their sender died."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.stats.names import READY
from appliance.stats.received_counters import ReceivedCounters
from appliance.supervisor.child_process import Child
from appliance.supervisor.children import Children

END_MARK_TIMEOUT_S = 0.5  # without a message, when every sender has ended: then no more will come
ONCE_S = 3600.0  # a receiver is named again only after this


class StarvedReceivers:
    """Finds each of them once all its senders have ended and it has received nothing for a while."""

    def __init__(self) -> None:
        self._quiet: dict[int, tuple[int, float]] = {}  # by pid: messages received, since when

    def find(self, children: Children, now: float) -> Iterator[Child]:
        """Yield the receivers that are starved since the last call."""
        for senders, receivers in children.links:
            if not all(sender.finished for sender in senders):
                continue
            for receiver in receivers:
                links = [ReceivedCounters(receiver.page, sender.index) for sender in senders]
                if not receiver.alive or receiver.page["state"] < READY or all(link.ended for link in links):
                    continue
                received = sum(link.received for link in links)
                before, since = self._quiet.get(receiver.pid, (-1, now))
                if received != before:
                    self._quiet[receiver.pid] = (received, now)
                elif now - since >= END_MARK_TIMEOUT_S:
                    self._quiet[receiver.pid] = (received, now + ONCE_S)
                    yield receiver
