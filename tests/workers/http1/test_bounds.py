"""Bounds of the memory of the HTTP half: heads that never end, interim responses without number."""

from __future__ import annotations

import pytest
from builders import MILLISECOND, Conversation, config, differences, get, outcome_of, request, response, spoken, talk

TOTAL = 4096
TIGHT = config(http={"max_head_bytes": 1024, "max_total_head_bytes": TOTAL})


def halves(count, size, **more):
    """Frames of many clients that each send `size` bytes of a head and stop, in three pieces."""
    said = [
        Conversation(client_port=40_000 + n, **more)
        .handshake()
        .client_sends(request(b"/%d" % n, b"X-A: " + b"a" * size)[:size], [40, size // 2, size])
        for n in range(count)
    ]
    return [frame for each in said for frame in each.frames]


def test_the_bytes_of_unfinished_heads_are_a_gauge():
    outcome = outcome_of(halves(3, 500))
    assert (outcome.running["head_bytes"], outcome.counts["head_bytes"]) == (1500, 0)
    assert differences(outcome) == {}


@pytest.mark.parametrize(("clients", "whole"), [(8, 8), (9, 8), (100, 8)])
def test_unfinished_heads_of_all_connections_hold_no_more_than_the_limit(clients, whole):
    outcome = outcome_of(halves(clients, 512), config=TIGHT)
    cut = [event for event in outcome.events if "head_too_long" in event["appliance"].get("anomalies", ())]
    assert outcome.running["head_bytes"] <= TOTAL
    assert len(cut) == outcome.running["parse_errors"] == clients - whole
    assert differences(outcome) == {}


def test_a_head_that_is_let_go_is_reported_by_its_whole_lines():
    said = halves(8, 512)
    late = Conversation(client_port=50_000).handshake()
    late.client_sends(request(b"/late", b"X-A: " + b"a" * 600), [200, 1460])
    late.idle(MILLISECOND).server_sends(response(b"200 OK", b"Content-Length: 0"))
    event = outcome_of(said + late.frames, config=TIGHT).events[-1]
    assert event["url"] == {"original": "/late", "domain": "a.example", "path": "/late", "scheme": "http"}
    assert event["http"]["response"]["status_code"] == 200
    assert set(event["appliance"]["anomalies"]) == {"head_too_long", "body_cut"}


def test_what_may_become_a_head_after_a_loss_counts_too():
    said = talk(get(1), close="", client_port=50_000)
    said.client_sends(b"\0" * 10 + b"x" * 100)
    outcome = outcome_of(said.frames)
    assert (outcome.running["head_bytes"], outcome.counts["head_bytes"]) == (110, 0)
    others = halves(8, 512)
    full = outcome_of(others + said.frames, config=TIGHT)
    assert full.running["head_bytes"] == 8 * 512
    assert full.counts["skipped_bytes"] == 110
    assert differences(full) == {}


@pytest.mark.parametrize("ending", ["fin", "reset", "tunnel", "gap", "not http"])
def test_heads_that_end_in_any_way_are_let_go(ending):
    said = Conversation().handshake()
    if ending == "tunnel":
        said.client_sends(request(b"a.example:1", method=b"CONNECT")).client_sends(b"GET / HTTP/1.1\r\nX")
        said.server_sends(response(b"200 OK"))
    elif ending == "not http":
        said.client_sends(b"GET / HTTP/1.1\r\nX").server_sends(b"\x16\x03\x01" + bytes(20))
    else:
        said.client_sends(b"GET / HTTP/1.1\r\nX").client_sends(b": y")
    if ending == "fin":
        said.close()
    elif ending == "reset":
        said.reset()
    elif ending == "gap":
        said.client.next += 100_000
        said.client_sends(b"zz\r\n").acknowledge(said.server).idle(5000 * MILLISECOND).client_sends(b"zz\r\n")
    outcome = outcome_of(said.frames)
    last = ("reset", "not http")  # a reset is final only later; what the server speaks says nothing of the client
    assert ending in last or outcome.running["head_bytes"] <= 8
    assert outcome.counts["head_bytes"] == 0
    assert differences(outcome) == {}


def test_of_interim_responses_the_first_sixteen_are_listed_and_all_are_counted():
    interim = b"".join(response(b"%d Hint" % (100 + 2 * (n % 2))) for n in range(1000))
    outcome = outcome_of(spoken(request(), interim + response(b"200 OK", b"Content-Length: 0")).frames)
    assert outcome.only["appliance"]["informational"] == [100, 102] * 8
    assert outcome.only["http"]["response"]["status_code"] == 200
    assert outcome.counts["responses.1xx"] == 1000
