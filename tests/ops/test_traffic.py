"""The traffic builder: what the benchmark and half of the tests stand on has to be right itself."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import dpkt
import pytest
import scapy.layers.inet6  # noqa: F401  (binds IPv6 to Ethernet)
from bench import prepare
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import Ether
from traffic import (
    SHAPES,
    Conversation,
    Frame,
    PcapWriter,
    arp_request,
    chunked,
    drop,
    duplicate,
    exchange,
    icmp_echo,
    interleave,
    pieces,
    reorder,
    sample,
    udp,
    write_sample,
    write_shape,
)

V6 = {"client": "2001:db8::1", "server": "2001:db8::2"}


def scene(**options: object) -> Conversation:
    """A connection with a bit of everything, odd lengths included."""
    made = Conversation(**options).handshake()  # type: ignore[arg-type]
    made.exchange(exchange(target="/odd", body=b"x" * 4001))
    made.exchange(exchange("POST", "/form", upload=b"a=1&b=22", status=204))
    made.exchange(exchange("PUT", "/file", upload=b"\xff" * 3333, expect_continue=True, status=201, body=b"ok"))
    made.pipeline([exchange(target=f"/{number}", body=b"y" * number, framing="chunked") for number in (1, 2000)])
    return made.close()


def tcp_of(frame: bytes) -> dpkt.tcp.TCP:
    """The TCP header and payload of a frame, decoded by dpkt."""
    return dpkt.ethernet.Ethernet(frame).data.data


def streams(frames: list[Frame]) -> dict[int, bytes]:
    """The bytes each source port sent, put together by dpkt's decoding alone; asserts that they are contiguous."""
    after: dict[int, int] = {}
    data: dict[int, bytes] = {}
    for _, frame in frames:
        tcp = tcp_of(frame)
        if tcp.sport in after:
            assert tcp.seq == after[tcp.sport]
        length = len(tcp.data) + bool(tcp.flags & dpkt.tcp.TH_SYN) + bool(tcp.flags & dpkt.tcp.TH_FIN)
        after[tcp.sport] = (tcp.seq + length) % 2**32
        data[tcp.sport] = data.get(tcp.sport, b"") + tcp.data
    return data


def assert_same_when_rebuilt(frame: bytes) -> None:
    """scapy, made to compute every checksum anew, arrives at the very same bytes."""
    packet = Ether(frame)
    summed = 0
    for layer in packet.iterpayloads():
        for name in {"chksum", "cksum"} & layer.fields.keys():
            del layer.fields[name]
            summed += 1
    assert summed
    assert bytes(packet) == frame


