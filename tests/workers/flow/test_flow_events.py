"""Flow events: what a connection carried, when they come, what they say of its end. builders checks their sum."""

from __future__ import annotations

import pytest
from builders import MILLISECOND, SECOND, Conversation, batches_of, config, get, outcome_of, request, response, talk

from workers.pipeline import Pipeline


def flows_of(frames, **sections):
    """The flow events of some frames, in the order in which they came."""
    return outcome_of(frames, config=config(**sections) if sections else None).flows


def facts_of(frames, **sections):
    """`appliance.flow` of each flow event."""
    return [flow["appliance"]["flow"] for flow in flows_of(frames, **sections)]


def only(frames, **sections):
    (flow,) = flows_of(frames, **sections)
    return flow


def test_a_connection_has_one_event_at_its_end():
    said = talk(get(), get(1))
    flow = only(said.frames)
    facts = flow["appliance"]["flow"]
    client = [frame for _, frame in said.frames if frame[26:30] == bytes((192, 0, 2, 10))]
    server = [frame for _, frame in said.frames if frame not in client]
    assert flow["source"] == {"ip": "192.0.2.10", "port": 40000, "bytes": sum(map(len, client)), "packets": len(client)}
    assert flow["destination"]["bytes"] == sum(map(len, server))
    assert flow["network"]["packets"] == len(said.frames)
    assert (facts["state"], facts["final"], facts["index"], facts["application"]) == ("fin", True, 0, "http")
    assert facts["transactions"] == facts["since_last"]["transactions"] == 2
    assert flow["event"]["duration"] == said.frames[-1][0] - said.frames[0][0]


def test_it_is_off_by_default_and_then_writes_nothing():
    (messages,), _ = batches_of(talk(get()).frames)
    pipeline = Pipeline(config())
    for message in messages:
        pipeline.feed(message)
    pipeline.finish()
    counts = pipeline.counts()
    assert counts["made.flow."] == 0
    assert counts["flow_payload.off"] == counts["payload_bytes"]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("shutdown", talk(get(), close="")),
        ("fin", talk(get(), close="server")),
    ],
)
def test_the_state_says_how_it_ended(state, said):
    assert [facts["state"] for facts in facts_of(said.frames)] == [state]


def test_a_reset_connection_says_so_once_its_sender_sends_no_more():
    said = talk(get(), close="reset")
    other = talk(get(), client_port=40001, start_ns=said.now + SECOND)
    assert [facts["state"] for facts in facts_of([*said.frames, *other.frames])] == ["rst", "fin"]


def test_a_connection_that_times_out_is_idle():
    later = talk(get(), client_port=40001, start_ns=talk(get()).now + 1000 * SECOND)
    facts = facts_of([*talk(get(), close="").frames, *later.frames], events={"datasets": ["flow"], "interval_s": 3600})
    assert [one["state"] for one in facts] == ["idle", "fin"]


def test_a_connection_without_room_is_evicted():
    frames, now = [], None
    for place in range(17):
        said = talk(get(), close="", client_port=40000 + place, **({} if now is None else {"start_ns": now}))
        frames, now = [*frames, *said.frames], said.now
    facts = facts_of(frames, tcp={"max_connections": 16})
    assert [one["state"] for one in facts].count("evicted") == 1
    assert len(facts) == 17


def test_a_new_connection_on_the_ports_ends_the_old_one():
    first = talk(get(), close="")
    second = talk(get(), start_ns=first.now + SECOND, client_isn=5_000_000, server_isn=6_000_000)
    flows = flows_of([*first.frames, *second.frames])
    assert [flow["appliance"]["flow"]["state"] for flow in flows] == ["reused", "fin"]
    assert len({flow["appliance"]["connection"] for flow in flows}) == 2


