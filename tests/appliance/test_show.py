"""Events as text: everything known is shown, and nothing in it can drive a terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from appliance import show


def event(**changes: Any) -> show.Event:
    """A plain GET over IPv4; `changes` replace its top-level members."""
    plain: show.Event = {
        "@timestamp": "2026-11-22T10:00:00.123456789Z",
        "event": {"duration": 1_234_567},
        "source": {"ip": "192.0.2.1", "port": 51000},
        "destination": {"ip": "192.0.2.2", "port": 80},
        "url": {"original": "/a?b", "domain": "example.org", "port": 80},
        "http": {"request": {"method": "GET", "bytes": 100}, "response": {"status_code": 200, "bytes": 250}},
        "appliance": {"pairing": "ordered", "anomalies": []},
    }
    return {**plain, **changes}


def test_every_column_of_a_plain_event() -> None:
    assert show.cells(event()) == (
        "2026-11-22 10:00:00.123456",
        "192.0.2.1:51000",
        "192.0.2.2:80",
        "GET",
        "example.org/a?b",
        "200",
        "350",
        "1.235",
    )


def test_what_is_unknown_is_a_dash() -> None:
    assert show.cells({}) == ("-", "-", "-", "-", "-", "-", "0", "-")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ({"original": "/", "domain": "a.example", "port": 8080}, "a.example:8080/"),
        ({"original": "/", "domain": "2001:db8::1", "port": 80}, "[2001:db8::1]/"),
        ({"original": "http://proxy.example/x", "domain": "proxy.example"}, "http://proxy.example/x"),
        ({"original": "a.example:443", "domain": "a.example"}, "a.example:443"),
        ({"original": "*", "domain": "a.example"}, "*"),
        ({"original": "/x"}, "/x"),
        ({"domain": "a.example"}, "a.example"),
    ],
)
def test_url_forms(url: dict[str, Any], shown: str) -> None:
    assert show.cells(event(url=url))[4] == shown


def test_ipv6_endpoints_have_brackets() -> None:
    assert show.cells(event(source={"ip": "2001:db8::1", "port": 1}))[1] == "[2001:db8::1]:1"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode ✓", "plain ünïcode ✓"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\r\tc\x00", "a\\x0ab\\x0d\\x09c\\x00"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202eevil", "\\u202eevil"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
        ("back\\slash", "back\\\\slash"),
    ],
)
def test_no_text_can_drive_a_terminal(text: str, shown: str) -> None:
    assert show.safe(text) == shown


def test_hostile_texts_are_escaped_in_every_column() -> None:
    bad = "\x1b]0;x\x07"
    line = show.line(
        {
            "@timestamp": bad,
            "source": {"ip": bad, "port": bad},
            "url": {"original": f"/{bad}", "domain": bad},
            "http": {"request": {"method": bad}},
            "appliance": {"anomalies": [bad]},
        }
    )
    assert line.isprintable()


def test_a_line_says_what_is_doubtful() -> None:
    facts = {"pairing": "uncertain", "anomalies": ["conflicting"], "response": {"missing_bytes": 7}}
    assert show.line(event(appliance=facts)).endswith("(conflicting, 7 bytes missing, pairing uncertain)")


def test_a_table_shows_its_events_and_takes_no_markup_from_them() -> None:
    out = io.StringIO()
    Console(file=out, width=150).print(show.table([event(), event(url={"original": "/[red]x"})]))
    text = out.getvalue()
    assert "example.org/a?b" in text
    assert "/[red]x" in text
    assert all(heading in text for heading in show.HEADINGS)


def test_count_by_class() -> None:
    responses: list[dict[str, Any]] = [{"status_code": 200}, {"status_code": 404}, {"status_code": 204}, {}]
    counts = show.count_by_class([event(http={"response": response}) for response in responses])
    assert counts == {"1xx": 0, "2xx": 2, "3xx": 0, "4xx": 1, "5xx": 0, "none": 1}


def test_columns_are_aligned() -> None:
    assert show.columns([["a", "bb", ""], ["ccc", "d", "e"]]) == ["a    bb", "ccc  d   e"]
