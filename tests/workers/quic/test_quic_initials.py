"""Initial packets of QUIC: keys, frames in any order, and what changes on the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quic_packets import (
    DRAFT_24,
    DRAFT_29,
    HANDSHAKE,
    PING,
    V1,
    V2,
    ZERO_RTT,
    Keys,
    ack,
    crypto,
    initial,
    keys,
    negotiation,
    other,
    retry,
)
from tls_bytes import RETRY_RANDOM, USUAL, client_hello, server_hello, server_hello_1_3, supported_versions

from workers.quic.connection import QuicConnection
from workers.quic.context import QuicContext
from workers.quic.table import QuicTable
from workers.tls.context import TlsContext

CLIENT, SERVER = 0, 1
ID = bytes.fromhex("8394c8f03e515708")
SERVER_ID = b"server!!"
HELLO = client_hello([*USUAL, supported_versions(0x0304)], ciphers=[0x1301])
ANSWER = server_hello_1_3()
SECOND = 1_000_000_000


def context(**limits):
    return QuicContext(TlsContext(), **limits)


def first(frames=None, **other_parts):
    return initial(crypto(0, HELLO) if frames is None else frames, ID, **other_parts)


def reply(frames=None, **other_parts):
    parts = {"server": True, "target": b"", "source": SERVER_ID, **other_parts}
    return initial(ack() + crypto(0, ANSWER) if frames is None else frames, ID, **parts)


def read(*datagrams, limits=None):
    """A QuicConnection after (side, datagram)s."""
    connection = QuicConnection(context(**(limits or {})))
    for side, data in datagrams:
        connection.feed(side, data)
    connection.finish()
    return connection


def tls(*datagrams):
    return read(*datagrams).facts()["tls"]


def quic(*datagrams):
    return read(*datagrams).facts()["appliance"]["quic"]


# -- keys ------------------------------------------------------------------------------------------------------------


RFC_KEYS = {
    (False, V1): "1f369613dd76d5467730efcbe3b1a22d fa044b2f42a3fd3b46fb255c 9f50449e04a0e810283a1e9933adedd2",
    (True, V1): "cf3a5331653c364c88f0f379b6067e37 0ac1493ca1905853b0bba03e c206b8d9b9f0f37644430b490eeaa314",
    (False, V2): "8b1a0bc121284290a29e0971b5cd045d 91f73e2351d8fa91660e909f 45b95e15235d6f45a6b19cbcb0294ba9",
}


@pytest.mark.parametrize(("server", "version"), RFC_KEYS)
def test_the_builder_has_the_keys_of_the_rfcs(server, version):
    """RFC 9001, appendix A.1, and RFC 9369, appendix A.1: what the tests seal is what everybody seals."""
    assert keys(ID, server, version) == Keys(*map(bytes.fromhex, RFC_KEYS[server, version].split()))


@pytest.mark.parametrize(("version", "name"), [(V1, "1"), (V2, "2"), (DRAFT_29, "draft-29"), (DRAFT_24, "draft-24")])
def test_each_version_is_opened(version, name):
    connection = read((CLIENT, first(version=version)), (SERVER, reply(version=version)))
    assert connection.facts()["tls"]["client"]["server_name"] == "a.example"
    assert connection.facts()["tls"]["cipher"] == "TLS_AES_128_GCM_SHA256"
    assert connection.facts()["appliance"]["quic"] == {"version": name}


def test_what_an_event_has():
    facts = read((CLIENT, first()), (SERVER, reply())).facts()
    assert facts["network"] == {"transport": "udp", "protocol": "quic"}
    assert facts["appliance"]["tls"]["ja4"].startswith("q13d0106h2_")
    assert facts["appliance"]["tls"]["bytes"] == {"client": len(first()), "server": len(reply())}
    assert facts["tls"]["resumed"] is False
    assert "established" not in facts["tls"]


@pytest.mark.parametrize("number_size", [1, 2, 3, 4])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_packet_numbers_of_any_size(number_size, number):
    assert "client" in tls((CLIENT, first(number=number, number_size=number_size)))


def test_packet_numbers_go_on_beyond_their_size():
    datagrams = [(CLIENT, first(PING, number=number, number_size=1)) for number in range(0, 300, 100)]
    assert "client" in tls(*datagrams, (CLIENT, first(number=301, number_size=1)))


@pytest.mark.parametrize("at", [0, 1, 5, 6, 20, 40, -1])
def test_a_damaged_packet_is_not_opened(at):
    damaged = bytearray(first())
    damaged[at] ^= 0x20
    connection = QuicConnection(context())
    assert not connection.feed(CLIENT, bytes(damaged))
    assert not connection.finish()


def test_a_fixed_bit_may_be_clear():
    """RFC 9287."""
    assert read((CLIENT, first(fixed=False)), (SERVER, reply(fixed=False))).known


# -- frames ----------------------------------------------------------------------------------------------------------


def test_frames_of_all_kinds_are_passed():
    frames = b"\0" * 9 + PING + ack(5) + b"\3\5\0\1\0\1\1\1\2\3" + crypto(0, HELLO) + b"\0" * 99
    assert "client" in tls((CLIENT, first(frames)))


@given(st.permutations(range(8)), st.integers(1, 8))
def test_crypto_frames_come_in_any_order(order, per_packet):
    step = len(HELLO) // 8 + 1
    frames = [crypto(at, HELLO[at : at + step]) for at in range(0, len(HELLO), step)]
    mixed = [frames[place] for place in order if place < len(frames)]
    datagrams = [
        (CLIENT, first(b"".join(mixed[at : at + per_packet]), number=at)) for at in range(0, len(mixed), per_packet)
    ]
    assert tls(*datagrams)["client"] == {"server_name": "a.example"}


@given(st.lists(st.tuples(st.integers(0, len(HELLO)), st.integers(1, 60)), max_size=30))
def test_frames_that_overlap_and_come_twice(parts):
    frames = b"".join(crypto(at, HELLO[at : at + size]) for at, size in parts) + crypto(0, HELLO)
    assert tls((CLIENT, first(frames)))["client"] == {"server_name": "a.example"}


def test_a_hole_leaves_the_hello_unread():
    connection = read((CLIENT, first(crypto(0, HELLO[:50]) + crypto(60, HELLO[60:]))))
    assert not connection.handshake.seen
    assert connection.client == CLIENT


@pytest.mark.parametrize(
    "frames",
    [b"\6", b"\6\0", b"\6\0\x40", b"\6\0\x21abc", b"\2\0\0\x3f", b"\x08abc", b"\x1c", b"\6\xff" + b"\xff" * 7 + b"\1a"],
)
def test_frames_that_are_none_end_the_packet(frames):
    connection = QuicConnection(context())
    assert connection.feed(CLIENT, first(PING * 3 + frames))
    assert not connection.handshake.seen


def test_a_close_with_an_alert_is_one():
    frames = b"\x1c" + b"\x41\x28" + b"\0\0"
    facts = read((CLIENT, first()), (SERVER, reply(frames))).facts()
    assert facts["appliance"]["tls"]["alert"] == {"level": "fatal", "description": "handshake_failure", "by": "server"}
    assert facts["tls"]["established"] is False


# -- limits ----------------------------------------------------------------------------------------------------------


def test_bytes_beyond_the_limit_are_dropped():
    cx = context(max_crypto_bytes=1000)
    connection = QuicConnection(cx)
    connection.feed(CLIENT, first(crypto(990, bytes(20)) + crypto(1 << 40, bytes(20))))
    assert cx.counts()["crypto_over_limit"] == 2
    assert cx.tls.buffered == 0


def test_pieces_beyond_the_limit_are_dropped():
    cx = context(max_crypto_pieces=3)
    connection = QuicConnection(cx)
    connection.feed(CLIENT, first(b"".join(crypto(at, b"x") for at in range(10, 30, 2))))
    assert cx.counts()["crypto_over_limit"] == 7
    assert cx.tls.buffered == 3
    connection.finish()
    assert cx.tls.buffered == 0


def test_the_budget_of_initials_is_the_time_of_frames():
    cx = context(max_initials_per_second=5)
    for number in range(20):
        QuicConnection(cx).feed(CLIENT, first(number=number), SECOND)
    assert cx.counts()["initials"] == 5
    assert cx.counts()["initials_over_limit"] == 15
    QuicConnection(cx).feed(CLIENT, first(), 2 * SECOND)
    assert cx.counts()["initials"] == 6


def test_no_budget_opens_nothing():
    cx = context(max_initials_per_second=0)
    assert not QuicConnection(cx).feed(CLIENT, first(), SECOND)


# -- packets of a datagram, and connection ids -----------------------------------------------------------------------


def test_packets_behind_an_initial_are_passed():
    datagram = other(ZERO_RTT, target=ID) + first() + other(HANDSHAKE, target=ID) + b"\x40short"
    facts = read((CLIENT, first(PING)), (CLIENT, datagram)).facts()
    assert facts["tls"]["client"]["server_name"] == "a.example"
    assert facts["appliance"]["quic"] == {"version": "1", "zero_rtt": True}


def test_the_client_takes_the_id_that_the_server_chose():
    half = len(HELLO) // 2
    datagrams = [
        (CLIENT, first(crypto(0, HELLO[:half]))),
        (SERVER, reply(ack())),
        (CLIENT, first(crypto(half, HELLO[half:]), number=1, target=SERVER_ID)),
        (SERVER, reply(number=1)),
    ]
    assert tls(*datagrams)["cipher"] == "TLS_AES_128_GCM_SHA256"


def test_a_retry_changes_the_keys():
    again = initial(crypto(0, HELLO), SERVER_ID, number=1, token=b"token")
    answer = initial(crypto(0, ANSWER), SERVER_ID, server=True, target=b"", source=b"another")
    facts = read((CLIENT, first()), (SERVER, retry(b"", SERVER_ID)), (CLIENT, again), (SERVER, answer)).facts()
    assert facts["tls"]["cipher"] == "TLS_AES_128_GCM_SHA256"
    assert facts["appliance"]["quic"] == {"version": "1", "retry": True}


def test_a_retry_that_was_not_captured_changes_the_keys_too():
    again = initial(crypto(0, HELLO), SERVER_ID, number=1, token=b"token")
    answer = initial(crypto(0, ANSWER), SERVER_ID, server=True, target=b"", source=b"another")
    assert "cipher" in tls((CLIENT, first()), (CLIENT, again), (SERVER, answer))


def test_pieces_of_two_connections_on_the_same_ports_become_no_hello():
    at = HELLO.index(b"a.example")
    datagrams = [
        (CLIENT, first(crypto(0, HELLO[:at]))),
        (CLIENT, initial(crypto(at, b"b" + HELLO[at + 1 :]), b"another!", number=1)),
    ]
    facts = read(*datagrams).facts()
    assert "tls" not in facts or "client" not in facts["tls"]
    assert "ja4" not in facts["appliance"]["tls"]


def test_behind_the_servers_answer_no_other_keys_are_the_connections():
    """A forged Initial, or another connection on the same ports, took the keys away from the first one."""
    datagrams = [
        (CLIENT, first()),
        (SERVER, reply(ack())),
        (CLIENT, initial(crypto(0, HELLO), b"another!", number=1)),
        (SERVER, reply(number=1)),
    ]
    assert tls(*datagrams)["cipher"] == "TLS_AES_128_GCM_SHA256"


def test_a_server_may_answer_in_another_version():
    """RFC 9368: the keys are those of the new version, from the same connection id."""
    datagrams = [(CLIENT, first()), (SERVER, reply(version=V2))]
    assert "cipher" in tls(*datagrams)
    assert quic(*datagrams) == {"version": "1"}


ZERO, ONE, TWO = ({"version": version, "number": number} for number, version in enumerate((DRAFT_29, DRAFT_24, V1)))


@pytest.mark.parametrize(
    ("packets", "version"),
    [
        ([ZERO, ONE], "draft-29"),
        ([ONE, ZERO], "draft-29"),
        ([ONE], None),
        ([TWO], "1"),
        ([TWO, ONE], None),
        ([TWO, ONE, ZERO], "draft-29"),
    ],
)
def test_the_version_of_a_draft_is_absent_if_its_first_initial_was_not_captured(packets, version):
    """Clients of drafts kept their connection id behind a negotiation of versions, and continued to count packets."""
    datagrams = [(CLIENT, first(source=b"client", **packet)) for packet in packets]
    answer_version = packets[-1]["version"]
    facts = read(*datagrams, (SERVER, reply(version=answer_version, target=b"client"))).facts()
    assert facts["appliance"]["quic"].get("version") == version
    assert facts["tls"]["client"]["server_name"] == "a.example"


def test_a_client_with_an_empty_id_may_count_from_one():
    draft = {"version": DRAFT_29}
    assert quic((CLIENT, first(number=1, **draft)), (CLIENT, first(number=2, version=V2))) == {"version": "draft-29"}
    assert quic((CLIENT, first(number=2, **draft)), (SERVER, reply(**draft))) == {}


def test_a_negotiation_of_versions_begins_anew():
    other_id = b"new one!"
    datagrams = [
        (CLIENT, first(version=DRAFT_29)),
        (SERVER, negotiation(b"", ID, V1)),
        (CLIENT, initial(crypto(0, HELLO), other_id)),
        (SERVER, initial(crypto(0, ANSWER), other_id, server=True, target=b"", source=SERVER_ID)),
    ]
    assert "cipher" in tls(*datagrams)
    assert quic(*datagrams) == quic(*datagrams[2:]) == {"version": "1"}


def test_a_hello_retry_request_is_followed_by_another_hello():
    retried = server_hello([(43, b"\3\4"), (51, b"\0\x17")], cipher=0x1301, random=RETRY_RANDOM)
    datagrams = [
        (CLIENT, first()),
        (SERVER, reply(crypto(0, retried))),
        (CLIENT, first(crypto(len(HELLO), client_hello([])), number=1, target=SERVER_ID)),
        (SERVER, reply(crypto(len(retried), server_hello_1_3(group=23)), number=1)),
    ]
    connection = read(*datagrams)
    assert connection.facts()["appliance"]["tls"]["hello_retry"] is True
    assert connection.facts()["tls"]["curve"] == "secp256r1"
    assert connection.facts()["tls"]["client"]["server_name"] == "a.example"


@given(st.lists(st.tuples(st.integers(0, 1), st.binary(max_size=300)), max_size=10))
def test_any_datagrams_are_taken(datagrams):
    table = QuicTable(context())
    for side, data in datagrams:
        table.feed("key", side, data)
    assert len(table) == 0


@given(st.binary(max_size=300))
def test_any_frames_are_taken(frames):
    cx = context()
    connection = QuicConnection(cx)
    assert connection.feed(CLIENT, first(frames))
    connection.finish()
    assert cx.tls.buffered == 0


@pytest.mark.parametrize("size", range(120))
def test_a_datagram_that_is_cut_off_is_no_packet(size):
    assert not QuicConnection(context()).feed(CLIENT, first()[:size])
