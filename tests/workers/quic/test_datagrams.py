"""QUIC on the whole data path: frames go in, events come out, and every datagram has one outcome."""

from __future__ import annotations

import os

import pytest
from builders import SECOND, START_NS, batches_of, config, differences, outcome_of, talk
from exchange import exchange
from hypothesis import given
from hypothesis import strategies as st
from ip_fragments import all_fragmented
from quic_packets import DRAFT_29, V1, V2, ZERO_RTT, ack, crypto, initial, other, retry
from tls_bytes import USUAL, client_hello, server_hello_1_3
from wire import udp

from workers.pipeline import Pipeline

ENDS = ("192.0.2.10", "198.51.100.20")
SIX = ("2001:db8::10", "2001:db8:1::20")
ID = b"client's"
OUTCOMES = ("opened", "followed", "unopened", "over_limit")


def hello(connection_id=ID, version=V1, **how):
    return initial(crypto(0, client_hello(USUAL)), connection_id, version=version, source=b"c" * 8, **how)


def answer(connection_id=ID, version=V1):
    frames = ack() + crypto(0, server_hello_1_3())
    return initial(frames, connection_id, version=version, server=True, target=b"c" * 8, source=b"s" * 8)


def frame(side, payload, ends=ENDS, ports=(50000, 443), **how):
    if side == 0:
        return udp(ends[0], ends[1], ports, payload, **how)
    return udp(ends[1], ends[0], ports[::-1], payload, client=False, **how)


def timed(*frames, step=1_000_000):
    return [(START_NS + place * step, each) for place, each in enumerate(frames)]


def handshake(connection_id=ID, version=V1, **how):
    return frame(0, hello(connection_id, version), **how), frame(1, answer(connection_id, version), **how)


def datagrams(counts):
    """Return the number of datagrams by outcome; without outcomes that had none."""
    return {name: counts[f"quic_datagrams.{name}"] for name in OUTCOMES if counts[f"quic_datagrams.{name}"]}


def test_a_handshake_is_an_event():
    outcome = outcome_of(timed(*handshake()))
    event = outcome.only
    assert event["event"]["dataset"] == "appliance.tls"
    assert event["network"]["transport"] == "udp"
    assert event["network"]["protocol"] == "quic"
    assert event["source"] == {"ip": ENDS[0], "port": 50000}
    assert event["destination"] == {"ip": ENDS[1], "port": 443}
    assert event["tls"]["client"]["server_name"] == "a.example"
    assert event["tls"]["cipher"] == "TLS_AES_128_GCM_SHA256"
    assert event["appliance"]["tls"]["ja4"].startswith("q")
    assert event["appliance"]["quic"] == {"version": "1"}
    assert event["event"]["duration"] == 1_000_000
    assert datagrams(outcome.counts) == {"opened": 2}
    assert differences(outcome) == {}


def test_its_bytes_are_those_of_the_datagrams():
    assert outcome_of(timed(*handshake())).only["appliance"]["tls"]["bytes"] == {
        "client": len(hello()),
        "server": len(answer()),
    }


@pytest.mark.parametrize(("version", "name"), [(V1, "1"), (V2, "2"), (DRAFT_29, "draft-29")])
def test_the_version_is_that_of_the_first_initial(version, name):
    assert outcome_of(timed(*handshake(version=version))).only["appliance"]["quic"]["version"] == name


@pytest.mark.parametrize(("token", "facts"), [(b"", {}), (b"token", {"zero_rtt": True})])
def test_the_version_of_a_first_initial_that_was_lost_is_absent(token, facts):
    early = [frame(0, other(ZERO_RTT, target=ID, source=b"c" * 8))] if facts else []
    lone = hello(version=DRAFT_29, number=2, token=token)
    event = outcome_of(timed(frame(0, lone), *early, frame(1, answer(version=DRAFT_29)))).only
    assert event["appliance"]["quic"] == facts


def test_the_client_may_be_the_higher_end():
    event = outcome_of(timed(*handshake(ends=ENDS[::-1]))).only
    assert (event["source"]["ip"], event["destination"]["ip"]) == (ENDS[1], ENDS[0])


