"""Recording beside a live capture: the ring has what the workers got, and its faults reach no event."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from box import Box, appliance, resume
from eventually import PATIENCE_S, eventually
from load import Load
from scene import Metrics, Scene
from transactions import assert_same, of_event

from appliance.expression.event_filter import compile_where, decode_fields
from appliance.pcap.opening import open_offline

pytestmark = pytest.mark.root
SMALL = 64 << 20  # bytes, the smallest ring
QUIET = ("--feed", "off", "--metrics", "off")


def recording(scene: Scene, *words: str | int) -> Box:
    return scene.capture("--workers", 2, "--set", f"record.path={scene.directory}/ring", *words)


def frames_in(folder: Path) -> int:
    """Return the number of frames that libpcap finds in the files of a ring."""
    count = 0
    for path in folder.glob("*.pcapng"):
        with open_offline(str(path)) as handle:
            count += sum(1 for _ in handle.packets())
    return count


def extract(scene: Scene, *words: str | Path) -> tuple[str, list[dict[str, Any]]]:
    """Return the output of `appliance packets --record`, and the events of a run over the file that it writes."""
    out = scene.directory / "out.pcapng"
    done = appliance("packets", "--record", scene.directory / "ring", "-w", out, *words)
    assert done.code == 0, done.err
    again = appliance("run", "-q", "-r", out, "-o", "-")
    assert again.code == 0, again.err
    return done.err, [json.loads(line) for line in again.out.splitlines()]


def test_the_packets_of_an_event_give_the_same_event(scene: Scene) -> None:
    box = recording(scene, "--set", f"record.bytes={SMALL}")
    load = Load(scene)
    eventually(lambda: box.count("feed", "written_events") > 200, "events are written")
    metrics = Metrics(scene.server)
    assert metrics("appliance_record_up") == 1
    assert metrics("appliance_record_ring_limit_bytes") == SMALL
    load.stop()
    eventually(lambda: box.count("recorder", "recorded") > 1000, "frames are recorded")
    first = box.events()[0]
    said, events = extract(scene, "--event", first["event"]["id"])  # while it records
    assert "a run over it gives the same events" in said
    assert first["event"]["id"] in [event["event"]["id"] for event in events]
    assert box.stop() == 143
    record = box.ledger()["L9"]
    assert record["sent"] == record["recorded"] == frames_in(scene.directory / "ring")
    assert {path.stat().st_mode & 0o777 for path in (scene.directory / "ring").iterdir()} == {0o640}
    assert (scene.directory / "ring").stat().st_mode & 0o777 == 0o750
    said, events = extract(scene, "--event", box.output)
    assert "a run over it gives the same events" in said
    assert {event["event"]["id"] for event in events} == {event["event"]["id"] for event in box.events()}
    assert_same([of_event(event) for event in events], [of_event(event) for event in box.events()])


def test_killed_recorders_leave_readable_files_and_a_closed_ledger(scene: Scene) -> None:
    box = recording(scene, *QUIET)
    load = Load(scene)
    for _ in range(4):
        before = box.count("recorder", "recorded")
        eventually(lambda: box.count("recorder", "recorded") > before + 500, "frames are recorded")  # noqa: B023
        box.kill("recorder")
    box.kill("capture-0")
    before = box.count("recorder", "recorded")
    eventually(lambda: box.count("recorder", "recorded") > before + 500, "frames are recorded")
    load.stop()
    assert box.stop() == 143
    record = box.ledger()["L9"]
    found = frames_in(scene.directory / "ring")
    assert record["recorded"] <= found <= record["sent"]  # written and not counted: a kill in between
    assert len(list((scene.directory / "ring").glob("*.pcapng"))) >= 5
    assert box.count("supervisor", "restarts.recorder") == 4


def test_a_recorder_that_stands_still_costs_no_event(scene: Scene) -> None:
    box = recording(scene, *QUIET, "--set", "shard.batch_bytes=4096", "--set", "shard.link_bytes=1048576")
    load = Load(scene)
    eventually(lambda: box.count("recorder", "recorded") > 100, "frames are recorded")
    pid = box.send("recorder", signal.SIGSTOP)
    eventually(lambda: box.count("capture-0", "past_recorder") > 1000, "frames pass the recorder")
    resume(pid)
    before = box.count("recorder", "recorded")
    eventually(lambda: box.count("recorder", "recorded") > before + 1000, "frames are recorded again")
    told = load.stop()
    assert box.stop() == 143
    ledger = box.ledger()
    assert ledger["L9"]["past_recorder"] > 1000
    assert ledger["L3"]["sent"] == ledger["L3"]["offered"]
    requests = Counter(one.target for one in map(of_event, box.events()) if one.target)
    assert requests == Counter(one.target for one in told)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few MB at the place of the ring."""
    path = tmp_path / "ring"
    path.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "ring", path], check=False, timeout=PATIENCE_S
    ).returncode:
        pytest.skip("no file system can be mounted here")
    yield path
    subprocess.run(["umount", "-l", path], check=False, timeout=PATIENCE_S)


def test_a_full_disk_costs_frames_of_the_ring_and_nothing_else(small_disk: Path, scene: Scene) -> None:
    box = recording(scene, *QUIET, "--set", f"record.bytes={SMALL}")
    load = Load(scene)
    eventually(lambda: box.count("recorder", "left_out.disk") > 100, "the disk is full")
    told = load.stop()
    assert box.stop() == 143
    ledger = box.ledger()
    assert ledger["L9"]["recorded"] == frames_in(small_disk)
    assert "nothing is recorded meanwhile" in box.errors()
    requests = Counter(one.target for one in map(of_event, box.events()) if one.target)
    assert requests == Counter(one.target for one in told)


