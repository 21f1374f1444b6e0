"""Fragments at the sharder: the datagram they make is one more frame, with every counter in its place."""

from __future__ import annotations

import itertools
import struct

import pytest
from builders import KEY, batches_of, differences, events_of, outcome_of, sharder_of, talk, timeless, whole
from exchange import exchange
from hypothesis import given
from hypothesis import strategies as st
from ip_fragments import all_fragmented, datagram, fragmented, payload_of_whole, piece, pieces_of
from tcp_strategies import flipped
from wire import ACK, Wire, address, ip_packet, link

from appliance.ipc.frame_batch import frames, header
from appliance.wire.tcp_locator import VERDICTS, find

RAW = 101
AMBIGUOUS = 1 << 48
CHECKSUM = 3 << 49
REASSEMBLED = 1 << 46
OUTER = address("203.0.113.1"), address("203.0.113.2")
SEGMENT = Wire("192.0.2.1", "198.51.100.2", (40000, 80)).frame(1, 1, ACK, b"x" * 400)[14:]
idents = itertools.count(100)


def passed(packets, link_type=RAW, **how):
    """(frames in the batch, vlans field of each record without checksums and mark, what was counted and is not 0)."""
    sharder = sharder_of(KEY, 1, link_type=link_type, **how)
    for number, packet in enumerate(packets):
        sharder.push(number, packet)
    out, marks = [], []
    for _, _, message in sharder.end():
        at = 64
        for _, _, frame in frames(message):
            marks.append(struct.unpack_from("<Q", message, at + 16)[0] & ~CHECKSUM & ~REASSEMBLED)
            at += 40 + (len(frame) + 7) // 8 * 8
            out.append(frame)
    counts = {name: count for name, count in sharder.counts().items() if count}
    for name in ("frames", "bytes", "wire_bytes", "last_frame_ns"):
        counts.pop(name, None)
    return out, marks, counts


def cut_up(packet: bytes, size: int) -> list[bytes]:
    """The fragments of an IPv4 packet, under an id that no other has."""
    parts = fragmented((0, link(0x0800) + packet), size, ident=next(idents) & 0xFFFF)
    assert len(parts) > 1
    return [frame[14:] for _, frame in parts]


def lie(fragment: bytes) -> bytes:
    """The same with another last byte."""
    return fragment[:-1] + bytes([fragment[-1] ^ 1])


def vxlan(inner: bytes, *vlans: int) -> bytes:
    """A packet, tagged or not, in an Ethernet frame in VXLAN."""
    frame = link(0x0800, vlans) + inner
    return ip_packet(*OUTER, 17, struct.pack(">HHHHII", 5, 4789, 16 + len(frame), 0, 8 << 24, 1 << 8) + frame)


def gre(inner: bytes) -> bytes:
    """A packet in GRE."""
    return ip_packet(*OUTER, 47, b"\0\0\x08\0" + inner)