def test_it_has_the_community_id_of_udp():
    # github.com/corelight/community-id-spec: SHA-1 over seed, addresses, protocol 17, ports
    import base64
    import hashlib
    import ipaddress
    import struct

    ends = [ipaddress.ip_address(one).packed for one in ENDS]
    text = struct.pack(">H4s4sBBHH", 0, *ends, 17, 0, 50000, 443)
    expected = "1:" + base64.b64encode(hashlib.sha1(text).digest()).decode()
    assert outcome_of(timed(*handshake())).only["network"]["community_id"] == expected


def test_ipv6_vlans_and_fragments_give_the_same_event():
    plain = outcome_of(timed(*handshake())).only
    six = outcome_of(timed(*handshake(ends=SIX, vlans=(5, 6)))).only
    assert six["tls"] == plain["tls"]
    assert six["appliance"] == {**plain["appliance"], "connection": six["appliance"]["connection"]}
    assert six["network"]["type"] == "ipv6"
    assert six["network"]["vlan"] == {"id": "5"}
    fragments = outcome_of(all_fragmented(timed(*handshake()), 64))
    assert fragments.only == plain
    assert differences(fragments) == {}


def test_retry_and_0_rtt_are_facts():
    again = initial(crypto(0, client_hello(USUAL)), b"of retry", source=b"c" * 8, token=b"token")
    sent = (
        frame(0, hello()),
        frame(1, retry(b"c" * 8, b"of retry")),
        frame(0, again),
        frame(0, other(ZERO_RTT, target=b"of retry")),
        frame(1, answer(b"of retry")),
    )
    outcome = outcome_of(timed(*sent))
    assert outcome.only["appliance"]["quic"] == {"version": "1", "retry": True, "zero_rtt": True}
    assert datagrams(outcome.counts) == {"opened": 3, "followed": 2}
    assert outcome.counts["quic_retries"] == 1


def test_a_hello_without_an_answer_is_an_event_when_its_time_is_over():
    first = frame(0, hello())
    later = frame(0, hello(b"another!"), ports=(50001, 443))
    outcome = outcome_of([(START_NS, first), (START_NS + 31 * SECOND, later)])
    events = sorted(outcome.events, key=lambda event: event["source"]["port"])
    assert [event["source"]["port"] for event in events] == [50000, 50001]
    assert [event["appliance"]["tls"].get("server_hello") for event in events] == [None, None]
    assert differences(outcome) == {}


def test_an_answer_after_the_time_of_its_hello_is_none_in_the_same_batch_too():
    sent = [(START_NS, frame(0, hello())), (START_NS + 31 * SECOND, frame(1, answer()))]
    outcome = outcome_of(sent)
    assert "cipher" not in outcome.only["tls"]
    assert datagrams(outcome.counts) == {"opened": 1, "unopened": 1}
    assert differences(outcome) == {}


def test_time_passes_without_datagrams():
    pipeline = Pipeline(config())
    (messages,), _ = batches_of(timed(frame(0, hello())))
    for message in messages:
        pipeline.feed(message)
    pipeline.advance(START_NS + 29 * SECOND)
    assert pipeline.pending_events == 0
    pipeline.advance(START_NS + 31 * SECOND)
    assert pipeline.pending_events == 1
    assert pipeline.counts()["quic_connections"] == 0


def test_what_comes_again_makes_no_second_event():
    sent = handshake()
    outcome = outcome_of(timed(*sent, *sent, *sent))
    assert len(outcome.events) == 1
    assert datagrams(outcome.counts) == {"opened": 2, "followed": 4}


def test_events_of_connections_on_the_same_ports_at_the_same_time_have_ids_of_their_own():
    sent = [*handshake(), *handshake(b"another!")]
    events = outcome_of(timed(*sent, step=0)).events
    assert len({event["event"]["id"] for event in events}) == 2


def test_http_on_the_same_ports_is_an_event_too():
    said = talk(exchange(), client=ENDS[0], server=ENDS[1], client_port=50000, server_port=443)
    outcome = outcome_of([*said.frames[:4], *timed(*handshake()), *said.frames[4:]])
    assert sorted(event["event"]["dataset"] for event in outcome.events) == ["appliance.http", "appliance.tls"]
    assert len({event["event"]["id"] for event in outcome.events}) == 2
    assert differences(outcome) == {}


