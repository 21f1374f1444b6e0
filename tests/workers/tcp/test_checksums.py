"""Right, wrong, left to the card, not verifiable; with scapy and dpkt as judges of what is right."""

from __future__ import annotations

import random
import warnings

import dpkt
import pytest
from builders import Conversation, config, differences, events_of, get, outcome_of, request, response, summaries, talk
from hypothesis import given
from hypothesis import strategies as st
from wire import SYN, fold, ones

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # scapy's own imports
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting
    from scapy.layers.l2 import Ether

SIX = {"client": "2001:db8::10", "server": "2001:db8::20"}
FAMILIES = pytest.mark.parametrize("where", [{}, SIX], ids=["IPv4", "IPv6"])
NAMES = ("bad", "offloaded", "unverified")


def link(kind):
    """An Ethernet header whose addresses scapy need not ask the network for."""
    return Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02", type=kind)


def found(frames, mode="count", **how):
    """(bad, offloaded, unverified) over some frames."""
    outcome = outcome_of(frames, config=config(tcp={"checksums": mode}), **how)
    assert differences(outcome) == {}
    return tuple(outcome.counts[f"checksums.{name}"] for name in NAMES)


def one(frame, mode="count", **how):
    return found([(1, frame)], mode, **how)


def tcp_at(frame):
    return 54 if frame[12:14] == b"\x86\xdd" else 34


def with_sum(frame, field):
    """The frame with another value in its TCP checksum."""
    at = tcp_at(frame) + 16
    return frame[:at] + field.to_bytes(2, "big") + frame[at + 2 :]


def pseudo_sum(frame):
    """Return the checksum a stack leaves to its card: the folded, not complemented, sum of the pseudo header."""
    tcp = tcp_at(frame)
    addresses = frame[26:34] if tcp == 34 else frame[22:54]
    return 65535 - fold(ones(addresses) + 6 + len(frame) - tcp)


def wrong(frame):
    """The frame with a wrong checksum."""
    at = tcp_at(frame) + 16
    return with_sum(frame, int.from_bytes(frame[at : at + 2], "big") ^ 0x5A5A)


# -- what is right ---------------------------------------------------------------------------------------------------

addresses4 = st.integers(0, 2**32 - 1).map(lambda bits: ".".join(str(bits >> shift & 255) for shift in (24, 16, 8, 0)))
words = st.integers(0, 65535)
payloads = st.one_of(st.binary(max_size=200), st.integers(0, 1460).map(lambda size: b"\xff" * size), st.just(b"\0" * 7))
options = st.sampled_from(
    [[], [("MSS", 1460)], [("MSS", 1460), ("WScale", 7), ("SAckOK", b"")], [("Timestamp", (1, 2)), ("NOP", None)]]
)


@st.composite
def segments(draw):
    return TCP(
        sport=draw(words),
        dport=draw(words),
        seq=draw(st.integers(0, 2**32 - 1)),
        ack=draw(st.integers(0, 2**32 - 1)),
        window=draw(words),
        flags=draw(st.sampled_from(["S", "PA"])),
        urgptr=draw(words),
        options=draw(options),
    ) / draw(payloads.filter(len))


@st.composite
def packets4(draw):
    head = IP(src=draw(addresses4), dst=draw(addresses4), id=draw(words), ttl=draw(st.integers(1, 255)), flags="DF")
    if draw(st.booleans()):
        head.options = draw(st.sampled_from([[b"\x01" * 4], [b"\x94\x04\0\0"], [b"\x07\x0b\x04" + bytes(8) + b"\0"]]))
    return bytes(link(0x800) / head / draw(segments()))


@st.composite
def packets6(draw):
    head = IPv6(src=draw(st.ip_addresses(v=6)).compressed, dst=draw(st.ip_addresses(v=6)).compressed)
    for extension in draw(st.lists(st.sampled_from([IPv6ExtHdrHopByHop, IPv6ExtHdrDestOpt]), max_size=2, unique=True)):
        head = head / extension()
    return bytes(link(0x86DD) / head / draw(segments()))


@given(st.one_of(packets4(), packets6()))
def test_what_scapy_sends_is_never_bad(frame):
    assert one(frame) == (0, 0, 0)
    assert one(frame, "drop") == (0, 0, 0)


