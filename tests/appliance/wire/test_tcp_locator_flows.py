"""From frame to event: both directions of a flow meet through every tunnel; VLANs; cut and giant frames."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from builders import SECOND, START_NS, differences, events_of, get, outcome_of, talk, whole
from conversation import Conversation
from encapsulations import WAYS, carries, framed, wrapped
from exchange import exchange
from impair import interleave
from wire import address

WORKERS = 8
ENDS = {4: {}, 6: {"client": "2001:db8::1", "server": "2001:db8::2"}}
CLIENT_MAC = b"\x02\0\0\0\0\x01"


def through(frames, names: Sequence[str]):
    """The frames of an untagged conversation, each inside the ways, with outer headers of its direction."""
    return [(ts, wrapped(names, frame[14:], frame[6:12] == CLIENT_MAC)) for ts, frame in frames]


def used(outcome) -> set[int]:
    return {worker for worker in range(WORKERS) if outcome.capture[f"offered.{worker}"]}


def plain(events):
    """Events without the tags that the way itself puts around."""
    return [
        {**event, "network": {k: v for k, v in event["network"].items() if k not in ("vlan", "inner")}}
        for event in events
    ]


@pytest.mark.parametrize(
    ("name", "version"), [(name, version) for name in WAYS for version in (4, 6) if carries(name, version)]
)
def test_n7_both_directions_through_a_tunnel_land_together_and_give_the_inner_event(name, version):
    for port in range(40_000, 40_006):
        said = talk(get(1, body=b"x" * 3000), client_port=port, mss=1400, **ENDS[version]).frames
        outcome = outcome_of(through(said, [name]), WORKERS)
        assert len(used(outcome)) == 1
        assert differences(outcome) == {}
        (event,), (expected,) = plain(outcome.events), events_of(said)
        if "vlan" not in name and "qinq" not in name:
            assert whole([event]) == whole([expected])
        assert (event["source"], event["destination"]) == (expected["source"], expected["destination"])
        assert event["http"] == expected["http"]


@pytest.mark.parametrize(
    "names",
    [("vxlan", "gre", "ipv4"), ("gtp", "ipv6"), ("geneve", "vxlan", "mpls"), ("erspan 2", "vxlan over ipv6", "pppoe")],
)
def test_n7_both_directions_through_nested_tunnels_land_together(names):
    said = talk(get(1)).frames
    outcome = outcome_of(through(said, names), WORKERS)
    assert len(used(outcome)) == 1
    assert whole(outcome.events) == whole(events_of(said))


def test_n7_a_flow_is_one_whether_its_directions_are_tunnelled_or_not():
    said = talk(get(1)).frames
    mixed = [
        (ts, wrapped(["vxlan"], frame[14:], True)) if frame[6:12] == CLIENT_MAC else (ts, frame) for ts, frame in said
    ]
    assert whole(outcome_of(mixed, WORKERS).events) == whole(events_of(said))


def test_n7_flows_inside_one_tunnel_spread_over_the_workers():
    talks = [through(talk(get(1), client_port=1024 + port).frames, ["gre"]) for port in range(64)]
    assert used(outcome_of(interleave(talks), WORKERS)) == set(range(WORKERS))


def test_n7_what_is_nested_too_deep_is_counted():
    said = through(talk(get(1)).frames, ["gre", "ipv4", "ipv4"])
    outcome = outcome_of(said, WORKERS, max_tunnels=2)
    assert (outcome.events, outcome.capture["rejected.too_many_tunnels"]) == ([], len(said))
    assert outcome_of(said, WORKERS, max_tunnels=3).only["source"]["port"] == 40000


# -- VLAN tags ---------------------------------------------------------------------------------------------------------


def test_n5_the_same_addresses_on_two_vlans_are_two_flows():
    frames = interleave([talk(get(1), vlans=[1]), talk(get(2), vlans=[2])])
    vlans = {event["url"]["original"]: event["network"]["vlan"]["id"] for event in outcome_of(frames, WORKERS).events}
    assert vlans == {"/1": "1", "/2": "2"}


def one_sided(vlans: Sequence[int]):
    """A conversation whose frames carry tags in the client's direction only."""
    tagged, bare = talk(get(1), vlans=vlans), talk(get(1))
    return [
        (ts, with_tag if without[6:12] == CLIENT_MAC else without)
        for (ts, with_tag), (_, without) in zip(tagged.frames, bare.frames, strict=True)
    ]


@pytest.mark.parametrize("vlans", [[7], [8, 7], [3, 2, 1]])
def test_n5_a_tap_that_tags_one_direction_only_needs_the_switch(vlans):
    frames = one_sided(vlans)
    assert {event["appliance"]["pairing"] for event in events_of(frames)} == {"request_only", "response_only"}
    outcome = outcome_of(frames, WORKERS, vlans=False)
    assert len(used(outcome)) == 1
    assert whole(outcome.events) == whole(events_of(talk(get(1)).frames))


def test_n5_the_switch_makes_equal_addresses_on_two_vlans_one_flow():
    frames = talk(get(1), vlans=[1]).frames[:3] + talk(get(1), vlans=[2]).frames[3:]
    outcome = outcome_of(frames, WORKERS, vlans=False)
    assert "vlan" not in outcome.only["network"]
    assert outcome.counts["flows_opened"] == 1


def test_n5_a_priority_in_one_direction_only_changes_nothing():
    assert whole(outcome_of(one_sided([0]), WORKERS).events) == whole(events_of(talk(get(1)).frames))


