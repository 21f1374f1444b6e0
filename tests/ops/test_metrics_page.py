"""The pages for operators say what the code says: every metric, every label value, every alert."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import yaml

from appliance.config.load import resolve
from appliance.config.schema import Config
from appliance.metrics.families import FAMILIES
from appliance.metrics.family import PREFIX, Family, MetricsInput
from appliance.stats import layout
from appliance.stats.snapshot import Snapshots
from appliance.wire import tcp_locator as locate

ROOT = Path(__file__).parents[2]
METRICS = (ROOT / "ops" / "docs" / "operators" / "metrics.md").read_text()
ALERTS = (ROOT / "ops" / "docs" / "operators" / "alerts.md").read_text()
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "ops" / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
SAY_IT_THEMSELVES = {"interface", "worker", "process", "topic", "method", "status_class", "version", "python"}
SECTIONS = [field.name for field in msgspec.structs.fields(Config)]
ELSEWHERE = {"anomaly", "identity"}  # explained on the pages that the section names


def row(family: Family) -> str:
    name = PREFIX + family.name + ("_total" if family.kind == "counter" else "")
    labels = " ".join(f"`{label}`" for label in family.labels) or "–"
    return f"| `{name}` | {family.kind} | {labels} | {family.help} |"


def test_every_metric_has_its_row_and_no_other_has() -> None:
    rows = re.findall(rf"^\| `{PREFIX}.*$", METRICS, re.M)
    assert sorted(rows) == sorted(row(family) for family in FAMILIES)


@pytest.fixture(scope="module")
def view() -> MetricsInput:
    """Of a run that has just begun."""
    config = resolve(None, {"source.interfaces": ["eth0"], "workers.count": 1})
    pages = Snapshots(
        [dict.fromkeys(layout.capture_layout(1, locate.VERDICTS), 0)],
        [dict.fromkeys(layout.worker_layout(1), 0)],
        dict.fromkeys(layout.feed_layout(1), 0),
        dict.fromkeys(layout.supervisor_layout(1, 1), 0),
    )
    return MetricsInput(config, pages, [], "0", "3")


def explained(family: Family) -> set[str]:
    """Return the words in backquotes in the rows about a metric."""
    rows = [line.split(" | ") for line in METRICS.split("## Labels")[1].splitlines() if line.startswith("| `")]
    lines = [" ".join(cells) for cells in rows if f"`{family.name}`" in cells[1]]
    return set(re.findall(r"`([^`]+)`", " ".join(lines)))


@pytest.mark.parametrize("family", [one for one in FAMILIES if one.labels], ids=lambda family: family.name)
def test_every_value_of_a_label_is_explained(family: Family, view: MetricsInput) -> None:
    known = explained(family)
    if family.name == "frames_outcome":  # "the reasons of …"
        known |= explained(next(one for one in FAMILIES if one.name == "capture_rejected_frames"))
    assert family.rows is not None
    for values, _ in family.rows(view):
        said = dict(zip(family.labels, values, strict=True))
        closed = {label: value for label, value in said.items() if label not in SAY_IT_THEMSELVES | ELSEWHERE and value}
        assert set(closed) | set(closed.values()) <= known


def test_every_alert_has_its_section_in_the_order_of_the_rules() -> None:
    assert re.findall(r"^## (Appliance\w+)$", ALERTS, re.M) == [rule["alert"] for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_section_says_how_bad_it_is_after_how_long_and_what_to_do(rule: dict[str, str]) -> None:
    text = ALERTS.split(f"## {rule['alert']}\n")[1].split("\n## ")[0]
    severity, when = rule["labels"]["severity"], rule.get("for")
    assert f"\n{severity} {f'after {when}' if when else 'at once'}: " in text
    assert "\n- " in text


PAGES = ["metrics.md", "alerts.md", "ledger.md", "tuning.md", "install.md", "shedding.md", "traffic.md", "operate.md"]


@pytest.mark.parametrize("name", [*PAGES, "../../prometheus/alerts.yml"])
def test_a_page_speaks_of_options_and_metrics_that_there_are(name: str) -> None:
    text = (ROOT / "ops" / "docs" / "operators" / name).read_text()
    config = resolve(None, {"source.interfaces": ["x"]})
    for section, key in re.findall(
        rf"(?<![\w/.])({'|'.join(SECTIONS)})\.(?!md|txt|toml|none|jsonl|parquet)([a-z_]+)\b", text
    ):
        assert hasattr(getattr(config, section), key), f"{section}.{key}"
    names = {PREFIX + family.name + ("_total" if family.kind == "counter" else "") for family in FAMILIES}
    assert set(re.findall(rf"(?<![\w:]){PREFIX}\w+[a-z]\b(?!\()", text)) <= names
