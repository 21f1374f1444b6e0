"""Live scenes: the real appliance between real programs, in network namespaces of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from box import Box
from hosts import Host
from scene import Scene, make_network


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """One cable, with the web server at its end."""
    made = Scene(make_network(), tmp_path)
    yield made
    made.close()


@pytest.fixture
def two_cables(tmp_path: Path) -> Iterator[Scene]:
    """The same with two cables."""
    made = Scene(make_network(cables=2), tmp_path)
    yield made
    made.close()


@pytest.fixture
def here() -> Iterator[Host]:
    """The host of the test itself, for what needs no root: loopback only."""
    host = Host()
    yield host
    host.close()


@pytest.fixture
def run_box(here: Host, tmp_path: Path) -> Iterator[Callable[..., Box]]:
    """Starts the appliance without a network of its own: run_box("-r", "-", stdin=…)."""
    boxes: list[Box] = []

    def start(*words: str | int, **how: Any) -> Box:
        boxes.append(Box(here, tmp_path, *words, **how))
        return boxes[-1]

    yield start
    for box in boxes:
        box.close()
