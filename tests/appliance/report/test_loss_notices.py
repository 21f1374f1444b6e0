"""Notices of losses while a run goes on."""

from __future__ import annotations

from appliance.report.loss_notices import BURST_END_S, REPEAT_INTERVAL_S, LossNotifier
from appliance.report.losses import Loss


def kernel(total: int) -> list[Loss]:
    return [Loss("kernel", total, "frames dropped by the kernel", "raise --ring (now 256M)")] if total else []


def said(notifier: LossNotifier, now: float, total: int) -> list[str]:
    return [item.text for item in notifier.update(now, kernel(total))]


def test_the_first_loss_is_said_at_once_with_the_option_to_turn() -> None:
    assert said(LossNotifier(), 0, 0) == []
    assert said(LossNotifier(), 0, 7) == ["7 frames dropped by the kernel; raise --ring (now 256M)"]


def test_a_burst_is_said_at_its_start_and_with_its_exact_sum_at_its_end() -> None:
    notifier = LossNotifier()
    texts = [text for second in range(30) for text in said(notifier, second, 1000 * min(second, 20))]
    assert texts == [
        "1,000 frames dropped by the kernel; raise --ring (now 256M)",
    ]
    assert said(notifier, 20 + BURST_END_S, 20_000) == [
        "19,000 more frames dropped by the kernel, 20,000 in all; it has stopped"
    ]
    assert said(notifier, 500, 20_000) == []


def test_a_loss_without_end_is_a_line_a_minute() -> None:
    notifier = LossNotifier()
    items = [item for second in range(601) for item in notifier.update(second, kernel(1 + second))]
    assert len(items) == 1 + 600 // REPEAT_INTERVAL_S
    assert sum(item.fresh for item in items) == items[-1].loss.total


def test_another_burst_is_news() -> None:
    notifier = LossNotifier()
    said(notifier, 0, 5)
    said(notifier, BURST_END_S, 5)
    assert said(notifier, 100, 8) == ["3 frames dropped by the kernel, 8 in all; raise --ring (now 256M)"]


def test_kinds_are_told_apart() -> None:
    notifier = LossNotifier()
    both = [*kernel(1), Loss("link", 2, "frames dropped because workers fell behind", "raise --workers")]
    assert [item.loss.kind for item in notifier.update(0, both)] == ["kernel", "link"]
