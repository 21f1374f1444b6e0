"""The dashboard that is shipped is the one that the code makes, and asks for nothing that does not exist."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "ops" / "grafana"
sys.path.insert(0, str(GRAFANA))

import dashboard  # noqa: E402
import panels  # noqa: E402
from queries import filled, queries  # noqa: E402

BOARD = json.loads(dashboard.FILE.read_text())
RECORDED = {
    rule["record"]
    for group in yaml.safe_load((ROOT / "ops" / "prometheus" / "recording.yml").read_text())["groups"]
    for rule in group["rules"]
}


def test_the_file_is_what_the_code_makes() -> None:
    assert dashboard.FILE.read_text() == dashboard.text(), "run  python ops/grafana/dashboard.py"


def test_every_panel_has_a_number_a_name_a_place_and_says_what_it_shows() -> None:
    assert len({panel["title"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    numbers = [panel["id"] for panel in BOARD["panels"]]
    assert numbers == list(range(1, len(numbers) + 1))
    for panel in BOARD["panels"]:
        if panel["type"] != "row":
            assert panel["description"].endswith(".")
            assert panel["targets"]
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24


def test_the_health_of_a_sensor_is_one_line() -> None:
    assert len({panel["gridPos"]["y"] for panel in BOARD["panels"] if panel["type"] == "stat"}) == 1


def test_a_metric_that_does_not_exist_cannot_be_asked_for() -> None:
    with pytest.raises(KeyError):
        panels.of("capture_frame_total")


def test_what_is_recorded_for_the_dashboard_is_recorded() -> None:
    asked = {name for query in queries(BOARD) for name in re.findall(r"\w+:\w+:\w+", query.expression)}
    assert asked <= RECORDED


def test_series_are_narrowed_by_the_variables_that_they_have_labels_for() -> None:
    assert panels.of("http_requests_total", 'method="GET"') == (
        'appliance_http_requests_total{instance=~"$instance", worker=~"$worker", method="GET"}'
    )
    assert panels.of("feed_queue_events") == 'appliance_feed_queue_events{instance=~"$instance"}'


def test_no_variable_is_left_over() -> None:
    for query in queries(BOARD):
        assert "$" not in filled(query.expression, 60, 1)


def test_the_provisioning_files_name_a_prometheus_and_a_folder_of_files() -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/appliance.yml").read_text())["providers"]
    assert (source["type"], provider["type"]) == ("prometheus", "file")
