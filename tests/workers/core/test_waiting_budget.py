"""Messages that wait for their other half: as many as there are, bounded by bytes over all connections of a worker."""

from __future__ import annotations

import pytest
from builders import (
    MILLISECOND,
    Conversation,
    Frame,
    Outcome,
    batches_of,
    config,
    differences,
    get,
    outcome_of,
    request,
    response,
)
from elements import Runner
from impair import interleave

TIGHT = 64 * 1024
LIMITED = config(http={"max_total_waiting_bytes": TIGHT})
MOST, TRIES = 5.3, 6


def numbers(outcome: Outcome) -> list[tuple[str | None, str | None]]:
    """(target, reason) of each event, in order."""
    return [
        (event.get("url", {}).get("original"), event["http"].get("response", {}).get("reason"))
        for event in outcome.events
    ]


def flood(count: int, port: int, size: int = 100) -> Conversation:
    """A client that sends request after request, and never an answer comes."""
    said = Conversation(client_port=port).handshake()
    for at in range(0, count, 10):
        said.client_sends(b"".join(request(b"/%d" % n, b"X-A: " + b"a" * size) for n in range(at, at + 10)))
    return said


@pytest.mark.parametrize(("count", "workers"), [(600, 1), (600, 2), (20_000, 1)])
def test_however_many_requests_are_in_flight_each_gets_its_response(count, workers):
    said = Conversation().handshake()
    said.client_sends(b"".join(request(b"/%d" % n) for n in range(count))).idle(MILLISECOND)
    said.server_sends(b"".join(response(b"200 R%d" % n, b"Content-Length: 0") for n in range(count))).close()
    outcome = outcome_of(said.frames, workers)
    assert numbers(outcome) == [(f"/{n}", f"R{n}") for n in range(count)]
    assert outcome.counts["given_up"] == 0
    assert differences(outcome) == {}


def test_what_waits_is_a_gauge():
    outcome = outcome_of(flood(50, 40_000).frames)
    assert 50 * 600 < outcome.running["waiting_bytes"] < 50 * 1200
    assert outcome.counts["waiting_bytes"] == 0


