"""The dashboard and the rules over a capture under faults: every query has an answer, and it agrees with the ledger."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from box import Box
from eventually import PATIENCE_S, eventually
from hosts import ROOT
from scene import PORT, Scene, make_network, require
from scraper import Prometheus as Server

sys.path.insert(0, str(ROOT / "ops" / "grafana"))

from queries import Prometheus, Query, Series, queries

pytestmark = [pytest.mark.root, pytest.mark.peer]

BOARD = json.loads((ROOT / "ops" / "grafana" / "dashboards" / "capture-appliance.json").read_text())
RULES = [ROOT / "ops" / "prometheus" / name for name in ("recording.yml", "alerts.yml")]
SCRAPE_S = 1.0
LINKS = ("--set", "shard.batch_bytes=65536", "--set", "shard.link_bytes=1048576")
LATE = ("--set", "shedding.high_fill=0.95")  # the link is full before connections are left out: both are seen
# New connections again and again, of which some are left out; and connections that stay, and fill a link to its end.
NEW = ("--connections", 8, "--each", 12, "--largest", 20_000, "--pause", 0.002, "--until-eof")
OLD = ("--name", "old", "--connections", 12, "--each", 1_000_000, "--largest", 20_000, "--pause", 0.002, "--until-eof")

# What the faults below have to set off, if only as pending: most wait for minutes before they fire.
SET_OFF = {
    "ApplianceRestarts",
    "ApplianceLosingFrames",
    "ApplianceLosingEvents",
    "ApplianceOverloaded",
}
# What they may set off, and why it is not certain.
MAY = {
    "ApplianceLosingManyFrames": "what a full link drops may be more than 1 % of all, or less",
    "ApplianceDown": "before the first scrape there is no sensor",
    "ApplianceSilent": "before the clients begin nothing is on the wire",
    "ApplianceProcessDown": "a scrape may see a killed process before its successor runs",
    "ApplianceProcessStuck": "on a busy machine a process may get no processor for so long",
    "ApplianceLag": "the same",
    "ApplianceUpstreamLoss": "while no loss of its own is in the window yet, a connection's beginning may be",
    "ApplianceUnpaired": "how many transactions the lost frames are of is a matter of chance",
    "ApplianceWorkerImbalance": "a dead or stopped worker has less than its share",
}


class Stage(NamedTuple):
    """All that is left of the scene: the answers of Prometheus, and the ledger."""

    answers: dict[Query, list[Series]]
    groups: list[dict[str, Any]]
    samples: dict[str, int]  # of each recording rule
    set_off: set[str]
    ledger: dict[str, dict[str, int]]

    def bars(self, panel: str) -> dict[str, float]:
        """Return the values that a panel of bars shows, by legend."""
        return {q.legend: found[0].points[-1][1] for q, found in self.answers.items() if q.panel == panel}


def dropped_events(box: Box) -> int:
    page = box.page("worker-0").snapshot()
    return sum(count for slot, count in page.items() if slot.startswith("dropped_backlog."))


def hurt(box: Box, server: Server) -> None:
    """A worker and the feed stand still, with work in their hands, and die; a worker does until its link is full."""
    box.send("worker-1", signal.SIGSTOP)
    sent = box.count("capture-0", "sent.1")
    eventually(lambda: box.count("capture-0", "sent.1") > sent + 100, "frames are sent to worker 1")
    box.kill("worker-1")

    box.send("feed", signal.SIGSTOP)
    eventually(lambda: dropped_events(box) > 20, "events find no room on the way to the feed")
    box.kill("feed")

    box.send("worker-0", signal.SIGSTOP)
    try:
        eventually(lambda: box.count("capture-0", "dropped_backlog.0") > 200, "a full link drops frames")
        eventually(lambda: box.count("capture-0", "shed_steps.0") > 0, "new connections are left out")
        server.wait("sum(appliance_capture_shed_ratio) > 0")
        evaluated(server)
    finally:
        box.send("worker-0", signal.SIGCONT)
    eventually(lambda: box.count("capture-0", "shed_steps.0") == 0, "nothing new is left out any more")


def scraped(server: Server) -> None:
    """Waits for a scrape that began after now, and its result."""
    server.wait(f'timestamp(up{{job="appliance"}}) > {time.time():.3f} and up == 1')


def evaluated(server: Server) -> None:
    """Waits until every group of rules was evaluated over what is scraped now."""
    scraped(server)
    now = datetime.now(UTC)
    asked = Prometheus(server.url, fetch=lambda url: server.host.fetch(url)[1])

    def done() -> bool:
        return all(datetime.fromisoformat(group["lastEvaluation"]) > now for group in asked.ask("rules")["groups"])

    eventually(done, "every rule is evaluated")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    require("prometheus", "curl")
    directory = tmp_path_factory.mktemp("dashboard")
    scene = Scene(make_network(), directory)
    try:
        yield play(scene, directory)
    finally:
        scene.close()


def play(scene: Scene, directory: Path) -> Stage:
    box = scene.capture("--workers", 2, *LINKS, *LATE)
    server = Server(scene.server, directory, "127.0.0.1:9470", rules=RULES)
    server.wait('up{job="appliance"} == 1')
    start = time.time()
    subscriber, slow = scene.listen(), scene.listen()
    slow.send_signal(signal.SIGSTOP)
    loads = [scene.load(*words) for words in (NEW, OLD)]
    server.wait("sum(rate(appliance_feed_events_total[5s])) > 10")
    hurt(box, server)
    server.wait('increase(appliance_worker_restarts_total{worker="1"}[1m]) > 0')
    late = ("-m", "appliance", "events", "--since", "1m", "--json")
    scene.server.start(sys.executable, *late, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def odd() -> bool:
        scene.client.run("curl", "--silent", "--header", "Host:", f"http://192.0.2.1:{PORT}/length/7")
        return bool(server.ask("sum(rate(appliance_http_anomalies_total[4s])) > 0"))

    eventually(odd, "an anomaly is scraped")
    server.wait("identity:appliance_frames_unaccounted:min10m")  # looks at every 15 s
    evaluated(server)
    for load in loads:
        load.communicate(timeout=PATIENCE_S)
    subscriber.communicate(timeout=PATIENCE_S)
    box.wait_quiet()
    scraped(server)  # the last word
    end = time.time()

    asked = Prometheus(server.url, fetch=lambda url: scene.server.fetch(url)[1])
    answers = {query: asked.answer(query, start, end, SCRAPE_S) for query in queries(BOARD)}
    groups = asked.ask("rules")["groups"]
    recorded = {rule["name"] for group in groups for rule in group["rules"] if rule["type"] == "recording"}
    samples = {name: len(asked.ask("query", query=f"last_over_time({name}[2m])")["result"]) for name in recorded}
    seen = asked.ask("query", query="count by (alertname) (max_over_time(ALERTS[5m]))")["result"]
    assert box.stop() == 143
    return Stage(answers, groups, samples, {one["metric"]["alertname"] for one in seen}, box.ledger())


def test_every_query_of_every_panel_has_an_answer(stage: Stage) -> None:
    assert len(stage.answers) > 60
    empty = [
        (query.panel, query.letter) for query, found in stage.answers.items() if not any(one.points for one in found)
    ]
    assert empty == []


def test_every_rule_is_evaluated_and_every_recording_has_series(stage: Stage) -> None:
    rules = [rule for group in stage.groups for rule in group["rules"]]
    assert {rule["type"] for rule in rules} == {"recording", "alerting"}
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []
    assert [name for name, count in stage.samples.items() if not count] == []


def test_the_faults_set_off_the_alerts_that_are_for_them(stage: Stage) -> None:
    assert stage.set_off >= SET_OFF
    assert stage.set_off - SET_OFF - set(MAY) == set()


def test_the_waterfall_of_frames_is_the_ledger(stage: Stage) -> None:
    shown, ledger = stage.bars("Frames from wire to worker"), stage.ledger
    kernel, capture, link, worker = (ledger[name] for name in ("L1", "L2", "L3", "L4"))
    rejected = sum(n for term, n in capture.items() if term.startswith("rejected."))
    expected = {
        "on the wire": kernel["kernel_received"],
        "lost by the interface": 0,
        "lost for want of ring": kernel["kernel_dropped"],
        "lost with a killed capture": kernel["kernel_abandoned"],
        "read": kernel["frames"],
        "left out on purpose": capture["shed_frames"],
        "not TCP or QUIC, or not whole": rejected,
        "lost: link full": link["dropped_backlog"],
        "lost: run directory full": link["dropped_memory"],
        "lost on a killed worker's link": link["lost"] + link["dropped_stopping"] + link["dropped_crash"],
        "lost with a killed worker": worker["crash_lost"],
        "not of a connection": sum(n for term, n in worker.items() if term.startswith("rejected.")),
        "QUIC handshakes": sum(n for term, n in worker.items() if term.startswith("quic_datagrams.")),
        "followed": worker["segments"],
    }
    assert shown == pytest.approx(expected, rel=0.05, abs=20)
    assert shown["lost: link full"] > 0
    assert shown["on the wire"] == pytest.approx(
        sum(n for name, n in shown.items() if name not in ("on the wire", "read")), rel=0.05
    )


def test_the_waterfall_of_events_is_the_ledger(stage: Stage) -> None:
    shown, feed = stage.bars("Events from worker to subscriber"), stage.ledger["L7"]
    lost = [n for name, n in shown.items() if name.startswith("lost") and "output" not in name]
    assert shown["made"] == pytest.approx(feed["made"], rel=0.05, abs=20)
    assert shown["published"] == pytest.approx(feed["published"], rel=0.05, abs=20)
    # Prometheus extrapolates each topic by itself, and not below zero: the sums may differ by some events.
    assert shown["written"] == pytest.approx(shown["published"], rel=0.01)
    assert sum(lost) == pytest.approx(feed["made"] - feed["published"], rel=0.05, abs=20)
    assert shown["lost: feed behind"] > 0
    assert shown["messages sent again"] > 0


def test_the_panels_can_be_drawn(stage: Stage, tmp_path: Path) -> None:
    from draw import draw

    file = tmp_path / "dashboard.png"
    draw(BOARD, {(query.panel, query.letter): found for query, found in stage.answers.items()}, file)
    assert file.read_bytes().startswith(b"\x89PNG")
