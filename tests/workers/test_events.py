"""The contract types, the lines that are really written, and the published schema say the same."""

import json
from pathlib import Path

import msgspec
import pytest

from workers import events
from workers.message import ANOMALIES

SCHEMA = Path(__file__).parents[2] / "ops" / "schema" / "event.json"


def test_the_published_schema_is_the_one_of_the_types():
    assert json.loads(SCHEMA.read_text()) == events.schema(), "run: python -m workers.events > ops/schema/event.json"


def test_the_closed_list_of_anomalies_is_the_parsers_own():
    assert msgspec.json.schema(events.Anomaly)["enum"] == sorted(ANOMALIES)


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
