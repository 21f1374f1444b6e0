"""SIGHUP under load: another filter, other limits, headers and keys, without a frame or a connection lost for it."""

from __future__ import annotations

import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest
from box import Box
from eventually import PATIENCE_S, eventually
from load import Load
from scene import PORT, Metrics, Scene
from transactions import assert_same, of_event

pytestmark = pytest.mark.root
UDP = 9000


class Reloading:
    """A capture with a configuration file that changes."""

    def __init__(self, scene: Scene, text: str, *words: str | int) -> None:
        self.file: Path = scene.directory / "appliance.toml"
        self.file.write_text(text)
        self.box: Box = scene.capture("-c", str(self.file), *words)

    def generations(self) -> set[int]:
        """Of all processes."""
        return {self.box.count(name, "generation") for name in (*self.box.names(), "supervisor")}

    def hang_up(self, text: str) -> None:
        """Another file, and word of it."""
        self.file.write_text(text)
        self.box.process.send_signal(signal.SIGHUP)

    def reload(self, text: str) -> None:
        """The same, until every process has taken it over."""
        wanted = self.box.count("supervisor", "generation") + 1
        self.hang_up(text)
        eventually(lambda: self.generations() == {wanted}, f"generation {wanted} is in force\n{self.box.errors()}")

    def refused(self, text: str) -> str:
        """The same, until it is refused; what was said."""
        before, said = self.box.count("supervisor", "reloads.refused"), len(self.box.errors())
        self.hang_up(text)
        eventually(lambda: self.box.count("supervisor", "reloads.refused") > before, "it is refused")
        return self.box.errors()[said:]


def more(box: Box, name: str, slot: str, than: int) -> bool:
    return box.count(name, slot) > than


