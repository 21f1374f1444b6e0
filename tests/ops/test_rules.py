"""The alert rules, asked by promtool: each fires when it should, says what is the matter, and is quiet otherwise."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from eventually import PATIENCE_S

from appliance.metrics.families import FAMILIES
from appliance.metrics.family import PREFIX

ROOT = Path(__file__).parents[2]
RULES = ROOT / "ops" / "prometheus"
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load((RULES / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}
SENSOR = "sensor:9470"
promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian package prometheus)"
)

Series = dict[str, str]  # "name{label=value}" to values every 15 s, in promtool's notation


def steady(value: float) -> str:
    return f"{value:g}x160"


def rising(per_second: float) -> str:
    return f"0+{per_second * 15:g}x160"


# A sensor that is well: 1000 frames and 10 transactions a second, two workers.
WELL: Series = {
    "up{}": steady(1),
    "appliance_build_info{version=0.1.0}": steady(1),
    "appliance_process_up{process=worker-0}": steady(1),
    "appliance_process_progress_age_seconds{process=worker-0}": steady(0.2),
    "appliance_process_restarts_total{process=worker-0,reason=died}": steady(1),  # long ago
    "appliance_process_restarts_total{process=worker-0,reason=hung}": steady(0),
    "appliance_worker_quarantined_batches_total{worker=0}": steady(0),
    "appliance_config_last_reload_successful{}": steady(1),
    "appliance_capture_link_down{interface=eth0}": steady(0),
    "appliance_capture_up{interface=eth0}": steady(1),
    "appliance_capture_frames_total{interface=eth0}": rising(1000),
    "appliance_capture_bytes_total{interface=eth0}": rising(500_000),
    "appliance_capture_kernel_received_frames_total{interface=eth0}": rising(1000),
    "appliance_capture_dropped_frames_total{interface=eth0,stage=nic}": steady(7),
    "appliance_capture_dropped_frames_total{interface=eth0,stage=kernel}": steady(0),
    "appliance_capture_dropped_frames_total{interface=eth0,stage=abandoned}": steady(0),
    "appliance_frames_outcome_total{stage=link,outcome=dropped_backlog,worker=0}": steady(0),
    "appliance_frames_outcome_total{stage=worker,outcome=crash_lost,worker=0}": steady(0),
    "appliance_frames_outcome_total{stage=worker,outcome=segment,worker=0}": rising(520),
    "appliance_frames_outcome_total{stage=worker,outcome=segment,worker=1}": rising(480),
    "appliance_frames_unaccounted{identity=L1}": "-60+0x20 0+0x140",
    "appliance_frames_unaccounted{identity=L3}": steady(300),  # what a link holds under load
    "appliance_frames_unaccounted{identity=L5}": steady(0),
    "appliance_tcp_acked_unseen_bytes_total{worker=0}": rising(10),
    "appliance_tcp_received_bytes_total{worker=0}": rising(400_000),
    "appliance_tcp_flows_one_sided_total{worker=0}": rising(0.1),
    "appliance_tcp_flows_total{worker=0,end=fin}": rising(5),
    "appliance_tcp_flows{worker=0}": steady(2000),
    "appliance_tcp_flows_limit{worker=0}": steady(1_000_000),
    "appliance_tcp_half_open{worker=0}": steady(20),
    "appliance_tcp_half_open_limit{worker=0}": steady(65536),
    "appliance_tcp_buffer_bytes{worker=0}": steady(1e6),
    "appliance_tcp_buffer_limit_bytes{worker=0}": steady(268435456),
    "appliance_http_head_bytes{worker=0}": steady(0),
    "appliance_http_head_limit_bytes{worker=0}": steady(268435456),
    "appliance_http_waiting_bytes{worker=0}": steady(0),
    "appliance_http_waiting_limit_bytes{worker=0}": steady(134217728),
    "appliance_http_transactions_total{worker=0,pairing=verified}": rising(9.9),
    "appliance_http_transactions_total{worker=0,pairing=request_only}": rising(0.1),
    "appliance_feed_dropped_events_total{topic=http.2xx.,reason=backlog}": steady(0),
    "appliance_output_dropped_events_total{}": steady(0),
    "appliance_packet_lag_seconds{worker=0}": steady(0.02),
    "appliance_packet_lag_seconds{worker=1}": steady(0.02),
    "appliance_capture_shed_ratio{worker=0}": steady(0),
    "appliance_capture_shed_ratio{worker=1}": steady(0),
    "appliance_capture_kernel_shed_ratio{interface=eth0}": steady(0),
}
IDLE: Series = {name: steady(5000) for name, values in WELL.items() if values.startswith("0+") and "_total" in name}


class Case(NamedTuple):
    """A difference from a sensor that is well, and the alert's summaries after 20 minutes, by its labels."""

    alert: str
    differs: Series
    says: dict[str, str]  # "label=value": summary
    at: str = "20m"


