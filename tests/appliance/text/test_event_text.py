"""Texts of events, and the bytes behind them."""

from __future__ import annotations

import pytest

from appliance.text.event_text import wire_bytes


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
    assert wire_bytes(text) == wire
