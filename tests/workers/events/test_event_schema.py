"""The contract types, the lines that are really written, and the published schema say the same."""

import json
import re
from pathlib import Path

import msgspec
import pytest
from ecs import BESIDE, FIELDS, KINDS, OUTCOMES, TYPES_OF_NETWORK, TYPES_OF_WEB

from appliance.stats.names import ANOMALIES, DATASETS
from workers.events import schema as events

ROOT = Path(__file__).parents[3]
SCHEMA = ROOT / "ops" / "schema" / "event.json"


def test_the_published_schema_is_the_one_of_the_types():
    assert json.loads(SCHEMA.read_text()) == events.schema(), "run: python -m workers.events > ops/schema/event.json"


def test_the_closed_list_of_anomalies_is_the_parsers_own():
    assert msgspec.json.schema(events.Anomaly)["enum"] == sorted(ANOMALIES)


def test_every_anomaly_is_explained_in_the_documentation_in_the_same_order():
    table = (ROOT / "ops" / "docs" / "operators" / "events.md").read_text().split("## Anomalies")[1].split("\n## ")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.M)) == ANOMALIES


def test_every_field_of_an_event_is_explained_in_the_documentation():
    text = (ROOT / "ops" / "docs" / "operators" / "events.md").read_text()
    named = {name.rsplit(".", 1)[-1] for name, _ in leaves(events.schema(), events.schema())}
    assert {name for name in named if name not in text} == set()


def leaves(schema, node, name=""):
    """(dotted name, schema) of every field below a node."""
    for each in node.get("oneOf", ()):
        yield from leaves(schema, each)
    if "oneOf" in node:
        return
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    if "properties" not in node:
        yield name, node
        return
    for key, value in node["properties"].items():
        yield from leaves(schema, value, f"{name}.{key}" if name else key)


OURS: dict[str, list[dict]] = {}  # a field may differ by dataset
for name, node in leaves(events.schema(), events.schema()):
    if not name.startswith("appliance."):
        OURS.setdefault(name, []).append(node)
JSON_TYPES = {
    "long": "integer",
    "keyword[]": "array",
    "ip[]": "array",
    "float": "number",
    "boolean": "boolean",
}  # every other one is a string


def test_every_field_outside_of_appliance_is_one_of_elastics():
    assert set(OURS) - set(FIELDS) == BESIDE


@pytest.mark.parametrize("name", sorted(set(OURS) & set(FIELDS)))
def test_a_field_has_elastics_type(name):
    for node in OURS[name]:
        found = node.get("type") or type(node["enum"][0]).__name__.replace("str", "string")
        assert found == JSON_TYPES.get(FIELDS[name], "string")


def test_kind_type_and_outcome_are_values_that_elastic_allows():
    assert all(set(node["enum"]) <= KINDS for node in OURS["event.kind"])
    assert all(set(node["enum"]) <= OUTCOMES for node in OURS["event.outcome"])
    for types, categories in zip(OURS["event.type"], OURS["event.category"], strict=True):
        allowed = TYPES_OF_WEB & TYPES_OF_NETWORK if "web" in categories["items"]["enum"] else TYPES_OF_NETWORK
        assert set(types["items"]["enum"]) <= allowed


def test_a_dataset_of_events_is_one_of_the_options():
    assert set(events.EVENTS) <= {f"appliance.{name}" for name in DATASETS}