def forged(number):
    return bytes((0xC3, 0, 0, 0, V1, 8)) + os.urandom(8) + b"\0\0\x44\x00" + os.urandom(1100)


def test_forged_initials_are_bounded_and_counted():
    frames = [frame(0, forged(number), ports=(10000 + number, 443)) for number in range(3000)]
    outcome = outcome_of(timed(*frames, step=0), config=config(quic={"max_initials_per_second": 1000}))
    assert outcome.events == []
    assert datagrams(outcome.counts) == {"unopened": 500, "over_limit": 2500}  # the other half is for what is answered
    assert outcome.counts["quic_initials.over_limit"] == 2500
    assert outcome.counts["quic_connections"] == 0
    assert differences(outcome) == {}


@pytest.mark.parametrize("opens", [False, True])
def test_a_flood_of_forged_initials_leaves_room_for_what_is_answered(opens):
    said = client_hello([*USUAL, (21, bytes(2000))])
    sent = []
    for number in range(3000):
        flood = initial(b"\1", os.urandom(8)) if opens else forged(number)
        sent.append((START_NS + number * 300_000, frame(0, flood, ports=(10000 + number, 443))))
    for number in range(20):
        at, ports, name = START_NS + 200_000_000 + number * 30_000_000, (40000 + number, 443), b"real %03d" % number
        parts = [(0, said[:1100]), (1100, said[1100:])]
        hellos = [
            initial(crypto(start, part), name, number=place, source=b"c" * 8)
            for place, (start, part) in enumerate(parts)
        ]
        sent += [(at + place, frame(0, each, ports=ports)) for place, each in enumerate(hellos)]
        sent.append((at + 5_000_000, frame(1, answer(name), ports=ports)))
    outcome = outcome_of(sorted(sent), config=config(quic={"max_initials_per_second": 200}))
    whole = [event for event in outcome.events if "cipher" in event["tls"] and "ja4" in event["appliance"]["tls"]]
    assert sorted(event["source"]["port"] for event in whole) == list(range(40000, 40020))
    assert sum(datagrams(outcome.counts).values()) == len(sent)
    assert outcome.counts["quic_initials.over_limit"] > 2000
    assert differences(outcome) == {}


def test_the_table_is_bounded():
    sent = [frame(0, hello(b"id %05d" % number), ports=(10000 + number, 443)) for number in range(20)]
    outcome = outcome_of(timed(*sent), config=config(quic={"max_connections": 5}))
    assert outcome.running["quic_connections"] == 5
    assert outcome.counts["quic_evicted"] == 15
    assert len(outcome.events) == 20


def test_a_cut_datagram_is_unopened():
    outcome = outcome_of(timed(*handshake()), snaplen=100)
    assert datagrams(outcome.counts) == {"unopened": 2}
    assert differences(outcome) == {}


def test_the_share_of_new_connections_that_stays_is_in_the_event():
    events = outcome_of(
        timed(*[each for port in range(50000, 50064) for each in handshake(ports=(port, 443))]), shed=64
    ).events
    assert 30 < len(events) < 64
    assert {event["appliance"]["sampling"] for event in events} == {0.75}


def test_other_limits_apply_at_once():
    pipeline = Pipeline(config())
    pipeline.configure(config(quic={"max_initials_per_second": 1}))
    (messages,), _ = batches_of(timed(*handshake(), step=0))
    for message in messages:
        pipeline.feed(message)
    assert pipeline.counts()["quic_initials.over_limit"] == 1


# -- two halves of a TAP ----------------------------------------------------------------------------------------------


def of_halves(*halves, **quic):
    """A pipeline of two captures, and what comes of the frames of one after those of the other: (capture, frames)s."""
    both = config(source={"interfaces": ["a", "b"]}, quic=quic)
    pipeline = Pipeline(both)
    for capture, frames in halves:
        (messages,), _ = batches_of(frames, capture=capture)
        for message in messages:
            pipeline.feed(message)
    return pipeline