def lasting(seconds, every=10):
    """A connection with an exchange every few seconds."""
    said = Conversation().handshake()
    for number in range(seconds // every):
        said.exchange(get(number)).idle(every * SECOND)
    return said


def test_a_connection_that_lasts_has_an_event_every_interval():
    facts = facts_of(lasting(350).close().frames, events={"datasets": ["flow"], "interval_s": 100})
    assert [(one["index"], one["state"], one["final"]) for one in facts] == [
        (0, "open", False),
        (1, "open", False),
        (2, "open", False),
        (3, "fin", True),
    ]
    for name in ("payload_bytes", "packets", "bytes"):
        summed = 0
        for one in facts:
            summed += one["since_last"][name]
            assert one["totals"][name] == summed
    assert [one["since_last"]["transactions"] for one in facts] == [11, 10, 10, 4]
    assert facts[-1]["transactions"] == 35


def test_every_event_of_a_connection_has_an_id_of_its_own_and_one_connection():
    outcome = outcome_of(lasting(350).frames, config=config(events={"interval_s": 100}))
    events = [*outcome.events, *outcome.flows]
    assert len({event["event"]["id"] for event in events}) == len(events)
    assert len({event["appliance"]["connection"] for event in events}) == 1


def test_an_idle_connection_has_events_while_other_frames_move_the_clock():
    silent = talk(get(), close="")
    other = lasting(250)
    frames = sorted([*silent.frames, *Conversation(client_port=41000, start_ns=other.frames[0][0]).handshake().frames])
    ticks = [(silent.now + n * SECOND, frames[-1][1]) for n in range(1, 250)]
    facts = facts_of([*silent.frames, *ticks], events={"datasets": ["flow"], "interval_s": 100})
    assert [one["state"] for one in facts].count("open") >= 2


def test_bytes_that_came_again_count_by_side():
    said = Conversation().handshake().client_sends(request()).idle(MILLISECOND)
    said.frames.append((said.now, said.frames[-1][1]))
    said.idle(MILLISECOND).server_sends(response(b"200 OK", b"Content-Length: 0")).close()
    facts = only(said.frames)["appliance"]["flow"]
    assert facts["retransmitted_bytes"] == {"client": len(request()), "server": 0}


def test_missing_bytes_count_by_side():
    said = talk(get(body=b"x" * 5000))
    lost = next(place for place, (_, frame) in enumerate(said.frames) if frame.endswith(b"x" * 1460))
    del said.frames[lost]
    facts = only(said.frames)["appliance"]["flow"]
    assert facts["missing_bytes"] == {"client": 0, "server": 1460}


def test_truncated_frames_count_on_the_wire_and_as_missing():
    said = talk(get(body=b"x" * 1000))
    whole, (cut,) = only(said.frames), outcome_of(said.frames, snaplen=200).flows
    assert cut["network"] == whole["network"]
    facts = cut["appliance"]["flow"]
    assert (
        facts["missing_bytes"]["server"] + facts["totals"]["payload_bytes"]
        == (whole["appliance"]["flow"]["totals"]["payload_bytes"])
    )


def test_the_handshake_takes_from_the_syn_to_the_acknowledgement():
    said = Conversation(rtt_ns=7 * MILLISECOND).handshake()
    times = [time for time, _ in said.frames]
    facts = only(said.exchange(get()).close().frames)["appliance"]["flow"]
    assert facts["handshake_ns"] == times[2] - times[0]


def test_a_handshake_longer_than_its_field_is_exact():
    said = Conversation(rtt_ns=5 * SECOND).handshake()
    times = [time for time, _ in said.frames]
    facts = only(said.exchange(get()).close().frames)["appliance"]["flow"]
    assert facts["handshake_ns"] == times[2] - times[0] > 1 << 32


def test_without_the_syn_the_handshake_is_unknown():
    facts = only(talk(get()).frames[1:])["appliance"]["flow"]
    assert "handshake_ns" not in facts


def test_a_connection_of_one_direction_is_one_sided():
    said = talk(get(0), get(1))
    client = [(time, frame) for time, frame in said.frames if frame[26:30] == bytes((192, 0, 2, 10))]
    flow = only(client)
    assert flow["appliance"]["flow"]["one_sided"]
    assert flow["destination"]["packets"] == 0


def test_an_unknown_protocol_has_no_name():
    said = Conversation().handshake().client_sends(b"\x00\x01\x02").idle(MILLISECOND).server_sends(b"\x03").close()
    flow = only(said.frames)
    assert "protocol" not in flow["network"]
    assert "application" not in flow["appliance"]["flow"]


def test_another_protocol_has_its_name():
    said = Conversation().handshake().server_sends(b"SSH-2.0-x\r\n").idle(MILLISECOND).client_sends(b"SSH-2.0-y\r\n")
    flow = only(said.close().frames)
    assert flow["network"]["protocol"] == flow["appliance"]["flow"]["application"] == "ssh"


def test_the_sender_of_the_syn_is_the_client_where_no_bytes_say_so():
    flow = only(Conversation("198.51.100.2", "192.0.2.1", 80, 50000).handshake().close().frames)
    assert flow["source"]["ip"] == "198.51.100.2"


def test_late_copies_after_the_end_count_in_the_same_event():
    said = talk(get())
    late = (said.now + MILLISECOND, said.frames[3][1])
    facts = only([*said.frames, late])["appliance"]["flow"]
    assert facts["totals"]["packets"] == len(said.frames) + 1
    assert facts["state"] == "fin"


def test_a_reload_turns_it_on_and_off_and_no_byte_is_unaccounted_for():
    said = [talk(get(), close="", client_port=40000 + place) for place in range(3)]
    pipeline = Pipeline(config())
    for place, name in enumerate(("flow", "http", "flow")):
        pipeline.take()
        pipeline.configure(config(events={"datasets": [name]}))
        (messages,), _ = batches_of(said[place].frames)
        for message in messages:
            pipeline.feed(message)
    pipeline.finish()
    counts = pipeline.counts()
    told = sum(value for name, value in counts.items() if name.startswith("flow_payload."))
    assert counts["payload_bytes"] == told
    assert counts["flow_open_bytes"] == 0


def test_the_end_of_a_run_ends_connections_in_parts():
    frames = [frame for place in range(5) for frame in talk(get(), close="", client_port=40000 + place).frames]
    (messages,), _ = batches_of(frames)
    pipeline = Pipeline(config(events={"datasets": ["flow"]}))
    for message in messages:
        pipeline.feed(message)
    ended = []
    while pipeline.finish(2):
        ended.append(sum(count for _, count, _ in pipeline.take()))
    ended.append(sum(count for _, count, _ in pipeline.take()))
    assert ended == [2, 2, 1]
    assert pipeline.counts()["flows"] == 0


def test_events_of_all_datasets_of_a_connection_have_its_id():
    upgrade = request(b"/chat", b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13")
    switched = response(b"101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: websocket")
    said = Conversation().handshake().client_sends(upgrade).idle(MILLISECOND).server_sends(switched).idle(MILLISECOND)
    said.client_sends(b"\x81\x82\0\0\0\0hi").idle(MILLISECOND).server_sends(b"\x88\x00").idle(MILLISECOND)
    outcome = outcome_of(said.client_sends(b"\x88\x80\0\0\0\0").close("server").frames)
    events = [*outcome.events, *outcome.flows]
    datasets = sorted(event["event"]["dataset"] for event in events)
    assert datasets == ["appliance.flow", "appliance.http", "appliance.websocket"]
    assert len({event["appliance"]["connection"] for event in events}) == 1
    assert len({event["event"]["id"] for event in events}) == 3


@pytest.mark.parametrize("workers", [2, 5])
@pytest.mark.parametrize("close", ["", "reset"])
def test_its_end_does_not_depend_on_the_connections_of_the_same_worker(workers, close):
    """A worker's timers followed its own frames alone: with more workers, a reset or idle connection was `shutdown`."""
    frames = [frame for port in range(40000, 40008) for frame in talk(get(), close=close, client_port=port).frames]
    later = talk(get(), client_port=40009, start_ns=max(at for at, _ in frames) + 1000 * SECOND)
    frames = sorted([*frames, *later.frames], key=lambda frame: frame[0])
    one, many = (outcome_of(frames, workers=count).flows for count in (1, workers))
    states = {flow["source"]["port"]: flow["appliance"]["flow"]["state"] for flow in many}
    assert states == {flow["source"]["port"]: flow["appliance"]["flow"]["state"] for flow in one}
    assert set(states.values()) == {"fin", "rst" if close else "idle"}


def test_a_timer_that_starts_another_does_so_at_its_own_time():
    """Eight seconds later, other frames let a joined connection settle. Without them the next wait began much later."""
    said = talk(get(body=b"b" * 3000), close="")
    sent, last = said.frames[3], said.frames[-1]
    others = [
        frame
        for seconds in (8, 400)
        for frame in talk(get(), client_port=40001, start_ns=last[0] + seconds * SECOND).frames
    ]
    alone, among = (only_of(40000, [sent, last, *rest]) for rest in (others[-1:], others))
    assert alone == among


@pytest.mark.parametrize("workers", [2, 5])
def test_time_stamps_that_turn_back_are_the_same_for_any_number_of_workers(workers):
    early = [frame for port in range(40000, 40006) for frame in talk(get(), close="", client_port=port).frames]
    late = talk(get(), client_port=40009, start_ns=early[-1][0] + 2000 * SECOND).frames
    states = [
        {
            flow["source"]["port"]: flow["appliance"]["flow"]["state"]
            for flow in outcome_of(late + early, workers=count).flows
        }
        for count in (1, workers)
    ]
    assert states[0] == states[1]


def only_of(port, frames):
    (flow,) = [flow for flow in flows_of(frames) if flow["source"]["port"] == port]
    return flow
