"""record.only beside a live capture: frames of chosen events outlive the ring, and the keeper holds nothing up."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from box import Box, appliance, resume
from eventually import PATIENCE_S, eventually
from load import Load
from scene import Metrics, Scene
from transactions import of_event

from appliance.expression.event_filter import compile_where, decode_fields
from appliance.stats.names import READY

pytestmark = pytest.mark.root
QUIET = ("--feed", "off", "--metrics", "off")
WHERE = "status >= 400 or path ~ 7"
SMALL_BATCHES = ("--set", "shard.batch_bytes=4096")  # so that a ring may be small


def keeping(scene: Scene, *words: str | int) -> Box:
    record = ("--set", f"record.path={scene.directory}/ring", "--set", f"record.only={WHERE}")
    return scene.capture("--workers", 2, *record, *words)


def send_some(scene: Scene, box: Box) -> None:
    """Send requests until the keeper has some events to look at. Beside other processes, many would take it long."""
    load = Load(scene)
    eventually(lambda: box.count("feed", "to_keeper") >= 300, "the keeper has events")
    load.stop()


def matching(box: Box) -> set[str]:
    """Return the ids of the events that match."""
    wanted = compile_where(WHERE)
    return {event["event"]["id"] for event in box.events() if wanted(decode_fields(json.dumps(event).encode()))}


def kept(folder: Path) -> list[str]:
    """Return the ids of the events beside kept frames."""
    return [
        json.loads(line)["event"]["id"]
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def test_frames_of_chosen_events_are_there_when_the_ring_has_lost_them(scene: Scene) -> None:
    box = keeping(scene)
    send_some(scene, box)
    eventually(lambda: box.count("keeper", "kept_files") >= 1, "frames are kept while the sensor records")
    metrics = Metrics(scene.server)
    assert metrics("appliance_keep_up") == 1
    assert metrics("appliance_keep_events_total") > 0
    assert box.stop() == 143
    ring = scene.directory / "ring"
    assert {path.stat().st_mode & 0o777 for path in (ring / "kept").iterdir()} == {0o640}
    record = box.ledger()["L12"]
    wanted, found = matching(box), kept(ring / "kept")
    assert found
    assert set(found) <= wanted
    assert len(found) == len(set(found)) == record["kept"]
    assert len(wanted) - len(found) <= record["past_keeper"] + record["crash_lost"]  # 0 on a machine with time for it
    assert record["published"] == len(box.events())
    for path in ring.glob("frames-*"):
        path.unlink()
    out = scene.directory / "out.pcapng"
    lines = [word for path in sorted((ring / "kept").glob("*.jsonl")) for word in ("--event", path)]
    for one in ("--event", found[0]), (*lines, "--where", "path ~ 77"):
        done = appliance("packets", *one, "--record", ring, "-w", out)
        assert done.code == 0, done.err
        assert "a run over it gives the same events" in done.err


def test_a_connection_is_whole_out_of_what_is_kept_and_the_ring(scene: Scene) -> None:
    box = keeping(scene)
    send_some(scene, box)
    eventually(lambda: box.count("keeper", "kept_files") >= 1, "frames are kept")
    assert box.stop() == 143
    out = scene.directory / "out.pcapng"
    some = ("--event", box.output, "--where", "path ~ 77")  # most of their connections are in both
    done = appliance("packets", *some, "--record", scene.directory / "ring", "-w", out)
    assert done.code == 0, done.err
    assert "a run over it gives the same events" in done.err


def test_killed_keepers_leave_whole_pairs_and_a_closed_ledger(scene: Scene) -> None:
    box = keeping(scene, *QUIET)
    load = Load(scene)
    for _ in range(3):
        before = box.count("keeper", "unmatched")
        eventually(lambda: box.count("keeper", "unmatched") > before + 50, "events are copied")  # noqa: B023
        box.kill("keeper")
    before = box.count("keeper", "unmatched")
    box.kill("feed")
    eventually(lambda: box.count("keeper", "unmatched") > before + 50, "events are copied by the next feed")
    told = load.stop()
    assert box.stop() == 143
    record = box.ledger()["L12"]
    found = kept(scene.directory / "ring" / "kept")
    assert found
    assert record["kept"] <= len(found)  # written and not counted: a kill in between
    assert set(found) <= matching(box)
    assert record["crash_lost"] + record["lost"] > 0
    assert box.count("supervisor", "restarts.keeper") == 3
    assert told


def test_a_keeper_that_stands_still_costs_no_event(scene: Scene) -> None:
    box = keeping(scene, *QUIET, *SMALL_BATCHES, "--set", "shard.link_bytes=1048576")
    load = Load(scene)
    eventually(lambda: box.count("keeper", "unmatched") > 10, "events are copied")
    pid = box.send("keeper", signal.SIGSTOP)
    eventually(lambda: box.count("feed", "past_keeper") > 10, "events pass the keeper")
    resume(pid)
    before = box.count("keeper", "unmatched")
    eventually(lambda: box.count("keeper", "unmatched") > before + 10, "events are copied again")
    told = load.stop()
    assert box.stop() == 143
    ledger = box.ledger()
    assert ledger["L12"]["past_keeper"] > 10
    assert ledger["L3"]["sent"] == ledger["L3"]["offered"]
    requests = Counter(one.target for one in map(of_event, box.events()) if one.target)
    assert requests == Counter(one.target for one in told)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of some kB at the place of kept frames."""
    path = tmp_path / "ring" / "kept"
    path.mkdir(parents=True)
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "kept", path], check=False, timeout=PATIENCE_S
    ).returncode:
        pytest.skip("no file system can be mounted here")
    yield path
    subprocess.run(["umount", "-l", path], check=False, timeout=PATIENCE_S)


def test_a_full_disk_costs_kept_frames_and_nothing_else(small_disk: Path, scene: Scene) -> None:
    box = keeping(scene, *QUIET)
    load = Load(scene)
    eventually(lambda: box.count("keeper", "left_out.disk") > 0, "the disk is full")
    assert box.count("keeper", "state") == READY
    told = load.stop()
    assert box.stop() == 143
    record = box.ledger()["L12"]
    assert record["left_out.disk"] > 0
    assert "no frames are kept meanwhile" in box.errors()
    assert not list(small_disk.glob("*.part"))
    requests = Counter(one.target for one in map(of_event, box.events()) if one.target)
    assert requests == Counter(one.target for one in told)


def test_events_whose_frames_the_ring_has_lost_are_counted(scene: Scene) -> None:
    box = keeping(scene, *QUIET, *SMALL_BATCHES, "--set", f"record.bytes={1 << 20}", "--set", "record.seconds=1")
    load = Load(scene)
    eventually(lambda: box.count("keeper", "left_out.not_in_ring") > 0, "the ring is too short")
    load.stop()
    assert box.stop() == 143
    assert box.ledger()["L12"]["left_out.not_in_ring"] > 0
    assert "events that match record.only without frames in the ring" in box.errors()
