r"""Texts of events: UTF-8, where \xNN stands for a byte of the wire that is not (workers/events/schema.py)."""

from __future__ import annotations

import re

_ESCAPE = re.compile(rb"\\x([0-9a-fA-F]{2})")


def wire_bytes(text: str) -> bytes:
    """Return the bytes on the wire behind a text of an event."""
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), text.encode())
