"""The scheduling policy of a child process, by the kind of its source."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from eventually import PATIENCE_S

from appliance.stats.layout import worker_layout
from appliance.stats.page import Page

CHILD = """
import os, sys
from pathlib import Path
from appliance.runtime.child import ChildRuntime
from appliance.stats.page import Page
ChildRuntime(Page.open(Path(sys.argv[1])), live=sys.argv[2] == "live")
print(os.sched_getscheduler(0))
"""


@pytest.mark.parametrize(("source", "policy"), [("live", os.SCHED_OTHER), ("file", os.SCHED_BATCH)])
def test_only_who_reads_a_file_leaves_the_core_to_who_is_at_work(tmp_path: Path, source: str, policy: int) -> None:
    Page.create(tmp_path / "page", worker_layout(1))
    reader, writer = os.pipe()  # as the supervisor holds it open
    try:
        command = [sys.executable, "-c", CHILD, str(tmp_path / "page"), source]
        found = subprocess.run(command, stdin=reader, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    finally:
        os.close(reader)
        os.close(writer)
    assert int(found.stdout) == policy
