"""Children without progress, for /healthz and for the end of those that hang."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from appliance.stats.names import READY
from appliance.supervisor.child_process import Child

PROGRESS_TIMEOUT_S = 10.0  # the age of the last loop turn at which a process is not healthy
START_TIMEOUT_S = 30.0  # without a loop turn: a process that starts may be waiting for memory


def complaints(children: Iterable[Child], now_ns: int, *, failed: bool) -> Iterator[str]:
    """Yield a complaint for each child that is not well. failed: the run has, so that finished ones count, too."""
    for child in children:
        if child.finished and not failed:
            continue
        if not child.alive:
            yield f"{child.name} is not running"
        elif child.page["state"] < READY:
            yield f"{child.name} is not ready"
        elif (age := child.progress_age_s(now_ns)) > PROGRESS_TIMEOUT_S:
            yield f"{child.name} made no progress for {age:.0f} s"


def hung(children: Iterable[Child], now: float, limit_s: float) -> Iterator[tuple[Child, float]]:
    """Yield each child without progress for longer than the limit, and its seconds without.

    A waiting process makes progress, too.
    """
    for child in children:
        if not child.alive or child.hung:
            continue
        still_s = child.watchdog.look(now, child.page["progress_ns"])
        most_s = limit_s if child.page["state"] >= READY else max(limit_s, START_TIMEOUT_S)
        if still_s > most_s and not child.waits_for_kernel():
            yield child, still_s
