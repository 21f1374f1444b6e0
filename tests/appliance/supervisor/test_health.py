"""Children without progress: complaints of /healthz, and those that the supervisor kills."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from appliance.stats.names import READY, STARTING
from appliance.supervisor import health
from appliance.supervisor.child_process import ProgressWatchdog


@dataclass
class Child:
    name: str = "worker 0"
    state: int = READY
    alive: bool = True
    finished: bool = False
    hung: bool = False
    age_s: float = 0.0
    in_kernel: bool = False
    watchdog: ProgressWatchdog = field(default_factory=ProgressWatchdog)

    @property
    def page(self) -> dict[str, int]:
        return {"state": self.state, "progress_ns": 7}

    def progress_age_s(self, _now_ns: int) -> float:
        return self.age_s

    def waits_for_kernel(self) -> bool:
        return self.in_kernel


def complaints(child: Any, *, failed: bool = False) -> list[str]:
    return list(health.complaints([child], 0, failed=failed))


@pytest.mark.parametrize(
    ("child", "said"),
    [
        (Child(), []),
        (Child(alive=False), ["worker 0 is not running"]),
        (Child(state=STARTING), ["worker 0 is not ready"]),
        (Child(age_s=11.0), ["worker 0 made no progress for 11 s"]),
        (Child(alive=False, finished=True), []),
    ],
)
def test_a_complaint_names_what_is_wrong(child: Child, said: list[str]) -> None:
    assert complaints(child) == said


def test_a_finished_child_is_missed_once_the_run_has_failed() -> None:
    assert complaints(Child(alive=False, finished=True), failed=True) == ["worker 0 is not running"]


def hung_at(child: Any, limit_s: float, *moments: float) -> list[float]:
    """Return the moments at which the child counts as hung."""
    return [now for now in moments if list(health.hung([child], now, limit_s))]


def test_a_child_hangs_after_the_limit_without_progress() -> None:
    assert hung_at(Child(), 3.0, 1.0, 2.0, 3.0, 4.0, 5.0) == [5.0]


def test_a_child_that_starts_has_more_time() -> None:
    assert hung_at(Child(state=STARTING), 3.0, *map(float, range(1, 34))) == [32.0, 33.0]


def test_a_child_in_the_kernel_or_known_to_hang_is_left_alone() -> None:
    assert hung_at(Child(in_kernel=True), 1.0, 1.0, 2.0, 3.0, 4.0) == []
    assert hung_at(Child(hung=True), 1.0, 1.0, 2.0, 3.0, 4.0) == []
