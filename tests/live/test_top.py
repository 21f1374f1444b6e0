"""`appliance top` beside a real appliance: on a real terminal (tmux), on one that goes away, and without one."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from tempfile import TemporaryDirectory

import pytest
from box import Box, appliance, resume
from eventually import PATIENCE_S, eventually
from hosts import Host, environment
from scene import Scene, require


class Terminal:
    """A terminal of its own, in which a shell runs one command and says its exit code."""

    def __init__(self, host: Host, *words: str, width: int = 80, height: int = 24) -> None:
        require("tmux")
        self._folder = TemporaryDirectory(prefix="top-")  # tmux leaves its socket
        # The exit code is said last: who has read it can read everything.
        command = f"{' '.join(host.argv(words))}; code=$?; stty -a; echo ended with $code; exec sleep 600"
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), command)

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", f"{self._folder.name}/socket", *words],
            capture_output=True,
            text=True,
            check=True,
            env=environment(),
            timeout=PATIENCE_S,
        )
        return done.stdout

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def press(self, key: str) -> None:
        self._tmux("send-keys", key)

    def wait(self, pattern: str) -> re.Match[str]:
        """Until the screen shows it."""
        return eventually(lambda: re.search(pattern, self.screen(), re.M), lambda: f"{pattern} in\n{self.screen()}")

    def close(self) -> None:
        subprocess.run(
            ["tmux", "-S", f"{self._folder.name}/socket", "kill-server"],
            capture_output=True,
            check=False,
            timeout=PATIENCE_S,
        )
        self._folder.cleanup()


@pytest.fixture
def busy(scene: Scene) -> Iterator[tuple[Scene, Box]]:
    """An appliance with two workers that has something to do."""
    box = scene.capture("--workers", 2)
    load = scene.load("--until-eof")
    yield scene, box
    load.kill()


def show(scene: Scene, box: Box, *words: str) -> Terminal:
    command = (sys.executable, "-m", "appliance", "top", "--run", str(box.home), "--interval", "0.5", *words)
    return Terminal(scene.server, *command)


def test_its_numbers_move_it_fits_every_size_and_q_leaves_the_terminal_as_it_was(busy: tuple[Scene, Box]) -> None:
    terminal = show(*busy)
    try:
        terminal.wait(r"^traffic +[1-9][\d,.]* frames/s .* [1-9][\d,.]* events/s")
        terminal.wait(r"^ +1 +\d+ % +[1-9]")  # the second worker
        terminal.wait(r"^ +192\.0\.2\.1 +[\d.]+ ms +[\d.]+ ms +[1-9]")
        for width, height in ((120, 40), (50, 12), (80, 24)):
            terminal.resize(width, height)
            terminal.wait(r"\A.*q ends$")
        terminal.press("q")
        terminal.wait(r"^ended with 0$")
        settings = terminal.screen()
        assert all(re.search(rf"(?<!-)\b{word}\b", settings) for word in ("icanon", "echo", "isig")), settings
        assert "frames/s" not in settings
    finally:
        terminal.close()


def test_it_follows_the_size_of_the_terminal_whatever_the_environment_says(
    busy: tuple[Scene, Box], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a program sets it that has loaded readline."""
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("COLUMNS", "80")
    terminal = show(*busy)
    try:
        terminal.wait(r"\A.{70,} q ends$")
        terminal.resize(50, 12)
        terminal.wait(r"\A.{0,50} q ends$")
    finally:
        terminal.close()


def test_ctrl_c_leaves_the_terminal_as_it_was(busy: tuple[Scene, Box]) -> None:
    terminal = show(*busy)
    try:
        terminal.wait(r"^traffic")
        terminal.press("C-c")
        terminal.wait(r"^ended with 130$")
        assert re.search(r"(?<!-)\becho\b", terminal.screen())
    finally:
        terminal.close()


def test_it_ends_with_the_appliance(busy: tuple[Scene, Box]) -> None:
    scene, box = busy
    terminal = show(scene, box)
    try:
        terminal.wait(r"^traffic")
        box.stop()
        terminal.wait(r"^ended with 0$")
    finally:
        terminal.close()


def test_a_stalled_worker_and_its_losses_are_seen(scene: Scene) -> None:
    small = ("--set", "shard.link_bytes=65536", "--set", "shard.batch_bytes=16384", "--set", "shedding.enabled=false")
    box = scene.capture("--workers", 1, *small)
    load = scene.load("--until-eof")
    pid = box.send("worker-0", signal.SIGSTOP)
    terminal = show(scene, box)
    try:
        terminal.wait(r"links +[1-9][\d,.]* +[1-9]")
    finally:
        resume(pid)
        terminal.close()
        load.kill()


def test_once_prints_one_picture_without_a_terminal(busy: tuple[Scene, Box]) -> None:
    scene, box = busy
    result = appliance("top", "--once", "--run", box.home, "--interval", 1, host=scene.server)
    assert result.code == 0, result.err
    assert re.search(r"^traffic +[1-9][\d,.]* frames/s", result.out, re.M)
    assert "\x1b" not in result.out


def test_without_a_terminal_it_says_what_to_do(scene: Scene) -> None:
    box = scene.capture()
    result = appliance("top", "--run", box.home, host=scene.server)
    assert (result.code, "--once" in result.err) == (2, True)


def test_a_feed_that_is_off_costs_the_hosts_only(scene: Scene) -> None:
    box = scene.capture("--feed", "off")
    result = appliance("top", "--once", "--run", box.home, "--interval", 0.2, host=scene.server)
    assert "the feed is off" in result.out