# -- cut and damaged frames --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [[], ["vxlan"], ["gre", "ipv6"]])
def test_n8_a_missing_tail_is_a_gap_and_not_a_short_body(names):
    said = through(talk(get(1, body=b"x" * 5000)).frames, names)
    outcome = outcome_of(said, WORKERS, snaplen=300)
    event = outcome.only
    assert event["http"]["response"]["body"]["bytes"] == 5000
    missing = sum(max(0, len(frame) - 300) for _, frame in said)
    assert event["appliance"]["response"] == {"complete": True, "missing_bytes": missing}
    assert outcome.capture["truncated_frames"] == sum(len(frame) > 300 for _, frame in said)
    assert outcome.capture["wire_bytes"] - outcome.capture["bytes"] == missing
    assert differences(outcome) == {}


def test_n8_what_a_mirror_cut_inside_a_tunnel_is_missing_and_the_links_trailer_is_not_data():
    said = talk(get(1, body=b"x" * 1000)).frames
    mirrored = []
    for ts, frame in said:
        outer = wrapped(["vxlan"], frame[14:], frame[6:12] == CLIENT_MAC)
        if len(outer) > 400:  # the mirror's MTU
            cut = outer[:400]
            outer = cut[:16] + struct.pack(">H", 400 - 14) + cut[18:] + b"TRAILER!" * 10
        mirrored.append((ts, outer))
    event = outcome_of(mirrored, WORKERS).only
    lost = max(len(wrapped(["vxlan"], frame[14:])) for _, frame in said) - 400
    assert event["http"]["response"]["body"]["bytes"] == 1000
    assert event["appliance"]["response"] == {"complete": True, "missing_bytes": lost}


def test_n8_a_runt_is_truncated():
    frames = [(START_NS, talk().frames[0][1][:length]) for length in range(54)]
    outcome = outcome_of(frames, WORKERS)
    assert outcome.capture["rejected.truncated"] == len(frames)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("names", [[], ["vxlan"], ["vlan"], ["gre"]])
def test_n8_a_frame_of_64_kib_that_the_receiver_merged_is_one_segment(names, version):
    size = 65_000  # of TCP payload: the tunnel's own headers must fit into its length too
    said = talk(get(1, body=b"x" * 200_000), mss=size, **ENDS[version]).frames
    assert max(len(frame) for _, frame in said) > 65_000
    outcome = outcome_of(through(said, names), WORKERS)
    assert outcome.only["http"]["response"]["body"]["bytes"] == 200_000
    assert outcome.only["appliance"]["response"] == {"complete": True, "missing_bytes": 0}
    assert differences(outcome) == {}


def giant(frame: bytes, payload: bytes, jumbo: bool) -> bytes:
    """A frame without payload, given one that no 16-bit length can say: BIG TCP, as its sender's interface shows it."""
    if frame[12:14] == b"\x08\0":
        return frame[:16] + b"\0\0" + frame[18:] + payload
    segment = frame[54:] + payload
    if not jumbo:
        return frame[:18] + b"\0\0" + frame[20:54] + segment
    option = struct.pack(">BBBBI", 6, 0, 0xC2, 4, 8 + len(segment))  # RFC 2675
    return frame[:18] + b"\0\0\0" + frame[21:54] + option + segment


@pytest.mark.parametrize(("version", "jumbo"), [(4, False), (6, False), (6, True)])
@pytest.mark.parametrize("names", [[], ["mpls"], ["vlan"]])
def test_n8_a_frame_of_200_000_bytes_works_end_to_end(names, version, jumbo):
    made = exchange("GET", "/big", body=b"x" * 200_000)
    said = Conversation(**ENDS[version]).handshake().client_sends(made.request)
    said.raw(said.server, 0)
    ts, empty = said.frames.pop()
    big = giant(empty, made.response, jumbo)
    assert len(big) > 200_000
    rest = Conversation(**ENDS[version]).established()
    rest.server.next += len(made.response)
    rest.client.next += len(made.request)
    rest.now = ts + SECOND
    frames = [*said.frames, (ts, big), *rest.close().frames]
    outcome = outcome_of(through(frames, names), WORKERS)
    assert outcome.only["http"]["response"]["body"]["bytes"] == 200_000
    assert outcome.only["appliance"]["response"] == {"complete": True, "missing_bytes": 0}
    assert differences(outcome) == {}


def test_a_frame_in_ieee_802_3_and_a_frame_in_ethernet_are_one_flow():
    said = talk(get(1)).frames
    mixed = [(ts, wrapped(["snap"] if place % 2 else [], frame[14:])) for place, (ts, frame) in enumerate(said)]
    assert whole(outcome_of(mixed, WORKERS).events) == whole(events_of(said))


def test_ipv4_in_ipv6_with_equal_bits_is_another_flow():
    """The family is part of the key: an IPv6 flow ::c000:20a is not the IPv4 flow 192.0.2.10."""
    four = talk(get(1), client="192.0.2.10", server="198.51.100.20")
    six = talk(get(2), client="::c000:20a", server="::c633:6414")
    assert address("192.0.2.10") == address("::c000:20a")[12:]
    events = outcome_of(
        interleave([four.frames, [(ts, framed(f[14:], 6, True)) for ts, f in six.frames]]), WORKERS
    ).events
    assert {event["network"]["type"] for event in events} == {"ipv4", "ipv6"}
