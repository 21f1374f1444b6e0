"""End marks are repeated until they are seen, and only to those that lack theirs."""

from __future__ import annotations

import pytest

from appliance.runtime import end_marks
from appliance.runtime.end_marks import send_end_marks


class Receiver:
    """A stand-in for ReceivedCounters: it ends once it has seen enough marks."""

    def __init__(self, needed: int) -> None:
        self.needed = needed

    @property
    def ended(self) -> bool:
        return self.needed <= 0


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(end_marks, "RETRY_INTERVAL_S", 0.0)


def test_a_lost_mark_is_sent_again_to_its_receiver_alone() -> None:
    receivers = [Receiver(1), Receiver(3)]
    sent = []

    def send(due: list[int]) -> list[int]:
        sent.append(due)
        for place in due:
            receivers[place].needed -= 1
        return due

    assert send_end_marks(receivers, send, lambda: True)  # type: ignore[arg-type]
    assert sent == [[0, 1], [1], [1]]


def test_a_mark_that_was_sent_is_not_due_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(end_marks, "RETRY_INTERVAL_S", 3600.0)
    turns = iter([True, True, True, False])
    sent = []

    def send(due: list[int]) -> list[int]:
        sent.append(due)
        return due[:1]  # the link to the second one has no room

    assert not send_end_marks([Receiver(9), Receiver(9)], send, lambda: next(turns))  # type: ignore[list-item]
    assert sent == [[0, 1], [1]]


def test_nothing_is_sent_to_receivers_that_have_ended() -> None:
    assert send_end_marks([Receiver(0)], lambda due: pytest.fail(f"sent to {due}"), lambda: False)  # type: ignore[list-item]
