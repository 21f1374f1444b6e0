"""Text for people: every layer with its fields, and nothing that a terminal would act on."""

from __future__ import annotations

import pytest
from packet_frames import FRAMES, LAYER, V4, names, of, packet
from scapy.layers.inet import TCP
from scapy.packet import Raw

from appliance.packet.dump import hexdump, rfc3339, tcp_flags

HOSTILE = b"GET /\x1b[2J\xe2\x80\xae HTTP/1.1\r\nHost: \x1b]0;owned\x07\r\nX\x1b[31m: \x9b\r\n\r\n\x1b[0m"


def test_an_overview_has_a_line_for_each_layer():
    assert str(packet("datagram")).splitlines() == [
        "PACKET: 47 bytes, wire length 47, 2026-11-22T10:00:00.123456789Z, eth0",
        "- Layer 1 (14 bytes) = Ethernet {dst=02:00:00:00:00:02 src=02:00:00:00:00:01 type=0x0800}",
        "- Layer 2 (20 bytes) = IP {v=4 hl=5 tos=0 len=33 id=1 rf=0 df=0 mf=0 offset=0 ttl=64 p=17 sum=0x8e94 "
        "src=192.0.2.1 dst=198.51.100.2}",
        "- Layer 3 (8 bytes) = UDP {sport=1 dport=2 ulen=13 sum=0xcfc7}",
        "- Payload (5 bytes) = 68656c6c6f",
    ]


def test_flags_have_names_and_options_are_shown():
    line = str(packet("tcp options")).splitlines()[3]
    assert "flags=SYN " in line
    assert "opts=020405b4" in line
    assert tcp_flags(0x12) == "SYN|ACK"
    assert tcp_flags(0) == "none"


def test_what_was_not_decoded_is_said():
    text = str(packet("unknown type"))
    assert text.endswith("- Not decoded: Ethernet at byte 0: type 0x88b5 is not decoded")
    assert "- Payload (10 bytes)" in text
    assert "--- Not decoded: Ethernet at byte 0" in packet("unknown type").dump()


def test_a_quoted_packet_is_shown_in_the_error_that_quotes_it():
    assert "src=192.0.2.9" in str(packet("unreachable")).splitlines()[-1]
    assert packet("unreachable").as_dict()["layers"][-1]["quoted"]["src"] == "192.0.2.9"


@pytest.mark.parametrize("name", FRAMES)
def test_a_dump_has_every_byte_of_the_frame_and_of_each_layer(name):
    made = packet(name)
    lines = made.dump().splitlines()
    whole = lines[2 : 2 + -(-len(made.data) // 16)]
    assert bytes.fromhex("".join(line[10:58] for line in whole)) == made.data
    for number, (part, title) in enumerate(zip(made.parts(), names(made), strict=True), 1):
        at = lines.index(f"--- Layer {number} ---")
        assert lines[at + 1].startswith(f"{title} {{")
        if part.head > part.start:
            assert lines[at + 2].startswith(f"{part.start:08x}  {made.data[part.start]:02x}")


def test_a_hex_dump_has_offset_bytes_and_visible_ascii():
    assert hexdump(b"Hello\n\x1b\x7f\xffworld 123", 0x20) == [
        "00000020  48 65 6c 6c 6f 0a 1b 7f  ff 77 6f 72 6c 64 20 31  |Hello....world 1|",
        "00000030  32 33                                             |23|",
    ]


def test_no_control_character_of_the_wire_reaches_the_text():
    made = of(bytes(LAYER / V4 / TCP(dport=80) / Raw(HOSTILE)), interface="eth\x1b0")
    assert made.application is not None
    for text in (str(made), made.dump(), repr(made)):
        assert all(character.isprintable() or character == "\n" for character in text)
    assert "\\x1b]0;owned\\x07" in str(made)


def test_a_line_is_short_however_long_its_fields_are():
    head = b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n" + b"".join(b"h%d: %s\r\n" % (n, b"v" * 200) for n in range(200))
    made = of(bytes(LAYER / V4 / TCP(dport=80) / Raw(head + b"\r\n")))
    assert made.application is not None
    assert max(map(len, str(made).splitlines())) < 3000


def test_a_time_that_no_calendar_has_is_a_number():
    assert rfc3339(0) == "1970-01-01T00:00:00.000000000Z"
    assert rfc3339(1 << 62) == "2116-02-20T23:53:38.427387904Z"
    assert rfc3339(10**24) == "1000000000000000.000000000"
