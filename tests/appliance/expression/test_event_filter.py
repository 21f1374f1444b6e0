"""Expressions that choose events."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.expression.event_filter import WhereError, compile_where, decode_fields


def holds(expression: str, **event: object) -> bool:
    """Return whether an event of GET http://Shop.Example/cart/7 with status 503 passes; `event` replaces parts."""
    parts = {
        "url": {"domain": "Shop.Example", "path": "/cart/7"},
        "http": {"request": {"method": "GET"}, "response": {"status_code": 503}},
        **event,
    }
    return compile_where(expression)(decode_fields(json.dumps(parts).encode()))


@pytest.mark.parametrize(
    "expression",
    [
        "status = 503",
        "status=503",
        "status != 404",
        "status >= 500",
        "status<504",
        "status = 5xx",
        "status != 4xx",
        "status != none",
        "method = get",
        "method != POST",
        "host = shop.example",
        "host = *.example",
        "host ~ SHOP",
        "host !~ bank",
        "path = /cart/*",
        "path = '/cart/7'",
        'path ~ "/7"',
        "path = /cart/?",
        "method = GET and status > 500",
        "method = POST or status > 500",
        "not method = POST",
        "not (method = POST or path ~ health)",
        "method = POST and status = 404 or host ~ shop",
        "method = POST and (status = 404 or host ~ shop) or path ~ cart",
    ],
)
def test_what_holds(expression: str) -> None:
    assert holds(expression)
    assert not holds(f"not ({expression})")


@pytest.mark.parametrize(
    "expression",
    ["sni = SHOP.example", "sni = *.example", "ja4 ~ t13d", "ja4 = t13d1516h2_*", "version = 1.3"],
)
def test_what_holds_of_a_handshake(expression: str) -> None:
    tls = {"version": "1.3", "client": {"server_name": "Shop.Example"}}
    assert holds(expression, tls=tls, appliance={"tls": {"ja4": "t13d1516h2_8daaf6152771_02713d6af862"}})
    assert not holds(expression)


@pytest.mark.parametrize("expression", ["host = *", "path ~ a", "method = *", "status > 0", "status = 5xx"])
def test_what_an_event_does_not_have_equals_nothing(expression: str) -> None:
    assert not holds(expression, url={}, http={})


@pytest.mark.parametrize(
    "expression",
    ["version = 2", "rpc_service = pkg.*", "rpc_method = Get", "rpc_status = not_found", "rpc_status != OK"],
)
def test_a_call_is_chosen_by_protocol_method_and_status(expression: str) -> None:
    rpc = {"service": "pkg.Service", "method": "Get", "response": {"status_code": "NOT_FOUND"}}
    assert holds(expression, rpc=rpc, http={"version": "2"})
    assert holds(expression) == ("!=" in expression)


def test_an_event_without_a_response_has_no_status() -> None:
    assert holds("status = none and status != 200 and status != 2xx", http={"request": {"method": "GET"}})


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "a test is missing"),
        (
            "color = red",
            "'color' is not one of method, host, status, path, sni, ja4, version, rpc_service, rpc_method, ",
        ),
        ("status", "status is followed by one of"),
        ("status =", "followed by a value"),
        ("status = teapot", "a status is a number"),
        ("status ~ 5", "a status is a number"),
        ("status > 5xx", "a status is a number"),
        ("host > a", "> is for status only"),
        ("(status = 1", "not closed"),
        ("status = 1 status = 2", "is unexpected"),
        ("host = 'a", "quotation mark"),
        ("status = 1 and", "a test is missing"),
        ("host = (", "followed by a value"),
    ],
)
def test_what_is_wrong_is_said(expression: str, said: str) -> None:
    with pytest.raises(WhereError, match=r"at character \d+: ") as error:
        compile_where(expression)
    assert said in str(error.value)


@given(st.text(alphabet="status host=!~<>() 'and\"or not5x*[", max_size=40))
def test_any_text_is_an_expression_or_an_error(text: str) -> None:
    try:
        holds(text)
    except WhereError:
        pass