FIRES = [
    Case("ApplianceDown", {"up{}": steady(0)}, {"": "The metrics of sensor:9470 cannot be read"}),
    Case(
        "ApplianceProcessDown",
        {"appliance_process_up{process=worker-0}": steady(0)},
        {"process=worker-0": "worker-0 of sensor:9470 does not run"},
    ),
    Case(
        "ApplianceProcessStuck",
        {"appliance_process_progress_age_seconds{process=worker-0}": steady(42)},
        {"process=worker-0": "worker-0 of sensor:9470 has made no progress for 42s"},
    ),
    Case(
        "ApplianceRestarts",
        {
            "appliance_process_restarts_total{process=worker-0,reason=died}": "1x60 3x100",
            "appliance_process_restarts_total{process=feed,reason=hung}": "0x60 1x100",
        },
        {
            "process=worker-0,reason=died": "worker-0 of sensor:9470 was started again 2 times in 15 minutes (died)",
            "process=feed,reason=hung": "feed of sensor:9470 was started again 1 times in 15 minutes (hung)",
        },
    ),
    Case(
        "ApplianceQuarantine",
        {"appliance_worker_quarantined_batches_total{worker=0}": "0x60 1x100"},
        {"worker=0": "Worker 0 of sensor:9470 left out 1 batches in an hour"},
    ),
    Case(
        "ApplianceConfigRefused",
        {"appliance_config_last_reload_successful{}": steady(0)},
        {"": "The last reload of sensor:9470 was refused"},
    ),
    Case(
        "ApplianceLinkDown",
        {"appliance_capture_link_down{interface=eth0}": steady(1)},
        {"interface=eth0": "eth0 of sensor:9470 is down or gone"},
    ),
    Case("ApplianceSilent", IDLE, {"interface=eth0": "No frame on eth0 of sensor:9470 for minutes"}),
    Case(
        "ApplianceUpstreamLoss",
        {"appliance_tcp_acked_unseen_bytes_total{worker=0}": rising(8000)},
        {"": "1.961% of the bytes never reached sensor:9470"},
    ),
    Case(
        "ApplianceOneSided",
        {"appliance_tcp_flows_one_sided_total{worker=0}": rising(4.5)},
        {"": "90% of the connections of sensor:9470 have one direction only"},
    ),
    Case(
        "ApplianceLosingFrames",
        {
            "appliance_capture_dropped_frames_total{interface=eth0,stage=kernel}": rising(20),
            "appliance_frames_outcome_total{stage=link,outcome=dropped_backlog,worker=0}": rising(5),
        },
        {
            "stage=kernel": "sensor:9470 loses 2% of its frames (kernel)",
            "stage=link": "sensor:9470 loses 0.5% of its frames (link)",
        },
    ),
    Case(
        "ApplianceLosingManyFrames",
        {
            "appliance_capture_dropped_frames_total{interface=eth0,stage=kernel}": rising(8),
            "appliance_frames_outcome_total{stage=worker,outcome=crash_lost,worker=0}": rising(8),
        },
        {"": "sensor:9470 loses 1.6% of its frames"},
    ),
    Case(
        "ApplianceUnaccounted",
        {"appliance_frames_unaccounted{identity=L3}": steady(6000)},
        {"identity=L3": "L3 of sensor:9470 is open by 6000"},
    ),
    Case(
        "ApplianceUnaccounted",
        {**IDLE, "appliance_frames_unaccounted{identity=L5}": steady(1)},
        {"identity=L3": "L3 of sensor:9470 is open by 300", "identity=L5": "L5 of sensor:9470 is open by 1"},
    ),
    Case(
        "ApplianceLosingEvents",
        {"appliance_feed_dropped_events_total{topic=http.2xx.,reason=backlog}": rising(0.1)},
        {"reason=backlog": "sensor:9470 lost 30 events in 5 minutes (backlog)"},
    ),
    Case(
        "ApplianceOutputDropping",
        {"appliance_output_dropped_events_total{}": rising(1)},
        {"": "The output file of sensor:9470 did not take 300 events in 5 minutes"},
    ),
    Case(
        "ApplianceOverloaded",
        {"appliance_capture_shed_ratio{worker=1}": steady(0.25)},
        {"": "sensor:9470 leaves out 25% of new connections"},
    ),
    Case(
        "ApplianceOverloaded",
        {
            "appliance_capture_shed_ratio{worker=1}": steady(0.5),
            "appliance_capture_kernel_shed_ratio{interface=eth0}": steady(0.125),
        },
        {
            "": "sensor:9470 leaves out 50% of new connections",
            "interface=eth0": "sensor:9470 leaves out 12.5% of new connections",
        },
    ),
    Case(
        "ApplianceWorkerImbalance",
        {
            "appliance_frames_outcome_total{stage=worker,outcome=segment,worker=0}": rising(1600),
            "appliance_frames_outcome_total{stage=worker,outcome=segment,worker=1}": rising(400),
        },
        {"worker=0": "Worker 0 of sensor:9470 has 60% more frames than the mean"},
    ),
    Case(
        "ApplianceLag",
        {"appliance_packet_lag_seconds{worker=1}": steady(12)},
        {"worker=1": "Worker 1 of sensor:9470 is 12s behind"},
    ),
    Case(
        "ApplianceRecordLeavesOut",
        {
            "appliance_record_left_out_frames_total{reason=behind}": rising(30),
            "appliance_record_left_out_frames_total{reason=disk}": rising(20),
        },
        {"": "The ring of sensor:9470 misses 50 frames a second"},
    ),
    Case(
        "ApplianceKeepLeavesOut",
        {
            "appliance_keep_left_out_events_total{reason=not_in_ring}": rising(3),
            "appliance_keep_left_out_events_total{reason=disk}": rising(2),
        },
        {"": "sensor:9470 keeps no frames of 5 chosen events a second"},
    ),
    Case(
        "ApplianceQuicLimit",
        {"appliance_quic_datagrams_total{worker=0,outcome=over_limit}": rising(50)},
        {"": "sensor:9470 leaves 50 QUIC datagrams a second closed"},
    ),
    Case(
        "ApplianceMemoryNearBudget",
        {
            "appliance_tcp_half_open{worker=0}": steady(65536),
            "appliance_tcp_buffer_bytes{worker=0}": steady(255013683),
            "appliance_http_head_bytes{worker=0}": steady(268435456),
            "appliance_http_waiting_bytes{worker=0}": steady(134217728),
            "appliance_tcp_flows{worker=0}": steady(950_000),
        },
        {
            "worker=0,budget=tcp.max_half_open": "Worker 0 of sensor:9470 has used 100% of tcp.max_half_open",
            "worker=0,budget=tcp.max_total_pending_bytes": (
                "Worker 0 of sensor:9470 has used 95% of tcp.max_total_pending_bytes"
            ),
            "worker=0,budget=http.max_total_head_bytes": (
                "Worker 0 of sensor:9470 has used 100% of http.max_total_head_bytes"
            ),
            "worker=0,budget=http.max_total_waiting_bytes": (
                "Worker 0 of sensor:9470 has used 100% of http.max_total_waiting_bytes"
            ),
            "worker=0,budget=tcp.max_connections": "Worker 0 of sensor:9470 has used 95% of tcp.max_connections",
        },
    ),
    Case(
        "ApplianceUnpaired",
        {"appliance_http_transactions_total{worker=0,pairing=request_only}": rising(1.1)},
        {"": "10% of the transactions of sensor:9470 are not surely paired"},
    ),
]

