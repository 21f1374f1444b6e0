"""The record of the batch in a worker's cursor, on its page, over any sequence of deaths."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.stats.layout import feed_layout, worker_layout
from appliance.stats.page import Page
from appliance.stats.receive_cursor import TRIES, AtLeastOnceCursor, AtMostOnceCursor

BATCHES = 6


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Page.create(tmp_path / "worker-0.stats", worker_layout(1))


class Killed(Exception):
    """In place of kill -9."""


class Dying(AtLeastOnceCursor):
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
    cursor = Dying(page, steps)
    for number in range(cursor.first(0, 1), BATCHES):
        cursor.step()
        sound = cursor.take(0, number)
        cursor.step()
        if sound:
            cursor.begin(0)
            cursor.step()
            fed.append(number)
        else:
            left_out.append(number)
        cursor.done(0)


@given(st.lists(st.integers(0, 8), max_size=20))
def test_every_batch_is_fed_once_or_left_out_after_two_tries(
    tmp_path_factory: pytest.TempPathFactory, lives: list[int]
) -> None:
    page = Page.create(tmp_path_factory.mktemp("cursor") / "worker-0.stats", worker_layout(1))
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
        cursor = AtLeastOnceCursor(page)
        assert cursor.take(0, cursor.first(0, 1))
        cursor.begin(0)
    cursor = AtLeastOnceCursor(page)
    assert cursor.hold(0, 0)
    assert not cursor.take(0, cursor.first(0, 1))
    cursor.done(0)
    assert AtLeastOnceCursor(page).first(0, 1) == 1


def test_a_death_before_its_beginning_is_not_the_batchs_fault(page: Page) -> None:
    for _ in range(5 * TRIES):
        cursor = AtLeastOnceCursor(page)
        assert cursor.take(0, cursor.first(0, 1))


def test_a_new_capture_begins_anew(page: Page) -> None:
    cursor = AtLeastOnceCursor(page)
    cursor.first(0, 1)
    cursor.take(0, 0)
    cursor.begin(0)
    cursor.done(0)
    assert (cursor.first(0, 1), cursor.first(0, 2)) == (1, 0)
    assert not cursor.hold(0, 0)


def test_a_feed_begins_nothing_twice(tmp_path: Path) -> None:
    page = Page.create(tmp_path / "feed.stats", feed_layout(2))
    cursor = AtMostOnceCursor(page)
    assert cursor.first(1, 7) == 0
    cursor.take(1, 0)
    cursor.take(1, 1)  # and dies
    assert (AtMostOnceCursor(page).first(1, 7), AtMostOnceCursor(page).first(0, 7)) == (2, 0)
    assert AtMostOnceCursor(page).first(1, 8) == 0  # another life of the worker
