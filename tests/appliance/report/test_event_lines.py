"""Events as text: everything known is shown, and nothing in it can drive a terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from appliance.report import event_lines as show
from appliance.text import terminal
from appliance.text.terminal import MOST_MARKS, plain, safe, stderr_line


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


def test_a_websocket_connection_has_its_close_code_and_the_bytes_of_its_messages() -> None:
    sides = {
        "client": {"bytes": 5, "missing_bytes": 0},
        "server": {"bytes": 30, "missing_bytes": 7, "close_code": 1001},
    }
    found = event(http={}, appliance={"websocket": {**sides, "closed_by": "server"}})
    assert show.cells(found)[3:7] == ("WebSocket", "example.org/a?b", "1001", "35")
    assert show.line(found).endswith("(7 bytes missing)")
    del found["appliance"]["websocket"]["closed_by"]
    assert show.cells(found)[5] == "-"


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
        ("a\udcffb", "a\\xffb"),
        ("\U000e0001", "\\U000e0001"),
        ("back\\slash", "back\\\\slash"),
    ],
)
def test_no_text_can_drive_a_terminal(text: str, shown: str) -> None:
    assert terminal.safe(text) == shown


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


def test_columns_leave_out_whole_ones_and_shorten_the_last() -> None:
    rows = [["name", "netmask", "about"], ["eth0", "ffff:ffff::", "a long description"]]
    assert terminal.columns(rows, 40, (1,))[1] == "eth0  ffff:ffff::  a long description"
    assert terminal.columns(rows, 32, (1,))[1] == "eth0  ffff:ffff::  a long descr…"
    assert terminal.columns(rows, 20, (1,))[1] == "eth0  a long descri…"


def test_columns_are_aligned() -> None:
    assert terminal.columns([["a", "bb", ""], ["ccc", "d", "e"]]) == ["a    bb", "ccc  d   e"]


@pytest.mark.parametrize("mark", ["\u0301", "\u0489", "\u20dd"])
def test_marks_do_not_pile_up(mark: str) -> None:
    shown = safe("a" + mark * 1000 + "b")
    assert shown.count(mark) == MOST_MARKS
    assert shown.startswith("a" + mark * MOST_MARKS + "\\u")
    assert shown.endswith("b")


def test_a_mark_never_stands_on_what_is_before_the_text() -> None:
    assert safe("\u0301a") == "\\u0301a"


def test_what_languages_need_stays_as_it_is() -> None:
    for word in ("Z\u030cluťoučký", "ที่นี่", "क्षत्रिय", "မြန်မာ", "việt"):
        assert safe(word) == word


def test_a_letter_that_shows_nothing_is_shown() -> None:
    assert safe("a\u3164b") == "a\\u3164b"


def test_what_is_safe_already_is_not_escaped_again() -> None:
    assert plain(safe("\x1b[2J\\")) == "\\x1b[2J\\\\"
    assert plain("\x9b31m\u202e") == "\\x9b31m\\u202e"


ADDRESSES = ("192.0.2.1", "2001:db8:1234:5678:9abc:def0:1234:5678")
URLS = ({"original": "/a"}, {"original": "/" + "long" * 100, "domain": "example.org"}, {"original": "/日本語" * 20})


def rendered(events: list[show.Event], width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(show.table(events, width=width))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [20, 40, 80, 100, 132, 200])
@pytest.mark.parametrize("ip", ADDRESSES)
@pytest.mark.parametrize("url", URLS)
def test_no_number_in_a_table_is_cut(width: int, ip: str, url: dict[str, Any]) -> None:
    large = event(
        source={"ip": ip, "port": 51000},
        url=url,
        event={"duration": 123_456_789_012},
        http={"request": {"method": "GET", "bytes": 123_456_789}, "response": {"status_code": 503, "bytes": 1}},
    )
    heading, row = rendered([large], width)
    assert cell_len(row) <= width
    cells = dict(zip(show.HEADINGS, show.cells(large), strict=True))
    for name in set(heading.split()) - {"url", "time"}:
        assert cells[name] in row.split()
    if width >= 80:
        assert {"status", "bytes", "ms", "method", "url"} <= set(heading.split())


def test_a_table_of_several_days_has_their_dates() -> None:
    _, first, second = rendered([event(), event(**{"@timestamp": "2026-11-23T10:00:00.5Z"})], 200)
    assert first.startswith("2026-11-22 10:00:00.123456")
    assert second.startswith("2026-11-23 10:00:00.5")


def test_a_table_says_what_is_doubtful_too() -> None:
    facts = {"pairing": "uncertain", "anomalies": []}
    assert rendered([event(appliance=facts)], 200)[1].rstrip().endswith("(pairing uncertain)")


@pytest.mark.parametrize(
    ("width", "text"), [(30, "100 %  12.3 kB  5 events"), (23, "100 %  5 events"), (14, "100 %"), (4, "")]
)
def test_what_has_no_room_is_left_out_as_a_whole(width: int, text: str) -> None:
    assert terminal.fit([("100 %", 0), ("12.3 kB", 2), ("5 events", 1)], width) == text


def test_a_wide_character_takes_two_columns() -> None:
    assert [terminal.shortened("日本語", width) for width in (6, 5, 4, 3, 1)] == ["日本語", "日本…", "日…", "日…", "…"]


def test_a_line_on_standard_error_cannot_command_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    stderr_line("server: \x1b]0;title\x07 gone")
    assert capsys.readouterr().err == "appliance: server: \\x1b]0;title\\x07 gone\n"


def handshake(**tls: Any) -> show.Event:
    """A handshake of TLS 1.3; `tls` replaces members of its `tls`."""
    known = {"version": "1.3", "version_protocol": "tls", "cipher": "TLS_AES_128_GCM_SHA256", "established": True}
    own = {"ja4": "t13d1516h2_a_b", "alpn_offered": ["h2", "http/1.1"], "bytes": {"client": 700, "server": 300}}
    return {
        **{name: value for name, value in event().items() if name not in ("url", "http")},
        "tls": {**known, "client": {"server_name": "a.example"}, **tls},
        "appliance": {"tls": {**own, "handshake_ns": 2_500_000}},
    }


def test_every_column_of_a_handshake() -> None:
    names = "a.example h2,http/1.1 TLS_AES_128_GCM_SHA256 t13d1516h2_a_b"
    assert show.cells(handshake())[3:] == ("TLS1.3", names, "ok", "1000", "2.500")


@pytest.mark.parametrize(
    ("tls", "note"),
    [
        ({}, ""),
        ({"version": "1.0"}, "old version"),
        ({"server": {"subject": "CN=a", "issuer": "CN=a"}}, "self-signed"),
        ({"server": {"subject": "CN=a", "issuer": "CN=b", "not_after": "2026-11-21T00:00:00Z"}}, "expired"),
        ({"server": {"not_after": "2027-01-01T00:00:00Z"}}, ""),
    ],
)
def test_what_deserves_a_look_stands_behind_a_handshake(tls: dict[str, Any], note: str) -> None:
    line = show.line(handshake(**tls))
    assert line.endswith(f"  ({note})" if note else "t13d1516h2_a_b")


def test_a_handshake_of_which_nothing_is_known_is_a_line() -> None:
    assert show.cells({"tls": {}})[3:] == ("TLS", "- - - -", "-", "0", "-")