def test_a_reload_changes_the_size_of_the_ring(scene: Scene) -> None:
    file = scene.directory / "appliance.toml"
    text = f'[record]\npath = "{scene.directory}/ring"\nbytes = %d\n[shard]\nbatch_bytes = 4096\n'
    file.write_text(text % (1 << 24))
    box = scene.capture("--workers", 1, *QUIET, "-c", file)
    load = Load(scene)
    eventually(lambda: box.count("recorder", "ring_bytes") > 1 << 22, "the ring grows")
    file.write_text(text % (1 << 20))
    box.process.send_signal(signal.SIGHUP)
    eventually(lambda: box.count("recorder", "ring_bytes") <= 1 << 20, "the ring is smaller")
    file.write_text((text % (1 << 20)).replace("/ring", "/other"))
    box.process.send_signal(signal.SIGHUP)
    eventually(lambda: box.count("supervisor", "reloads.refused") == 1, "another folder is refused")
    load.stop()
    assert box.stop() == 143
    assert box.ledger()["L9"]["recorded"] > frames_in(scene.directory / "ring")
    assert box.count("recorder", "removed_files") > 0


def test_two_runs_cannot_share_a_ring(scene: Scene) -> None:
    box = recording(scene, *QUIET)
    said = appliance("run", "-i", "lo", *QUIET, "--set", f"record.path={scene.directory}/ring", host=scene.server)
    assert said.code == 2
    assert "another recorder writes there" in said.err
    assert box.stop() == 143


def test_a_folder_that_cannot_be_made_is_named(scene: Scene) -> None:
    (scene.directory / "file").write_text("")
    path = scene.directory / "file" / "ring"
    said = appliance("run", "-i", "lo", *QUIET, "--set", f"record.path={path}", host=scene.server)
    assert said.code == 2
    assert f"record.path {path}: Not a directory" in said.err


def test_frames_of_chosen_events_are_kept_when_the_ring_has_lost_them(scene: Scene) -> None:
    kept = scene.directory / "kept"
    box = recording(scene, "--set", "record.seconds=86400")
    where = "status >= 400 or path ~ 7"
    words = ("--record", scene.directory / "ring", "--where", where, "--to", kept, "--every", 2)
    keeper = scene.server.start(
        *(sys.executable, "-m", "appliance", "keep", *words, "--since", "1h"), stderr=subprocess.PIPE, text=True
    )
    load = Load(scene)
    eventually(lambda: len(list(kept.glob("*.jsonl"))) >= 2, "frames are kept while the sensor records")
    load.stop()
    assert box.stop() == 143
    keeper.send_signal(signal.SIGTERM)
    _, said = keeper.communicate(timeout=PATIENCE_S)
    assert keeper.returncode == 143
    assert " 0 events without frames" in said
    shutil.rmtree(scene.directory / "ring")
    wanted = set()
    for path in sorted(kept.glob("*.jsonl")):
        events = [json.loads(line) for line in path.read_text().splitlines()]
        wanted |= {event["event"]["id"] for event in events}
        again = appliance("run", "-q", "-r", path.with_suffix(".pcapng"), "-o", "-")
        ids = {json.loads(line)["event"]["id"] for line in again.out.splitlines()}
        assert {event["event"]["id"] for event in events} <= ids
    said_by = compile_where(where)
    matching = {event["event"]["id"] for event in box.events() if said_by(decode_fields(json.dumps(event).encode()))}
    assert wanted == matching
    assert matching


def keys(folder: Path) -> tuple[Path, Path]:
    """Make a key pair as evidence.md says, and return its private and its public half."""
    private, public = folder / "ring.key", folder / "ring.pub"
    made = ["genpkey", "-algorithm", "X25519", "-out", private]
    for words in (made, ["pkey", "-in", private, "-pubout", "-out", public]):
        subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=PATIENCE_S)
    return private, public


def test_an_encrypted_ring_gives_the_same_events_to_the_owner_of_its_key(scene: Scene) -> None:
    private, public = keys(scene.directory)
    box = recording(scene, *QUIET, "--set", f"record.encrypt_to={public}")
    load = Load(scene)
    eventually(lambda: box.count("recorder", "recorded") > 500, "frames are recorded")
    box.kill("recorder")
    before = box.count("recorder", "recorded")
    eventually(lambda: box.count("recorder", "recorded") > before + 500, "frames are recorded again")
    first = box.events()[0]["event"]["id"]  # of a connection that ended before the kill
    said, events = extract(scene, "--event", first, "--identity", private)  # while it records
    assert first in [event["event"]["id"] for event in events]
    load.stop()
    assert box.stop() == 143
    assert box.ledger()["L9"]["recorded"] > before + 500
    ring, out = scene.directory / "ring", scene.directory / "out.pcapng"
    assert {path.stat().st_mode & 0o777 for path in ring.iterdir()} == {0o640}
    assert not any(b"HTTP/1" in path.read_bytes() for path in ring.iterdir())
    last = [event for event in box.events() if "request" in event["http"]][-1]
    said, events = extract(scene, "--event", last["event"]["id"], "--identity", private)
    assert "a run over it gives the same events" in said
    done = appliance("packets", "--event", last["event"]["id"], "--record", ring, "-w", out)
    assert (done.code, "reading it needs the private key" in done.err) == (2, True)


def test_a_key_that_cannot_be_used_ends_the_start(scene: Scene) -> None:
    private, _ = keys(scene.directory)
    words = ("--set", f"record.path={scene.directory}/ring", "--set", f"record.encrypt_to={private}")
    said = appliance("run", "-i", "lo", *QUIET, *words, host=scene.server)
    assert said.code == 2
    assert f"record.encrypt_to {private}: not the public key of an X25519 key pair" in said.err
