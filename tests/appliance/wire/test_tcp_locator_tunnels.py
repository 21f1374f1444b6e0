"""locate, tunnels: the innermost segment is found, to a configured depth; what is no tunnel is not entered."""

from __future__ import annotations

import struct

import dpkt
import pytest
from encapsulations import FRAME, WAYS, carries, ether, framed, ipv4, ipv6, tunnels, udp, wrapped
from hypothesis import given
from hypothesis import strategies as st
from models.decode import ETHERNET, place
from sample_frames import INSIDE, SAMPLES, SEGMENT, TUNNELLED
from scapy.contrib.geneve import GENEVE
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE, GRE_PPTP, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from appliance import Packet
from appliance.wire.tcp_locator import DEFAULT_PORTS, find


@pytest.mark.parametrize("name", TUNNELLED)
def test_the_innermost_segment_stands_where_it_was_put(name):
    link_type, frame, *where = TUNNELLED[name]
    verdict, net, *found, _ = find(link_type, frame)
    assert (verdict, found) == ("found", where)
    assert frame[net] >> 4 == int(name[-1])


BEYOND_SCAPY = ("teredo", "gtp with extension headers", "erspan 3 of an IP packet", "pppoe and mpls")


@pytest.mark.parametrize("name", [name for name in TUNNELLED if not name.startswith(BEYOND_SCAPY)])
def test_the_innermost_segment_stands_where_scapy_dissects_it(name):
    frame = TUNNELLED[name].frame
    (segment,) = [layer for layer in Ether(frame).iterpayloads() if isinstance(layer, TCP)]
    assert find(ETHERNET, frame)[2] == len(frame) - len(segment.original)


KNOWN_TO_DPKT = (
    *("vlan", "qinq", "snap", "mpls", "mpls, three labels", "vlan and mpls", "pppoe", "pppoe, short protocol"),
    *("pseudo-wire", "pseudo-wire without control word", "ipv4", "ipv4 with options", "ipv6", "ipv6 with extensions"),
    *("gre", "gre over ipv6", "gre with every option", "nvgre", "pptp that acknowledges"),
)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("name", KNOWN_TO_DPKT)
def test_the_innermost_segment_stands_where_dpkt_finds_it(name, version):
    frame = wrapped([name], INSIDE[version])
    model = place(ETHERNET, frame)
    assert model is not None
    assert find(ETHERNET, frame) == ("found", *model)


# -- depth -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in WAYS if WAYS[name].tunnels])
def test_n7_a_tunnel_counts_as_one(name):
    frame = wrapped([name], INSIDE[6])
    assert find(ETHERNET, frame, max_tunnels=1)[0] == "found"
    assert find(ETHERNET, frame, max_tunnels=0) == ("too_many_tunnels", None, None, None, [])


@pytest.mark.parametrize("name", [name for name in WAYS if not WAYS[name].tunnels])
def test_n7_labels_and_sessions_below_ip_are_no_tunnels(name):
    assert find(ETHERNET, wrapped([name], INSIDE[4]), max_tunnels=0)[0] == "found"


@st.composite
def nestings(draw):
    """Ways around each other, from the outside in, and the version of the packet inside."""
    version = kind = draw(st.sampled_from((4, 6)))
    names = []
    for _ in range(draw(st.integers(1, 6))):
        name = draw(st.sampled_from([name for name in WAYS if carries(name, kind)]))
        taken = kind if kind in WAYS[name].takes else FRAME
        kind = WAYS[name].wrap(INSIDE.get(taken, bytes(14)), taken, True)[1]
        names.insert(0, name)
        if kind == FRAME and not draw(st.booleans()):
            break  # only a tunnel for frames can carry it on
    return names, version


@given(nestings(), st.integers(0, 5))
def test_n7_any_nesting_is_followed_to_the_depth_allowed(drawn, allowed):
    names, version = drawn
    frame = wrapped(names, INSIDE[version])
    verdict, _, tcp, tcp_length, _ = find(ETHERNET, frame, max_tunnels=allowed)
    if tunnels(names) <= allowed:
        assert (verdict, tcp, tcp_length) == ("found", len(frame) - len(SEGMENT), len(SEGMENT))
    else:
        assert verdict == "too_many_tunnels"


