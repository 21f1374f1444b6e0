"""A receiver's counters of one sender: received and lost add up to the number sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.stats.page import Page
from appliance.stats.received_counters import ReceivedCounters


@pytest.fixture
def counters(tmp_path: Path) -> ReceivedCounters:
    names = [f"{name}.{sender}" for sender in range(2) for name in ("received", "lost", "ended")]
    return ReceivedCounters(Page.create(tmp_path / "page", names), 1)


def test_what_is_missing_before_a_message_is_lost(counters: ReceivedCounters) -> None:
    counters.close_gap(3)
    counters.add(5)
    assert (counters.received, counters.accounted) == (5, 8)


def test_a_count_that_is_not_ahead_loses_nothing(counters: ReceivedCounters) -> None:
    counters.add(5)
    counters.close_gap(4)
    assert counters.accounted == 5


def test_what_comes_late_is_not_lost_and_never_more_than_was(counters: ReceivedCounters) -> None:
    counters.close_gap(3)
    counters.find(2)
    assert counters.accounted == 1
    counters.find(2)
    assert counters.accounted == 0


def test_the_end_mark_stands_until_another_process_starts(counters: ReceivedCounters) -> None:
    counters.ended = True
    assert counters.ended
    counters.ended = False
    assert not counters.ended
