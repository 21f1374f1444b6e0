"""End marks: the last message from one process of a run to another, sent again until the receiver's page shows it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from appliance.stats.received_counters import ReceivedCounters

RETRY_INTERVAL_S = 0.5  # between two end marks to one receiver
CHECK_INTERVAL_S = 0.002  # of the receivers' pages


def send_end_marks(
    receivers: Sequence[ReceivedCounters], send: Callable[[list[int]], Iterable[int]], go_on: Callable[[], bool]
) -> bool:
    """Send end marks until all receivers have theirs, and return True; or until go_on() returns False.

    send: gets the places of the receivers whose mark is due, and returns those to which it could send one. A mark is
    due again after a while, because a receiver that was killed may have lost it.
    """
    due_at = [0.0] * len(receivers)
    while missing := [place for place, counters in enumerate(receivers) if not counters.ended]:
        if not go_on():
            return False
        now = time.monotonic()
        due = [place for place in missing if now >= due_at[place]]
        for place in send(due) if due else ():
            due_at[place] = now + RETRY_INTERVAL_S
        time.sleep(CHECK_INTERVAL_S)
    return True