def numbers(scene: Scene) -> subprocess.Popen[str]:
    """Datagrams, one after the other, until its standard input ends; it prints how many."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return scene.client.python("numbers.py", "192.0.2.1", UDP, text=True, **pipes)


def test_no_frame_is_passed_over_while_the_filter_changes(scene: Scene) -> None:
    filters = [f'[source]\nfilter = "udp dst port {UDP} or tcp port {1000 + n}"\n' for n in range(25)]
    run = Reloading(scene, filters[0], "--workers", 1, "--feed", "off", "--metrics", "off")
    sender = numbers(scene)
    eventually(lambda: run.box.count("capture-0", "frames") > 1000, "frames are captured")
    for text in filters[1:]:
        before = run.box.count("capture-0", "frames")
        run.reload(text)
        eventually(partial(more, run.box, "capture-0", "frames", before), "frames are captured")
    sent = int(sender.communicate(timeout=PATIENCE_S)[0])
    eventually(lambda: run.box.count("capture-0", "frames") >= sent, "all are captured")
    assert run.box.stop() == 143
    assert run.box.ledger()["L1"] == {
        "kernel_received": sent,
        "frames": sent,
        "kernel_dropped": 0,
        "kernel_abandoned": 0,
        "looped_frames": 0,
    }
    assert run.box.count("capture-0", "blind_ns.filter") == 0


def test_no_connection_is_lost_by_reloads(scene: Scene) -> None:
    run = Reloading(scene, f'[source]\nfilter = "tcp port {PORT}"\n', "--workers", 2, "--feed", "off")
    load = Load(scene)
    for number in range(8):
        before = run.box.count("feed", "written_events")
        eventually(partial(more, run.box, "feed", "written_events", before + 60), "events are written")
        run.reload(
            f'[source]\nfilter = "tcp port {PORT} or tcp port {number + 1}"\n'
            f"[tcp]\nidle_timeout_s = {60 + number}\nmax_connections = {5000 + number}\n"
            f"[http]\nheaders = {['all'] if number % 2 else []}\nmax_headers = {50 + number}\n"
        )
    metrics = Metrics(scene.server)
    assert metrics("appliance_config_generation") == 9
    assert metrics("appliance_config_reloads_total", result="applied") == 8
    assert metrics("appliance_config_last_reload_successful") == 1
    done = load.stop()
    run.box.wait_quiet()
    assert run.box.stop() == 143
    run.box.ledger()
    assert_same([of_event(event) for event in run.box.events()], done)
    shown = {"headers" in event["http"]["request"] for event in run.box.events() if "request" in event["http"]}
    assert shown == {True, False}
    assert "configuration 9: source.filter, tcp.max_connections, tcp.idle_timeout_s, http." in run.box.errors()


def test_what_a_run_cannot_change_is_refused_as_a_whole(scene: Scene) -> None:
    text = '[source]\nfilter = "tcp"\n'
    run = Reloading(scene, text, "--workers", 1, "--feed", "off")
    said = run.refused('[source]\nfilter = "udp"\n[shard]\nbatch_bytes = 8192\n[run]\nobserver = "other"\n')
    assert f"not reloaded: {run.file}:4: shard.batch_bytes: cannot be changed while it runs; restart" in said
    assert f"not reloaded: {run.file}:6: run.observer: cannot be changed" in said
    assert "filter" not in said
    for bad, reason in [
        ('[source]\nfilter = "port http and"\n', "source.filter: the filter 'port http and' does not compile"),
        ("[source\n", "not TOML"),
        ('[http]\nheadres = ["a"]\nmax_headers = 0\n', "did you mean http.headers?"),
    ]:
        assert reason in run.refused(bad)
    assert run.generations() == {1}
    metrics = Metrics(scene.server)
    assert metrics("appliance_config_generation") == 1
    assert metrics("appliance_config_reloads_total", result="refused") == 4
    assert metrics("appliance_config_last_reload_successful") == 0
    load = Load(scene)  # by the old filter
    eventually(lambda: run.box.count("feed", "written_events") > 50, "events are written")
    load.stop()
    run.reload(text)
    assert Metrics(scene.server)("appliance_config_last_reload_successful") == 1
    assert run.box.stop() == 143
    run.box.ledger()


def test_a_process_that_is_started_later_has_the_new_configuration(scene: Scene) -> None:
    run = Reloading(scene, "", "--workers", 1, "--feed", "off", "--metrics", "off")
    run.reload('[http]\nheaders = ["host"]\n')
    run.box.kill("worker-0")
    load = Load(scene)
    eventually(lambda: run.box.count("feed", "written_events") > 50, "events are written")
    load.stop()
    assert run.generations() == {2}
    assert run.box.stop() == 143
    assert all(
        "host" in event["http"]["request"]["headers"] for event in run.box.events() if event["http"].get("request")
    )


def test_the_closing_text_speaks_of_the_configuration_in_force(scene: Scene) -> None:
    words = ("--workers", 1, "--feed", "off", "--metrics", "off")
    run = Reloading(scene, '[source]\nfilter = "tcp port 1"\n', *words)
    run.reload('[source]\nfilter = "tcp port 2"\n')
    assert run.box.stop() == 143
    assert "no frame passed the filter tcp port 2" in run.box.errors()


def test_a_new_filter_is_in_force(scene: Scene) -> None:
    run = Reloading(scene, "", "--workers", 1, "--feed", "off", "--metrics", "off")
    load = Load(scene)
    eventually(lambda: run.box.count("feed", "written_events") > 50, "events are written")
    run.reload('[source]\nfilter = "tcp port 1"\n')
    run.box.wait_quiet()
    frames = run.box.count("capture-0", "frames")
    other = Load(scene, "other")
    other.stop()
    assert run.box.count("capture-0", "frames") == frames
    run.reload("")
    eventually(lambda: run.box.count("capture-0", "frames") > frames + 100, "frames are captured again")
    load.stop()
    assert run.box.stop() == 143
    run.box.ledger()


def test_a_filter_of_hundreds_of_hosts_starts_and_reloads_while_frames_are_captured(scene: Scene) -> None:
    hosts = [f"host 10.0.{number // 250}.{number % 250 + 1}" for number in range(600)]
    run = Reloading(scene, f'[source]\nfilter = "{" or ".join([*hosts, "host 192.0.2.1"])}"\n', "--workers", 1)
    load = Load(scene)
    eventually(lambda: run.box.count("feed", "written_events") > 50, "events are written")
    for text in (" or ".join(["host 192.0.2.1", *hosts[::-1]]), f"tcp and ({' or '.join(hosts)} or host 192.0.2.1)"):
        run.reload(f'[source]\nfilter = "{text}"\n')
        before = run.box.count("feed", "written_events")
        eventually(partial(more, run.box, "feed", "written_events", before + 50), "events are written")
    done = load.stop()
    run.box.wait_quiet()
    assert run.box.count("capture-0", "starts") == 1
    assert run.box.stop() == 143
    run.box.ledger()
    assert "applied outside the kernel, which takes more processor time: its program has" in run.box.errors()
    assert "Kernel filter failed" not in run.box.errors()  # libpcap's line on standard error
    assert_same([of_event(event) for event in run.box.events()], done)
