"""Large filters: cut, compiled part by part and linked, they take the same frames as their primitives say."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from appliance import BadFilter, Filter
from appliance.pcap.filter_program import MOST_TERMS, PART_TERMS, Chain, Negation, Part, parse

HOSTS = [f"10.0.{number // 250}.{number % 250 + 1}" for number in range(400)]
FRAMES = [
    bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet)
    for source in (*HOSTS[:4], "192.0.2.1")
    for packet in (
        IP(src=source, dst=HOSTS[7]) / TCP(sport=80, dport=4000),
        IP(src=HOSTS[5], dst=source) / UDP(sport=53, dport=80),
        ARP(psrc=source, pdst=HOSTS[1]),
        IPv6(src=f"2001:db8::{source.rpartition('.')[2]}", dst="2001:db8::9") / TCP(sport=443, dport=80),
    )
]
PRIMITIVES = [
    *(f"host {host}" for host in HOSTS[:6]),
    "src host 192.0.2.1",
    "src or dst port 80",
    "tcp port 80",
    "udp",
    "arp",
    "ip6",
    "tcp[13] & 2 != 0",
    "(ip[2:2] - 4) > 5",
    "portrange 50-60",
    "net 10.0.0.0/30",
    "host 2001:db8::3",
]


def tagged(frame: bytes, tags: int) -> bytes:
    for tag in range(tags):
        frame = frame[:12] + bytes(Dot1Q(vlan=tag + 1))[:2] + b"\x00" + bytes([tag + 1]) + frame[12:]
        frame = frame[:12] + b"\x81\x00" + b"\x00" + bytes([tag + 1]) + frame[16:]
    return frame


Tree = tuple[str, list["Tree"]] | str
trees = st.recursive(
    st.sampled_from(PRIMITIVES),
    lambda inner: st.tuples(
        st.sampled_from(["or", "and", "||", "&&", "not"]), st.lists(inner, min_size=1, max_size=12)
    ),
    max_leaves=120,
)


def text_of(tree: Tree) -> str:
    if isinstance(tree, str):
        return tree
    operator, members = tree
    texts = [text_of(member) if isinstance(member, str) else f"({text_of(member)})" for member in members]
    return f"not ({' or '.join(texts)})" if operator == "not" else f" {operator} ".join(texts)


SINGLE = {text: Filter(text) for text in PRIMITIVES}


def holds(tree: Tree, frame: bytes) -> bool:
    if isinstance(tree, str):
        return SINGLE[tree].matches(frame)
    operator, members = tree
    said = [holds(member, frame) for member in members]
    if operator == "not":
        return not any(said)
    return any(said) if operator in ("or", "||") else all(said)


@pytest.mark.slow
@given(tree=trees)
@settings(max_examples=150, deadline=None)
def test_a_filter_of_any_size_takes_what_its_primitives_say(tree: Tree) -> None:
    text = text_of(tree)
    wanted = [holds(tree, frame) for frame in FRAMES]
    try:
        whole = Filter(text)
    except BadFilter:
        assert not any(wanted)  # the only fault it can have
    else:
        assert [whole.matches(frame) for frame in FRAMES] == wanted


@pytest.mark.parametrize("tags", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "text",
    [
        " or ".join(f"host {host}" for host in HOSTS),
        "tcp and (" + " or ".join(f"host {host}" for host in HOSTS) + ")",
        "tcp port 80",
    ],
)
def test_vlan_aware_takes_the_same_behind_two_tags_and_nothing_behind_three(text: str, tags: int) -> None:
    plain, aware = Filter(text), Filter(text, vlan_aware=True)
    for frame in FRAMES:
        assert aware.matches(tagged(frame, tags)) is (plain.matches(frame) and tags <= 2)


@pytest.mark.parametrize(
    "text",
    [
        "host " + " or ".join(HOSTS[:100]),
        "host (" + " or ".join(HOSTS[:100]) + ")",
        "src host " + " or ".join(HOSTS[:100]),
        "not host " + " or ".join(HOSTS[:100]),
        " || ".join(f"(host {host} and tcp port 80)" for host in HOSTS[:100]),
        "tcp && !(" + " or ".join(f"host {host}" for host in HOSTS[:100]) + ")",
    ],
)
def test_what_people_write_is_cut_into_small_parts(text: str) -> None:
    def parts(node: Part | Chain | Negation) -> list[Part]:
        if isinstance(node, Part):
            return [node]
        if isinstance(node, Negation):
            return parts(node.of)
        return [part for member in node.members for part in parts(member)]

    assert max(part.terms for part in parts(parse(text))) <= PART_TERMS
    for frame in FRAMES:
        assert Filter(text).matches(frame) in (True, False)


def test_the_contrary_of_what_no_frame_matches_takes_every_frame() -> None:
    never = " and ".join(["tcp port 80", "arp", *(f"host {host}" for host in HOSTS[:20])])
    assert all(Filter(f"not (({never}) or ({never}))").matches(frame) for frame in FRAMES)


def test_a_value_alone_takes_the_head_of_the_one_before() -> None:
    filled = " or ".join(f"host {host}" for host in HOSTS[100:140])
    whole = Filter(f"{filled} or dst port 80 or 53")
    assert [whole.matches(frame) for frame in FRAMES] == [
        Filter("dst port 80 or dst port 53").matches(f) for f in FRAMES
    ]


@pytest.mark.parametrize("text", ["", "tcp", "host 10.0.0.1 or udp", "vlan and tcp", "tcp and vlan 3"])
def test_a_small_filter_is_one_part(text: str) -> None:
    assert isinstance(parse(text), Part)


def test_terms_that_cannot_be_cut_are_refused_by_name_beyond_a_limit() -> None:
    text = "tcp" + " and udp or arp" * MOST_TERMS
    with pytest.raises(BadFilter, match=r"'tcp and udp.*more characters does not compile: 2,001 terms cannot be split"):
        Filter(text)


def test_a_fault_in_a_large_filter_is_told_in_libpcaps_words() -> None:
    with pytest.raises(BadFilter, match="syntax error"):
        Filter(" or ".join(f"host {host}" for host in HOSTS) + " or port")
