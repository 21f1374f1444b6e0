"""The supervisor with stand-ins for its children: a script says how each life of each of them goes."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eventually import PATIENCE_S, eventually, join

from appliance.config.load import resolve
from appliance.config.schema import Config
from appliance.native.safe_files import Unusable
from appliance.report.run_report import Report
from appliance.stats.page import Page
from appliance.supervisor import child_process as processes
from appliance.supervisor import children, health
from appliance.supervisor import supervisor as room
from appliance.supervisor.supervisor import Supervisor

pytestmark = pytest.mark.slow

# A life is a list of steps; the last life in the list is lived again and again.
STUB = """
import json, os, signal, sys, time
from pathlib import Path
from appliance.stats.page import Page
from appliance.runtime.child import ChildRuntime

def life(kind):
    home = Path(sys.argv[1])
    name = kind if kind == "feed" else f"{kind}-{sys.argv[2]}"
    page = Page.open(home / f"{name}.stats")
    runtime = ChildRuntime(page)
    lives = json.loads((Path(__file__).parent / "script.json").read_text())[kind]
    for step in lives[min(page["starts"], len(lives)) - 1].split(","):
        word, _, value = step.strip().partition(" ")
        if word == "ready":
            runtime.state(2)
        elif word == "work":
            end = time.monotonic() + float(value)
            while time.monotonic() < end:
                runtime.heartbeat()
                time.sleep(0.005)
        elif word == "term":
            while not runtime.stopping:
                runtime.heartbeat()
                time.sleep(0.005)
        elif word == "hear":
            while not runtime.stopping and not all(page[n] for n in page.names if n.startswith("ended.")):
                runtime.heartbeat()
                time.sleep(0.005)
        elif word == "called":
            while runtime.poll_config(home) is None:
                runtime.heartbeat()
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
                runtime.state(4)
            sys.exit(int(value))
"""

CAPTURE = "ready, work 0.1, bye, exit 0"
LIVE = "ready, term, bye, exit 0"
WORKER = "ready, hear, bye, exit 0"
FEED = "ready, hear, exit 0"


READY, DONE = 2, 4
NAMES = ("capture-0", "worker-0", "worker-1", "feed")


class Heard(Report):
    """A report that keeps what it says."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.lines: list[str] = []

    def warn(self, text: str, **how: Any) -> None:
        super().warn(text, **how)
        self.lines.append(text)


class Scene:
    """A run with scripted children, and what is done to it: each act waits for what has to be true before it."""

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
            "run.drain_s": PATIENCE_S,
            "run.hung_s": PATIENCE_S,
        }

    def live(self, **lives: list[str]) -> None:
        """Turns the scene into a live capture."""
        del self.options["source.file"]
        self.options["source.interfaces"] = ["eth0"]
        self.script["capture"] = [LIVE]
        self.script.update(lives)

    def config(self) -> Config:
        return resolve(None, self.options)

    def run(self, *acts: tuple[Callable[[], object], int | Callable[[], object]]) -> int:
        """Runs it. An act is a condition, and what is done once it is true: a signal to the supervisor, or a call."""
        (self.directory / "script.json").write_text(json.dumps(self.script))
        config = self.config()
        self.report = Heard(config)
        self.supervisor = Supervisor(config, self.report)
        over = threading.Event()
        failed: list[BaseException] = []

        def play() -> None:
            try:
                for number, (true, act) in enumerate(acts):
                    eventually(lambda true=true: over.is_set() or true(), f"the condition of act {number}")
                    if over.is_set():
                        raise AssertionError(f"the run ended before act {number}")
                    os.kill(os.getpid(), act) if isinstance(act, int) else act()
            except BaseException as fault:
                failed.append(fault)
                for _ in range(2):  # the second one kills
                    os.kill(os.getpid(), signal.SIGTERM)

        # A signal that comes when the run is over already does not end the tests.
        before = {number: signal.signal(number, lambda *_: None) for number in room.STOP_SIGNALS}
        player = threading.Thread(target=play)
        player.start()
        try:
            code = self.supervisor.run()
        finally:
            over.set()
            join(player)
            for number, handler in before.items():
                signal.signal(number, handler)
        if failed:
            raise failed[0]
        return code

    def said(self, text: str) -> Callable[[], bool]:
        """A condition: the supervisor said this."""
        return lambda: any(text in line for line in self.report.lines)

    def capturing(self) -> bool:
        """A condition: every process is ready, and the supervisor said so."""
        return self.said("capturing on")()

    def living(self, number: int, *names: str) -> Callable[[], bool]:
        """A condition: these processes are ready in this one of their lives."""
        wanted = (number, READY)
        return lambda: self.made() and all((self.page(n)["starts"], self.page(n)["state"]) == wanted for n in names)

    def made(self) -> bool:
        """A condition: every process has its page."""
        return all((self.home / f"{name}.stats").exists() for name in NAMES)

    def there(self) -> bool:
        """A condition: every process is ready."""
        return self.made() and all(self.page(name)["state"] == READY for name in NAMES)

    def page(self, name: str) -> Page:
        return Page.open(self.home / f"{name}.stats")


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    (tmp_path / "stub.py").write_text(STUB)
    for kind in ("capture", "worker", "feed"):
        (tmp_path / f"stub_{kind}.py").write_text(f"from stub import life\nlife({kind!r})\n")
    known = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{known}" if known else str(tmp_path))
    monkeypatch.setattr(children, "MODULES", {kind: f"stub_{kind}" for kind in ("capture", "worker", "feed")})
    return Scene(tmp_path)