# Almost: the alert that would be next says nothing.
QUIET = [
    Case("ApplianceDown", {"up{}": "1x76 0x1 1x80"}, {}),
    Case("ApplianceProcessDown", {"appliance_process_up{process=worker-0}": "1x78 0x1 1x80"}, {}),
    Case("ApplianceProcessStuck", {"appliance_process_progress_age_seconds{process=worker-0}": steady(9)}, {}),
    Case("ApplianceRestarts", {"appliance_process_restarts_total{process=worker-0,reason=died}": "0x10 2x150"}, {}),
    Case("ApplianceQuarantine", {"appliance_worker_quarantined_batches_total{worker=0}": steady(3)}, {}),
    Case("ApplianceConfigRefused", {"appliance_config_last_reload_successful{}": "0x40 1x120"}, {}),
    Case("ApplianceLinkDown", {"appliance_capture_link_down{interface=eth0}": "0x78 1x1 0x80"}, {}),
    Case("ApplianceSilent", {**IDLE, "appliance_capture_link_down{interface=eth0}": steady(1)}, {}),
    Case("ApplianceSilent", {**IDLE, "appliance_capture_up{interface=eth0}": steady(0)}, {}),
    Case("ApplianceSilent", IDLE, {}, at="4m"),
    Case(
        "ApplianceUpstreamLoss",  # what is lost here is acknowledged too
        {
            "appliance_tcp_acked_unseen_bytes_total{worker=0}": rising(8000),
            "appliance_capture_dropped_frames_total{interface=eth0,stage=kernel}": rising(20),
        },
        {},
    ),
    Case(
        "ApplianceOneSided",  # three connections in an hour prove nothing
        {
            "appliance_tcp_flows_one_sided_total{worker=0}": rising(0.5),
            "appliance_tcp_flows_total{worker=0,end=fin}": rising(0.5),
        },
        {},
    ),
    Case(
        "ApplianceLosingFrames",
        {"appliance_capture_dropped_frames_total{interface=eth0,stage=kernel}": rising(0.9)},
        {},
    ),
    Case(
        "ApplianceLosingManyFrames",
        {"appliance_capture_dropped_frames_total{interface=eth0,stage=kernel}": rising(9)},
        {},
    ),
    Case("ApplianceUnaccounted", {"appliance_frames_unaccounted{identity=L3}": steady(90000)}, {}, at="9m"),
    Case(
        "ApplianceUnaccounted",  # much is on its way, but never for long
        {"appliance_frames_unaccounted{identity=L3}": " ".join(["90000x10 100x2"] * 10)},
        {},
    ),
    Case(
        "ApplianceLosingEvents",
        {"appliance_feed_dropped_events_total{topic=http.2xx.,reason=backlog}": "0x5 9x150"},
        {},
    ),
    Case("ApplianceOutputDropping", {"appliance_output_dropped_events_total{}": "0x5 9x150"}, {}),
    Case("ApplianceOverloaded", {"appliance_capture_shed_ratio{worker=1}": "0x78 0.2x1 0x80"}, {}),
    Case(
        "ApplianceWorkerImbalance",  # uneven, and hardly any traffic
        {
            "appliance_frames_outcome_total{stage=worker,outcome=segment,worker=0}": rising(900),
            "appliance_frames_outcome_total{stage=worker,outcome=segment,worker=1}": rising(10),
        },
        {},
    ),
    Case("ApplianceLag", {"appliance_packet_lag_seconds{worker=1}": "0.1x78 12x1 0.1x80"}, {}),
    Case("ApplianceMemoryNearBudget", {"appliance_tcp_flows{worker=0}": steady(890_000)}, {}),
    Case("ApplianceKeepLeavesOut", {"appliance_keep_left_out_events_total{reason=disk}": "0x5 9x150"}, {}),
    Case("ApplianceRecordLeavesOut", {"appliance_record_left_out_frames_total{reason=link}": "0x5 9x150"}, {}),
    Case("ApplianceQuicLimit", {"appliance_quic_datagrams_total{worker=0,outcome=opened}": rising(50)}, {}),
    Case("ApplianceUnpaired", {"appliance_http_transactions_total{worker=0,pairing=request_only}": rising(0.5)}, {}),
    Case(
        "ApplianceUnpaired",  # half of them, and hardly any traffic
        {
            "appliance_http_transactions_total{worker=0,pairing=request_only}": rising(0.4),
            "appliance_http_transactions_total{worker=0,pairing=verified}": rising(0.4),
        },
        {},
    ),
]


