"""Nothing about handshakes needs a file: `cryptography` has loaded everything before the sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hosts import HERE, environment

from appliance.config.load import resolve
from appliance.native import kernel_sandbox
from appliance.runtime.resolved_config import save_resolved
from appliance.stats.layout import worker_layout
from appliance.stats.page import Page


@pytest.mark.skipif(not kernel_sandbox.landlock_version(), reason="this kernel has no landlock")
def test_a_fenced_worker_opens_and_loads_nothing_for_any_handshake(tmp_path: Path) -> None:
    save_resolved(resolve(None, {"source.file": "none.pcap", "workers.count": 1}), tmp_path)
    Page.create(tmp_path / "worker.stats", worker_layout(1))
    known = environment()
    known["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), known["PYTHONPATH"]])
    words = [sys.executable, "-P", HERE / "fenced_handshakes.py", tmp_path]
    done = subprocess.run(words, capture_output=True, text=True, env=known, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["landlock"] == 1
    assert (found["opened"], found["raised"], found["loaded"], done.stderr) == ([], [], [], "")
    assert found["done"] > 2000
