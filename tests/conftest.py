"""What every test stands on: the path to the traffic builders, the profiles, the compiled modules in the header."""

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
    f"{package}.{path.stem}" for package in ("appliance", "workers") for path in sorted((ROOT / package).glob("*.pyx"))
]

sys.path.insert(0, str(ROOT / "ops" / "bench"))
sys.path.insert(0, str(ROOT / "ops" / "examples"))

# A job in the background of a script ignores SIGINT, and so would every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# The same of SIGHUP under nohup, and of tests that hang up a terminal.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

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
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_report_header(config: pytest.Config) -> str:
    """Which compiled modules are loaded, and from where: a stale or missing one is seen before the first failure."""
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
