"""The supervisor with stand-ins for its children: a script says how each life of each of them goes."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from patience import eventually

from appliance import processes
from appliance import supervisor as room
from appliance.config import Config, resolve
from appliance.report import Report
from appliance.rundir import Unusable
from appliance.stats import Page
from appliance.supervisor import Supervisor

# A life is a list of steps; the last life in the list is lived again and again.
STUB = """
import json, os, signal, sys, time
from pathlib import Path
from appliance.stats import Page
from appliance.station import Station

def life(kind):
    home = Path(sys.argv[1])
    name = kind if kind == "feed" else f"{kind}-{sys.argv[2]}"
    page = Page.open(home / f"{name}.stats")
    station = Station(page)
    lives = json.loads((Path(__file__).parent / "script.json").read_text())[kind]
    for step in lives[min(page["starts"], len(lives)) - 1].split(","):
        word, _, value = step.strip().partition(" ")
        if word == "ready":
            station.state(2)
        elif word == "work":
            end = time.monotonic() + float(value)
            while time.monotonic() < end:
                station.turn()
                time.sleep(0.005)
        elif word == "term":
            while not station.stopping:
                station.turn()
                time.sleep(0.005)
        elif word == "hear":
            while not station.stopping and not all(page[n] for n in page.names if n.startswith("ended.")):
                station.turn()
                time.sleep(0.005)
        elif word == "called":
            while station.news(home) is None:
                station.turn()
                time.sleep(0.005)
        elif word == "bye":
            to = [f"worker-{w}" for w in range(2)] if kind == "capture" else ["feed"]
            for other in to:
                Page.open(home / f"{other}.stats")[f"ended.{sys.argv[2]}"] = 1
        elif word == "set":
            key, _, number = value.partition("=")
            page[key] = int(number)
        elif word == "die":
            os.kill(os.getpid(), int(value))
        elif word == "exit":
            if value == "0":
                station.state(4)
            sys.exit(int(value))
"""

CAPTURE = "ready, work 0.1, bye, exit 0"
LIVE = "ready, term, bye, exit 0"
WORKER = "ready, hear, bye, exit 0"
FEED = "ready, hear, exit 0"


class Scene:
    """A run with scripted children. `code` is its exit code, `said` what it told its operator."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = directory / "run"
        self.home.mkdir(mode=0o700)
        self.script = {"capture": [CAPTURE], "worker": [WORKER], "feed": [FEED]}
        self.options: dict[str, object] = {
            "source.file": "x.pcap",
            "workers.count": 2,
            "metrics.bind": "off",
            "run.directory": str(self.home),
            "run.ledger": str(directory / "ledger.json"),
        }

    def live(self, **lives: list[str]) -> None:
        """Turns the scene into a live capture."""
        del self.options["source.file"]
        self.options["source.interfaces"] = ["eth0"]
        self.script["capture"] = [LIVE]
        self.script.update(lives)

    def config(self) -> Config:
        return resolve(None, self.options)

    def run(self, *signals: tuple[float, int]) -> int:
        """Runs it, and sends this process signals after so many seconds."""
        (self.directory / "script.json").write_text(json.dumps(self.script))
        timers = [threading.Timer(after, os.kill, (os.getpid(), number)) for after, number in signals]
        for timer in timers:
            timer.start()
        config = self.config()
        self.supervisor = Supervisor(config, Report(config))
        try:
            return self.supervisor.run()
        finally:
            for timer in timers:
                timer.cancel()
                timer.join()

    def page(self, name: str) -> Page:
        return Page.open(self.home / f"{name}.stats")


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    (tmp_path / "stub.py").write_text(STUB)
    for kind in ("capture", "worker", "feed"):
        (tmp_path / f"stub_{kind}.py").write_text(f"from stub import life\nlife({kind!r})\n")
    known = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{known}" if known else str(tmp_path))
    monkeypatch.setattr(room, "MODULES", {kind: f"stub_{kind}" for kind in ("capture", "worker", "feed")})
    return Scene(tmp_path)