def test_n7_a_nesting_bomb_is_rejected_at_the_limit():
    packet = INSIDE[4]
    while len(packet) < 60_000:
        packet = struct.pack(">BBHIHHII", 0x45, 0, 20 + len(packet), 0, 0x4004, 0, 1, 2) + packet
    for allowed in (0, 1, 4, 16):
        assert find(ETHERNET, framed(packet, 4, True), max_tunnels=allowed)[0] == "too_many_tunnels"


def test_n7_headers_that_reach_beyond_64_kib_together_are_too_many():
    packet = INSIDE[6]
    for _ in range(5):
        chain = b"".join(bytes((60, 255)) + bytes(2046) for _ in range(7)) + bytes((41, 255)) + bytes(2046)
        packet = (
            struct.pack(">IHBB", 0x60000000, (len(chain) + len(packet)) & 0xFFFF, 60, 1) + bytes(32) + chain + packet
        )
        if len(packet) > 65_535:
            packet = packet[:4] + b"\0\0" + packet[6:]  # a jumbogram
    assert len(packet) > 80_000
    assert find(ETHERNET, framed(packet, 6, True), max_tunnels=16)[0] == "too_many_headers"


# -- which tags count ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "vlans"),
    [
        (["vlan", "mpls"], None),
        (["vlan", "vxlan"], []),
        (["vxlan", "vlan"], [7]),
        (["qinq", "geneve", "qinq"], [8, 7]),
        (["qinq", "ipv4"], []),
        (["qinq", "gtp"], []),
        (["vlan", "pseudo-wire", "qinq"], None),
        (["pseudo-wire", "qinq"], [8, 7]),
        (["vlan and mpls"], [7]),
        (["erspan 2", "vlan"], [7]),
    ],
)
def test_only_the_tags_of_the_innermost_ethernet_frame_are_kept(names, vlans):
    if vlans is None:  # a tag around a frame whose own type says something else
        outer = framed(INSIDE[4], 4, True)
        tagged = outer[:12] + b"\x81\0\0\x07" + wrapped(names[1:], INSIDE[4])[12:]
        assert find(ETHERNET, tagged)[4] == ([8, 7] if "qinq" in names else [7])
    else:
        assert find(ETHERNET, wrapped(names, INSIDE[4]))[4] == vlans


def test_each_ethernet_frame_may_have_three_tags():
    tag = b"\x81\0\0\x07"
    inner = framed(INSIDE[4], 4, True)
    inner = inner[:12] + 3 * tag + inner[12:]
    outer = bytes(ether(True) / udp(True, 4789) / VXLAN(vni=1) / Raw(inner))
    outer = outer[:12] + 3 * tag + outer[12:]
    assert find(ETHERNET, outer)[4] == [7, 7, 7]


# -- MPLS: what stands behind the labels is guessed -------------------------------------------------------------------


def behind_label(payload):
    return bytes(ether(True, type=0x8847) / MPLS(label=16, s=1, ttl=9) / Raw(payload))


ADDRESSES = ["02", "00", "0c", "10", "1c", "44", "46", "4c", "60", "64", "68", "fe"]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("second", ["00", "50", "ff"])
@pytest.mark.parametrize("first", ADDRESSES)
def test_a_pseudo_wire_is_found_whatever_its_address_starts_with(first, second, version):
    """Without a control word, a destination address stands where IP would have its version."""
    frame = bytes(Ether(dst=f"{first}:{second}:5e:00:53:01", src="00:00:5e:00:53:02") / Raw(INSIDE[version]))
    frame = frame[:12] + (b"\x08\0" if version == 4 else b"\x86\xdd") + INSIDE[version]
    for control in (b"", b"\0\0\0\0", b"\0\0\x12\x34"):
        whole = behind_label(control + frame)
        assert find(ETHERNET, whole)[:3] == ("found", len(whole) - len(INSIDE[version]), len(whole) - len(SEGMENT))


def test_a_pseudo_wire_with_a_tag_inside():
    frame = wrapped(["vlan"], INSIDE[4])
    assert find(ETHERNET, behind_label(frame))[4] == [7]
    assert find(ETHERNET, behind_label(b"\0\0\0\x01" + frame))[4] == [7]


