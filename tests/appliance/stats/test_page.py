"""Stats pages: counters that outlive the process that writes them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from eventually import PATIENCE_S, eventually

from appliance.capture.sharder import Sharder
from appliance.config.load import resolve
from appliance.stats import layout, pipeline_counters
from appliance.stats import names as stats
from appliance.stats.page import Page, PageError
from appliance.wire import tcp_locator as locate
from workers.pipeline import Pipeline

NAMES = ["state", "frames", "offered.0"]
MOST = 2**64 - 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "worker-0.stats"


def test_a_new_page_is_all_zeros(path):
    assert Page.create(path, NAMES).snapshot() == {"state": 0, "frames": 0, "offered.0": 0}


def test_a_page_of_another_version_says_which_it_is(path):
    Page.create(path, NAMES)
    written = bytearray(path.read_bytes())
    written[8:12] = (7).to_bytes(4, sys.byteorder)
    path.write_bytes(written)
    with pytest.raises(PageError, match="a stats page of version 7; this version of the appliance reads 1"):
        Page.open(path)


def test_what_one_mapping_writes_another_reads_at_once(path):
    writer, reader = Page.create(path, NAMES), Page.open(path)
    writer["frames"] = MOST
    writer.add("offered.0", 3)
    writer.add("offered.0", 4)
    assert reader.snapshot() == {"state": 0, "frames": MOST, "offered.0": 7}


def test_update_stores_absolute_values(path):
    page = Page.create(path, NAMES)
    page["frames"] = 5
    page.update({"frames": 9, "state": 2})
    assert (page["frames"], page["state"]) == (9, 2)


def test_an_unknown_slot_is_an_error(path):
    page = Page.create(path, NAMES)
    with pytest.raises(KeyError):
        page["fames"]
    with pytest.raises(KeyError):
        page["fames"] = 1
    with pytest.raises(KeyError):
        page.add("fames", 1)
    with pytest.raises(KeyError):
        page.update({"fames": 1})


@pytest.mark.parametrize("value", [-1, 2**64])
def test_a_value_that_is_no_counter_is_an_error(path, value):
    with pytest.raises(ValueError):
        Page.create(path, NAMES)["frames"] = value


def test_two_slots_of_one_name_are_refused(path):
    with pytest.raises(ValueError, match="same name"):
        Page.create(path, ["a", "a"])


def test_a_page_is_private_and_has_its_space(path):
    Page.create(path, NAMES)
    about = path.stat()
    assert about.st_mode & 0o777 == 0o600
    assert about.st_blocks * 512 >= about.st_size


def test_a_new_page_replaces_an_old_one_and_leaves_its_mappings_alone(path):
    old = Page.create(path, NAMES)
    old["frames"] = 5
    assert Page.create(path, NAMES)["frames"] == 0
    assert old["frames"] == 5


@pytest.mark.parametrize("damage", ["empty", "short", "magic", "version", "cut"])
def test_a_file_that_is_no_page_is_refused(path, damage):
    Page.create(path, NAMES)
    content = bytearray(path.read_bytes())
    if damage == "magic":
        content[0] ^= 1
    elif damage == "version":
        content[8] += 1
    cut = {"empty": 0, "short": 10, "cut": len(content) - 1}.get(damage, len(content))
    path.write_bytes(content[:cut])
    with pytest.raises(PageError):
        Page.open(path)


def test_a_closed_page_cannot_be_read(path):
    page = Page.create(path, NAMES)
    page.close()
    with pytest.raises(ValueError):
        page["frames"]


def test_counters_survive_the_kill_of_their_writer(path):
    Page.create(path, NAMES)
    program = (
        "import sys, pathlib; from appliance.stats.page import Page; page = Page.open(pathlib.Path(sys.argv[1]))\n"
        "while True: page.add('frames', 1); page['offered.0'] = page['frames']"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    writer = subprocess.Popen([sys.executable, "-c", program, path], env=environment)
    page = Page.open(path)
    eventually(lambda: page["frames"] >= 1000, "the writer writes")
    writer.send_signal(signal.SIGKILL)
    assert writer.wait(PATIENCE_S) == -signal.SIGKILL
    frames, offered = page["frames"], page["offered.0"]
    assert frames >= 1000
    assert frames - offered in (0, 1)
    page.add("frames", 1)
    assert Page.open(path)["frames"] == frames + 1


def test_a_batch_of_counters_costs_microseconds(path):
    page = Page.create(path, layout.worker_layout(1))
    values = dict.fromkeys(pipeline_counters.PIPELINE_COUNTERS, 7)
    best = float("inf")
    for _ in range(20):
        start = time.thread_time()  # of the processor: what else runs has no part in it
        page.update(values)
        best = min(best, time.thread_time() - start)
    assert best < 200e-6


# -- layouts -----------------------------------------------------------------------------------------------------------

LAYOUTS = {
    "capture": layout.capture_layout(3, locate.VERDICTS),
    "worker": layout.worker_layout(2),
    "feed": layout.feed_layout(3),
    "supervisor": layout.supervisor_layout(3, 2),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_layout_names_a_slot_twice(path, name):
    Page.create(path, LAYOUTS[name])


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_process_has_the_slots_that_the_supervisor_watches(name):
    assert {"state", "pid", "progress_ns", "starts", "error"} <= set(LAYOUTS[name])


def test_a_capture_has_a_slot_for_every_verdict_and_every_link():
    assert {f"rejected.{verdict}" for verdict in locate.VERDICTS} <= set(LAYOUTS["capture"])
    assert Sharder(bytes(16), 3).counts().keys() <= set(LAYOUTS["capture"])
    assert {f"{name}.2" for name in ("offered", "sent", "dropped_backlog", "dropped_stopping")} <= set(
        LAYOUTS["capture"]
    )


def test_a_worker_has_a_slot_for_all_that_its_pipeline_counts():
    made = {f"made.{topic}" for topic in stats.TOPICS}
    shed = {f"dropped_share.{topic}" for topic in stats.TOPICS}
    counted = set(Pipeline(resolve(None, {"source.interfaces": ["eth0"]})).counts())
    assert counted == {*pipeline_counters.PIPELINE_COUNTERS, *made, *shed}
    assert {*counted, "received.1", "lost.1"} <= set(LAYOUTS["worker"])


def test_every_row_of_a_metric_has_help_and_every_group_a_label():
    for counter in pipeline_counters.COUNTERS:
        assert bool(counter.metric) == bool(counter.help)
        assert not counter.metric or bool(counter.label) == bool(counter.values)


def test_the_gauges_of_the_pipeline_are_among_its_counters():
    assert set(pipeline_counters.PIPELINE_GAUGES) < set(pipeline_counters.PIPELINE_COUNTERS)