@given(st.binary(max_size=1460), st.integers(0, 2**32 - 1), words, addresses4)
def test_what_dpkt_sends_is_never_bad(data, seq, port, source):
    tcp = dpkt.tcp.TCP(sport=port, dport=80, seq=seq, flags=SYN, data=data)
    packet = dpkt.ip.IP(src=bytes(map(int, source.split("."))), dst=b"\xc6\x33\x64\x14", p=6, data=tcp)
    packet.len = len(packet)
    frame = bytes(dpkt.ethernet.Ethernet(type=0x800, data=packet))
    assert one(frame) == (0, 0, 0)


@FAMILIES
def test_the_builders_frames_agree_with_scapy(where):
    for _, frame in talk(get(0, body=b"x" * 3001), **where).frames:
        again = Ether(frame)
        del again[TCP].chksum
        assert bytes(again) == frame


@given(st.one_of(packets4(), packets6()), st.data())
def test_a_single_flipped_bit_in_the_segment_is_bad(frame, data):
    size = (frame[14] & 15) * 4 if frame[12:14] == b"\x08\x00" else 40
    tcp = 14 + size
    if size == 40 and frame[12:14] == b"\x86\xdd":
        proto, tcp = frame[20], 54
        while proto != 6:
            proto, tcp = frame[tcp], tcp + (frame[tcp + 1] + 1) * 8
    bit = data.draw(st.integers(tcp * 8, len(frame) * 8 - 1))
    if bit // 8 == tcp + 12 and bit % 8 < 4:
        bit += 4  # the header's own length: then the header may be rejected before it is summed up
    damaged = bytearray(frame)
    damaged[bit // 8] ^= 0x80 >> bit % 8
    assert one(bytes(damaged))[0] == 1


@given(packets4(), st.data())
def test_a_single_flipped_bit_in_the_addresses_is_bad(frame, data):
    bit = data.draw(st.integers(26 * 8, 34 * 8 - 1))
    damaged = bytearray(frame)
    damaged[bit // 8] ^= 0x80 >> bit % 8
    assert one(bytes(damaged))[0] == 1


@FAMILIES
@pytest.mark.parametrize("size", [*range(1, 20), 1459, 1460, 65_000])
def test_segments_of_every_length_are_verified(where, size):
    said = Conversation(**where).raw(Conversation(**where).client, 0, random.Random(size).randbytes(size))
    frame = said.frames[0][1]
    assert one(frame) == (0, 0, 0)
    assert one(frame[:-1] + bytes([frame[-1] ^ 1])) == (1, 0, 0)


# -- the modes -------------------------------------------------------------------------------------------------------

EVIL = request(b"/e", b"Host: a.example")
GOOD = request(b"/g", b"Host: a.example")
ANSWER = response(b"200 OK", b"Content-Length: 0")


def injected(where):
    """A wrong segment in front of the true one, as a host far away would never see it."""
    said = Conversation(**where).handshake()
    said.raw(said.client, 0, EVIL)
    said.frames[-1] = (said.frames[-1][0], wrong(said.frames[-1][1]))
    return said.client_sends(GOOD).server_sends(ANSWER).close().frames


@FAMILIES
def test_a_bad_segment_is_counted_and_kept_by_default(where):
    assert config().tcp.checksums == "count"
    outcome = outcome_of(injected(where))
    assert summaries(outcome.events) == [("/e", 200, "verified")]
    assert outcome.only["appliance"]["anomalies"] == ["overlap_conflict"]
    assert (outcome.counts["checksums.bad"], outcome.counts["rejected.bad_checksum"]) == (1, 0)
    assert differences(outcome) == {}


@FAMILIES
def test_drop_leaves_a_bad_segment_out_and_the_true_one_counts(where):
    outcome = outcome_of(injected(where), config=config(tcp={"checksums": "drop"}))
    assert summaries(outcome.events) == [("/g", 200, "verified")]
    assert "anomalies" not in outcome.only["appliance"]
    assert (outcome.counts["checksums.bad"], outcome.counts["rejected.bad_checksum"]) == (1, 1)
    assert outcome.counts["payload.conflicting"] == 0
    assert differences(outcome) == {}


@FAMILIES
def test_off_counts_nothing(where):
    outcome = outcome_of(injected(where), config=config(tcp={"checksums": "off"}))
    assert summaries(outcome.events) == [("/e", 200, "verified")]
    assert not any(outcome.counts[f"checksums.{name}"] for name in NAMES)
    assert differences(outcome) == {}


@FAMILIES
@pytest.mark.parametrize("mode", ["count", "drop", "off"])
def test_sums_left_to_the_card_are_accepted_and_counted_apart(where, mode):
    frames = [(ts_ns, with_sum(frame, pseudo_sum(frame))) for ts_ns, frame in talk(get(0), **where).frames]
    outcome = outcome_of(frames, config=config(tcp={"checksums": mode}))
    assert summaries(outcome.events) == [("/0", 200, "verified")]
    assert outcome.counts["checksums.offloaded"] == (0 if mode == "off" else len(frames))
    assert outcome.counts["checksums.bad"] == outcome.counts["rejected.bad_checksum"] == 0


@FAMILIES
def test_a_sum_left_to_the_card_of_another_length_is_bad(where):
    frame = talk(get(0), **where).frames[3][1]
    assert one(with_sum(frame, pseudo_sum(frame)))[0] == 0
    assert one(with_sum(frame, pseudo_sum(frame + b"x")))[0] == 1


@FAMILIES
@pytest.mark.parametrize("mode", ["count", "drop"])
def test_a_segment_that_the_snapshot_length_cut_cannot_be_verified(where, mode):
    frames = talk(get(0, body=b"x" * 3000), **where).frames
    cut = sum(len(frame) > 120 for _, frame in frames)
    assert found(frames, mode, snaplen=120) == (0, 0, cut)
    assert found([(ts_ns, wrong(frame)) for ts_ns, frame in frames], mode, snaplen=120)[2] == cut


def test_a_wrong_ipv4_header_checksum_is_bad():
    frame = bytearray(talk(get(0)).frames[3][1])
    frame[22] ^= 1  # time to live, which no other sum covers
    assert one(bytes(frame)) == (1, 0, 0)
    outcome = outcome_of([(1, bytes(frame))], config=config(tcp={"checksums": "drop"}))
    assert (outcome.counts["rejected.bad_checksum"], outcome.counts["segments"]) == (1, 0)


def test_an_ipv4_header_checksum_of_zero_was_left_to_the_card():
    frame = bytearray(talk(get(0)).frames[3][1])
    frame[24:26] = b"\0\0"
    assert one(bytes(frame)) == (0, 0, 0)


def test_padding_behind_the_packet_is_not_summed_up():
    frame = Conversation().raw(Conversation().client, 0, b"xyz", SYN).frames[0][1]
    assert one(frame + b"\xaa" * 40) == (0, 0, 0)


# -- IPv6 extension headers ------------------------------------------------------------------------------------------


def routed(left, check=None, extension=IPv6ExtHdrRouting, final="2001:db8::99"):
    """A SYN that goes to its last address over another one; its sum is that of the last address."""
    segment = TCP(sport=1, dport=80, flags="S", seq=5) / b"data"
    target = "2001:db8::1" if left else final
    whole = IPv6(src="2001:db8::5", dst=final) / segment
    good = TCP(bytes(whole)[40:]).chksum
    segment.chksum = good if check is None else good ^ check
    head = extension(segleft=left, addresses=[final if left else "2001:db8::1"])
    return bytes(link(0x86DD) / IPv6(src="2001:db8::5", dst=target) / head / segment)


@pytest.mark.parametrize("check", [None, 0x1234])
def test_a_packet_on_a_route_cannot_be_verified(check):
    assert one(routed(1, check)) == (0, 0, 1)
    assert one(routed(1, check), "drop") == (0, 0, 1)


def test_a_packet_at_the_end_of_its_route_is_verified():
    """RFC 8200 section 8.1: the address is the final one, and no segments are left."""
    assert one(routed(0)) == (0, 0, 0)
    assert one(routed(0, 0x1234)) == (1, 0, 0)


def test_the_events_do_not_depend_on_the_checksums_of_an_honest_capture():
    frames = talk(get(0), get(1), **SIX).frames
    kept = [events_of(frames, config=config(tcp={"checksums": mode})) for mode in ("off", "count", "drop")]
    assert kept[0] == kept[1] == kept[2]