def test_an_answer_that_comes_before_the_hello_is_kept_for_it():
    asked, answered = timed(*handshake())
    pipeline = of_halves((1, [answered]), (0, [asked]))
    assert datagrams(pipeline.counts()) == {"opened": 2}
    assert pipeline.pending_events == 1
    ((_, _, body),) = pipeline.take()
    assert b'"cipher":"TLS_AES_128_GCM_SHA256"' in body


def test_an_answer_without_a_hello_is_unopened_after_a_second():
    _, answered = timed(*handshake())
    pipeline = of_halves((1, [answered]))
    assert datagrams(pipeline.counts()) == {}
    pipeline.advance(START_NS + 3 * SECOND)
    pipeline.advance(START_NS + 5 * SECOND)
    assert datagrams(pipeline.counts()) == {"unopened": 1}


def test_answers_that_wait_are_bounded_and_counted_at_the_end():
    frames = [frame(0, forged(number), ports=(10000 + number, 443)) for number in range(3000)]
    pipeline = of_halves((1, timed(*frames, step=0)), max_early_datagrams=1024)
    assert datagrams(pipeline.counts()) == {"unopened": 3000 - 1024}
    pipeline.finish()
    assert datagrams(pipeline.counts()) == {"unopened": 3000}


@pytest.mark.parametrize("most", [0, 1, 10])
def test_the_number_of_answers_that_wait_is_an_option(most):
    frames = [frame(0, forged(number), ports=(10000 + number, 443)) for number in range(100)]
    pipeline = of_halves((1, timed(*frames, step=0)), max_early_datagrams=most)
    assert datagrams(pipeline.counts()) == {"unopened": 100 - most}


# -- the law ---------------------------------------------------------------------------------------------------------


def piecewise(connection_id, size):
    said = client_hello(USUAL)
    return [
        initial(crypto(at, said[at : at + size]), connection_id, number=at // size, source=b"c" * 8)
        for at in range(0, len(said), size)
    ]


@st.composite
def traffic(draw):
    """(flow, side, datagram)s: handshakes in pieces, in any order, repeated, damaged and forged."""
    sent = []
    for flow in range(draw(st.integers(1, 4))):
        connection_id = b"flow %03d" % flow
        sent += [(flow, 0, piece) for piece in piecewise(connection_id, draw(st.sampled_from([40, 90, 1000])))]
        sent.append((flow, 1, answer(connection_id)))
    sent = draw(st.permutations(sent))
    for place in draw(st.lists(st.integers(0, len(sent) - 1), max_size=4)):
        flow, side, data = sent[place]
        if not data:
            continue
        match draw(st.sampled_from(["again", "flipped", "cut", "forged", "other"])):
            case "again":
                sent.append((flow, side, data))
            case "flipped":
                at = draw(st.integers(0, len(data) - 1))
                sent.insert(0, (flow, side, data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :]))
            case "cut":
                sent.insert(0, (flow, side, data[: draw(st.integers(0, len(data)))]))
            case "forged":
                sent.insert(place, (flow, side, forged(0)))
            case "other":
                sent.insert(place, (flow, side, draw(st.binary(max_size=40))))
    return sent


@given(traffic(), st.sampled_from([1, 3]))
def test_whatever_comes_the_ledger_closes_and_no_fact_is_invented(sent, workers):
    frames = timed(*[frame(side, data, ports=(50000 + flow, 443)) for flow, side, data in sent])
    outcome = outcome_of(frames, workers)
    assert differences(outcome) == {}
    flows = [event["source"]["port"] if event["destination"]["port"] == 443 else 0 for event in outcome.events]
    assert len(set(flows)) == len(flows)
    truth = outcome_of(timed(*handshake())).only
    for event in outcome.events:
        assert event["network"]["protocol"] == "quic"
        for name in ("version", "cipher", "client"):
            if name in event["tls"]:
                assert event["tls"][name] == truth["tls"][name]
        if "ja4" in event["appliance"]["tls"]:
            assert event["appliance"]["tls"]["ja4"] == truth["appliance"]["tls"]["ja4"]
