"""The published schema of events, held against every event that any test sees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs

SCHEMA = json.loads((Path(__file__).parents[1] / "ops" / "schema" / "event.json").read_text())
_validator = jsonschema_rs.validator_for(SCHEMA)


def event_of(line: bytes | str) -> dict[str, Any]:
    """The event of a line; a line that the published schema does not allow fails the test that read it."""
    event: dict[str, Any] = json.loads(line)
    _validator.validate(event)
    return event
