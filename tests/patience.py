"""Waiting for what other processes do. How long it takes is no matter of a test."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

PATIENCE_S = 120.0  # before something that did not happen is called a failure: it only ends a test that would hang

T = TypeVar("T")


def eventually(true: Callable[[], T], what: str) -> T:
    """The first truthy value of `true`; the test fails with `what` when there never is one."""
    end = time.monotonic() + PATIENCE_S
    while not (value := true()):
        if time.monotonic() > end:
            pytest.fail(f"never happened: {what}")
        time.sleep(0.005)
    return value
