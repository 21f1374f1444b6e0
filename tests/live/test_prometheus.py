"""A real Prometheus scrapes the appliance; the health check says when a process is stuck."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from box import Box
from eventually import PATIENCE_S, eventually
from hosts import Host
from scene import Metrics, Scene, require
from scraper import Prometheus
from traffic import write_sample

ENDPOINT = "127.0.0.1:9470"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def assert_clean(text: str) -> None:
    """promtool has nothing to say about it."""
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture
def slow_box(run_box: Callable[..., Box], tmp_path: Path) -> Iterator[tuple[Box, Callable[[], bool]]]:
    """The appliance on its standard input, and what gives it the next piece of the sample; False at the end."""
    write_sample(tmp_path / "sample.pcap")
    data = (tmp_path / "sample.pcap").read_bytes()
    reader, writer = os.pipe()
    box = run_box("-r", "-", "--feed", "off", "--metrics", "127.0.0.1:0", stdin=reader)
    os.close(reader)
    with os.fdopen(writer, "wb", buffering=0) as pipe:
        given = 0

        def give() -> bool:
            nonlocal given
            given += pipe.write(data[given : given + 8192])
            return given < len(data)

        give()
        yield box.wait_ready(), give


@pytest.mark.peer
def test_prometheus_follows_a_capture_on_standard_input(
    slow_box: tuple[Box, Callable[[], bool]], here: Host, tmp_path: Path
) -> None:
    require("prometheus", "curl")
    box, give = slow_box
    place = box.home / "metrics.endpoint"
    eventually(place.exists, "the metrics are served")
    prometheus = Prometheus(here, tmp_path, place.read_text(), free_port())

    frames = "appliance_capture_frames_total"
    prometheus.wait(frames)

    def rate() -> bool:
        # A piece for a scrape: the server begins to scrape seconds after it is ready, and the sample is short.
        seen = prometheus.value(frames)
        give()
        prometheus.wait(f"{frames} > {seen}")
        return bool(prometheus.ask(f"rate({frames}[5s]) > 0"))

    eventually(rate, "frames are read at some rate")
    assert prometheus.value("up") == 1
    prometheus.wait("time() - timestamp(appliance_capture_frames_total) < 5")
    assert {one["metric"]["stage"] for one in prometheus.ask("appliance_capture_dropped_frames_total == 0")} >= {
        "kernel",
        "nic",
    }


@pytest.mark.root
@pytest.mark.peer
def test_prometheus_finds_throughput_drops_and_health_of_a_live_capture(scene: Scene) -> None:
    require("prometheus", "promtool", "curl")
    # Large enough for a worker that waits for a processor, and full within seconds behind one that stands still.
    links = ("--set", "shard.batch_bytes=65536", "--set", "shard.link_bytes=8388608", "--set", "shedding.enabled=false")
    box = scene.capture("--workers", 2, *links)
    prometheus = Prometheus(scene.server, scene.directory, ENDPOINT)
    load = scene.load("--connections", 4, "--pause", 0.01, "--largest", 5000, "--until-eof")

    # At work: throughput, no drops, well.
    prometheus.wait('rate(appliance_capture_frames_total{interface="s0"}[5s]) > 10')
    prometheus.wait('rate(appliance_capture_wire_bytes_total{interface="s0"}[5s]) > 1000')
    prometheus.wait("sum(rate(appliance_feed_events_total[5s])) > 1")
    prometheus.wait("rate(appliance_http_response_duration_seconds_count[5s]) > 1")
    prometheus.wait("time() - timestamp(appliance_capture_frames_total) < 5")
    backlog = 'appliance_frames_outcome_total{stage="link",outcome="dropped_backlog",worker="0"}'
    for drops in (
        backlog,
        'appliance_capture_dropped_frames_total{stage="kernel"}',
        "sum(appliance_feed_dropped_events_total)",
    ):
        assert prometheus.value(drops) == 0
    assert len(prometheus.ask("appliance_process_up == 1")) == 5  # supervisor, capture, two workers, feed
    assert scene.server.fetch(f"http://{ENDPOINT}/healthz") == (200, "ok\n")
    assert_clean(Metrics(scene.server).text)

    # A worker is stuck: its frames are dropped, and the health check says who it is.
    box.send("worker-0", signal.SIGSTOP)
    prometheus.wait(f"rate({backlog}[5s]) > 0")
    _, text = eventually(
        lambda: (answer := scene.server.fetch(f"http://{ENDPOINT}/healthz"))[0] == 503 and answer, "it is unwell"
    )
    assert "worker 0 made no progress" in text
    assert "worker 1" not in text
    prometheus.wait('appliance_process_progress_age_seconds{process="worker-0"} > 5')
    assert_clean(Metrics(scene.server).text)

    # It goes on.
    box.send("worker-0", signal.SIGCONT)
    eventually(lambda: scene.server.fetch(f"http://{ENDPOINT}/healthz")[0] == 200, "it is well again")
    load.communicate(timeout=PATIENCE_S)
    scraped = prometheus.value(backlog)
    assert box.stop() == 143
    assert box.ledger()["L3"]["dropped_backlog"] >= scraped > 0


@pytest.mark.root
def test_a_worker_that_cannot_stay_alive_makes_the_appliance_unwell(scene: Scene) -> None:
    require("curl")
    box = scene.capture("--workers", 2, "--feed", "off")
    eventually(lambda: scene.server.fetch(f"http://{ENDPOINT}/healthz")[0] == 200, "it is well")

    def unwell() -> bool:
        try:
            box.send("worker-1", signal.SIGKILL)
        except ProcessLookupError:
            pass  # it waits for its next start
        status, text = scene.server.fetch(f"http://{ENDPOINT}/healthz")
        return status == 503 and "worker 1 is not r" in text

    eventually(unwell, "it is unwell")
    eventually(lambda: scene.server.fetch(f"http://{ENDPOINT}/healthz")[0] == 200, "it is well again")
    assert Metrics(scene.server)("appliance_worker_restarts_total", worker="1") > 0
    assert box.stop() == 143
    box.ledger()


def test_a_short_run_over_a_file_needs_no_scraper(run_box: Callable[..., Box], tmp_path: Path) -> None:
    write_sample(tmp_path / "sample.pcap")
    box = run_box("-r", tmp_path / "sample.pcap", "--feed", "off", "--metrics", f"127.0.0.1:{free_port()}")
    assert box.wait() == 0
    box.ledger()