# -- one more frame ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [4, 6])
def test_the_datagram_of_some_fragments_is_a_frame_of_its_own(family):
    segment = payload_of_whole(SEGMENT)
    out, marks, counts = passed(pieces_of(family, segment, 100))
    assert (out, marks) == ([datagram(family, segment)], [0])
    parts = -(-len(segment) // 104)
    assert counts == {"rejected.fragment": parts, "fragments.merged": parts, "reassembled": 1, "offered.0": 1}


def test_its_time_is_that_of_the_fragment_that_completed_it_and_its_length_its_own():
    sharder = sharder_of(KEY, 1, link_type=RAW)
    for ts_ns, one in enumerate(pieces_of(4, payload_of_whole(SEGMENT), 200), 100):
        sharder.push(ts_ns, one)
    message = sharder.end()[0][2]
    assert header(message).frames == 1
    ((ts_ns, wirelen, frame),) = frames(message)
    assert (ts_ns, wirelen, len(frame)) == (102, 440, 440)


def test_frames_that_are_no_fragments_pass_as_before():
    said = talk(exchange(body=b"x" * 3000)).frames
    mixed = fragmented(said[3], 16, ident=5)
    (messages,), counts = batches_of([*said[:3], *mixed, *said[4:]])
    out = [(ts, frame) for message in messages for ts, _, frame in frames(message)]
    assert out[:3] + out[4:] == said[:3] + said[4:]
    assert out[3][1][20:] == said[3][1][34:]
    assert counts["frames"] == len(said) - 1 + len(mixed)


def test_a_datagram_without_a_segment_is_rejected_like_a_frame():
    out, _, counts = passed(pieces_of(4, bytes(100), 48, proto=17))
    assert out == []
    assert counts == {"rejected.fragment": 3, "fragments.merged": 3, "reassembled": 1, "rejected.not_tcp": 1}


def test_fragments_cut_by_the_snapshot_length_are_truncated():
    said = all_fragmented(talk(exchange(body=b"x" * 3000)).frames, [104, 504])
    _, counts = batches_of(said, snaplen=300)
    assert counts["fragments.truncated"] == sum(len(frame) > 300 for _, frame in said)
    assert counts["fragments.timeout"] > 0
    assert counts["fragments.held"] == 0


def test_fragments_that_wait_at_the_end_have_timed_out():
    out, _, counts = passed(pieces_of(4, bytes(100), 48)[:-1])
    assert (out, counts) == ([], {"rejected.fragment": 2, "fragments.timeout": 2})


def test_time_that_passes_without_fragments_ends_their_wait_too():
    sharder = sharder_of(KEY, 1, link_type=RAW, fragment_timeout_ns=1000)
    sharder.push(1, piece(4, 0, bytes(8), True))
    sharder.push(1000, SEGMENT)
    sharder.seal()
    assert sharder.counts()["fragments.held"] == 1
    sharder.push(1001, SEGMENT)
    sharder.seal()
    assert sharder.counts()["fragments.timeout"] == 1


def test_the_limits_are_those_that_were_asked_for():
    sharder = sharder_of(KEY, 1, link_type=RAW, max_fragmented_datagrams=2)
    for ident in range(3):
        sharder.push(1, piece(4, 0, bytes(8), True, ident=ident))
    assert sharder.counts()["fragments.evicted"] == 1
    with pytest.raises(ValueError, match="max_bytes"):
        sharder_of(KEY, 1, max_fragment_bytes=1)


# -- what goes with it -------------------------------------------------------------------------------------------------


def test_the_tags_of_the_fragments_are_those_of_the_datagram():
    tagged = [link(0x0800, (7,)) + one for one in cut_up(SEGMENT, 200)]
    assert passed(tagged, link_type=1)[1] == [0x8007]


def test_fragments_that_contradict_each_other_make_an_ambiguous_record_of_the_same_flow():
    first, *others = cut_up(SEGMENT, 200)
    out, marks, counts = passed([SEGMENT, first, lie(first), *others])
    assert (len(out), marks) == (2, [0, AMBIGUOUS])
    assert payload_of_whole(out[1]) == payload_of_whole(SEGMENT)  # the first copy
    assert counts["fragment_conflicts"] == 1


def test_an_ambiguous_datagram_keeps_its_flow_and_vlans_and_marks_its_event():
    said = talk(exchange(upload=b"u" * 1000), vlans=(7,)).frames
    mixed = []
    for ident, frame in enumerate(said):
        first, *others = fragmented(frame, 400, ident)
        mixed += [first, (first[0], lie(first[1])), *others] if others else [first]
    outcome = outcome_of(mixed, 4)
    assert outcome.capture["fragment_conflicts"] == outcome.capture["reassembled"] > 0
    assert outcome.only["appliance"].pop("anomalies") == ["fragment_conflict"]
    assert timeless(outcome.events) == timeless(events_of(said))
    assert outcome.only["network"]["vlan"] == {"id": "7"}
    assert differences(outcome) == {}


# -- tunnels -----------------------------------------------------------------------------------------------------------


def test_a_tunnel_packet_that_was_fragmented_is_entered():
    out, marks, counts = passed(cut_up(vxlan(SEGMENT), 200))
    assert [find(RAW, frame)[0] for frame in out] == ["found"]
    assert (marks, counts["reassembled"]) == ([0], 1)


def test_the_tags_inside_the_tunnel_replace_those_of_the_fragments():
    tagged = [link(0x0800, (7,)) + one for one in cut_up(vxlan(SEGMENT, 31), 200)]
    assert passed(tagged, link_type=1)[1] == [0x801F]
    tagged = [link(0x0800, (7,)) + one for one in cut_up(gre(SEGMENT), 200)]
    assert passed(tagged, link_type=1)[1] == [0]


def test_a_fragment_inside_a_fragmented_tunnel_completes_both():
    inner = [gre(part) for part in cut_up(SEGMENT, 200)]
    outer = [part for packet in inner for part in cut_up(packet, 40)]
    out, _, counts = passed(outer)
    assert len(out) == 1
    assert payload_of_whole(out[0]) == payload_of_whole(SEGMENT)
    assert counts["reassembled"] == len(inner) + 1
    assert counts["rejected.fragment"] == len(outer) + len(inner)
    assert counts["offered.0"] == 1


@pytest.mark.parametrize(("tunnels", "found"), [(0, 0), (1, 0), (2, 1), (3, 1)])
def test_fragments_in_tunnels_in_fragments_go_as_deep_as_tunnels_may(tunnels, found):
    level = cut_up(SEGMENT, 200)
    for _ in range(2):
        level = [part for packet in level for part in cut_up(gre(packet), 24)]
    out, _, counts = passed(level, max_tunnels=tunnels)
    assert len(out) == found
    assert ("rejected.too_many_tunnels" in counts) == (not found)
    assert counts["rejected.fragment"] == sum(n for name, n in counts.items() if name.startswith("fragments."))


def test_an_ambiguous_tunnel_makes_what_is_inside_ambiguous():
    inner = [gre(part) for part in cut_up(SEGMENT, 400)]
    first, *others = cut_up(inner[0], 104)
    _, marks, _ = passed([first, lie(first), *others, *inner[1:]])
    assert marks == [AMBIGUOUS]


def test_a_second_fragment_header_in_one_chain_is_refused():
    inside = struct.pack(">BBHI", 6, 0, 1, 3) + bytes(20)
    parts = [piece(6, 0, inside[:16], True, proto=44), piece(6, 16, inside[16:], False, proto=44)]
    _, _, counts = passed(parts)
    assert counts == {"rejected.fragment": 2, "fragments.merged": 2, "reassembled": 1, "rejected.bad_ip_header": 1}


# -- any frames --------------------------------------------------------------------------------------------------------


@given(st.integers(8, 200), st.floats(0, 0.4), st.randoms(use_true_random=False), st.integers(60, 400))
def test_every_frame_is_accounted_for_whatever_bits_are_turned_over(size, bits, chosen, snaplen):
    said = all_fragmented(talk(exchange(upload=b"u" * 900, body=b"b" * 900)).frames, size)
    chosen.shuffle(said)
    assert differences(outcome_of(flipped(said, chosen, bits), 2, snaplen=snaplen)) == {}


def test_every_fragment_has_the_verdict_fragment_and_no_other():
    said = all_fragmented(talk(exchange(upload=b"u" * 900)).frames, 200)
    _, counts = batches_of(said)
    rejected = {verdict: counts[f"rejected.{verdict}"] for verdict in VERDICTS if counts[f"rejected.{verdict}"]}
    assert rejected == {"fragment": counts["fragments.merged"]}


def test_a_conversation_in_fragments_gives_its_events():
    said = talk(exchange(upload=b"u" * 5000, body=b"b" * 5000)).frames
    assert whole(events_of(all_fragmented(said, 200))) == whole(events_of(said))
