"""Cookies out of header fields."""

from __future__ import annotations

import pytest

from appliance.har.cookies import request_cookies, response_cookies


def test_a_field_has_several_cookies():
    assert request_cookies(["a=b; c=d=e", "f"]) == [
        {"name": "a", "value": "b"},
        {"name": "c", "value": "d=e"},
        {"name": "", "value": "f"},
    ]


def test_a_redacted_field_has_none():
    assert request_cookies(["[redacted]"]) == response_cookies(["[redacted]"]) == []


def test_the_attributes_of_a_set_cookie():
    (cookie,) = response_cookies(["s=1; Path=/x; DOMAIN=.example; Secure; HttpOnly; SameSite=Lax; odd=1"])
    assert cookie == {
        "name": "s",
        "value": "1",
        "path": "/x",
        "domain": ".example",
        "secure": True,
        "httpOnly": True,
        "sameSite": "Lax",
    }


@pytest.mark.parametrize(
    "date", ["Wed, 09 Jun 2027 10:18:14 GMT", "Wed, 09-Jun-2027 10:18:14 GMT", "Wed, 09 Jun 2027 12:18:14 +0200"]
)
def test_the_end_of_a_cookie_is_an_iso_time(date):
    (cookie,) = response_cookies([f"s=1; Expires={date}"])
    assert cookie["expires"] == "2027-06-09T10:18:14Z"


@pytest.mark.parametrize("date", ["soon", "", "Wed, 99 Jun 2027 99:99:99 GMT", "Fri, 31 Dec 9999 23:00:00 EST"])
def test_an_end_that_is_no_date_is_left_out(date):
    (cookie,) = response_cookies([f"s=1; Expires={date}"])
    assert "expires" not in cookie
