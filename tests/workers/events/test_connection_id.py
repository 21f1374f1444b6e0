"""appliance.connection: one id for all events of a connection, as stable as event.id."""

from __future__ import annotations

from builders import MILLISECOND, SECOND, Conversation, events_of, get, request, response, talk, without
from impair import interleave


def ids(events):
    return [event["appliance"]["connection"] for event in events]


def test_all_events_of_a_connection_have_one_id():
    found = ids(events_of(talk(get(0), get(1), get(2)).frames))
    assert len(found) == 3
    assert len(set(found)) == 1


def test_connections_have_different_ids():
    found = ids(events_of(interleave(talk(get(), client_port=40000 + place) for place in range(5))))
    assert len(set(found)) == 5


def test_two_connections_on_the_same_ports_have_different_ids():
    first = talk(get())
    second = talk(get(), start_ns=first.now + SECOND, client_isn=5_000_000, server_isn=6_000_000)
    found = ids(events_of([*first.frames, *second.frames]))
    assert len(found) == len(set(found)) == 2


def test_connections_in_a_capture_that_is_replayed_have_different_ids():
    frames = Conversation().handshake().exchange(get()).idle(SECOND).close().frames
    found = ids(events_of([*frames, *frames]))
    assert len(found) == len(set(found)) == 2


def test_an_id_of_a_connection_is_no_id_of_an_event():
    (event,) = events_of(talk(get()).frames)
    assert event["appliance"]["connection"] != event["event"]["id"]


def test_the_order_in_which_the_handshake_arrives_does_not_change_the_id():
    frames = talk(get()).frames
    syn, answer, *rest = frames
    assert ids(events_of([answer, syn, *rest])) == ids(events_of(frames))


def test_frames_after_the_first_bytes_do_not_change_the_id():
    frames = talk(get(0), get(1)).frames
    assert ids(events_of(without(frames, -1, -2))) == ids(events_of(frames))


def test_a_connection_that_was_open_before_has_an_id():
    said = Conversation().established().exchange(get()).idle(MILLISECOND).exchange(get(1))
    found = ids(events_of(said.frames))
    assert len(set(found)) == 1


def test_events_inside_a_tunnel_have_the_id_of_their_connection():
    said = Conversation().handshake()
    said.client_sends(request(b"a.example:443", method=b"CONNECT")).idle(MILLISECOND)
    said.server_sends(response(b"200 OK")).idle(MILLISECOND).exchange(get())
    found = ids(events_of(said.close().frames))
    assert len(found) == 2
    assert len(set(found)) == 1
