"""Large tables take memory when they are touched, also in a process that keeps what it frees."""

from __future__ import annotations

import subprocess
import sys

import pytest
from eventually import PATIENCE_S

MAKERS = {
    "fragments of a capture": "from appliance.capture.sharder import Sharder\ndef make(): return Sharder(bytes(16), 2)",
    "the history of a worker": "from workers.pipeline import Pipeline\nfrom appliance.config.schema import Config\n"
    "def make(): return Pipeline(Config(), live=False)",
}
CODE = """
import resource
from appliance.native.process_control import keep_memory
{maker}
make()
keep_memory()
held = bytes(1 << 20), [bytes(5000) for _ in range(50)]  # the heap has grown by a large step
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
made = make()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
MOST = 100  # pages of those it needs at once; the tables have some 500 each


@pytest.mark.parametrize("what", MAKERS)
def test_a_table_that_is_not_used_takes_no_pages(what):
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(maker=MAKERS[what])],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert int(done.stdout) < MOST
