"""Failures of delivery: output that was asked for and not delivered is not exit code 0; input is never written."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from http.client import HTTPConnection
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from box import Box, Result, appliance
from eventually import PATIENCE_S, eventually
from hosts import Host, environment
from traffic import write_sample

from appliance.stats.names import READY

QUIET = ("--feed", "off", "--metrics", "off")
SMALL_DISK = 'mount -t tmpfs -o size="$1" tmpfs "$2"; head -c "$3" /dev/zero > "$2/taken"; shift 3; exec "$@"'


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "sample.pcap"
    write_sample(path)
    return path


@pytest.fixture
def sample(original: Path, tmp_path: Path) -> Path:
    """A copy that may be harmed."""
    path = tmp_path / "sample.pcap"
    path.write_bytes(original.read_bytes())
    return path


def on_small_disk(size: str, disk: Path, *words: str | Path, taken: int = 0, after: str = "") -> Result:
    """Runs the command line where `disk` is a file system of its own with so much room, less what is taken.

    after: a line of shell that is run there, too."""
    disk.mkdir(exist_ok=True)
    command = ["sh", "-c", f'"$@"; code=$?; {after or ":"}; exit $code', "sh", sys.executable, "-m", "appliance"]
    fence = ["unshare", "-m", "--propagation", "private", "sh", "-ec", SMALL_DISK, "sh", size, disk, str(taken)]
    done = subprocess.run(
        [*fence, *command, *words],
        capture_output=True,
        env=environment(),
        timeout=PATIENCE_S,
        check=False,
        cwd=disk.parent,
    )
    said = Result(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback" not in said.err
    return said


# -- exit codes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/dev/full", "-"])
def test_events_that_could_not_be_written_are_a_failure(sample: Path, path: str) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "appliance", "run", "-q", "-r", str(sample), "-o", path, *QUIET],
            stdout=full, stderr=subprocess.PIPE, env=environment(), timeout=PATIENCE_S, check=False, text=True,
        )  # fmt: skip
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "feed" not in done.stderr


@pytest.mark.root
@pytest.mark.parametrize("name", ["events.jsonl", "events.parquet"])
def test_a_full_disk_is_a_failure_and_leaves_whole_events(sample: Path, tmp_path: Path, name: str) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="needs pyarrow")
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    kept.mkdir()
    said = on_small_disk("40k", disk, "run", "-r", sample, "-o", disk / name, *QUIET, after="cp disk/* kept/ || :")
    assert said.code == 1, said.err
    assert "No space left on device" in said.err
    assert "on the feed" not in said.err
    for path in kept.glob("*.jsonl"):
        for line in path.read_text().splitlines():
            json.loads(line)
    assert not list(kept.glob("*.parquet"))


@pytest.mark.root
def test_a_ledger_on_a_full_disk_is_a_failure(sample: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    said = on_small_disk("4k", disk, "run", "-r", sample, "--ledger", disk / "ledger", *QUIET, taken=4096)
    assert said.code == 1, said.err
    assert "--ledger" in said.err
    assert "No space left on device" in said.err


@pytest.mark.parametrize("option", ["-o", "--ledger"])
@pytest.mark.parametrize(("path", "reason"), [("none/x", "No such file or directory"), (".", "Is a directory")])
def test_what_cannot_be_written_is_said_before_anything_starts(
    sample: Path, tmp_path: Path, option: str, path: str, reason: str
) -> None:
    said = appliance("run", "-r", sample, option, path, *QUIET, cwd=tmp_path)
    assert said.code == 2
    assert said.err == f"appliance: {option} {path}: {reason}\n"


@pytest.mark.root
def test_frames_on_a_full_disk_are_a_failure_and_whole(sample: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    said = on_small_disk("64k", disk, "packets", "-r", sample, "-w", disk / "out.pcap", after="cp disk/out.pcap .")
    assert said.code == 1
    assert "No space left on device" in said.err
    assert appliance("packets", "-r", tmp_path / "out.pcap").err == ""


@pytest.mark.root
def test_keys_on_a_full_disk_are_a_failure_and_none_is_half_there(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    said = on_small_disk("16k", disk, "keygen", disk / "keys", "one", taken=4096, after="find disk/keys -type f > left")
    assert said.code == 2
    assert "No space left on device" in said.err
    left = [Path(name).stem for name in (tmp_path / "left").read_text().split()]
    assert all(left.count(name) == 2 for name in left), left


def test_a_position_that_cannot_be_written_is_said_at_the_start(tmp_path: Path) -> None:
    said = appliance("forward", "--to", "nats://127.0.0.1:1", "--position", tmp_path / "none" / "position")
    assert said.code == 2
    assert "--position" in said.err
    assert "No such file or directory" in said.err


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_other_names_of_standard_output_mean_it(sample: Path, name: str) -> None:
    said = appliance("run", "-q", "-r", sample, "-o", name, *QUIET)
    assert said.code == 0, said.err
    assert len(said.out.splitlines()) > 100


def test_what_a_shell_makes_of_commands_can_be_read_and_written(sample: Path, tmp_path: Path) -> None:
    line = (
        f"{sys.executable} -m appliance run -q -r <(cat {sample}) -o >(cat > out; touch done) --feed off --metrics off"
    )
    done = subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment(),
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    eventually((tmp_path / "done").exists, "all was read")
    assert len((tmp_path / "out").read_text().splitlines()) > 100


def test_other_names_of_standard_input_mean_it(sample: Path, tmp_path: Path) -> None:
    with sample.open("rb") as file:
        said = appliance("run", "-q", "-r", "/dev/stdin", "-o", "out", *QUIET, stdin=file, cwd=tmp_path)
    assert said.code == 0, said.err
    assert len((tmp_path / "out").read_text().splitlines()) > 100


def test_a_device_that_cannot_be_opened_is_a_failure_and_not_waited_for(sample: Path) -> None:
    said = appliance("run", "-q", "-r", sample, "-o", "/dev/tty", *QUIET, start_new_session=True)
    assert said.code == 1
    assert "No such device or address" in said.err


def test_a_worker_that_died_is_a_failure(sample: Path, run_box: Callable[..., Box]) -> None:
    reader, writer = os.pipe()
    box = run_box("-r", "-", *QUIET, "--workers", 1, stdin=reader)
    os.close(reader)
    data = sample.read_bytes()
    with os.fdopen(writer, "wb", buffering=0) as pipe:
        pipe.write(data[: len(data) // 2])
        eventually(lambda: (box.home / "worker-0.stats").exists() and box.count("worker-0", "segments") > 0, "frames")
        box.kill("worker-0")
        pipe.write(data[len(data) // 2 :])
    assert box.wait() == 1
    box.ledger()


def test_a_reader_that_has_seen_enough_is_no_failure(sample: Path) -> None:
    line = f"{sys.executable} -m appliance run -q -r {sample} -o - --feed off --metrics off; echo $? >&2"
    done = subprocess.run(
        ["sh", "-c", f"{{ {line}; }} | head -n 1"], capture_output=True, text=True, timeout=PATIENCE_S,
        env=environment(), check=False,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == "0"


# -- the input ---------------------------------------------------------------------------------------------------------


def ways(sample: Path) -> dict[str, Path]:
    """Names for one file."""
    made = {"itself": sample, "hard link": sample.with_name("hard"), "link": sample.with_name("link")}
    os.link(sample, made["hard link"])
    made["link"].symlink_to(sample)
    (sample.parent / "way").symlink_to(sample.parent)
    return {**made, "folder": sample.parent / "way" / sample.name}


@pytest.mark.parametrize("way", ["itself", "hard link", "link", "folder"])
@pytest.mark.parametrize("stdin", [False, True])
@pytest.mark.parametrize("words", ["run -r {} -o", "run -r {} --ledger", "packets -r {} -w"])
def test_the_input_is_no_output(sample: Path, way: str, stdin: bool, words: str) -> None:
    before, output = sample.read_bytes(), ways(sample)[way]
    quiet = QUIET if words.startswith("run") else ()
    with sample.open("rb") as file:
        said = appliance(*words.format("-" if stdin else sample).split(), output, *quiet, stdin=file)
    assert said.code == 2
    assert sample.read_bytes() == before


@pytest.mark.parametrize("words", ["run -r {} -o -", "run -r {}", "packets -r {} -w -", "packets -r {}"])
@pytest.mark.parametrize("stdin", [False, True])
def test_the_input_is_no_standard_output(sample: Path, words: str, stdin: bool) -> None:
    before = sample.read_bytes()
    quiet = QUIET if words.startswith("run") else ()
    argv = [sys.executable, "-m", "appliance", *words.format("-" if stdin else sample).split(), *quiet]
    with sample.open("rb") as file, sample.open("ab") as out:
        done = subprocess.run(
            argv, stdin=file, stdout=out, stderr=subprocess.PIPE, env=environment(), timeout=PATIENCE_S, check=False
        )
    assert done.returncode == 2, done.stderr
    assert sample.read_bytes() == before


def test_the_configuration_is_no_output(sample: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[http]\n")
    for option in ("-o", "--ledger"):
        assert appliance("run", "-c", file, "-r", sample, option, file, *QUIET).code == 2
    assert file.read_text() == "[http]\n"


@pytest.mark.parametrize("words", ["run -r {} -o", "run -r {} --ledger", "packets -r {} -w"])
@pytest.mark.parametrize("bad", [b"", b"GET / HTTP/1.1\r\n\r\n" * 9, b"\xd4\xc3\xb2\xa1", None])
def test_what_is_no_capture_costs_no_file(tmp_path: Path, words: str, bad: bytes | None) -> None:
    source, old, new = tmp_path / "bad.pcap", tmp_path / "old", tmp_path / "new"
    if bad is not None:
        source.write_bytes(bad)
    old.write_bytes(b"kept")
    quiet = QUIET if words.startswith("run") else ()
    for output in (old, new):
        assert appliance(*words.format(source).split(), output, *quiet).code == 2
    assert old.read_bytes() == b"kept"
    assert not new.exists()


def test_a_bad_filter_costs_no_file(sample: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"kept")
    assert appliance("run", "-r", sample, "-f", "tcp prt 80", "-o", old, *QUIET).code == 2
    assert appliance("packets", "-r", sample, "-f", "tcp prt 80", "-w", old).code == 2
    assert old.read_bytes() == b"kept"


def test_a_folder_of_its_own_loses_only_what_runs_leave(sample: Path, tmp_path: Path) -> None:
    home = tmp_path / "run"
    home.mkdir(mode=0o700)
    ours = ["events-20261122T100000.000000Z.jsonl", "frames-1.pcap", "notes.stats", "shard-a", "key.pem"]
    for name in ours:
        (home / name).write_text("kept")
    said = appliance("run", "-r", sample, "--run-dir", home, *QUIET)
    assert said.code == 0, said.err
    assert [(home / name).read_text() for name in ours] == ["kept"] * len(ours)


# -- what others do to the output of a run -----------------------------------------------------------------------------


@pytest.mark.root
def test_a_hangup_reopens_the_output_of_a_run(run_box: Callable[..., Box]) -> None:
    box = run_box("-i", "lo", *QUIET).wait_ready()
    box.output.rename(box.output.with_name("old"))
    box.process.send_signal(signal.SIGHUP)
    eventually(lambda: box.count("feed", "output_opened") == 2, "it is opened anew")
    assert box.output.read_text() == ""
    assert box.stop() == 143


@pytest.mark.root
def test_a_run_goes_on_when_the_folder_of_its_output_is_back(here: Host, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    server = HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
    box = Box(
        here, folder, "-i", "lo", "--filter", f"tcp port {server.server_port}", *QUIET
    )  # not other tests' traffic
    try:
        box.wait_ready()
        shutil.rmtree(folder)
        folder.mkdir()
        eventually(lambda: box.output.exists() and box.count("feed", "state") == READY, "the output is there")
        for _ in range(3):
            client = HTTPConnection(*server.server_address)
            client.request("DELETE", "/")
            server.handle_request()
            assert client.getresponse().status == 501
            client.close()
        eventually(lambda: box.count("feed", "written_events") == 3, "the events are written")
        assert box.stop() == 143
        box.ledger_file.read_text()
        assert len(box.events()) == 3
    finally:
        box.close()
        server.server_close()