def labels(text: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in text.split(",") if pair)


def filled(text: str, values: dict[str, str]) -> str:
    """A description as Prometheus shows it: only labels stand in there."""
    return re.sub(r"{{ \$labels\.(\w+) }}", lambda match: values[match[1]], text)


def series(given: Series) -> list[dict[str, str]]:
    made = []
    for name, values in given.items():
        metric, _, inner = name.rstrip("}").partition("{")
        every = {"instance": SENSOR, "job": "appliance", **labels(inner)}
        made.append({"series": metric + "{" + ",".join(f'{k}="{v}"' for k, v in every.items()) + "}", "values": values})
    return made


def ask(directory: Path, given: Series, expected: list[dict[str, Any]]) -> str:
    """Return promtool's report about these expectations; empty: they hold. JSON is YAML, too."""
    test = {"interval": "15s", "input_series": series(given), "alert_rule_test": expected}
    file = directory / "test.yml"
    rules = [str(RULES / "recording.yml"), str(RULES / "alerts.yml")]
    file.write_text(json.dumps({"rule_files": rules, "evaluation_interval": "15s", "tests": [test]}))
    done = subprocess.run(
        ["promtool", "test", "rules", file], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def expectation(case: Case) -> dict[str, Any]:
    rule = ALERTS[case.alert]
    alerts = []
    for text, summary in case.says.items():
        own = {"instance": SENSOR, "job": "appliance", **labels(text), **rule["labels"]}
        known = rule["annotations"]
        said = {"summary": summary, "description": filled(known["description"], own), "doc": known["doc"]}
        alerts.append({"exp_labels": own, "exp_annotations": said})
    return {"eval_time": case.at, "alertname": case.alert, "exp_alerts": alerts}


@promtool
@pytest.mark.peer
@pytest.mark.parametrize("case", FIRES, ids=lambda case: case.alert)
def test_an_alert_fires_and_says_what_is_the_matter(tmp_path: Path, case: Case) -> None:
    assert ask(tmp_path, WELL | case.differs, [expectation(case)]) == ""


@promtool
@pytest.mark.peer
@pytest.mark.parametrize("case", QUIET, ids=lambda case: case.alert)
def test_an_alert_says_nothing_just_before(tmp_path: Path, case: Case) -> None:
    assert ask(tmp_path, WELL | case.differs, [expectation(case)]) == ""


@promtool
@pytest.mark.peer
def test_nothing_is_said_of_a_sensor_that_is_well(tmp_path: Path) -> None:
    quiet = [{"eval_time": at, "alertname": name, "exp_alerts": []} for name in ALERTS for at in ("2m", "20m", "39m")]
    assert ask(tmp_path, WELL, quiet) == ""


@promtool
@pytest.mark.peer
def test_a_sensor_that_nobody_scrapes_is_missed(tmp_path: Path) -> None:
    rule = ALERTS["ApplianceDown"]
    said = {"summary": "The metrics of every sensor cannot be read"}
    alert = {"exp_labels": {"job": "appliance", **rule["labels"]}, "exp_annotations": rule["annotations"] | said}
    expected = {"eval_time": "5m", "alertname": "ApplianceDown", "exp_alerts": [alert]}
    assert ask(tmp_path, {"other{}": steady(1)}, [expected]) == ""


@promtool
@pytest.mark.peer
def test_the_example_configuration_is_one() -> None:
    words = ["promtool", "check", "config", RULES / "prometheus.yml"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_of_either_kind() -> None:
    assert {case.alert for case in FIRES} == {case.alert for case in QUIET} == set(ALERTS)


def test_every_alert_says_how_bad_it_is_and_where_to_read_on() -> None:
    for name, rule in ALERTS.items():
        assert set(rule["annotations"]) == {"summary", "description", "doc"}
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["doc"] == f"ops/docs/operators/alerts.md#{name.lower()}"


def test_rules_and_cases_speak_of_metrics_that_there_are() -> None:
    known = {PREFIX + family.name + ("_total" if family.kind == "counter" else "") for family in FAMILIES}
    text = (RULES / "alerts.yml").read_text() + (RULES / "recording.yml").read_text() + " ".join(WELL)
    used = set(re.findall(r"(?<![:\w])appliance_\w+", text))
    assert used - known == set()
