"""Target: what is fuzzed. Each stands in a file target_NAME.py, which sets TARGET; no other place lists them."""

from __future__ import annotations

import importlib.util
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cases import Case

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Target:
    """One entrance to the rooms.

    layout: the numbers of an item. seeds(): valid cases to begin with. run(case): executes it, returns how many `unit`
    it had, and raises (AssertionError, mostly) when something is wrong that a sanitizer cannot see.
    """

    name: str
    layout: struct.Struct
    seeds: Callable[[], list[Case]]
    run: Callable[[Case], int]
    words: Sequence[bytes] = ()
    unit: str = "frames"


def files(plugins: Sequence[Path] = ()) -> dict[str, Path]:
    """{name of a target: its file}; `plugins`: files from elsewhere."""
    return {path.stem.removeprefix("target_"): path for path in [*sorted(HERE.glob("target_*.py")), *plugins]}


def load(plugins: Sequence[Path] = ()) -> dict[str, Target]:
    """All targets by name."""
    out = {}
    for path in files(plugins).values():
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        out[module.TARGET.name] = module.TARGET
    return out
