"""What a worker's page says of the batch in its hands, over any sequence of deaths."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.hands import TRIES, Hands, Once
from appliance.stats import Page, feed_layout, worker_layout

BATCHES = 6


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Page.create(tmp_path / "worker-0.stats", worker_layout(1))


class Killed(Exception):
    """In place of kill -9."""


class Dying(Hands):
    """Dies before its n-th step."""

    def __init__(self, page: Page, steps: int) -> None:
        super().__init__(page)
        self.steps = steps

    def step(self) -> None:
        if not self.steps:
            raise Killed
        self.steps -= 1


def life(page: Page, steps: int, fed: list[int], left_out: list[int]) -> None:
    """A worker that takes what there is, until it has made so many steps."""
    hands = Dying(page, steps)
    for number in range(hands.first(0, 1), BATCHES):
        hands.step()
        sound = hands.take(0, number)
        hands.step()
        if sound:
            hands.begin(0)
            hands.step()
            fed.append(number)
        else:
            left_out.append(number)
        hands.done(0)


@given(st.lists(st.integers(0, 8), max_size=20))
def test_every_batch_is_fed_once_or_left_out_after_two_tries(
    tmp_path_factory: pytest.TempPathFactory, lives: list[int]
) -> None:
    page = Page.create(tmp_path_factory.mktemp("hands") / "worker-0.stats", worker_layout(1))
    fed: list[int] = []
    left_out: list[int] = []
    for steps in lives:
        try:
            life(page, steps, fed, left_out)
        except Killed:
            pass
    life(page, 1000, fed, left_out)
    assert sorted(fed + left_out) == list(range(BATCHES))


def test_what_was_begun_twice_is_not_begun_again(page: Page) -> None:
    for _ in range(TRIES):
        hands = Hands(page)
        assert hands.take(0, hands.first(0, 1))
        hands.begin(0)
    hands = Hands(page)
    assert hands.hold(0, 0)
    assert not hands.take(0, hands.first(0, 1))
    hands.done(0)
    assert Hands(page).first(0, 1) == 1


def test_a_death_before_its_beginning_is_not_the_batchs_fault(page: Page) -> None:
    for _ in range(5 * TRIES):
        hands = Hands(page)
        assert hands.take(0, hands.first(0, 1))


def test_a_new_capture_begins_anew(page: Page) -> None:
    hands = Hands(page)
    hands.first(0, 1)
    hands.take(0, 0)
    hands.begin(0)
    hands.done(0)
    assert (hands.first(0, 1), hands.first(0, 2)) == (1, 0)
    assert not hands.hold(0, 0)


def test_a_feed_begins_nothing_twice(tmp_path: Path) -> None:
    page = Page.create(tmp_path / "feed.stats", feed_layout(2))
    once = Once(page)
    assert once.first(1, 7) == 0
    once.take(1, 0)
    once.take(1, 1)  # and dies
    assert (Once(page).first(1, 7), Once(page).first(0, 7)) == (2, 0)
    assert Once(page).first(1, 8) == 0  # another life of the worker