@pytest.mark.parametrize("connections", [1, 3, 30])
def test_clients_that_send_without_end_hold_no_more_than_the_limit(connections):
    frames = interleave([flood(3000 // connections, 40_000 + n) for n in range(connections)])
    outcome = outcome_of(frames, config=LIMITED)
    assert outcome.running["waiting_bytes"] <= max(TIGHT, connections * 5000)
    assert outcome.counts["given_up"] > 2000
    assert len(outcome.events) == 3000
    assert differences(outcome) == {}


def test_they_take_nothing_from_others():
    others = []
    for n in range(20):
        said = Conversation(client_port=50_000 + n).handshake()
        for at in range(10):
            said.idle(MILLISECOND).exchange(get(at))
        others.append(said.close())
    frames = interleave([*(flood(1000, 40_000 + n) for n in range(5)), *others])
    outcome = outcome_of(frames, config=LIMITED)
    benign = [event for event in outcome.events if event["source"]["port"] >= 50_000]
    assert outcome.counts["given_up"] > 4000
    assert [event["url"]["original"] for event in benign] == [f"/{at}" for _ in range(20) for at in range(10)]
    assert {event["appliance"]["pairing"] for event in benign} == {"verified"}


def test_a_connection_that_holds_little_keeps_it_however_much_others_hold():
    quiet = Conversation(client_port=50_000).handshake().client_sends(b"".join(get(n).request for n in range(3)))
    loud = flood(1000, 40_000)
    loud.now = max(loud.now, quiet.now)
    late = len(quiet.frames)
    quiet.now = loud.now
    quiet.server_sends(b"".join(get(n).response for n in range(3))).close()
    outcome = outcome_of(quiet.frames[:late] + loud.frames + quiet.frames[late:], config=LIMITED)
    assert [pair for pair in numbers(outcome) if pair[1]] == [(f"/{n}", f"R{n}") for n in range(3)]


def test_one_request_alone_is_never_given_up():
    large = Conversation(client_port=50_000).handshake().client_sends(request(b"/a", b"X-A: " + b"a" * 60_000))
    place = len(large.frames)
    loud = flood(1000, 40_000)
    large.now = loud.now
    large.server_sends(response(b"200 Ra", b"Content-Length: 0")).close()
    outcome = outcome_of(large.frames[:place] + loud.frames + large.frames[place:], config=LIMITED)
    assert ("/a", "Ra") in numbers(outcome)


def test_answers_to_what_was_given_up_are_given_to_no_others():
    many = [get(n) for n in range(200)]
    said = Conversation().handshake().pipeline(many).close()
    outcome = outcome_of(said.frames, config=config(http={"max_total_waiting_bytes": 16_384}))
    pairs = numbers(outcome)
    given_up = outcome.counts["given_up"]
    assert 150 < given_up < 190
    assert {(f"/{n}", None) for n in range(given_up)} | {(None, f"R{n}") for n in range(given_up)} | {
        (f"/{n}", f"R{n}") for n in range(given_up, 200)
    } == set(pairs)


def behind_a_loss(count: int, lost: int = 1) -> list[Frame]:
    """Batches of a client that pipelines; of each, a response is not captured, so all of them are held."""
    said = Conversation().handshake()
    out: list[Frame] = []
    for at in range(0, count, 20):
        said.client_sends(b"".join(get(n).request for n in range(at, at + 20))).idle(MILLISECOND)
        out += said.frames
        said.frames.clear()
        said.server_sends(get(at).response).server_sends(get(at + 1).response)
        out += [frame for frame in said.frames if b" R%d\r\n" % (at + lost) not in frame[1]]
        said.frames.clear()
        said.server_sends(b"".join(get(n).response for n in range(at + 2, at + 20))).acknowledge(said.client)
        said.idle(3000 * MILLISECOND)
        out += said.frames
        said.frames.clear()
    return out + said.close().frames


@pytest.mark.parametrize("limit", [4096, 16_384, 1 << 20])
def test_responses_held_behind_a_loss_count_too_and_none_is_given_to_another(limit):
    outcome = outcome_of(behind_a_loss(400), config=config(http={"max_total_waiting_bytes": limit}))
    assert all(None in pair or pair[0][1:] == pair[1][1:] for pair in numbers(outcome))
    assert outcome.running["waiting_bytes"] <= max(limit, 4096)
    assert (outcome.counts["given_up"] > 0) == (limit < 1 << 20)
    assert differences(outcome) == {}


def conflicting(count: int) -> list[Frame]:
    """Requests in flight, each sent again with other content."""
    said = Conversation().handshake()
    for n in range(count):
        at = said.client.next
        said.client_sends(request(b"/%06d" % n))
        place = (at - said.client.at(0)) & 0xFFFFFFFF
        said.raw(said.client, place, request(b"/%06d" % n).replace(b"GET", b"PUT"))
    return said.frames


def acknowledging_back_and_forth(count: int) -> list[Frame]:
    """Held responses, and requests whose acknowledgements go forth and back by a byte, as no host's do."""
    said = Conversation().handshake().client_sends(request(b"/") * 3)
    said.server_sends(response(b"200 OK", b"Content-Length: 0"))
    said.server.next += 100
    said.server_sends(response(b"200 OK", b"Content-Length: 0")).acknowledge(said.client).idle(3000 * MILLISECOND)
    end = said.server.next
    for n in range(count):
        said.server.next = end - 20 + n % 2
        said.client_sends(request(b"/%d" % n))
    return said.frames


def unanswered(count: int) -> list[Frame]:
    """A client that takes turns and misses every answer; instead come some that acknowledge almost nothing."""
    said = Conversation().handshake()
    for n in range(count):
        said.server.next += 100
        said.client_sends(request(b"/%d" % n)).idle(1000 * MILLISECOND)
        asked, said.client.next = said.client.next, said.client.at(5)
        said.server_sends(response(b"200 OK", b"Content-Length: 0"))
        said.client.next = asked
    return said.frames


@pytest.mark.parametrize("scene", [conflicting, acknowledging_back_and_forth, unanswered])
def test_four_times_what_waits_takes_four_times_the_work(scene):
    runner = Runner()
    few, many = (batches_of(scene(count))[0][0] for count in (1500, 6000))
    tries = []
    for _ in range(TRIES):
        tries.append(runner.seconds(many, 0.002, best_of=2) / runner.seconds(few, 0.002, best_of=2))
        if tries[-1] <= MOST:
            break
    assert min(tries) <= MOST


@pytest.mark.parametrize("scene", [conflicting, acknowledging_back_and_forth, unanswered, behind_a_loss])
def test_the_ledger_closes(scene):
    outcome = outcome_of(scene(500))
    assert differences(outcome) == {}