def test_an_associated_channel_is_no_frame():
    assert find(ETHERNET, behind_label(b"\x10\0\0\x21" + INSIDE[4]))[0] == "not_ip"


def test_eight_labels_are_followed_and_nine_are_not():
    def stacked(labels):
        return bytes(ether(True, type=0x8847)) + (labels - 1) * b"\0\x01\0\x40" + b"\0\x01\x01\x40" + INSIDE[4]

    assert find(ETHERNET, stacked(8))[0] == "found"
    assert find(ETHERNET, stacked(9))[0] == "too_many_tags"


def test_multicast_labels_are_followed_too():
    assert find(ETHERNET, bytes(ether(True, type=0x8848)) + b"\0\x01\x01\x40" + INSIDE[4])[0] == "found"


# -- what looks like a tunnel ------------------------------------------------------------------------------------------


def changed(name, at, value, version=4):
    """The way's first bytes behind the outer IP header (and UDP header, if it has one) altered."""
    frame = bytearray(wrapped([name], INSIDE[version]))
    start = 14 + 20 + (8 if frame[23] == 17 else 0) + at
    frame[start : start + len(value)] = value
    return bytes(frame)


def carried(header):
    return bytes(ether(True) / header / Raw(INSIDE[4]))


NO_TUNNEL = {
    "vxlan without an identifier": changed("vxlan", 0, b"\0"),
    "vxlan-gpe of another version": changed("vxlan-gpe", 0, b"\x1c"),
    "vxlan-gpe for management": changed("vxlan-gpe", 0, b"\x0d"),
    "vxlan-gpe with a service header": changed("vxlan-gpe", 3, b"\x04"),
    "vxlan-gpe with nothing": changed("vxlan-gpe", 3, b"\0"),
    "geneve of another version": changed("geneve", 0, b"\x40"),
    "geneve for control": changed("geneve", 1, b"\x80"),
    "geneve of something else": changed("geneve", 2, b"\x88\xcc"),
    "gtp of version 2": changed("gtp", 0, b"\x50"),
    "gtp prime": changed("gtp", 0, b"\x20"),
    "gtp echo": changed("gtp", 1, b"\x01"),
    "gtp with an empty extension header": changed("gtp with extension headers", 12, b"\0"),
    "teredo bubble of no version": changed("teredo", 0, b"\x40\0", 6),
    "gre with source routes": changed("gre", 0, b"\x40"),
    "gre of version 2": changed("gre", 1, b"\x02"),
    "gre of version 7": changed("gre", 1, b"\x07"),
    "gre of something else": changed("gre", 2, b"\x88\xcc"),
    "gre with ppp but version 0": changed("gre", 2, b"\x88\x0b"),
    "pptp with ip": changed("pptp", 2, b"\x08\0"),
    "pptp without a key": changed("pptp", 0, b"\x10"),
    "pptp with a checksum": changed("pptp", 0, b"\xb0"),
    "pptp acknowledgement": bytes(ether(True) / ipv4(True) / GRE_PPTP(payload_len=0, call_id=1, acknum_present=1))
    + bytes(6),
    "erspan 2 of another version": changed("erspan 2", 8, b"\x20"),
    "erspan 3 of another version": changed("erspan 3", 8, b"\x10"),
    "erspan 3 of another frame type": changed("erspan 3", 18, b"\x04"),
    "udp on another port": carried(udp(True, 4788) / VXLAN(vni=1) / ether(True, type=0x0800)),
    "esp": carried(ipv4(True, proto=50)),
    "authentication header": carried(ipv4(True, proto=51)),
    "esp in ipv6": carried(ipv6(True, nh=50)),
    "sctp": carried(ipv4(True, proto=132)),
}


@pytest.mark.parametrize("name", NO_TUNNEL)
def test_what_is_no_tunnel_or_carries_no_traffic_is_not_tcp(name):
    assert find(ETHERNET, NO_TUNNEL[name]) == ("not_tcp", None, None, None, [])
    assert find(ETHERNET, NO_TUNNEL[name], max_tunnels=0)[0] == "not_tcp"


