"""Flow events of UDP: each datagram is in exactly one, for any number of workers, and QUIC is joined to its own."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from builders import SECOND, START_NS, batches_of, config, differences, get, outcome_of, talk, whole
from hypothesis import given
from hypothesis import strategies as st
from quic_packets import V1, ack, crypto, initial
from tls_bytes import USUAL, client_hello, server_hello_1_3
from wire import udp

from appliance.wire.tcp_locator import find
from workers.pipeline import Pipeline

ENDS = ("192.0.2.10", "198.51.100.20")
HEADERS = 14 + 20 + 8
SHORT = b"\x40" + bytes(30)  # a 1-RTT packet


def options(datasets: tuple[str, ...] = ("flow",), **more: object) -> Any:
    return config(events={"datasets": list(datasets), "udp_flows": True, **more})


def frame(side: int, payload: bytes, port: int = 5000, to: int = 53) -> bytes:
    if side == 0:
        return udp(ENDS[0], ENDS[1], (port, to), payload)
    return udp(ENDS[1], ENDS[0], (to, port), payload, client=False)


def hello(connection_id: bytes = b"client's") -> bytes:
    return initial(crypto(0, client_hello(USUAL)), connection_id, version=V1, source=b"c" * 8)


def answer(connection_id: bytes = b"client's") -> bytes:
    frames = ack() + crypto(0, server_hello_1_3())
    return initial(frames, connection_id, version=V1, server=True, target=b"c" * 8, source=b"s" * 8)


def timed(*frames: bytes, step: int = 1_000_000) -> list[tuple[int, bytes]]:
    return [(START_NS + place * step, each) for place, each in enumerate(frames)]


def flows_of(frames: list[tuple[int, bytes]], **more: object) -> list[dict[str, Any]]:
    outcome = outcome_of(frames, config=options(**more))
    assert differences(outcome) == {}
    return outcome.flows


def states(flows: list[dict[str, Any]]) -> list[tuple[str, int, bool]]:
    return [(facts["state"], facts["index"], facts["final"]) for facts in (one["appliance"]["flow"] for one in flows)]


def test_a_question_and_its_answer_are_a_flow() -> None:
    (event,) = flows_of(timed(frame(0, b"question"), frame(1, b"the answer"), frame(1, b"")))
    assert event["network"]["transport"] == "udp"
    assert event["source"] == {"ip": ENDS[0], "port": 5000, "bytes": HEADERS + 8, "packets": 1}
    assert event["destination"] == {"ip": ENDS[1], "port": 53, "bytes": 2 * HEADERS + 10, "packets": 2}
    assert event["event"]["duration"] == 2_000_000
    facts = event["appliance"]["flow"]
    totals = {"payload_bytes": 18, "packets": 3, "bytes": 3 * HEADERS + 18}
    assert facts["totals"] == totals
    assert facts["since_last"] == totals | {"transactions": 0}
    assert facts["payload_bytes"] == {"client": 8, "server": 10}
    assert (facts["state"], facts["final"], facts["one_sided"]) == ("shutdown", True, False)
    assert not {"application", "missing_bytes", "retransmitted_bytes", "handshake_ns"} & facts.keys()


def test_a_pause_ends_a_flow_and_the_next_datagram_begins_another() -> None:
    early = timed(frame(0, b"a"), frame(0, b"bc"))
    late = [(START_NS + 61 * SECOND, frame(1, b"d"))]
    assert states(flows_of([*early, *late])) == [("idle", 0, True), ("shutdown", 0, True)]
    assert states(flows_of([*early, *late], udp_timeout_s=100.0)) == [("shutdown", 0, True)]
    others = [(START_NS + 62 * SECOND, frame(0, b"x", 6000))]
    assert sorted(states(flows_of([*early, *others]))) == [("idle", 0, True), ("shutdown", 0, True)]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_time_stamps_that_turn_back_end_the_flows_that_paused_until_then(workers: int) -> None:
    """As in a spliced capture."""
    before = timed(*(frame(0, b"x", port) for port in range(5000, 5020)))
    later = [(START_NS + 100 * SECOND, frame(0, b"x", 6000))]
    turned = timed(*(frame(0, b"x", port) for port in range(5000, 5020)), step=SECOND)
    wanted = options()
    outcome = outcome_of([*before, *later, *turned], workers, wanted)
    assert differences(outcome) == {}
    assert Counter(one["appliance"]["flow"]["state"] for one in outcome.flows) == {"idle": 20, "shutdown": 21}


def test_a_flow_that_lasts_has_several_events() -> None:
    frames = [(START_NS + place * 4 * SECOND, frame(0, b"ab")) for place in range(7)]
    flows = flows_of(frames, interval_s=10.0)
    assert states(flows) == [("open", 0, False), ("open", 1, False), ("shutdown", 2, True)]
    assert [one["appliance"]["flow"]["since_last"]["payload_bytes"] for one in flows] == [6, 4, 4]
    assert [one["appliance"]["flow"]["totals"]["payload_bytes"] for one in flows] == [6, 10, 14]
    assert len({one["appliance"]["connection"] for one in flows}) == 1
    assert len({one["event"]["id"] for one in flows}) == 3


def test_a_full_table_ends_the_flow_that_was_silent_longest() -> None:
    frames = timed(*(frame(0, b"x", port) for port in (1, 2, 1, 3)))
    outcome = outcome_of(frames, config=options(max_udp_flows=2))
    assert differences(outcome) == {}
    assert [(flow["source"]["port"], flow["appliance"]["flow"]["state"]) for flow in outcome.flows] == [
        (2, "evicted"),
        (1, "shutdown"),
        (3, "shutdown"),
    ]
    assert outcome.counts["udp_flows_evicted"] == 1


def test_quic_is_named_and_joined_to_its_handshake() -> None:
    both = [frame(0, hello(), to=443), frame(1, answer(), to=443), *([frame(0, SHORT, to=443)] * 3)]
    outcome = outcome_of(timed(*both), config=options(("tls", "flow")))
    assert differences(outcome) == {}
    (flow,) = outcome.flows
    assert flow["network"]["protocol"] == flow["appliance"]["flow"]["application"] == "quic"
    assert flow["appliance"]["connection"] == outcome.only["appliance"]["connection"]
    assert flow["network"]["packets"] == 5
    assert flow["network"]["bytes"] == sum(map(len, both))
    plain = outcome_of(timed(*both), config=config(events={"datasets": ["tls"]}))
    assert plain.only == outcome.only  # the option changes no other event


def test_another_quic_connection_on_the_same_ports_is_another_flow() -> None:
    first = [frame(0, hello(), to=443), frame(1, answer(), to=443), frame(0, SHORT, to=443)]
    second = [frame(0, hello(b"another1"), to=443), frame(1, answer(b"another1"), to=443), frame(0, SHORT, to=443)]
    outcome = outcome_of(timed(*first, *second), config=options(("tls", "flow")))
    assert differences(outcome) == {}
    assert states(outcome.flows) == [("reused", 0, True), ("shutdown", 0, True)]
    joined = [event["appliance"]["connection"] for event in outcome.events]
    assert sorted(joined) == sorted(flow["appliance"]["connection"] for flow in outcome.flows)
    assert [flow["network"]["packets"] for flow in outcome.flows] == [3, 3]


DATAGRAMS = st.lists(
    st.tuples(
        # The pause before it. Time stamps also turn back, within the disorder of several queues and by more.
        st.sampled_from((0, 1, 10, 1000, 20 * SECOND, 70 * SECOND, -90_000_000, -50 * SECOND, -200 * SECOND)),
        st.integers(0, 1),
        st.integers(1, 4),  # port
        st.one_of(st.binary(max_size=40), st.sampled_from((hello(), answer(), hello(b"another1"), SHORT))),
    ),
    max_size=40,
)


@given(DATAGRAMS, st.booleans())
def test_the_sum_of_all_flows_is_the_payload_for_any_number_of_workers(
    drawn: list[tuple[int, int, int, bytes]], with_tcp: bool
) -> None:
    frames, now = [], START_NS
    for pause, side, port, payload in drawn:
        now += pause
        frames.append((now, frame(side, payload, port, 443)))
    if with_tcp:
        frames += talk(get(), start_ns=now).frames
    wanted = options(interval_s=30.0)
    outcome = outcome_of(frames, config=wanted)
    assert differences(outcome) == {}
    told: Counter[int] = Counter()
    for flow in outcome.flows:
        if flow["network"]["transport"] == "udp":
            port = min(flow["source"]["port"], flow["destination"]["port"])
            told[port] += flow["appliance"]["flow"]["since_last"]["payload_bytes"]
    sent: Counter[int] = Counter()
    for _, _, port, payload in drawn:
        sent[port] += len(payload)
    assert +told == +sent
    assert outcome.counts["udp_payload_bytes"] == sum(sent.values())
    assert whole(outcome_of(frames, 3, wanted).flows) == whole(outcome.flows)


def test_nothing_is_counted_while_the_dataset_is_off() -> None:
    (messages,), _ = batches_of(timed(frame(0, b"abc")), udp=True)
    pipeline = Pipeline(options())
    pipeline.configure(options(("http",)))
    for message in messages:
        pipeline.feed(message)
    pipeline.finish()
    counts = pipeline.counts()
    assert counts["made.flow."] == counts["flow_open_bytes"] == 0
    assert counts["flow_payload.off"] == counts["udp_payload_bytes"] == 3


def test_flows_that_are_open_when_the_dataset_is_turned_off_count_as_off() -> None:
    (messages,), _ = batches_of(timed(frame(0, b"abc"), frame(1, b"d")), udp=True)
    pipeline = Pipeline(options())
    for message in messages:
        pipeline.feed(message)
    pipeline.configure(options(("http",)))
    pipeline.finish()
    counts = pipeline.counts()
    assert counts["made.flow."] == counts["flow_open_bytes"] == counts["udp_flows"] == 0
    assert counts["flow_payload.off"] == 4


def test_without_the_option_other_udp_is_rejected_as_before() -> None:
    outcome = outcome_of(timed(frame(0, b"abc")), config=config(events={"datasets": ["flow"]}))
    assert differences(outcome) == {}
    assert (outcome.capture["rejected.not_tcp"], outcome.counts["udp_datagrams"]) == (1, 0)


@pytest.mark.parametrize("size", range(12))
def test_the_smallest_datagrams_are_found_up_to_their_last_byte(size: int) -> None:
    whole_frame = frame(0, bytes(size))
    assert find(1, whole_frame, udp=True)[0] == "datagram"
    assert find(1, whole_frame[: HEADERS - 1], len(whole_frame), udp=True)[0] != "datagram"
    outcome = outcome_of(timed(whole_frame), config=options())
    assert differences(outcome) == {}
    assert outcome.counts["udp_datagrams"] == 1


BUBBLE = b"\x60" + bytes(5) + b"\x3b\xff" + (bytes.fromhex("20010000") + bytes(12)) * 2  # RFC 4380: no next header
ARP = b"\x08" + bytes(7) + bytes(12) + b"\x08\x06" + bytes(28)  # in VXLAN


@pytest.mark.parametrize(("port", "payload"), [(3544, BUBBLE), (4789, ARP)], ids=["Teredo", "VXLAN"])
def test_a_tunnel_without_tcp_or_udp_in_it_is_a_flow_of_its_own_datagrams(port: int, payload: bytes) -> None:
    (event,) = flows_of(timed(frame(0, payload, to=port)))
    assert event["source"] == {"ip": ENDS[0], "port": 5000, "bytes": HEADERS + len(payload), "packets": 1}
    assert event["destination"]["port"] == port
