"""Filter expressions over events: `status >= 500 and host = *.example and not path ~ health`.

A test is a field (method, host, status, path, sni, ja4, version; rpc_service, rpc_method, rpc_status of gRPC), an
operator and a value. Tests are joined with `and`, `or`, `not` and parentheses. `=` and `!=` accept the wildcards `*`
and `?`; `~` and `!~` search for the value as a substring. A status is compared as a number, also with < <= > >=, or is
a class (5xx) or none. The version is that of HTTP or TLS. Quote values that contain blanks or operators. Method, host,
sni and rpc_status are compared without regard to case. A field that an event lacks equals nothing.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from fnmatch import translate

import msgspec

FIELDS = ("method", "host", "status", "path", "sni", "ja4", "version", "rpc_service", "rpc_method", "rpc_status")
_TOKEN = re.compile(
    r"""\s*(?:(?P<sign>[()]|[<>]=?|!=|!~|=|~)|"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<word>[^\s()<>=!~"']+))"""
)
_ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


class WhereError(ValueError):
    """The expression cannot be parsed. The text names the position and is for a person."""


class _Request(msgspec.Struct, frozen=True):
    method: str | None = None


class _Response(msgspec.Struct, frozen=True):
    status_code: int | None = None


class _RpcResponse(msgspec.Struct, frozen=True):
    status_code: str | None = None


class _Rpc(msgspec.Struct, frozen=True):
    service: str | None = None
    method: str | None = None
    response: _RpcResponse = _RpcResponse()


class _Http(msgspec.Struct, frozen=True):
    version: str | None = None
    request: _Request = _Request()
    response: _Response = _Response()


class _Url(msgspec.Struct, frozen=True):
    domain: str | None = None
    path: str | None = None
    original: str | None = None


class _Client(msgspec.Struct, frozen=True):
    server_name: str | None = None


class _Tls(msgspec.Struct, frozen=True):
    version: str | None = None
    client: _Client = _Client()


class _OwnTls(msgspec.Struct, frozen=True):
    ja4: str | None = None


class _Own(msgspec.Struct, frozen=True):
    tls: _OwnTls = _OwnTls()


class EventFields(msgspec.Struct, rename={"timestamp": "@timestamp"}):
    """The fields of an event that a test reads; the decoder skips everything else."""

    timestamp: str = ""
    http: _Http = _Http()
    url: _Url = _Url()
    tls: _Tls = _Tls()
    appliance: _Own = _Own()
    rpc: _Rpc = _Rpc()

    def text(self, field: str) -> str | None:
        """Return the value of a field, case-folded if case does not matter; None if the event lacks it."""
        if field == "method":
            return self.http.request.method and self.http.request.method.casefold()
        if field == "host":
            return self.url.domain and self.url.domain.casefold()
        if field == "sni":
            return self.tls.client.server_name and self.tls.client.server_name.casefold()
        if field == "ja4":
            return self.appliance.tls.ja4
        if field == "version":
            return self.tls.version or self.http.version
        if field == "rpc_status":
            return self.rpc.response.status_code and self.rpc.response.status_code.casefold()
        if field.startswith("rpc_"):
            return self.rpc.service if field == "rpc_service" else self.rpc.method
        return self.url.path if self.url.path is not None else self.url.original


Test = Callable[[EventFields], bool]
decode_fields: Callable[[bytes], EventFields] = msgspec.json.Decoder(EventFields).decode


def compile_where(text: str) -> Test:
    """Return the expression as a predicate on an event's fields. Raises WhereError."""
    return _Parser(text).whole()


class _Parser:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[int, str, bool]] = []  # position, text, whether it was quoted
        place = 0
        while text[place:].strip():
            found = _TOKEN.match(text, place)
            if not found:
                raise self._error(place, "a quotation mark is not closed, or this character is no operator")
            kind = str(found.lastgroup)
            self.tokens.append((found.start(kind), found[kind], kind in ("double", "single")))
            place = found.end()
        self.tokens.append((len(text), "", False))
        self.at = 0

    def whole(self) -> Test:
        test = self._either()
        place, token, _ = self.tokens[self.at]
        if place < len(self.text):
            raise self._error(place, f"{token!r} is unexpected; join tests with and, or")
        return test

    def _either(self) -> Test:
        tests = [self._both()]
        while self._take("or"):
            tests.append(self._both())
        return tests[0] if len(tests) == 1 else lambda event: any(test(event) for test in tests)

    def _both(self) -> Test:
        tests = [self._one()]
        while self._take("and"):
            tests.append(self._one())
        return tests[0] if len(tests) == 1 else lambda event: all(test(event) for test in tests)

    def _one(self) -> Test:
        if self._take("not"):
            negated = self._one()
            return lambda event: not negated(event)
        if self._take("("):
            inner = self._either()
            if not self._take(")"):
                raise self._error(self.tokens[self.at][0], "a parenthesis is not closed")
            return inner
        return self._comparison()

    def _comparison(self) -> Test:
        place, field, _ = self._next()
        if field not in FIELDS:
            raise self._error(place, f"{field!r} is not one of {', '.join(FIELDS)}" if field else "a test is missing")
        sign_place, sign, _ = self._next()
        if sign not in ("=", "!=", "~", "!~", *_ORDERS):
            raise self._error(sign_place, f"{field} is followed by one of = != ~ !~ < <= > >=")
        value_place, value, quoted = self._next()
        if not quoted and (not value or value in "()<>=!~"):
            raise self._error(value_place, f"{field} {sign} is followed by a value, in quotes if it holds signs")
        if field == "status":
            return self._status(value_place, sign, value)
        if sign in _ORDERS:
            raise self._error(sign_place, f"{sign} is for status only")
        return _text(field, sign, value)

    def _status(self, place: int, sign: str, value: str) -> Test:
        if re.fullmatch("[1-9]xx", value) and sign in ("=", "!="):
            wanted, equal = int(value[0]), sign == "="
            return lambda event: ((event.http.response.status_code or 0) // 100 == wanted) == equal
        if value == "none" and sign in ("=", "!="):
            absent = sign == "="
            return lambda event: (event.http.response.status_code is None) == absent
        if not re.fullmatch("[0-9]{1,9}", value) or "~" in sign:
            raise self._error(place, "a status is a number, a class as 5xx (with = or !=), or none")
        number = int(value)
        if sign in _ORDERS:
            compare = _ORDERS[sign]
            return lambda event: compare(code, number) if (code := event.http.response.status_code) else False
        equal = sign == "="
        return lambda event: (event.http.response.status_code == number) == equal

    def _take(self, word: str) -> bool:
        _, token, quoted = self.tokens[self.at]
        if token != word or quoted:
            return False
        self.at += 1
        return True

    def _next(self) -> tuple[int, str, bool]:
        token = self.tokens[self.at]
        self.at = min(self.at + 1, len(self.tokens) - 1)
        return token

    def _error(self, place: int, what: str) -> WhereError:
        return WhereError(f"{self.text!r}, at character {place + 1}: {what}")


def _text(field: str, sign: str, value: str) -> Test:
    wanted = value if field in ("path", "ja4", "version", "rpc_service", "rpc_method") else value.casefold()
    positive = not sign.startswith("!")
    if sign.endswith("~"):
        return lambda event: (wanted in (event.text(field) or "")) == positive
    if "*" in wanted or "?" in wanted:
        matches = re.compile(translate(wanted.replace("[", "[[]"))).match
        return lambda event: (bool(matches(text)) if (text := event.text(field)) is not None else False) == positive
    return lambda event: (event.text(field) == wanted) == positive