@pytest.mark.parametrize("addresses", [{}, V6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("vlans", [(), (100,), (200, 31)], ids=["untagged", "tagged", "double"])
def test_scapy_computes_the_same_checksums(addresses: dict[str, str], vlans: tuple[int, ...]) -> None:
    frames = scene(**addresses, vlans=vlans).frames
    for _, frame in frames:
        assert_same_when_rebuilt(frame)
    tags = [layer.vlan for layer in Ether(frames[0][1]).iterpayloads() if "vlan" in layer.fields]
    assert tags == list(vlans)


def test_other_protocols_have_right_checksums() -> None:
    assert_same_when_rebuilt(udp("192.0.2.1", "198.51.100.53", (5000, 53), b"odd"))
    assert_same_when_rebuilt(udp("2001:db8::1", "2001:db8::53", (5000, 53), b"even"))
    assert_same_when_rebuilt(icmp_echo("192.0.2.1", "192.0.2.2", 9))
    assert_same_when_rebuilt(icmp_echo("192.0.2.1", "192.0.2.2", 9, reply=True))
    asked = dpkt.ethernet.Ethernet(arp_request("192.0.2.1", "192.0.2.2")).data
    assert isinstance(asked, dpkt.arp.ARP)
    assert asked.tpa == bytes((192, 0, 2, 2))


@given(st.binary(max_size=1600), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_checksum_of_any_payload(payload: bytes, client_isn: int, server_isn: int) -> None:
    made = Conversation(client_isn=client_isn, server_isn=server_isn, mss=1600).established().client_sends(payload)
    for _, frame in made.frames:
        assert_same_when_rebuilt(frame)


@pytest.mark.parametrize("addresses", [{}, V6], ids=["ipv4", "ipv6"])
def test_sequence_numbers_are_contiguous_across_the_wrap(addresses: dict[str, str]) -> None:
    plain = scene(**addresses)
    wrapped = scene(**addresses, client_isn=2**32 - 100, server_isn=2**32 - 2000)
    assert any(tcp_of(frame).seq < 5000 for _, frame in wrapped.frames)
    assert streams(wrapped.frames) == streams(plain.frames)


def test_a_stream_is_the_exchanges_in_order() -> None:
    first = exchange(target="/a", body=b"hello")
    second = exchange("HEAD", "/b", body=b"not sent", status=404)
    made = Conversation(client_port=5, server_port=80).handshake().exchange(first).exchange(second).close("server")
    assert streams(made.frames) == {5: first.request + second.request, 80: first.response + second.response}
    assert second.response.endswith(b"Content-Length: 8\r\n\r\n")
    assert [one.response_body for one in made.expected] == [5, 0]
    assert [one.index for one in made.expected] == [0, 1]


@pytest.mark.parametrize("sizes", [1, 7, [3, 1, 50], None])
def test_any_cut_carries_the_same_bytes(sizes: int | list[int] | None) -> None:
    made = exchange(target="/cut", body=bytes(range(256)) * 3)
    cut = Conversation().handshake().exchange(made, request_sizes=sizes, response_sizes=sizes)
    assert streams(cut.frames) == {40000: made.request, 80: made.response}


@given(st.binary(max_size=300), st.lists(st.integers(-2, 40)))
def test_pieces_lose_nothing(data: bytes, sizes: list[int]) -> None:
    assert b"".join(pieces(data, sizes)) == data
    assert all(pieces(data, sizes))


def test_chunked_by_hand() -> None:
    assert chunked(b"abcde", 3) == b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert chunked(b"", 3, trailers=[("A", "b")]) == b"0\r\nA: b\r\n\r\n"


def test_a_continue_comes_between_head_and_body() -> None:
    made = exchange("PUT", "/f", upload=b"12345", expect_continue=True)
    talk = Conversation().handshake().exchange(made)
    payloads = [tcp_of(frame).data for _, frame in talk.frames if tcp_of(frame).data]
    assert payloads == [made.request, b"HTTP/1.1 100 Continue\r\n\r\n", b"12345", made.response]
    assert talk.expected[0].informational == (100,)
    assert talk.expected[0].request_bytes == len(made.request) + 5


def test_data_is_acknowledged_every_second_segment() -> None:
    made = Conversation(mss=100).handshake()
    before = len(made.frames)
    made.server_sends(b"z" * 1000)
    pure = [tcp_of(frame) for _, frame in made.frames[before:] if not tcp_of(frame).data]
    assert [tcp.ack - (made.server.isn + 1) for tcp in pure] == [200, 400, 600, 800, 1000]


def test_reset_and_raw_segments() -> None:
    made = Conversation().established().client_sends(b"abc")
    made.raw(made.client, 1, b"BC")
    assert tcp_of(made.frames[-1][1]).seq == made.client.isn + 2
    assert tcp_of(made.frames[-1][1]).data == b"BC"
    assert tcp_of(made.reset("server").frames[-1][1]).flags & dpkt.tcp.TH_RST


def numbered(count: int) -> list[Frame]:
    """Frames that say which they are."""
    return [(1000 + number, struct.pack(">I", number)) for number in range(count)]


@given(st.integers(0, 200), st.integers(0, 8), st.integers(0, 99))
def test_reorder_moves_no_frame_further_than_the_window(count: int, window: int, seed: int) -> None:
    frames = numbered(count)
    moved = reorder(frames, window, seed)
    assert [ts for ts, _ in moved] == [ts for ts, _ in frames]
    places = [struct.unpack(">I", frame)[0] for _, frame in moved]
    assert sorted(places) == list(range(count))
    assert all(abs(place - number) <= window for place, number in enumerate(places))


def test_reorder_reorders_duplicate_duplicates_drop_drops() -> None:
    frames = numbered(1000)
    assert reorder(frames, 3, 1) != frames
    twice = duplicate(frames, 0.5, 1)
    assert 1400 < len(twice) < 1600
    assert {frame for _, frame in twice} == {frame for _, frame in frames}
    assert all(a <= b for (a, _), (b, _) in pairwise(twice))
    kept = drop(frames, 0.5, 1)
    assert 400 < len(kept) < 600
    assert set(kept) < set(frames)


@pytest.mark.parametrize(
    "impair", [lambda f, s: reorder(f, 3, s), lambda f, s: duplicate(f, 0.1, s), lambda f, s: drop(f, 0.1, s)]
)
def test_an_impairment_is_fixed_by_its_seed(impair: Callable[[list[Frame], int], list[Frame]]) -> None:
    frames = numbered(300)
    assert impair(frames, 1) == impair(frames, 1)
    assert impair(frames, 1) != impair(frames, 2)


def test_interleave_merges_by_time() -> None:
    many = [scene(client_port=5000 + number, start_ns=1000 + 7 * number) for number in range(5)]
    merged = interleave(many)
    assert len(merged) == sum(len(one.frames) for one in many)
    assert all(a[0] <= b[0] for a, b in pairwise(merged))


def test_pcap_is_little_endian_with_nanoseconds() -> None:
    out = io.BytesIO()
    with PcapWriter(out, snaplen=4) as writer:
        writer.write(1_500_000_000_123_456_789, b"abcdef")
    head = struct.unpack("<IHHiIII", out.getvalue()[:24])
    assert head == (0xA1B23C4D, 2, 4, 0, 0, 4, 1)
    assert struct.unpack("<IIII", out.getvalue()[24:40]) == (1_500_000_000, 123_456_789, 4, 6)
    assert out.getvalue()[40:] == b"abcd"
    assert writer.file_bytes == len(out.getvalue())


def test_sample_holds_what_it_promises(tmp_path: Path) -> None:
    figures = write_sample(tmp_path / "sample.pcap", with_truth=True)
    expected = json.loads((tmp_path / "sample.truth.json").read_text())["transactions"]
    assert figures["transactions"] == len(expected) >= 280
    assert {one["method"] for one in expected} == {"GET", "POST", "HEAD", "PUT", "DELETE"}
    assert {200, 201, 204, 301, 304, 404, 500} <= {one["status"] for one in expected}
    assert any(":" in one["client"] for one in expected)
    assert any(one["vlans"] for one in expected)
    assert any(one["informational"] for one in expected)
    with open(tmp_path / "sample.pcap", "rb") as file:
        records = list(dpkt.pcap.Reader(file))
    assert len(records) == figures["frames"]
    assert all(a[0] <= b[0] for a, b in pairwise(records))
    kinds = {type(dpkt.ethernet.Ethernet(frame).data).__name__ for _, frame in records}
    assert {"IP", "IP6", "ARP"} <= kinds
    for _, frame in records[::17]:
        if dpkt.ethernet.Ethernet(frame).type == dpkt.ethernet.ETH_TYPE_ARP:
            continue
        assert_same_when_rebuilt(frame)


def test_sample_is_fixed_by_its_seed() -> None:
    assert sample(3) == sample(3)
    assert sample(3)[0] != sample(4)[0]


def is_client_hello(data: bytes) -> bool:
    """Return whether a record with a ClientHello begins here (RFC 8446, sections 4 and 5.1)."""
    return data[:3] == b"\x16\x03\x03" and data[5] == 1


def header_frames(data: bytearray) -> int:
    """Return the number of HEADERS frames behind the preface of HTTP/2 (RFC 9113 section 4.1)."""
    at, found = 24, 0
    while at < len(data):
        found += data[at + 3] == 1
        at += 9 + int.from_bytes(data[at : at + 3], "big")
    return found


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_shape_is_what_its_figures_say(shape: str, tmp_path: Path) -> None:
    path = tmp_path / "shape.pcap"
    figures = write_shape(shape, path, 0.01)
    assert json.loads(path.with_suffix(".json").read_text()) == figures
    assert figures["bytes"] == path.stat().st_size
    frames = transactions = payload = size = connections = 0
    last = 0.0
    after: dict[bytes, int] = {}
    asked: dict[bytes, bytearray] = {}
    with open(path, "rb") as file:
        for ts, frame in dpkt.pcap.Reader(file):
            assert ts >= last
            last = ts
            if frames % 97 == 0:
                assert_same_when_rebuilt(frame)
            frames += 1
            size += len(frame)
            tcp = tcp_of(frame)
            payload += len(tcp.data)
            transactions += tcp.data.startswith(b"HTTP/1.1 ") or is_client_hello(tcp.data)
            connections += tcp.flags == dpkt.tcp.TH_SYN
            if SHAPES[shape].events == "http2" and tcp.dport in (8080, 50051):
                asked.setdefault(frame[26:38], bytearray()).extend(tcp.data)
            key = frame[26:38]
            assert after.get(key, tcp.seq) == tcp.seq
            after[key] = (tcp.seq + len(tcp.data) + bool(tcp.flags & 3)) % 2**32
    transactions += sum(map(header_frames, asked.values()))
    counted = {"frames": frames, "transactions": transactions, "payload_bytes": payload}
    counted |= {"frame_bytes": size, "connections": connections}
    assert counted == {key: figures[key] for key in counted}
    assert transactions == (round(SHAPES[shape].transactions * 0.01) if SHAPES[shape].events != "tls" else connections)


def test_shape_is_the_same_every_time_and_made_once(tmp_path: Path) -> None:
    write_shape("web", tmp_path / "a.pcap", 0.002)
    write_shape("web", tmp_path / "b.pcap", 0.002)
    assert (tmp_path / "a.pcap").read_bytes() == (tmp_path / "b.pcap").read_bytes()
    file, figures = prepare("web", 0.002, tmp_path)
    made = file.stat().st_mtime_ns
    assert prepare("web", 0.002, tmp_path) == (file, figures)
    assert file.stat().st_mtime_ns == made