def test_a_file_is_read_to_its_end(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    assert scene.run() == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert "ledger closed" in err
    assert json.loads((scene.directory / "ledger.json").read_text())["unaccounted"] == 0


def test_sigterm_drains_a_live_run(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    scene.live()
    assert scene.run((scene.capturing, signal.SIGTERM)) == 143
    assert "capturing on eth0" in capfd.readouterr().err


def test_a_hangup_makes_a_feed_with_a_lock_read_its_keys_again(scene: Scene) -> None:
    (scene.directory / "clients").mkdir()
    scene.options |= {"feed.curve_key": "server.key_secret", "feed.curve_clients": str(scene.directory / "clients")}
    scene.live(feed=["ready, called, set reloads=1, hear, exit 0"])
    acts = [(scene.capturing, signal.SIGHUP), (lambda: scene.page("feed")["reloads"] == 1, signal.SIGTERM)]
    assert scene.run(*acts) == 143


def test_a_hangup_does_not_end_a_run_that_has_nothing_to_reload(
    scene: Scene, capfd: pytest.CaptureFixture[str]
) -> None:
    scene.live()
    acts = [(scene.capturing, signal.SIGHUP), (scene.said("nothing to reload"), signal.SIGTERM)]
    assert scene.run(*acts) == 143
    assert "nothing to reload: it was started without a configuration file (-c)" in capfd.readouterr().err


def test_a_terminal_that_goes_away_ends_the_run(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    there = iter([True, False])
    monkeypatch.setattr(room.reload, "has_terminal", lambda: next(there))
    scene.live()
    assert scene.run((scene.capturing, signal.SIGHUP)) == 129


def test_ctrl_c_drains_a_file(scene: Scene) -> None:
    scene.script["capture"] = [LIVE]
    assert scene.run((scene.there, signal.SIGINT)) == 130


def test_a_drain_that_takes_too_long_is_cut_short(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    scene.live(worker=["ready, work 60"])
    scene.options["run.drain_s"] = 0.5
    assert scene.run((scene.capturing, signal.SIGTERM)) == 1
    assert "not drained within 0.5 s" in capfd.readouterr().err


def test_a_second_signal_kills_at_once(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    scene.live(worker=["ready, work 60"])
    acts = [(scene.capturing, signal.SIGTERM), (lambda: scene.page("capture-0")["state"] == DONE, signal.SIGINT)]
    assert scene.run(*acts) == 1
    assert "second signal" in capfd.readouterr().err


def test_what_a_killed_drain_lost_is_in_the_ledger(scene: Scene) -> None:
    scene.live(
        capture=["ready, set frames=10, set offered.0=10, set sent.0=8, term, bye, exit 0"],
        worker=["ready, set received.0=0, work 60"],
    )
    scene.options["run.drain_s"] = 0.3
    assert scene.run((lambda: scene.there() and scene.page("capture-0")["sent.0"] == 8, signal.SIGTERM)) == 1
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
    assert scene.run((scene.living(2, "worker-0", "worker-1"), signal.SIGTERM)) == 143
    err = capfd.readouterr().err
    assert "worker 0 was killed by SIGKILL: restarting now" in err
    assert "restarts of processes: 2;" in err
    assert scene.page("supervisor")["restarts.worker.0"] == 1
    assert scene.page("worker-0")["starts"] == 2


def test_a_killed_feed_is_started_again(scene: Scene) -> None:
    scene.live(feed=["ready, work 0.3, exit 1", FEED])
    assert scene.run((scene.living(2, "feed"), signal.SIGTERM)) == 143
    assert scene.page("supervisor")["restarts.feed"] == 1


def test_a_live_capture_that_fails_is_started_again_and_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "FIRST_DELAY_S", 0.1)
    scene.live(capture=["ready, work 0.1, exit 1", "exit 2", "exit 2", LIVE])
    assert scene.run((scene.living(4, "capture-0"), signal.SIGTERM)) == 143
    assert scene.page("supervisor")["restarts.capture.0"] == 3


def test_a_process_that_never_gets_ready_is_given_up(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "FIRST_DELAY_S", 0.05)
    scene.live(worker=["exit 1"])
    assert scene.run() == 1
    assert "could not be started 5 times" in capfd.readouterr().err


@pytest.mark.parametrize("lives", [{"capture": ["ready, exit 1"]}, {"worker": ["ready, die 11"]}])
def test_a_file_run_ends_when_a_process_dies_again_and_again_without_work(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], lives: dict[str, list[str]]
) -> None:
    monkeypatch.setattr(processes, "FIRST_DELAY_S", 0.05)
    scene.script.update(lives)
    assert scene.run() == 1
    assert "5 starts in a row did no work" in capfd.readouterr().err


def test_a_file_run_goes_on_while_each_start_of_a_process_does_some_work(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "FIRST_DELAY_S", 0.05)
    deaths = [f"ready, set taking.0={number}, die 9" for number in range(1, 8)]
    scene.script.update(capture=["ready, work 1, bye, exit 0"], worker=[*deaths, WORKER])
    scene.run()
    assert scene.page("supervisor")["restarts.worker.0"] == 7


def test_the_farewell_of_an_earlier_life_does_not_end_a_new_one(scene: Scene) -> None:
    scene.live(capture=["ready, work 0.1, bye, exit 1", "ready, term, bye, exit 0"])
    again = scene.living(2, "capture-0", "worker-0", "worker-1", "feed")
    assert scene.run((again, signal.SIGTERM)) == 143


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
    scene.options["output.path"] = "-"
    scene.live(feed=["ready, set output_closed=1, hear, exit 0"])
    assert scene.run() == 0
    assert "standard output has no reader any more" in capfd.readouterr().err


def test_a_taken_metrics_port_is_found_before_anything_starts(scene: Scene) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        scene.options["metrics.bind"] = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Unusable, match=r"--metrics 127\.0\.0\.1:.*in use"):
            scene.run()
    assert not (scene.home / "worker-0.stats").exists()


def test_health_is_progress(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PROGRESS_TIMEOUT_S", 0.5)
    scene.live()
    scene.options["run.drain_s"] = 0.2

    def healthy() -> bool:
        return scene.capturing() and scene.supervisor.healthy() == (True, "")

    def stop() -> None:
        os.kill(scene.page("worker-0")["pid"], signal.SIGSTOP)

    def only_worker_0() -> bool:
        fine, complaints = scene.supervisor.healthy()
        return not fine and bool(re.fullmatch(r"worker 0 made no progress for \d+ s", complaints))

    assert scene.run((healthy, stop), (only_worker_0, signal.SIGTERM)) == 1


@pytest.mark.parametrize(
    ("kind", "name", "after"),
    [("capture", "capture-0", LIVE), ("worker", "worker-0", WORKER), ("feed", "feed", FEED)],
)
def test_a_live_process_that_stands_still_is_killed_and_started_again(
    scene: Scene, kind: str, name: str, after: str, capfd: pytest.CaptureFixture[str]
) -> None:
    scene.live(**{kind: ["ready, work 0.2, die 19", after]})  # SIGSTOP
    scene.options["run.hung_s"] = 3.0
    assert scene.run((scene.living(2, name), signal.SIGTERM)) == 143
    assert scene.page(name)["starts"] == 2
    slot = name.replace("-", ".")
    assert scene.page("supervisor")[f"restarts.{slot}"] == scene.page("supervisor")[f"hung.{slot}"] == 1
    assert f"{name.replace('-', ' ')} made no progress for" in capfd.readouterr().err


def test_a_process_of_a_file_may_stand_still(scene: Scene) -> None:
    scene.script |= {"capture": [LIVE], "worker": ["ready, die 19", WORKER]}
    scene.options |= {"run.hung_s": 0.5, "run.drain_s": 0.5}

    def long_still() -> bool:
        return scene.there() and time.monotonic_ns() - scene.page("worker-0")["progress_ns"] > 2e9

    assert scene.run((long_still, signal.SIGTERM)) == 1
    assert scene.page("supervisor")["restarts.worker.0"] == 0


def test_a_process_for_which_the_system_has_no_room_is_started_later(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    scene.live()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(processes, "FIRST_DELAY_S", 0.2)

    def exhaust() -> None:  # of what a supervisor opens, only the start of a process is left
        pid = scene.page("worker-0")["pid"]
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        os.kill(pid, signal.SIGKILL)

    def restore() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    refused = scene.said("worker 0 cannot be started: ")
    try:
        acts = [(scene.capturing, exhaust), (refused, restore), (scene.living(2, "worker-0"), signal.SIGTERM)]
        assert scene.run(*acts) == 143
    finally:
        restore()
    assert "worker 0 cannot be started: " in capfd.readouterr().err


def test_children_leave_when_the_supervisor_is_killed(scene: Scene) -> None:
    scene.live()
    (scene.directory / "script.json").write_text(json.dumps(scene.script))
    code = (
        "import sys\nfrom appliance.supervisor import children, supervisor as room\n"
        "from appliance.config.load import resolve\n"
        "from appliance.report.run_report import Report\n"
        "children.MODULES = {kind: f'stub_{kind}' for kind in ('capture', 'worker', 'feed')}\n"
        f"config = resolve(None, {scene.options!r})\nsys.exit(room.Supervisor(config, Report(config)).run())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3])
    pages = ("capture-0", "worker-0", "worker-1", "feed")
    eventually(lambda: all((scene.home / f"{name}.stats").exists() for name in pages), "every page is there")
    eventually(lambda: all(scene.page(name)["state"] == 2 for name in pages), "all are ready")
    pids = [scene.page(name)["pid"] for name in pages]
    process.kill()
    process.wait(PATIENCE_S)
    eventually(lambda: not any(running(pid) for pid in pids), "nobody runs any more")


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
