"""JA4 and JA3: values computed by hand, and a second reading of the specification in plain Python."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tls_bytes import (
    HANDSHAKE,
    alpn,
    client_hello,
    record,
    server_name,
    signature_algorithms,
    supported_groups,
    supported_versions,
)

from workers.tls.context import TlsContext
from workers.tls.handshake import Handshake

GREASE = [0x0A0A + 0x1010 * n for n in range(16)]


def prints(extensions, **parts):
    """(JA4, JA3) of a hello."""
    handshake = Handshake(TlsContext(ja3=True, max_hello_bytes=1 << 20))
    for at in range(0, len(hello := client_hello(extensions, **parts)), 16_000):
        handshake.feed(0, record(HANDSHAKE, hello[at : at + 16_000]))
    handshake.finish()
    facts = handshake.facts()
    return facts["appliance"]["tls"].get("ja4"), facts["tls"].get("client", {}).get("ja3")


def hashed(text):
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else "0" * 12


def expected(extensions, ciphers, version=0x0303):
    """JA4 once more."""
    real = [kind for kind, _ in extensions if kind not in GREASE]
    bodies = dict(reversed(extensions))
    offered = version
    if 43 in bodies:
        listed = [code for (code,) in struct.iter_unpack(">H", bodies[43][1:]) if code not in GREASE]
        offered = max(listed, default=version)
    number = {0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3"}.get(offered, "00")
    suites = sorted(f"{code:04x}" for code in ciphers if code not in GREASE)
    kinds = sorted(f"{kind:04x}" for kind in real if kind not in (0, 16))
    first = b""
    if 16 in bodies:
        first = bodies[16][3 : 3 + bodies[16][2]]
    letters = "00"
    if first:
        ends = chr(first[0]), chr(first[-1])
        plain = all(end.isascii() and end.isalnum() for end in ends)
        letters = "".join(ends) if plain else first.hex()[0] + first.hex()[-1]
    signatures = ""
    if 13 in bodies:
        codes = [code for (code,) in struct.iter_unpack(">H", bodies[13][2:]) if code not in GREASE]
        signatures = "_" + ",".join(f"{code:04x}" for code in codes) if codes else ""
    name = "d" if 0 in real else "i"
    head = f"t{number}{name}{min(len(suites), 99):02}{min(len(real), 99):02}{letters}"
    return f"{head}_{hashed(','.join(suites))}_{hashed(','.join(kinds) + signatures if kinds else '')}"


def test_a_browser_of_the_specification():
    """The example that the specification gives: Chrome, with its lists."""
    ciphers = [0x8A8A, 0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC013, 0xC014]
    ciphers += [0x009C, 0x009D, 0x002F, 0x0035]
    signatures = (0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601)
    kinds = [0x001B, 0x0033, 0x4469, 0x0017, 0x002D, 0x0005, 0x0023, 0x0012, 0xFF01, 0x000B, 0x000A, 0x0015]
    extensions = [(0x0A0A, b""), server_name(b"a.example"), *((kind, b"") for kind in kinds[:9]), (11, b"\1\0")]
    extensions += [supported_groups(29, 23), (21, b"")]
    extensions += [alpn(b"h2", b"http/1.1"), supported_versions(0x0304, 0x0303), signature_algorithms(*signatures)]
    assert prints(extensions, ciphers=ciphers)[0] == "t13d1516h2_8daaf6152771_e5627efa2ab1"


@pytest.mark.parametrize(
    ("name", "letters"),
    [
        (b"h2", "h2"),
        (b"http/1.1", "h1"),
        (b"h", "hh"),
        (b"\xab", "ab"),
        (b"\xab\xcd", "ad"),
        (b"0\xab", "3b"),
        (b"01\xab\xcd", "3d"),
        (b"0\xab\xcd1", "01"),
        (b"\xba\xad", "bd"),
        (b"-x", "28"),
    ],
)
def test_the_letters_of_the_first_protocol(name, letters):
    assert prints([alpn(name, b"zz")])[0][8:10] == letters


def test_a_protocol_of_grease_is_passed_over():
    assert prints([alpn(b"\x6a\x6a", b"h2")])[0][8:10] == "h2"


@pytest.mark.parametrize(
    ("versions", "legacy", "number"),
    [
        ([0x0304, 0x0303], 0x0303, "13"),
        ([0x0302, 0x0303], 0x0301, "12"),
        ([0x7F12, 0x0303], 0x0303, "00"),
        ([0x2A2A, 0x0304], 0x0303, "13"),
        ([0x2A2A], 0x0302, "11"),
        (None, 0x0301, "10"),
        (None, 0x0300, "s3"),
        (None, 0x0002, "s2"),
        (None, 0x0505, "00"),
    ],
)
def test_the_version(versions, legacy, number):
    extensions = [] if versions is None else [supported_versions(*versions)]
    assert prints(extensions, version=legacy)[0][1:3] == number


def test_no_ciphers_and_no_extensions_are_zeros():
    assert prints([], ciphers=[]) == (
        "t12i000000_000000000000_000000000000",
        hashlib.md5(b"771,,,,").hexdigest(),
    )


def test_a_name_and_a_protocol_alone_leave_nothing_to_hash():
    assert prints([server_name(b"a"), alpn(b"h2")])[0] == f"t12d0202h2_{hashed('1301,c02f')}_000000000000"


def test_ja3_is_the_order_of_the_wire_without_grease():
    extensions = [(0x3A3A, b""), server_name(b"a"), supported_groups(0x4A4A, 29, 23), (11, b"\2\0\1"), (35, b"")]
    text = b"771,49199-4865,0-10-11-35,29-23,0-1"
    assert prints(extensions, ciphers=[0x1A1A, 0xC02F, 0x1301])[1] == hashlib.md5(text).hexdigest()


def test_ja3_is_only_computed_on_request():
    handshake = Handshake(TlsContext())
    handshake.feed(0, record(HANDSHAKE, client_hello([])))
    assert "client" not in handshake.facts()["tls"]


CODES = st.integers(0, 0xFFFF) | st.sampled_from(GREASE)
KINDS = st.integers(60, 0xFFFF) | st.sampled_from([5, 18, 23, 27, 35, 45, *GREASE])


@st.composite
def hellos(draw):
    """(extensions, ciphers) with each kind of list at most once, in any order."""
    special = [
        server_name(b"a.example"),
        alpn(*draw(st.lists(st.binary(min_size=3, max_size=9), min_size=1, max_size=3))),
        signature_algorithms(*draw(st.lists(CODES, max_size=12))),
        supported_versions(*draw(st.lists(CODES | st.sampled_from([0x0303, 0x0304]), max_size=6))),
    ]
    chosen = [each for each in special if draw(st.booleans())]
    others = [(kind, b"") for kind in draw(st.lists(KINDS.filter(lambda kind: kind != 0xFE0D), max_size=30))]
    return draw(st.permutations(chosen + others)), draw(st.lists(CODES, max_size=40))


@given(hellos())
def test_ja4_is_as_the_specification_says(hello):
    extensions, ciphers = hello
    assert prints(extensions, ciphers=ciphers)[0] == expected(extensions, ciphers)


@pytest.mark.parametrize("count", [127, 128, 129, 300, 5000])
def test_many_numbers_are_sorted_too(count):
    ciphers = [place * 40_503 % 65_521 for place in range(count)]
    extensions = [(60 + place * 31 % 9973, b"") for place in range(count)]
    extensions = [each for each in extensions if each[0] != 0xFE0D]
    assert prints(extensions, ciphers=ciphers)[0] == expected(extensions, ciphers)


def test_hashes_that_are_remembered_are_the_same():
    context = TlsContext()
    made = set()
    for _ in range(3):
        handshake = Handshake(context)
        handshake.feed(0, record(HANDSHAKE, client_hello([], ciphers=[5, 4])))
        made.add(handshake.facts()["appliance"]["tls"]["ja4"])
    assert made == {f"t12i020000_{hashed('0004,0005')}_000000000000"}
