"""Readers of the feed in other languages, and the ten lines of Python of its page, against a real feed."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "ops" / "examples"
NODE = ROOT / "build" / "node"
sys.path.insert(0, str(ROOT / "tests" / "appliance"))

from eventually import PATIENCE_S, eventually, read_line  # noqa: E402
from feed_process import FakeFeed, FeedProcess, feed_config  # noqa: E402

EVENT = {"http": {"response": {"status_code": 503}}, "url": {"path": "/ü"}}
LINE = json.dumps(EVENT).encode()


@contextmanager
def reading(feed: FeedProcess, command: Sequence[object]) -> Iterator[subprocess.Popen[str]]:
    """An example at work, after its subscription has arrived."""
    before = feed.page["subscribers"]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        eventually(
            lambda: feed.page["subscribers"] > before or process.poll() is not None, "the example has subscribed"
        )
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def lines(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [read_line(process.stdout).rstrip("\n") for _ in range(count)]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """feed.c, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not Path("/usr/include/zmq.h").exists():
        pytest.skip("no C compiler or no libzmq3-dev on this machine")
    binary = tmp_path_factory.mktemp("example") / "feed"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O2"]
    subprocess.run([compiler, *flags, "-o", binary, EXAMPLES / "feed.c", "-lzmq"], check=True, timeout=PATIENCE_S)
    return binary


@pytest.fixture
def node(tmp_path: Path) -> list[object]:
    """The command that runs feed.js with the zeromq package that `make test` installs."""
    if shutil.which("node") is None or not (NODE / "node_modules" / "zeromq").exists():
        pytest.skip("no node on this machine, or its package zeromq could not be installed")
    (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
    shutil.copy(EXAMPLES / "feed.js", tmp_path)
    return ["node", tmp_path / "feed.js"]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    made = tmp_path / "run"
    made.mkdir(mode=0o700)
    return made


def check(run_dir: Path, command: list[object], *more: str) -> None:
    """Every event arrives as it is, only of the topic that was asked for, and messages that are missed are said."""
    with FeedProcess(run_dir, feed_config()) as feed, reading(feed, [*command, feed.endpoint, "http.5xx."]) as process:
        feed.workers[0].send(1, b'{"not": "asked for"}')
        for _ in range(3):
            feed.workers[0].send(4, LINE, LINE)
        assert [json.loads(line) for line in lines(process, 6)] == [EVENT] * 6
    fake = FakeFeed()
    process = subprocess.Popen(
        [*map(str, command), fake.endpoint, "http.5xx.", *more], stderr=subprocess.PIPE, text=True
    )
    try:
        fake.subscribed()
        fake.say("http.5xx.", 7, LINE)
        fake.say("http.5xx.", 10, LINE)
        assert process.stderr is not None
        assert read_line(process.stderr) == "lost 2 messages of http.5xx.\n"
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_S)
        fake.close()


def test_the_feed_in_c(run_dir: Path, compiled: Path) -> None:
    check(run_dir, [compiled])


def test_the_feed_in_javascript(run_dir: Path, node: list[object]) -> None:
    check(run_dir, node, "tcp://127.0.0.1:9")  # nobody answers there


def test_javascript_gets_back_what_it_missed(run_dir: Path, node: list[object]) -> None:
    with FeedProcess(run_dir, feed_config(subscriber_queue=10)) as feed:
        with reading(feed, [*node, feed.endpoint, "http.", feed.replay]) as process:
            feed.workers[0].send(4, b'{"n": 0}')
            assert lines(process, 1) == ['{"n": 0}']
            process.send_signal(signal.SIGSTOP)
            fill = "x" * 200_000  # far more than the sockets between the two hold
            for number in range(1, 200):
                feed.workers[0].send(4, json.dumps({"n": number, "fill": fill}).encode())
            eventually(lambda: feed.published() == 200, "all are published")
            process.send_signal(signal.SIGCONT)
            assert [json.loads(line)["n"] for line in lines(process, 199)] == list(range(1, 200))
        assert feed.page["replay_messages"] > 0


def test_ten_lines_of_python_read_the_feed(run_dir: Path) -> None:
    source = (EXAMPLES / "feed.py").read_text()
    assert len(source.splitlines()) == 10
    with FeedProcess(run_dir, feed_config()) as feed:
        source = source.replace("tcp://127.0.0.1:5556", feed.endpoint)
        with reading(feed, [sys.executable, "-u", "-c", source]) as process:
            feed.workers[0].send(4, LINE, LINE)
            assert lines(process, 2) == ["http.5xx. 1 503"] * 2


def test_the_page_of_the_feed_shows_them_unchanged() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "ops/docs/operators/feed.md").read_text(), re.M | re.S)
    assert (EXAMPLES / "feed.py").read_text() in blocks
