"""One entry of an HTTP Archive from one event of `appliance.http` (HAR 1.2, http://www.softwareishard.com/blog/har-12-spec/).

An unknown value is absent, or -1 or empty where the format requires one. `_appliance` names the event and its
certainty.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, quote

from appliance.har.body import content, post_data
from appliance.har.cookies import request_cookies, response_cookies
from appliance.text.event_text import wire_bytes

Json = dict[str, Any]

UNKNOWN = -1
DEFAULT_PORTS = {"http": 80, "https": 443}
ABSOLUTE = re.compile("[A-Za-z][A-Za-z0-9+.-]*://").match  # urlsplit() raises ValueError for what servers accept
URL_CHARACTERS = "!#$%&'()*+,/:;=?@[]~"  # RFC 3986 section 2.2, and %, which encodes already
KEPT = (
    "transaction",
    "connection",
    "pairing",
    "midstream",
    "anomalies",
    "sampling",
    "tunnel",
    "informational",
    "http2",
    "grpc",
)


def entry(event: Json) -> Json | None:
    """Return the entry of an event, or None if the event has no request: an entry cannot do without one."""
    request = event.get("http", {}).get("request")
    if not request or "method" not in request:
        return None
    timings = _timings(event)
    return {
        "startedDateTime": event["event"]["start"],
        "time": sum(value for value in timings.values() if value != UNKNOWN),
        "request": _request(event),
        "response": _response(event),
        "cache": {},
        "timings": timings,
        "serverIPAddress": event["destination"]["ip"],
        "connection": str(event["appliance"].get("connection", event["source"]["port"])),
        "_appliance": _certainty(event),
    }


def url_of(event: Json) -> str:
    """Return the absolute URL of a request: its target, with the server that it names or was sent to."""
    url = event.get("url", {})
    target = quote(wire_bytes(url.get("original", "")), safe=URL_CHARACTERS)
    if ABSOLUTE(target):
        return target
    scheme = url.get("scheme", "http")
    if event["http"]["request"]["method"] == "CONNECT":
        return f"{scheme}://{target}"
    host, port = url.get("domain"), url.get("port")
    if not host:
        ip, port = event["destination"]["ip"], event["destination"]["port"]
        host = f"[{ip}]" if ":" in ip else ip
    at = "" if port in (None, DEFAULT_PORTS.get(scheme)) else f":{port}"
    path = target if target.startswith("/") else f"/{target}"
    return f"{scheme}://{quote(wire_bytes(host), safe=URL_CHARACTERS)}{at}{path}"


def _query(url: str) -> str:
    return url.partition("#")[0].partition("?")[2]


def _timings(event: Json) -> Json:
    timing = event["appliance"].get("timing", {})
    return {
        part: timing[f"{part}_ns"] / 1e6 if f"{part}_ns" in timing else UNKNOWN for part in ("send", "wait", "receive")
    }


def _request(event: Json) -> Json:
    message = event["http"]["request"]
    headers = message.get("headers", {})
    url = url_of(event)
    made = {
        "method": message["method"],
        "url": url,
        "httpVersion": _version(event),
        "cookies": request_cookies(headers.get("cookie", [])),
        "headers": _fields(headers),
        "queryString": [
            {"name": name, "value": value}
            for name, value in parse_qsl(_query(url), keep_blank_values=True, errors="backslashreplace")
        ],
        "headersSize": _head_bytes(message),
        "bodySize": message.get("body", {}).get("bytes", UNKNOWN),
    }
    if posted := post_data(message):
        made["postData"] = posted
    return made


def _response(event: Json) -> Json:
    message = event["http"].get("response", {})
    headers = message.get("headers", {})
    made = {
        "status": message.get("status_code", 0),
        "statusText": message.get("reason", ""),
        "httpVersion": _version(event),
        "cookies": response_cookies(headers.get("set-cookie", [])),
        "headers": _fields(headers),
        "content": content(message, event["appliance"].get("response", {}).get("body", {})),
        "redirectURL": next(iter(headers.get("location", [])), ""),
        "headersSize": _head_bytes(message),
        "bodySize": message.get("body", {}).get("bytes", UNKNOWN),
    }
    if "status_code" not in message:
        made["comment"] = "no response was captured"
    return made


def _version(event: Json) -> str:
    version = event["http"].get("version")
    return f"HTTP/{version}" if version else ""


def _fields(headers: dict[str, list[str]]) -> list[Json]:
    """Return the header fields in the order in which the names first came; values of one name stand together."""
    return [{"name": name, "value": value} for name, values in headers.items() for value in values]


def _head_bytes(message: Json) -> int:
    """Return the bytes of the head; unknown with a transfer coding, whose framing is in the same count."""
    headers = message.get("headers")
    if headers is None or "transfer-encoding" in headers or "bytes" not in message:
        return UNKNOWN
    return int(message["bytes"] - message.get("body", {}).get("bytes", 0))


def _certainty(event: Json) -> Json:
    own = event["appliance"]
    sides = {
        side: {key: own[side][key] for key in ("complete", "missing_bytes") if key in own[side]}
        for side in ("request", "response")
        if side in own
    }
    community = {"community_id": event["network"]["community_id"]} if "community_id" in event["network"] else {}
    return {"event_id": event["event"]["id"], **community, **{key: own[key] for key in KEPT if key in own}, **sides}
