"""The highest rate that holds: a search on probes that may only answer yes or no."""

from __future__ import annotations

from collections.abc import Callable

GROWTH = 2.0


def highest(holds: Callable[[float], bool], begin: float, most: float, precision: float = 0.05) -> float:
    """The highest rate found for which `holds`, 0.0 when none above begin / 1000 does.

    From `begin` the rate doubles until it fails or reaches `most` (or is halved until it holds); then the span between
    what held and what failed is halved, by ratio, until it is at most 1 + precision. What comes back has been tried.
    """
    if not 0 < begin <= most or precision <= 0:
        raise ValueError(f"from {begin:g} to {most:g} with precision {precision:g} there is nothing to search")
    good, bad = 0.0, 0.0
    rate = begin
    while not (good and bad):
        if holds(rate):
            good = rate
            if rate >= most:
                return good
            rate = min(rate * GROWTH, most)
        else:
            bad = rate
            rate /= GROWTH
            if rate < begin / 1000:
                return 0.0
    while bad / good > 1 + precision:
        middle = (good * bad) ** 0.5
        if holds(middle):
            good = middle
        else:
            bad = middle
    return good


def confirmed(holds: Callable[[float], bool], rate: float, step: float = 0.05, steps: int = 8) -> float:
    """`rate`, or the first below it that holds, each (1 - step) of the one before; 0.0 when none of them does.

    For the long probe at the end: what holds for seconds need not hold for a minute.
    """
    for _ in range(steps):
        if rate <= 0 or holds(rate):
            return rate
        rate *= 1 - step
    return 0.0
