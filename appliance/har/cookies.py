"""Cookies of header fields (RFC 6265 sections 4.2 and 5.2) for an HTTP Archive. Redacted fields have none."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

REDACTED = "[redacted]"


def request_cookies(fields: list[str]) -> list[dict[str, Any]]:
    """Return the cookies of `Cookie` fields."""
    pairs = [pair for field in fields if field != REDACTED for pair in field.split(";") if pair.strip()]
    return [_named(pair) for pair in pairs]


def response_cookies(fields: list[str]) -> list[dict[str, Any]]:
    """Return the cookies of `Set-Cookie` fields, with their attributes."""
    return [_with_attributes(field) for field in fields if field != REDACTED and field.strip()]


def _named(pair: str) -> dict[str, Any]:
    name, equals, value = pair.partition("=")
    return {"name": name.strip() if equals else "", "value": (value if equals else name).strip()}


def _with_attributes(field: str) -> dict[str, Any]:
    pair, *attributes = field.split(";")
    made = _named(pair)
    for attribute in attributes:
        name, _, value = (part.strip() for part in attribute.partition("="))
        match name.lower():
            case "path" | "domain" as key:
                made[key] = value
            case "httponly":
                made["httpOnly"] = True
            case "secure":
                made["secure"] = True
            case "samesite":
                made["sameSite"] = value
            case "expires" if (time := _iso_time(value)) is not None:
                made["expires"] = time
    return made


def _iso_time(text: str) -> str | None:
    try:
        time = parsedate_to_datetime(text.replace("-", " "))  # the dashes of RFC 850
        return time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):  # no time, or in UTC one beyond the year 9999
        return None
