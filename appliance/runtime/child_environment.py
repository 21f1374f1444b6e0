"""The environment of a child process: where it finds this package."""

from __future__ import annotations

import os
from pathlib import Path


def child_environment() -> dict[str, str]:
    """Return this environment; its PYTHONPATH names this package unless the package is installed.

    `-P` keeps the current directory out of a child's import path, because another user may own it. A source tree that
    runs in place must therefore be named.
    """
    environment = dict(os.environ)
    root = Path(__file__).resolve().parents[2]
    if root.name not in ("site-packages", "dist-packages"):
        known = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{root}{os.pathsep}{known}" if known else str(root)
    return environment