def test_a_file_is_read_to_its_end(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    assert scene.run() == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert "ledger closed" in err
    assert json.loads((scene.directory / "ledger.json").read_text())["unaccounted"] == 0


def test_sigterm_drains_a_live_run(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    scene.live()
    assert scene.run((0.8, signal.SIGTERM)) == 143
    assert "capturing on eth0" in capfd.readouterr().err


def test_a_hangup_makes_a_feed_with_a_lock_read_its_keys_again(scene: Scene) -> None:
    (scene.directory / "clients").mkdir()
    scene.options |= {"feed.curve_key": "server.key_secret", "feed.curve_clients": str(scene.directory / "clients")}
    scene.live(feed=["ready, called, set reloads=1, hear, exit 0"])
    assert scene.run((1.0, signal.SIGHUP), (1.6, signal.SIGTERM)) == 143
    assert scene.page("feed")["reloads"] == 1


def test_a_hangup_does_not_end_a_run_that_has_nothing_to_reload(
    scene: Scene, capfd: pytest.CaptureFixture[str]
) -> None:
    scene.live()
    assert scene.run((0.8, signal.SIGHUP), (1.2, signal.SIGTERM)) == 143
    assert "nothing to reload: it was started without a configuration file (-c)" in capfd.readouterr().err


def test_a_terminal_that_goes_away_ends_the_run(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    there = iter([True, False])
    monkeypatch.setattr(room.reload, "has_terminal", lambda: next(there))
    scene.live()
    assert scene.run((0.8, signal.SIGHUP)) == 129


def test_ctrl_c_drains_a_file(scene: Scene) -> None:
    scene.script["capture"] = [LIVE]
    assert scene.run((0.8, signal.SIGINT)) == 130


def test_a_drain_that_takes_too_long_is_cut_short(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    scene.live(worker=["ready, work 60"])
    scene.options["run.drain_s"] = 0.5
    assert scene.run((0.8, signal.SIGTERM)) == 1
    assert "not drained within 0.5 s" in capfd.readouterr().err


def test_a_second_signal_kills_at_once(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    scene.live(worker=["ready, work 60"])
    assert scene.run((0.8, signal.SIGTERM), (1.2, signal.SIGINT)) == 1
    assert "second signal" in capfd.readouterr().err


def test_what_a_killed_drain_lost_is_in_the_ledger(scene: Scene) -> None:
    scene.live(
        capture=["ready, set frames=10, set offered.0=10, set sent.0=8, term, bye, exit 0"],
        worker=["ready, set received.0=0, work 60"],
    )
    scene.options["run.drain_s"] = 0.3
    assert scene.run((2.0, signal.SIGTERM)) == 1
    ledger = json.loads((scene.directory / "ledger.json").read_text())
    assert ledger["identities"]["L3"]["terms"]["lost"] == 8


def test_a_capture_that_cannot_be_opened_ends_the_run_with_2(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    scene.script["capture"] = ["exit 2"]
    assert scene.run() == 2
    assert "ledger" not in capfd.readouterr().err
    assert not (scene.directory / "ledger.json").exists()


def test_a_feed_whose_port_is_taken_ends_the_run_with_2(scene: Scene) -> None:
    scene.live(feed=["exit 2"])
    assert scene.run() == 2


def test_a_killed_worker_is_started_again_at_once(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    scene.live(worker=["ready, work 0.3, die 9", WORKER])
    assert scene.run((2.0, signal.SIGTERM)) == 143
    err = capfd.readouterr().err
    assert "worker 0 was killed by SIGKILL: starting it again now" in err
    assert "restarts of processes: 2;" in err
    assert scene.page("supervisor")["restarts.worker.0"] == 1
    assert scene.page("worker-0")["starts"] == 2


def test_a_killed_feed_is_started_again(scene: Scene) -> None:
    scene.live(feed=["ready, work 0.3, exit 1", FEED])
    assert scene.run((2.0, signal.SIGTERM)) == 143
    assert scene.page("supervisor")["restarts.feed"] == 1


def test_a_live_capture_that_fails_is_started_again_and_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "FIRST_DELAY_S", 0.1)
    scene.live(capture=["ready, work 0.1, exit 1", "exit 2", "exit 2", LIVE])
    assert scene.run((2.5, signal.SIGTERM)) == 143
    assert scene.page("supervisor")["restarts.capture.0"] == 3


def test_a_process_that_never_gets_ready_is_given_up(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    scene.live(worker=["exit 1"])
    assert scene.run() == 1
    assert "could not be started 5 times" in capfd.readouterr().err


def test_the_farewell_of_an_earlier_life_does_not_end_a_new_one(scene: Scene) -> None:
    scene.live(capture=["ready, work 0.1, bye, exit 1", "ready, term, bye, exit 0"])
    assert scene.run((2.0, signal.SIGTERM)) == 143
    assert scene.page("worker-0")["starts"] == 2


def test_a_worker_that_dies_after_the_end_of_the_file_is_released(scene: Scene) -> None:
    scene.script["capture"] = ["ready, exit 0"]  # its farewell died with the workers
    scene.script["worker"] = ["ready, work 0.3, die 9", WORKER]
    assert scene.run() == 0
    assert scene.page("worker-0")["starts"] == 2


def test_a_capture_that_crashes_on_a_file_fails_the_run_and_drains_it(
    scene: Scene, capfd: pytest.CaptureFixture[str]
) -> None:
    scene.script["capture"] = ["ready, work 0.2, die 9", "bye, set state=4, exit 1"]
    assert scene.run() == 1
    assert scene.page("capture-0")["starts"] == 2
    assert "ledger closed" in capfd.readouterr().err


def test_a_reader_that_leaves_ends_the_run(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(scene.directory / "pipe")
    scene.options["output.path"] = str(scene.directory / "pipe")
    scene.live(feed=["ready, set output_closed=1, hear, exit 0"])
    assert scene.run() == 0
    assert "nobody reads the output any more" in capfd.readouterr().err


def test_a_taken_metrics_port_is_found_before_anything_starts(scene: Scene) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        scene.options["metrics.bind"] = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Unusable, match=r"--metrics 127\.0\.0\.1:.*in use"):
            scene.run()
    assert not (scene.home / "worker-0.stats").exists()


def test_health_is_progress(scene: Scene) -> None:
    scene.live(worker=["ready, work 0.2, die 19", WORKER])  # SIGSTOP
    seen: list[tuple[bool, str]] = []
    patience = room.STALE_S
    try:
        room.STALE_S = 0.5
        threading.Timer(0.7, lambda: seen.append(scene.supervisor.healthy())).start()
        threading.Timer(2.0, lambda: seen.append(scene.supervisor.healthy())).start()
        scene.options["run.drain_s"] = 0.2
        assert scene.run((2.3, signal.SIGTERM)) == 1
    finally:
        room.STALE_S = patience
    assert seen[1][0] is False
    assert "worker 0 made no progress" in seen[1][1]
    assert "feed" not in seen[1][1]


@pytest.mark.parametrize(
    ("kind", "name", "after"),
    [("capture", "capture-0", LIVE), ("worker", "worker-0", WORKER), ("feed", "feed", FEED)],
)
def test_a_live_process_that_stands_still_is_killed_and_started_again(
    scene: Scene, kind: str, name: str, after: str, capfd: pytest.CaptureFixture[str]
) -> None:
    scene.live(**{kind: ["ready, work 0.2, die 19", after]})  # SIGSTOP
    scene.options["run.hung_s"] = 0.5
    assert scene.run((5.0, signal.SIGTERM)) == 143
    assert scene.page(name)["starts"] == 2
    slot = name.replace("-", ".")
    assert scene.page("supervisor")[f"restarts.{slot}"] == scene.page("supervisor")[f"hung.{slot}"] == 1
    assert f"{name.replace('-', ' ')} has not moved for" in capfd.readouterr().err


def test_who_reads_a_file_may_stand_still(scene: Scene) -> None:
    scene.script["worker"] = ["ready, work 0.2, die 19", WORKER]
    scene.options |= {"run.hung_s": 0.5, "run.drain_s": 0.5}
    assert scene.run((4.0, signal.SIGTERM)) == 1
    assert scene.page("supervisor")["restarts.worker.0"] == 0


def test_a_process_for_which_the_system_has_no_room_is_started_later(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    scene.live(worker=["ready, work 0.3, die 9", WORKER])
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(processes, "FIRST_DELAY_S", 0.2)

    def exhaust() -> None:  # of what a supervisor opens, only the start of a process is left
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))

    timers = [
        threading.Timer(0.35, exhaust),
        threading.Timer(2.0, resource.setrlimit, (resource.RLIMIT_NOFILE, limits)),
    ]
    for timer in timers:
        timer.start()
    try:
        assert scene.run((4.0, signal.SIGTERM)) == 143
    finally:
        for timer in timers:
            timer.join()
    assert scene.page("worker-0")["starts"] == 2
    assert "worker 0 cannot be started: " in capfd.readouterr().err


def test_children_leave_when_the_supervisor_is_killed(scene: Scene) -> None:
    scene.live()
    (scene.directory / "script.json").write_text(json.dumps(scene.script))
    code = (
        "import sys\nfrom appliance import supervisor as room\nfrom appliance.config import resolve\n"
        "from appliance.report import Report\n"
        "room.MODULES = {kind: f'stub_{kind}' for kind in ('capture', 'worker', 'feed')}\n"
        f"config = resolve(None, {scene.options!r})\nsys.exit(room.Supervisor(config, Report(config)).run())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    pages = ("capture-0", "worker-0", "worker-1", "feed")
    eventually(lambda: all((scene.home / f"{name}.stats").exists() for name in pages), "every page is there")
    eventually(lambda: all(scene.page(name)["state"] == 2 for name in pages), "all are ready")
    pids = [scene.page(name)["pid"] for name in pages]
    process.kill()
    process.wait()
    eventually(lambda: not any(running(pid) for pid in pids), "nobody runs any more")


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
