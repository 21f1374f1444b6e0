"""gRPC-Web over HTTP/1: method, status and messages of a body, in binary and in base64."""

from __future__ import annotations

import hashlib
from base64 import b64encode

import pytest
from builders import MILLISECOND, Conversation, config, differences, outcome_of, request, response
from hypothesis import given
from hypothesis import strategies as st

CUTS = pytest.mark.parametrize("cut", [None, 1, 7], ids=["whole", "by byte", "by seven"])
KINDS = [
    "application/grpc-web",
    "application/grpc-web+proto",
    "application/grpc-web-text",
    "Application/gRPC-Web-Text+proto",
]
OK = b"grpc-status:0\r\n"


def message(payload: bytes, flags: int = 0) -> bytes:
    return bytes([flags]) + len(payload).to_bytes(4, "big") + payload


def encoded(kind: str, *parts: bytes) -> bytes:
    """The body: each part is base64 of its own in the text format, as a server sends it."""
    return b"".join(map(b64encode, parts)) if "text" in kind.lower() else b"".join(parts)


def posted(kind: str, body: bytes, target: bytes = b"/pkg.Service/Method") -> bytes:
    lines = b"Content-Type: " + kind.encode(), b"Content-Length: %d" % len(body)
    return request(target, *lines, method=b"POST") + body


def answered(kind: str, body: bytes, *fields: bytes, chunked: bool = False) -> bytes:
    head = [b"Content-Type: " + kind.encode(), *fields]
    if not chunked:
        return response(b"200 OK", *head, b"Content-Length: %d" % len(body), body=body)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:3], body[3:]) if part)
    return response(b"200 OK", *head, b"Transfer-Encoding: chunked", body=chunks + b"0\r\n\r\n")


def called(asked: bytes, said: bytes, cut: int | None = None, **how):
    made = Conversation().handshake().client_sends(asked, cut).idle(MILLISECOND).server_sends(said, cut)
    outcome = outcome_of(made.close().frames, **how)
    assert differences(outcome) == {}
    return outcome.only


@CUTS
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_call_has_its_method_status_and_messages(kind, cut, chunked):
    body = encoded(kind, message(b"one") + message(b"three" * 200), message(OK + b"grpc-message:all%20well\r\n", 0x80))
    event = called(posted(kind, encoded(kind, message(b"ask"))), answered(kind, body, chunked=chunked), cut)
    assert event["rpc"] == {
        "system": "grpc", "service": "pkg.Service", "method": "Method", "response": {"status_code": "OK"},
    }  # fmt: skip
    assert event["appliance"]["grpc"] == {
        "request": {"messages": 1, "bytes": 3}, "response": {"messages": 2, "bytes": 1003}, "message": "all%20well",
    }  # fmt: skip
    assert event["event"]["outcome"] == "success"
    assert event["http"]["version"] == "1.1"


@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_call_is_a_failure_though_its_response_is_200(kind):
    body = encoded(kind, message(b"grpc-status: 7\r\ngrpc-message: no\r\n", 0x80))
    event = called(posted(kind, encoded(kind, message(b""))), answered(kind, body))
    assert event["rpc"]["response"] == {"status_code": "PERMISSION_DENIED"}
    assert event["event"]["outcome"] == "failure"
    assert event["appliance"]["grpc"]["response"] == {"messages": 0, "bytes": 0}


def test_a_response_without_a_body_has_its_status_in_the_head():
    kind = KINDS[1]
    event = called(posted(kind, message(b"x")), answered(kind, b"", b"grpc-status: 12", b"grpc-message: what"))
    assert event["rpc"]["response"] == {"status_code": "UNIMPLEMENTED"}
    assert event["appliance"]["grpc"] == {
        "request": {"messages": 1, "bytes": 1}, "response": {"messages": 0, "bytes": 0}, "message": "what",
    }  # fmt: skip


def test_without_a_status_the_outcome_is_unknown():
    kind = KINDS[0]
    event = called(posted(kind, message(b"x")), answered(kind, message(b"y")))
    assert "response" not in event["rpc"]
    assert event["event"]["outcome"] == "unknown"


def test_an_error_of_a_proxy_is_one_of_http():
    event = called(posted(KINDS[0], message(b"x")), response(b"502 Bad Gateway", b"Content-Length: 0"))
    assert event["event"]["outcome"] == "failure"
    assert event["rpc"] == {"system": "grpc", "service": "pkg.Service", "method": "Method"}
    assert event["appliance"]["grpc"] == {"request": {"messages": 1, "bytes": 1}}


@pytest.mark.parametrize(
    "kind", ["application/grpc-webby", "application/grpc", "application/json", "application/grpc-we", "text/plain"]
)
def test_another_content_type_is_no_call(kind):
    event = called(posted(kind, message(b"x")), answered(kind, message(b"y")))
    assert "rpc" not in event
    assert "grpc" not in event["appliance"]


def test_bodies_are_described_beside():
    kind = KINDS[2]
    body = encoded(kind, message(b"one"), message(OK, 0x80))
    looking = config(bodies={"hashes": ["sha256"]})
    event = called(posted(kind, encoded(kind, message(b"a"))), answered(kind, body), config=looking)
    assert event["appliance"]["grpc"]["response"] == {"messages": 1, "bytes": 3}
    assert event["appliance"]["response"]["body"]["sha256"] == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("coding", [b"Content-Encoding: gzip", b"Content-Encoding: br"])
def test_messages_under_a_coding_are_unknown(coding):
    event = called(posted(KINDS[0], message(b"x")), answered(KINDS[0], message(b"y"), coding))
    assert event["appliance"]["grpc"] == {"request": {"messages": 1, "bytes": 1}}


@pytest.mark.parametrize("body", [b"AAAA!AAA", b"=AAA", b"A===", b"AA=A", b"\xff\xfe\xfd\xfc"])
def test_what_is_no_base64_has_no_messages(body):
    event = called(posted(KINDS[2], body), answered(KINDS[2], b""))
    assert "request" not in event["appliance"]["grpc"]


def test_a_gap_in_a_body_hides_its_messages():
    kind = KINDS[0]
    said = answered(kind, message(bytes(5000)) + message(OK, 0x80))
    made = Conversation().handshake().client_sends(posted(kind, message(b"x"))).idle(MILLISECOND)
    made.server_sends(said, 1000).idle(MILLISECOND).acknowledge(made.client)
    frames = made.close().frames
    places = [at for at, (_, one) in enumerate(frames) if len(one) > 1000]
    del frames[places[2]]
    outcome = outcome_of(frames)
    assert differences(outcome) == {}
    assert outcome.only["appliance"]["grpc"] == {"request": {"messages": 1, "bytes": 1}}
    assert "response" not in outcome.only["rpc"]


@given(
    sizes=st.lists(st.integers(0, 300), max_size=8),
    parts=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    cut=st.integers(1, 50),
    status=st.integers(0, 16),
)
def test_pieces_of_base64_of_any_size_are_the_same_messages(sizes, parts, cut, status):
    whole = b"".join(message(bytes(size)) for size in sizes) + message(b"grpc-status:%d\r\n" % status, 0x80)
    pieces, at, place = [], 0, 0
    while at < len(whole):
        size = parts[place % len(parts)]
        pieces.append(whole[at : at + size])
        at, place = at + size, place + 1
    event = called(posted(KINDS[2], b""), answered(KINDS[2], encoded(KINDS[2], *pieces)), cut)
    assert event["appliance"]["grpc"]["response"] == {"messages": len(sizes), "bytes": sum(sizes)}
    assert (event["event"]["outcome"] == "success") == (status == 0)
