"""Entries of an HTTP Archive from events, field by field, and against the format's own schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from appliance.har.archive import Archive
from appliance.har.entry import entry, url_of

ROOT = Path(__file__).parents[3]
SCHEMAS = ROOT / "build" / "node" / "node_modules" / "har-schema" / "lib"


def event(
    request: dict[str, Any] | None = None, response: dict[str, Any] | None = None, /, **own: Any
) -> dict[str, Any]:
    """An event of a GET for /a?b=c&d= on port 8080, with other parts of the messages."""
    return {
        "event": {"dataset": "appliance.http", "id": "1f" * 16, "start": "2026-11-30T10:00:00.123456789Z"},
        "network": {"community_id": "1:x"},
        "source": {"ip": "192.0.2.1", "port": 40000},
        "destination": {"ip": "198.51.100.2", "port": 8080},
        "url": {"original": "/a?b=c&d=", "domain": "shop.example", "port": 8080, "scheme": "http"},
        "http": {
            "version": "1.1",
            "request": {"method": "GET", "bytes": 100, "body": {"bytes": 0}, **(request or {})},
            "response": {"status_code": 200, "reason": "OK", "bytes": 60, "body": {"bytes": 20}, **(response or {})},
        },
        "appliance": {"pairing": "verified", "transaction": 0, "midstream": False, **own},
    }


def made(*arguments: Any, **own: Any) -> dict[str, Any]:
    found = entry(event(*arguments, **own))
    assert found is not None
    return found


@pytest.fixture
def validator() -> jsonschema_rs.Draft6Validator:
    if not SCHEMAS.exists():
        pytest.skip("the npm package har-schema is not there: make test-setup installs it where npm is")
    parts = [(f"https://har.example/{path.name}", json.loads(path.read_text())) for path in SCHEMAS.glob("*.json")]
    resources = [(name, {key: part[key] for key in part if not key.startswith("$")}) for name, part in parts]
    registry = jsonschema_rs.Registry(resources, draft=jsonschema_rs.Draft6)
    whole = {"$ref": "https://har.example/har.json#"}
    return jsonschema_rs.Draft6Validator(whole, registry=registry, validate_formats=True)


def archived(tmp_path: Path, *events: dict[str, Any]) -> dict[str, Any]:
    archive = Archive(100)
    for one in events:
        archive.add(json.dumps(one).encode())
    with open(tmp_path / "out.har", "wb") as out:
        archive.write(out, "1.2.3")
    return json.loads((tmp_path / "out.har").read_bytes())


def test_times_are_milliseconds_and_their_sum():
    timing = {"send_ns": 1_500_000, "wait_ns": 20_000_000, "receive_ns": 250_000}
    found = made(timing=timing)
    assert found["timings"] == {"send": 1.5, "wait": 20.0, "receive": 0.25}
    assert (found["time"], found["startedDateTime"]) == (21.75, "2026-11-30T10:00:00.123456789Z")


def test_an_unknown_time_is_minus_one_and_not_in_the_sum():
    found = made(timing={"wait_ns": 20_000_000})
    assert found["timings"] == {"send": -1, "wait": 20.0, "receive": -1}
    assert found["time"] == 20.0


def test_the_query_has_every_parameter_in_order():
    pairs = [{"name": "b", "value": "c"}, {"name": "d", "value": ""}]
    assert made()["request"]["queryString"] == pairs


def test_fields_keep_their_order_and_their_values():
    found = made({"headers": {"host": ["h"], "x-a": ["1", "2"], "accept": ["*/*"]}})
    named = [(field["name"], field["value"]) for field in found["request"]["headers"]]
    assert named == [("host", "h"), ("x-a", "1"), ("x-a", "2"), ("accept", "*/*")]


@pytest.mark.parametrize(
    ("url", "method", "expected"),
    [
        ({"original": "/a b", "domain": "h.example"}, "GET", "http://h.example/a%20b"),
        ({"original": "/\\xff", "domain": "h.example"}, "GET", "http://h.example/%FF"),
        ({"original": "/a%20b", "domain": "h.example", "port": 81}, "GET", "http://h.example:81/a%20b"),
        ({"original": "/", "domain": "h.example", "port": 443, "scheme": "https"}, "GET", "https://h.example/"),
        ({"original": "http://o.example/x", "domain": "o.example"}, "GET", "http://o.example/x"),
        ({"original": "/x"}, "GET", "http://198.51.100.2:8080/x"),
        ({"original": "*", "domain": "h.example"}, "OPTIONS", "http://h.example/*"),
        ({"original": "h.example:443", "domain": "h.example", "port": 443}, "CONNECT", "http://h.example:443"),
    ],
)
def test_the_url_is_absolute_and_a_uri(url, method, expected):
    assert url_of({**event({"method": method}), "url": url}) == expected


def test_the_url_of_a_server_without_a_name_has_its_address_in_brackets():
    one = {**event(), "url": {"original": "/"}, "destination": {"ip": "2001:db8::1", "port": 80}}
    assert url_of(one) == "http://[2001:db8::1]/"


def test_the_bytes_of_a_head_are_unknown_where_framing_is_among_them():
    assert made({"headers": {"host": ["h"]}})["request"]["headersSize"] == 100
    assert made({"headers": {"transfer-encoding": ["chunked"]}})["request"]["headersSize"] == -1
    assert made()["request"]["headersSize"] == -1


def test_an_excerpt_says_how_much_of_the_body_it_is():
    whole = made(None, {"body": {"bytes": 5, "content": "hallo"}})["response"]["content"]
    assert whole == {"size": 5, "mimeType": "", "text": "hallo"}
    part = made(None, {"body": {"bytes": 9, "content": "hallo"}})["response"]["content"]
    assert part["comment"] == "the first 5 of 9 bytes"


def test_a_decoded_body_has_its_own_size_and_the_gain():
    response = {"body": {"decoded_bytes": 1000, "content_base64": "AAE="}}
    found = made(None, {"body": {"bytes": 20}}, response=response)["response"]
    assert (found["bodySize"], found["content"]["size"], found["content"]["compression"]) == (20, 1000, 980)
    assert (found["content"]["encoding"], found["content"]["text"]) == ("base64", "AAE=")


def test_a_form_is_post_data():
    found = made({"mime_type": "text/plain", "body": {"bytes": 3, "content": "a=b"}})
    assert found["request"]["postData"] == {"mimeType": "text/plain", "text": "a=b"}
    assert "postData" not in made()["request"]


def test_a_request_without_a_response_has_status_0():
    one = event(pairing="request_only")
    del one["http"]["response"]
    found = entry(one)
    assert found is not None
    assert (found["response"]["status"], found["response"]["comment"]) == (0, "no response was captured")


def test_a_response_without_a_request_is_left_out_and_counted(tmp_path):
    one = event()
    del one["http"]["request"]
    archive = Archive(10)
    archive.add(json.dumps(one).encode())
    assert (len(archive), archive.no_request) == (0, 1)


def test_events_of_other_datasets_are_not_entries(tmp_path):
    other = {**event(), "event": {"dataset": "appliance.tls", "start": "", "id": ""}}
    assert archived(tmp_path, other)["log"]["entries"] == []


@pytest.mark.parametrize("target", ["http://[", "//[", "http://[::1/x?a=b", "/?[=]&a=b#c?d=e"])
@pytest.mark.parametrize("domain", ["shop.example", "[evil", "a]b", "[::1"])
def test_a_target_that_is_no_url_is_an_entry_all_the_same(tmp_path, target, domain):
    """A client may send any target, and the event has it: urlsplit() refused some, and the event counted as none."""
    one = {**event(), "url": {"original": target, "domain": domain}}
    (found,) = archived(tmp_path, one)["log"]["entries"]
    assert found["request"]["url"].endswith(target)
    asked = [{"name": "a", "value": "b"}] * ("a=b" in target)
    assert [each for each in found["request"]["queryString"] if each["name"] == "a"] == asked


NO_PLACE = b'{"event":{"dataset":"appliance.http"},"http":{"request":{"method":"GET"}}}'


@pytest.mark.parametrize("line", [b"{", b"[]", b"{}", b'{"event":1}', NO_PLACE, b"\xff", b'{"a":' * 100_000])
def test_a_line_that_is_no_event_is_counted(line):
    archive = Archive(10)
    archive.add(line)
    assert (len(archive), archive.invalid) == (0, 1)


def test_entries_beyond_the_limit_are_counted():
    archive = Archive(2)
    for _ in range(5):
        archive.add(json.dumps(event()).encode())
    assert (len(archive), archive.left_out) == (2, 3)


def test_entries_stand_in_the_order_of_their_start(tmp_path):
    later, first = event(), event()
    later["event"] = {**later["event"], "start": "2026-11-30T11:00:00.000000000Z"}
    starts = [one["startedDateTime"] for one in archived(tmp_path, later, first)["log"]["entries"]]
    assert starts == sorted(starts)


def test_the_certainty_of_the_event_goes_along():
    found = made(pairing="uncertain", anomalies=["bare_lf"], request={"complete": False, "missing_bytes": 7})
    own = found["_appliance"]
    assert (own["pairing"], own["anomalies"], own["event_id"]) == ("uncertain", ["bare_lf"], "1f" * 16)
    assert own["request"] == {"complete": False, "missing_bytes": 7}


def test_an_archive_is_valid_by_the_schema_of_the_format(validator, tmp_path):
    fields = {"cookie": ["a=b; c"], "set-cookie": ["s=1; Path=/; Expires=Wed, 09 Jun 2027 10:18:14 GMT; HttpOnly"]}
    full = event({"headers": fields, "body": {"bytes": 1, "content": "x"}}, {"headers": fields})
    odd = {**event(), "url": {"original": "/\\xff {}|^ü"}, "destination": {"ip": "2001:db8::1", "port": 1}}
    validator.validate(archived(tmp_path, full, odd))
