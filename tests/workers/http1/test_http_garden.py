"""The bug classes of the HTTP Garden: what servers and proxies read wrongly, and how it is read here.

79 classes: S, of servers; T, of proxies that forward; B, found on the way; H, of HTTP/2. A reading is (method and
target, bytes of the body, anomalies, other framings that are reported) of every request that is seen; one that is
smuggled in is there only if RFC 9112 says that it begins where it does.
"""

from __future__ import annotations

import string

import pytest
from builders import Conversation, Event, events_of, response, spoken

CHUNKED = b"Transfer-Encoding: chunked"
IN = b"GET /in HTTP/1.1\r\nHost: b.example\r\n\r\n"
NO_NAME = bytes({*range(1, 128)} - {*b"\n\r:"} - {*string.ascii_letters.encode()} - {*string.digits.encode()})


def ask(*fields: bytes, body: bytes = b"", line: bytes = b"POST / HTTP/1.1") -> bytes:
    """A request with these fields behind its Host."""
    return b"\r\n".join((line, b"Host: a.example", *fields, b"", body))


CASES: dict[str, tuple[bytes, list[tuple[object, ...]]]] = {
    # how servers read requests
    "S1 chunk size with an underscore": (ask(CHUNKED, body=b"0_7\r\n\r\n" + IN), [("POST /", 0, "bad_chunk")]),
    "S2 NUL and CR in a value": (ask(b"X: a\0b\rc"), [("POST /", 0, "bare_cr", "control_in_head")]),
    "S3 space before the colon of a length": (
        ask(b"Content-Length : %d" % len(IN), body=IN),
        [("POST /", 37, "space_before_colon")],
    ),
    "S4 tab before the first field": (
        b"GET / HTTP/1.1\r\n\tContent-Length: 1\r\n\r\nZ",
        [("GET /", 0, "bad_header_line", "host_missing")],
    ),
    "S5 version with one digit too many": (ask(line=b"GET / HTTP/1.12"), [("GET /", 0, "odd_version")]),
    "S6 method with signs that no token has": (ask(line=b"G(E)T / HTTP/1.1"), []),
    "S7 target that is no URI": (ask(line=b"GET ! HTTP/1.1"), [("GET !", 0, "odd_target")]),
    "S8 high byte in a field name": (ask(b"\xefoo: bar"), [("POST /", 0, "bad_header_line")]),
    "S9 line feed inside the request line": (
        b"GET /\nHTTP/1.1\r\n\r\n",
        [("GET /", 0, "bare_lf", "bad_header_line", "missing_version")],
    ),
    "S10 length that int() takes": (
        ask(b"Content-Length: +1_0", body=b"0123456789"),
        [("POST /", 0, "bad_length", "or length 1")],
    ),
    "S11 two chunked fields": (ask(CHUNKED, CHUNKED, body=b"1\r\nZ\r\n0\r\n\r\n"), [("POST /", 1, "chunked_repeated")]),
    "S12 no-break space around chunked": (
        ask(b"Transfer-Encoding: \xa0chunked\x85", body=b"0\r\n\r\n"),
        [("POST /", 5, "unknown_coding", "early_response", "or chunked")],
    ),
    "S13 bare CR between two fields": (ask(b"Seen: 1\rContent-Length: 5"), [("POST /", 0, "bare_cr")]),
    "S14 bytes that no field name may have": (
        ask(NO_NAME + b": x"),
        [("POST /", 0, "bad_header_line", "control_in_head")],
    ),
    "S15 CRs inside the version": (ask(line=b"GET / HTTP/\r\r1.1"), []),
    "S16 empty length": (ask(b"Content-Length: ", line=b"GET / HTTP/1.1"), [("GET /", 0, "bad_length")]),
    "S17 empty chunk size": (ask(CHUNKED, body=b"\r\n\r\n"), [("POST /", 0, "bad_chunk")]),
    "S18 empty field name": (ask(b": ignored"), [("POST /", 0, "bad_header_line")]),
    "S19 line feeds before a value": (
        ask(b"X:\n\nGET /in HTTP/1.1"),
        [("POST /", 0, "bare_lf"), ("GET /in", 0, "host_missing")],
    ),
    "S20 next-line byte behind a name": (
        ask(b"Content-Length\x85: 10", body=b"0123456789"),
        [("POST /", 0, "bad_header_line")],
    ),
    "S21 empty member before chunked, and a length": (
        ask(b"Transfer-Encoding: ,chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
        [("POST /", 0, "length_and_chunked", "or length 5")],
    ),
    "S22 chunk size with digits up to a sign": (
        ask(CHUNKED, body=b"2;\r\nZZ\r\n0_2\r\n\r\n" + IN),
        [("POST /", 2, "bad_chunk")],
    ),
    "S23 two lengths, the first is larger": (
        ask(b"Content-Length: 1", b"Content-Length: 0", body=b"Z"),
        [("POST /", 1, "lengths_differ", "or length 0")],
    ),
    "S24 version numbers that overflow": (ask(line=b"GET / HTTP/4294967297.257"), [("GET /", 0, "odd_version")]),
    "S25 chunk size with a sign": (ask(CHUNKED, body=b"+2\r\nZZ\r\n-0\r\n\r\n"), [("POST /", 0, "bad_chunk")]),
    "S26 negative length": (ask(b"Content-Length: -48"), [("POST /", 0, "bad_length")]),
    "S27 field with neither name nor value": (
        ask(b":", b"Content-Length: 1", body=b"Z"),
        [("POST /", 1, "bad_header_line")],
    ),
    "S28 blank instead of a colon": (ask(b"Content-Length 10", body=b"0123456789"), [("POST /", 0, "bad_header_line")]),
    "S29 length with a letter behind it": (
        ask(b"Content-Length: 1Z", body=b"Z"),
        [("POST /", 0, "bad_length", "or length 1")],
    ),
    "S30 CR and any byte at the start of a line": (
        ask(b"\rZGET /in HTTP/1.1: x"),
        [("POST /", 0, "bad_header_line", "bare_cr")],
    ),
    "S31 chunk size ended by CR CR": (
        ask(CHUNKED, body=b"5\r\r;ABCD\r\n34\r\nE\r\n0\r\n\r\n"),
        [("POST /", 0, "bad_chunk")],
    ),
    "S32 octal or decimal length": (
        ask(b"Content-Length: 010", body=b"0123456789"),
        [("POST /", 10, "length_leading_zeros")],
    ),
    "S33 two lengths, the last is larger": (
        ask(b"Content-Length: 0", b"Content-Length: 1", body=b"Z"),
        [("POST /", 0, "lengths_differ", "or length 1")],
    ),
    "S34 CR in a value": (ask(b"X: va\rlue"), [("POST /", 0, "bare_cr")]),
    "S35 NUL that may end a value": (ask(b"X: seen\0not seen"), [("POST /", 0, "control_in_head")]),
    "S36 CR CR behind a chunk extension": (
        ask(CHUNKED, body=b"4;a=b\r\rABCD\r\nEFGH\r\n0\r\n\r\n"),
        [("POST /", 4, "odd_chunk")],
    ),
    "S37 field name over two lines": (
        ask(b"Transfer-", b"Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
        [("POST /", 5, "bad_header_line")],
    ),
    "S38 empty length before another request": (
        ask(b"Content-Length: ", body=IN),
        [("POST /", 0, "bad_length"), ("GET /in", 0)],
    ),
    "S39 trailer field that a wrong end cuts": (ask(CHUNKED, body=b"0\r\nX:POST / HTTP/1.1\r\n\r\n"), [("POST /", 0)]),
    "S40 neither method nor version": (b"\0 / HTTP/....05.74\r\n\r\n", []),
    "S41 high blanks around a value": (ask(b"User: \x85admin\xa0"), [("POST /", 0)]),
    "S42 empty length before a good one": (
        ask(b"Content-Length: ", b"Content-Length: %d" % len(IN), body=IN),
        [("POST /", 37, "bad_length")],
    ),
    "S43 NUL at the end of a value": (ask(b"X: evil\0"), [("POST /", 0, "control_in_head")]),
    "S44 unknown coding that is no chunked": (
        ask(b"Transfer-Encoding: blegh", body=b"1\r\nZ\r\n0\r\n\r\n"),
        [("POST /", 11, "unknown_coding", "early_response", "or chunked")],
    ),
    "S45 invalid request behind a valid one": (
        ask(b"Connection: close", line=b"GET / HTTP/1.1") + b"Invalid\r\n\r\n",
        [("GET /", 0, "extra_bytes")],
    ),
    "S46 high bytes around host and coding": (
        b"POST / HTTP/1.1\r\nHost: \xffa\xff\r\nTransfer-Encoding: \xffchunked\xff\r\n\r\n1\r\nZ\r\n0\r\n\r\n",
        [("POST /", 11, "unknown_coding", "early_response", "or chunked")],
    ),
    "S47 request behind an invalid chunk": (ask(CHUNKED, body=b"INVALID!\r\n" + IN), [("POST /", 0, "bad_chunk")]),
    "S48 pipelined requests in one segment": (
        ask(b"Content-Length: 0") + ask(b"Content-Length: %d" % len(IN), body=IN),
        [("POST /", 0), ("POST /", 37)],
    ),
    # what proxies forward
    "T1 length with 0x": (ask(b"Content-Length: 0x10", body=b"Z"), [("POST /", 0, "bad_length")]),
    "T2 chunk sizes that are no numbers": (ask(CHUNKED, body=b"Z\r\nZZ\r\nZZZ\r\n\r\n"), [("POST /", 0, "bad_chunk")]),
    "T3 CR before a chunk extension": (
        ask(CHUNKED, body=b"2\r\r;a\r\n02\r\n41\r\n0\r\n\r\n" + IN),
        [("POST /", 0, "bad_chunk")],
    ),
    "T4 invalid chunk whose body is dropped": (ask(CHUNKED, body=b"1\r0\n"), [("POST /", 0, "bad_chunk")]),
    "T5 empty length that is forwarded": (
        ask(b"content-length:", line=b"GET / HTTP/1.1"),
        [("GET /", 0, "bad_length")],
    ),
    "T6 bad byte in a name that is forwarded": (
        ask(b"X\x85: v", line=b"GET / HTTP/1.1"),
        [("GET /", 0, "bad_header_line")],
    ),
    "T7 chunk size with letters behind it": (
        ask(CHUNKED, body=b"1these\r\nZ\r\n0\r\n\r\n"),
        [("POST /", 0, "bad_chunk")],
    ),
    "T9 empty member before chunked": (ask(b"Transfer-Encoding: ,chunked", body=b"0\r\n\r\n"), [("POST /", 0)]),
    "T10 several CRs in a value": (ask(b"X: this\rvalue\ris\rone", line=b"GET / HTTP/1.1"), [("GET /", 0, "bare_cr")]),
    "T11 empty length before a good one, forwarded": (
        ask(b"content-length:", b"content-length: %d" % len(IN), line=b"GET / HTTP/1.1", body=IN),
        [("GET /", 37, "bad_length")],
    ),
    "T12 NUL in the host": (
        b"GET / HTTP/1.1\r\nHost: a.example\0.b.example\r\n\r\n",
        [("GET /", 0, "control_in_head")],
    ),
    "T13 line feed behind a chunk": (ask(CHUNKED, body=b"a\r\n0123456789\n0\r\n\r\n"), [("POST /", 10, "odd_chunk")]),
    "T14 line feed inside a field name": (
        ask(b"Te\nst: x", line=b"GET / HTTP/1.1"),
        [("GET /", 0, "bare_lf", "bad_header_line")],
    ),
    "T15 unknown coding and a length": (
        ask(b"Transfer-Encoding: xchunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
        [("POST /", 5, "unknown_coding", "early_response", "or length 5", "or chunked")],
    ),
    "T16 bare line feeds": (b"GET / HTTP/1.1\nHost: a.example\nConnection: close\n\n", [("GET /", 0, "bare_lf")]),
    "T17 empty line before the last chunk": (
        ask(CHUNKED, body=b"5\r\nhello\r\n\r\n0\r\n\r\n"),
        [("POST /", 5, "bad_chunk")],
    ),
    "T18 empty member that hides chunked from one": (
        ask(b"Transfer-Encoding: ,chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
        [("POST /", 0, "length_and_chunked", "or length 5")],
    ),
    "T19 negative hexadecimal chunk size": (ask(CHUNKED, body=b"-0x0\r\n\r\n"), [("POST /", 0, "bad_chunk")]),
    "T20 NUL in a name without colon": (
        ask(b"a: b", b"c\0", line=b"GET / HTTP/1.1"),
        [("GET /", 0, "bad_header_line", "control_in_head")],
    ),
    "T21 GET with a body": (ask(b"Content-Length: 10", line=b"GET / HTTP/1.1", body=b"1234567890"), [("GET /", 10)]),
    "T22 two lengths, one hides a request": (
        ask(b"Content-Length: 0", b"Content-Length: %d" % len(IN), body=IN),
        [("POST /", 0, "lengths_differ", "or length 37"), ("GET /in", 0)],
    ),
    "T23 length and chunked": (
        ask(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n"),
        [("POST /", 0, "length_and_chunked", "or length 5")],
    ),
    "T24 blanks before a chunk size": (ask(CHUNKED, body=b"   0\r\n\r\n"), [("POST /", 0, "odd_chunk")]),
    "T25 two chunked fields, forwarded": (
        ask(CHUNKED, CHUNKED, body=b"0\r\n\r\n"),
        [("POST /", 0, "chunked_repeated")],
    ),
    # found on the way: any request was enough
    "B1 empty body": (ask(b"Content-Length: 0"), [("POST /", 0)]),
    "B2 any request": (ask(line=b"GET / HTTP/1.1"), [("GET /", 0)]),
    "B3 a byte behind a chunked body": (ask(CHUNKED, body=b"0\r\n\r\n\0"), [("POST /", 0, "extra_bytes")]),
    "B4 chunked body of one byte": (ask(CHUNKED, body=b"1\r\nZ\r\n0\r\n\r\n"), [("POST /", 1)]),
    "B5 any request of HTTP/1.0": (b"GET / HTTP/1.0\r\n\r\n", [("GET /", 0)]),
    # HTTP/2
    "H1 blanks in a field of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", []),
    "H2 empty field name of HTTP/2": (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0\0\0\5\1\5\0\0\0\1\0\0\0\0\0",
        [],
    ),
}


def reading(event: Event) -> tuple[object, ...]:
    """(method and target, bytes of the body, anomalies, other framings)."""
    request, own = event["http"]["request"], event["appliance"]
    others = [
        " ".join(("or", other["framing"], *map(str, [other[name] for name in ("body_bytes",) if name in other])))
        for other in own["request"].get("other_framings", ())
    ]
    target = f"{request['method']} {event['url']['original']}"
    return (target, request["body"]["bytes"], *own.get("anomalies", ()), *others)


def test_there_is_a_case_for_every_class():
    assert len(CASES) == 79


@pytest.mark.parametrize("name", CASES)
def test_a_class_of_bugs_is_read_as_recorded(name):
    said, expected = CASES[name]
    events = events_of(spoken(said, response(b"200 OK", b"Content-Length: 0")).frames)
    assert [reading(event) for event in events if "request" in event["http"]] == expected


@pytest.mark.parametrize("name", CASES)
def test_a_class_of_bugs_is_read_so_byte_by_byte_too(name):
    said, expected = CASES[name]
    answer = response(b"200 OK", b"Content-Length: 0")
    events = events_of(Conversation().handshake().client_sends(said, 1).server_sends(answer).close("server").frames)
    assert [reading(event) for event in events if "request" in event["http"]] == expected
