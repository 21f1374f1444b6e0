"""The basis of every test: the path to the traffic builders, the profiles, the compiled modules in the header."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent.parent
COMPILED = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("appliance", "workers")
    for path in sorted((ROOT / package).rglob("*.pyx"))
]

sys.path.insert(0, str(ROOT / "ops" / "bench"))
sys.path.insert(0, str(ROOT / "ops" / "examples"))

# A job in the background of a script ignores SIGINT, and so would every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# The same of SIGHUP under nohup, and of tests that hang up a terminal.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

LONGEST = (
    "test_fuzz.py",
    "test_install.py",
    "test_dashboard_live.py",
    "test_kills.py",
    "test_overload.py",
    "test_record_live.py",
)
SLOW_FOLDERS = ("fuzz", "laws", "live")  # every test there has the marker `slow`
_SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile(
    "default",
    deadline=None,
    max_examples=60,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=_SLOW_IS_FINE,
    print_blob=True,
)
settings.register_profile("long", settings.get_profile("default"), max_examples=3000, derandomize=False)
settings.register_profile("quick", settings.get_profile("default"), max_examples=10)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_report_header(config: pytest.Config) -> str:
    """Return a line of the compiled modules and their folders: stale or missing ones are seen before any failure."""
    loaded, missing = [], []
    for name in COMPILED:
        try:
            loaded.append(Path(str(importlib.import_module(name).__file__)))
        except ImportError as error:
            missing.append(f"{name} ({error})")
    places = sorted({str(path.parent.parent) for path in loaded})
    names = " ".join(f"{path.parent.name}.{path.name.split('.')[0]}" for path in loaded)
    text = f"compiled: {names} from {', '.join(places)}"
    return text + (f"; MISSING: {', '.join(missing)}" if missing else "")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of slow folders, and move the longest files to the front, so that none is left at the end."""
    slow = tuple(ROOT / "tests" / folder for folder in SLOW_FOLDERS)
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in slow):
            item.add_marker("slow")
    items.sort(key=lambda item: item.path.name not in LONGEST)
