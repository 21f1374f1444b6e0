"""Receivers whose senders have ended without their end marks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from appliance.stats.names import READY
from appliance.supervisor.starved_receivers import END_MARK_TIMEOUT_S, StarvedReceivers

LATER = END_MARK_TIMEOUT_S


@dataclass
class Child:
    pid: int
    index: int = 0
    alive: bool = True
    finished: bool = False
    page: dict[str, int] = field(
        default_factory=lambda: {"state": READY, "received.0": 0, "lost.0": 0, "ended.0": 0, "epoch.0": 0}
    )


class Children:
    def __init__(self) -> None:
        self.sender = Child(1, finished=True)
        self.receiver = Child(2)

    @property
    def links(self) -> list[tuple[list[Child], list[Child]]]:
        return [([self.sender], [self.receiver])]


def found(starved: StarvedReceivers, children: Any, *moments: float) -> list[float]:
    """Return the moments at which the receiver is named."""
    return [now for now in moments if list(starved.find(children, now))]


def test_a_receiver_is_named_once_nothing_came_for_a_while() -> None:
    assert found(StarvedReceivers(), Children(), 0.0, LATER / 2, LATER, LATER * 2) == [LATER]


def test_each_message_begins_the_wait_anew() -> None:
    starved, children = StarvedReceivers(), Children()
    assert found(starved, children, 0.0, LATER / 2) == []
    children.receiver.page["received.0"] = 5
    assert found(starved, children, LATER, LATER * 1.5, LATER * 2) == [LATER * 2]


def test_a_receiver_with_a_living_sender_or_all_end_marks_waits_for_nothing() -> None:
    children = Children()
    children.sender.finished = False
    assert found(StarvedReceivers(), children, 0.0, LATER, LATER * 2) == []
    children.sender.finished = True
    children.receiver.page["ended.0"] = 1
    assert found(StarvedReceivers(), children, 0.0, LATER, LATER * 2) == []