INNER = {
    "arp inside": ("not_ip", udp(True, 4789) / VXLAN(vni=1) / ether(True, type=0x0806)),
    "dns inside": ("not_tcp", udp(True, 4789) / VXLAN(vni=1) / ether(True) / udp(True, 53)),
    "esp inside": ("not_tcp", udp(True, 6081) / GENEVE(proto=0x0800) / ipv4(True, proto=50)),
    "fragment inside": ("fragment", ipv4(True) / GRE(proto=0x0800) / ipv4(True, proto=6, flags="MF")),
    "later fragment outside": ("fragment", ipv4(True, proto=47, frag=9) / GRE(proto=0x0800)),
    "bad header inside": ("bad_ip_header", ipv4(True, proto=4) / ipv4(True, version=5)),
    "short segment inside": ("bad_tcp_header", ipv4(True, proto=4) / ipv4(True, proto=6, len=30)),
}


@pytest.mark.parametrize("name", INNER)
def test_the_verdict_is_that_of_the_inside(name):
    verdict, packet = INNER[name]
    assert find(ETHERNET, carried(packet)) == (verdict, None, None, None, [])


def test_headers_of_gtp_are_bounded():
    def with_extensions(count):
        rest = b"\0\x07\0\x85" + b"\x01\0\0\x85" * (count - 1) + b"\x01\0\0\0"
        return carried(udp(True, 2152) / Raw(struct.pack(">BBHI", 0x34, 255, 0, 1) + rest))

    assert find(ETHERNET, with_extensions(8))[0] == "found"
    assert find(ETHERNET, with_extensions(9))[0] == "too_many_headers"


def test_every_way_has_a_sample():
    for name in WAYS:
        assert any(sample.startswith(name) for sample in SAMPLES), name


# -- ports -----------------------------------------------------------------------------------------------------------


PORTS = {"vxlan": 4789, "geneve": 6081, "gtp": 2152, "teredo with an origin": 3544}


@pytest.mark.parametrize("name", PORTS)
def test_a_tunnel_is_followed_on_the_ports_that_are_given(name):
    version = 6 if name.startswith("teredo") else 4
    frame = wrapped([name], INSIDE[version])
    moved = frame.replace(struct.pack(">H", PORTS[name]), struct.pack(">H", 5555))
    kind = {"gtp": "gtp_u"}.get(name, name.split()[0])
    assert find(ETHERNET, moved)[0] == "not_tcp"
    assert find(ETHERNET, moved, ports={**DEFAULT_PORTS, kind: [1, 5555]}) == find(ETHERNET, frame)


def test_teredo_proves_itself_at_any_port():
    packet = bytes(IPv6(src="2001:0:53aa:64c::1", dst="2001:db8::1") / SEGMENT)
    for away in (True, False):
        made = bytes(ether(True) / ipv4(True) / UDP(sport=50000 + away, dport=51000) / Raw(packet))
        assert find(ETHERNET, made)[0] == "found"
    for other in (
        bytes(IPv6(src="2001:db8::2", dst="2001:db8::1") / SEGMENT),  # no end has Teredo's prefix
        packet + b"x",  # not of its length
        b"\x50" + packet[1:],  # not IPv6
    ):
        assert (
            find(ETHERNET, bytes(ether(True) / ipv4(True) / UDP(sport=50000, dport=51000) / Raw(other)))[0] == "not_tcp"
        )


def test_more_ports_than_there_is_room_for_are_refused():
    with pytest.raises(ValueError, match="vxlan: at most 8 ports, not 9"):
        find(ETHERNET, b"", ports={**DEFAULT_PORTS, "vxlan": range(1, 10)})


# -- the same in a Packet --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLES)
def test_a_packet_shows_the_segment_that_the_capture_follows(name):
    link_type, frame, tcp, _ = SAMPLES[name]
    packet = Packet(frame, link_type=link_type)
    (part,) = [part for part in packet.parts() if isinstance(part.layer, dpkt.tcp.TCP)]
    assert part.start == tcp
    assert packet.error is None or name == "ppp-ether"  # whose length is wrong
    assert packet.serialize(fix_lengths=False, compute_checksums=False) == frame
