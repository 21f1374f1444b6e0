"""The log of a running appliance when very much goes wrong: short, and with exact numbers."""

from __future__ import annotations

import json
import signal
import socket
from collections import Counter, defaultdict
from datetime import datetime
from typing import Any

from box import Box, appliance, resume
from eventually import eventually
from inside import inside
from scene import PORT, Metrics, Scene

Record = dict[str, Any]


def records(box: Box) -> list[Record]:
    """Every line of standard error, which has to be JSON."""
    return [json.loads(line) for line in box.errors().splitlines()]


def reason(record: Record) -> str:
    return str(record["event"]["reason"])


def of(box: Box, wanted: str) -> list[Record]:
    return [record for record in records(box) if reason(record) == wanted]


def most_in_a_second(found: list[Record]) -> int:
    """Of one reason."""
    times = defaultdict(list)
    for record in found:
        times[reason(record)].append(datetime.fromisoformat(record["@timestamp"]).timestamp())
    return max(sum(start <= time < start + 1 for time in some) for some in times.values() for start in some)


def test_frames_lost_by_the_thousand_are_a_few_lines_with_the_option_to_turn_and_the_exact_sum(scene: Scene) -> None:
    small = ("--set", "shard.link_bytes=65536", "--set", "shard.batch_bytes=16384", "--set", "shedding.enabled=false")
    box = scene.capture("--workers", 1, "--log", "json", *small)
    load = scene.load("--until-eof")
    pid = box.send("worker-0", signal.SIGSTOP)
    eventually(lambda: box.count("capture-0", "dropped_backlog.0") > 5000, "thousands of frames are dropped")
    eventually(lambda: of(box, "loss.link"), "the first is said while it goes on")
    resume(pid)
    load.kill()
    box.stop()
    first, *_, last = of(box, "loss.link")
    dropped = box.ledger()["L3"]["dropped_backlog"]
    assert "[shard] link_bytes (now 65536)" in first["message"]
    assert first["appliance"]["lost"] == first["appliance"]["lost_in_all"] > 0
    assert last["message"].startswith(f"{dropped:,} frames dropped because workers fell behind")
    assert most_in_a_second(records(box)) <= 10
    assert len(of(box, "loss.link")) < 5


def test_a_flood_of_anomalies_is_counted_and_not_a_line(scene: Scene) -> None:
    box = scene.capture("--log", "json")
    odd = b"".join(b"GET /%d HTTP/1.1\nHost : a\nHost: b\n folded\n\n" % number for number in range(200))
    with inside(scene.client):
        for _ in range(20):
            with socket.create_connection(("192.0.2.1", PORT)) as connection:
                try:
                    connection.sendall(odd)
                    connection.recv(1)
                except OSError:
                    pass  # the server has seen enough
    eventually(lambda: anomalies(box) > 1000, "a thousand anomalies")
    eventually(lambda: Counter(map(reason, records(box)))["status"], "the line that says how to look at the run")
    assert Counter(map(reason, records(box)))["status"] == 1
    assert len(records(box)) < 5


def anomalies(box: Box) -> int:
    page = box.page("worker-0").snapshot()
    return sum(count for name, count in page.items() if name.startswith("anomalies."))


def test_hundreds_of_bad_keys_are_ten_lines_and_a_word_about_the_others(scene: Scene) -> None:
    made = appliance("keygen", scene.directory / "keys", "alice")
    assert made.code == 0, made.err
    clients = scene.directory / "keys" / "clients"
    box = scene.capture(
        *("--log", "json", "--curve-key", str(scene.directory / "keys" / "server.key_secret")),
        *("--curve-clients", str(clients)),
    )
    for number in range(300):
        (clients / f"bad{number}.key").write_text("no key")
    box.process.send_signal(signal.SIGHUP)

    def left_out() -> int:
        return sum(one.get("appliance", {}).get("left_out", 0) for one in of(box, "keys"))

    def faults() -> int:
        return sum("left_out" not in one.get("appliance", {}) for one in of(box, "keys"))

    eventually(lambda: faults() + left_out() == 300, "every fault is said or counted")
    assert most_in_a_second(of(box, "keys")) <= 10
    metrics = Metrics(scene.server)
    assert metrics("appliance_log_suppressed_total", reason="keys") == left_out() > 200
    assert metrics("appliance_log_lines_total", reason="keys") == len(of(box, "keys"))


def test_a_run_says_all_it_says_as_json(scene: Scene) -> None:
    box = scene.capture("--log", "json", "-v")
    box.kill("worker-0")
    box.stop()
    found = records(box)
    assert {record["process"]["name"] for record in found} == {"supervisor"}
    (ledger,) = [record for record in found if reason(record) == "ledger"]
    assert ledger["appliance"]["ledger"]["L1"]["difference"] == 0
    assert any("worker 0 was killed by SIGKILL" in record["message"] for record in found)


def test_a_source_that_cannot_be_opened_is_said_by_the_capture_as_json(scene: Scene) -> None:
    result = appliance("run", "-i", "nothing0", "--log", "json", "--metrics", "off", host=scene.server)
    found = [json.loads(line) for line in result.err.splitlines()]
    assert result.code == 2
    assert found[0]["process"]["name"] == "capture 0"
