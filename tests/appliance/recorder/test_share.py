"""The share of connections that a recorder leaves out: it follows the fill level, fast up and slowly down."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.recorder.share import HIGH_FILL, HOLD_S, LOW_FILL, RELEASE_S, WHOLE, LeftOutShare


def after(share: LeftOutShare, start: float, seconds: float, fill: float) -> float:
    """Look ten times a second, and return the time at the end."""
    now = start
    while now < start + seconds:
        now += 0.1
        share.look(now, fill)
    return now


def test_nothing_is_left_out_while_there_is_room() -> None:
    share = LeftOutShare()
    after(share, 100.0, 60.0, HIGH_FILL - 0.01)
    assert share.share == 0


def test_it_rises_to_all_within_a_second_and_falls_within_the_time_of_its_release() -> None:
    share = LeftOutShare()
    now = after(share, 100.0, 1.0, 1.0)
    assert share.share == WHOLE
    now = after(share, now, HOLD_S - 0.2, 0.0)
    assert share.share == WHOLE
    now = after(share, now, RELEASE_S / 2, 0.0)
    assert 0 < share.share < WHOLE
    after(share, now, RELEASE_S, 0.0)
    assert share.share == 0


def test_between_the_levels_it_stays() -> None:
    share = LeftOutShare()
    now = after(share, 100.0, 0.3, HIGH_FILL)
    known = share.share
    assert 0 < known < WHOLE
    after(share, now, 60.0, (LOW_FILL + HIGH_FILL) / 2)
    assert share.share == known


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 2))))
def test_it_is_a_share_whatever_comes(steps: list[tuple[float, float]]) -> None:
    share, now = LeftOutShare(), 0.0
    for passed, fill in steps:
        now += passed
        share.look(now, fill)
        assert 0 <= share.share <= WHOLE
