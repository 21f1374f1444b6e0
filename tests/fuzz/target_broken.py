"""A target with known faults; the first item says which one the case steps into."""

from __future__ import annotations

import struct

import broken
from cases import Case
from cover import Exact
from targets import Target

HARMLESS, READS_TOO_FAR, OVERFLOWS, SAYS_NO = range(4)


def run(case: Case) -> int:
    for (fault,), data in case.items:
        if fault == READS_TOO_FAR and data:
            broken.last_byte_and_one(Exact(data))
        elif fault == OVERFLOWS:
            broken.grown(2**31 - 1)
        elif fault == SAYS_NO:
            raise AssertionError("the ledger does not close")
    return len(case.items)


TARGET = Target("broken", struct.Struct("<B"), lambda: [Case([], [((HARMLESS,), b"abc")])], run, unit="items")
