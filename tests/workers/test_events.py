"""The contract types, the lines that are really written, and the published schema say the same."""

import json
import re
from pathlib import Path

import msgspec
import pytest
from ecs import BESIDE, FIELDS, KINDS, OUTCOMES, TYPES_OF_NETWORK, TYPES_OF_WEB

from workers import events
from workers.message import ANOMALIES

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "ops" / "schema" / "event.json"


def test_the_published_schema_is_the_one_of_the_types():
    assert json.loads(SCHEMA.read_text()) == events.schema(), "run: python -m workers.events > ops/schema/event.json"


def test_the_closed_list_of_anomalies_is_the_parsers_own():
    assert msgspec.json.schema(events.Anomaly)["enum"] == sorted(ANOMALIES)


def test_every_anomaly_is_explained_in_the_documentation_in_the_same_order():
    table = (ROOT / "ops" / "docs" / "events.md").read_text().split("## Anomalies")[1].split("\n## ")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.M)) == ANOMALIES


def test_the_readme_names_every_anomaly():
    section = (ROOT / "README.md").read_text().split("## What an event tells you")[1].split("\n## ")[0]
    assert {name for name in ANOMALIES if f"`{name}`" in section} == set(ANOMALIES)


def test_every_field_of_an_event_is_explained_in_the_documentation():
    text = (ROOT / "ops" / "docs" / "events.md").read_text() + (ROOT / "README.md").read_text()
    named = {name.rsplit(".", 1)[-1] for name, _ in leaves(events.schema(), events.schema())}
    assert {name for name in named if name not in text} == set()


def leaves(schema, node, name=""):
    """(dotted name, schema) of every field below a node."""
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    if "properties" not in node:
        yield name, node
        return
    for key, value in node["properties"].items():
        yield from leaves(schema, value, f"{name}.{key}" if name else key)


OURS = {name: node for name, node in leaves(events.schema(), events.schema()) if not name.startswith("appliance.")}
JSON_TYPES = {
    "long": "integer",
    "keyword[]": "array",
    "ip[]": "array",
    "float": "number",
}  # every other one is a string


def test_every_field_outside_of_appliance_is_one_of_elastics():
    assert set(OURS) - set(FIELDS) == BESIDE


@pytest.mark.parametrize("name", sorted(set(OURS) & set(FIELDS)))
def test_a_field_has_elastics_type(name):
    found = OURS[name].get("type") or type(OURS[name]["enum"][0]).__name__.replace("str", "string")
    assert found == JSON_TYPES.get(FIELDS[name], "string")


def test_kind_type_and_outcome_are_values_that_elastic_allows():
    assert set(OURS["event.kind"]["enum"]) <= KINDS
    assert set(OURS["event.outcome"]["enum"]) <= OUTCOMES
    assert set(OURS["event.type"]["items"]["enum"]) <= TYPES_OF_WEB & TYPES_OF_NETWORK


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("plain", b"plain"),
        ("caf\u00e9", "café".encode()),
        ("\\xff", b"\xff"),
        ("\\x5cxff", b"\\xff"),
        ("a\\b", b"a\\b"),
        ("\\\\xff", b"\\\xff"),
    ],
)
def test_the_bytes_behind_a_text_come_back(text, wire):
    assert events.wire_bytes(text) == wire
