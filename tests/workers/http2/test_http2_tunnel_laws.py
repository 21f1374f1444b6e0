"""Random tunnels in HTTP/2, in any split and with any losses: no event is invented, and the ledger closes."""

from __future__ import annotations

import json
import random

from builders import MILLISECOND, Conversation, differences, outcome_of, request, response
from h2_talk import START, answer, ask, block, message
from h2_wire import DATA, END_HEADERS, END_STREAM, frame, headers, settings
from hypothesis import example, given
from hypothesis import settings as how
from hypothesis import strategies as st
from ws_wire import BINARY, MASK, TEXT
from ws_wire import frame as ws_frame

CONNECT = [(b":method", b"CONNECT"), (b":authority", b"inside.example:80")]
CHAT = [
    (b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"http"), (b":path", b"/chat"),
    (b":authority", b"ws.example"),
]  # fmt: skip


def inner_http1(chance: random.Random, stream: int) -> list[tuple[int, bytes]]:
    """Turns of HTTP/1; the status tells the request."""
    said = []
    for number in range(chance.randrange(1, 4)):
        body = chance.randbytes(chance.choice((0, 30, 3000)))
        said.append((0, request(b"/%d/%d" % (stream, number), host=b"inside.example")))
        said.append((1, response(b"20%d OK" % number, b"Content-Length: %d" % len(body), body=body)))
    return said


def inner_http2(chance: random.Random, stream: int) -> list[tuple[int, bytes]]:
    said = [(0, START), (1, settings())]
    for number in range(chance.randrange(1, 4)):
        body = chance.randbytes(chance.choice((0, 30, 3000)))
        said.append((0, message(2 * number + 1, ask(b"/%d/%d" % (stream, number)))))
        said.append((1, message(2 * number + 1, answer(b"20%d" % number), body)))
    return said


def inner_websocket(chance: random.Random, stream: int) -> list[tuple[int, bytes]]:
    said = []
    for _ in range(chance.randrange(1, 6)):
        payload = chance.randbytes(chance.choice((0, 5, 200, 3000)))
        said.append((0, ws_frame(TEXT, payload, mask=MASK)))
        said.append((1, ws_frame(BINARY, payload)))
    return said


def talk(seed: int) -> list[tuple[int, bytes]]:
    """The frames of both sides in order."""
    chance = random.Random(seed)
    said = [(0, START), (1, settings())]
    scripts: list[list[tuple[int, bytes]]] = []
    for place in range(chance.randrange(1, 5)):
        stream = 2 * place + 1
        make = chance.choice((inner_http1, inner_http2, inner_websocket))
        fields = CHAT if make is inner_websocket else CONNECT
        script = [
            (0, headers(stream, block(*fields), END_HEADERS)),
            (1, headers(stream, block(*answer()), END_HEADERS)),
        ]
        for side, data in make(chance, stream):
            while data:
                size = chance.choice((1, 9, 100, 1000, 20000))
                script.append((side, frame(DATA, 0, stream, data[:size])))
                data = data[size:]
        if chance.random() < 0.7:
            script += [(side, frame(DATA, END_STREAM, stream)) for side in (0, 1)]
        scripts.append(script)
    while scripts:
        script = chance.choice(scripts)
        said.append(script.pop(0))
        if not script:
            scripts.remove(script)
    return said


def played(said: list[tuple[int, bytes]], cut: int | None) -> Conversation:
    made = Conversation().handshake()
    for side, data in said:
        (made.server_sends if side else made.client_sends)(data, cut).idle(MILLISECOND)
    return made


def content(outcome) -> list[str]:
    """The events without their times, sizes of segments and order."""
    out = []
    for event in outcome.events:
        own = event["appliance"]
        for name in ("timing", "connection"):
            own.pop(name, None)
        own.get("websocket", {}).pop("longest_pause_ns", None)
        out.append(json.dumps({name: event[name] for name in ("url", "http", "appliance") if name in event}))
    return sorted(out)


@how(max_examples=60)
@given(seed=st.integers(0, 1 << 30), cut=st.sampled_from((1, 3, 50, 500)))
def test_any_split_of_the_bytes_gives_the_same_events(seed, cut):
    said = talk(seed)
    whole, split = (outcome_of(played(said, size).close().frames) for size in (None, cut))
    assert differences(whole) == differences(split) == {}
    assert content(whole) == content(split)


@example(seed=11260, losses=[0.0, 0.0, 0.0, 0.1015625])  # a request that the search for frames has kept
@example(seed=153286676, losses=[0.10129471024332926])  # … until its response has come
@how(max_examples=100)
@given(seed=st.integers(0, 1 << 30), losses=st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_losses_invent_no_event(seed, losses):
    made = played(talk(seed), 1000)
    frames = made.acknowledge(made.client).acknowledge(made.server).close().frames
    for place in losses:
        del frames[3 + int(place * (len(frames) - 8))]
    outcome = outcome_of(frames)
    assert differences(outcome) == {}
    for event in outcome.events:
        if event["event"]["dataset"] != "appliance.http" or event["appliance"]["pairing"] == "uncertain":
            continue
        parts = event.get("url", {}).get("path", "").split("/")
        status = event["http"].get("response", {}).get("status_code")
        if len(parts) == 3 and status is not None:
            assert status == 200 + int(parts[2]), event
