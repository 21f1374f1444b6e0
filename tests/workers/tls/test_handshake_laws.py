"""Laws: another split of the same bytes, into segments or records, gives the same facts; hostile input is bounded."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tls_bytes import (
    APPLICATION_DATA,
    CLIENT,
    HANDSHAKE,
    SERVER,
    USUAL,
    alpn,
    certificate,
    client_hello,
    full_1_2,
    full_1_3,
    message,
    record,
    records,
    server_hello,
    server_name,
)

from workers.tls.certificate import Certificates
from workers.tls.context import TlsContext
from workers.tls.handshake import Handshake
from workers.tls.record import hello_may_begin

SCENES = {"1.2": full_1_2(b"no der" * 50), "1.3": full_1_3()}


def facts_of(turns, **limits):
    context = TlsContext(certificates=Certificates(), ja3=True, **limits)
    handshake = Handshake(context)
    for side, data in turns:
        handshake.feed(side, data, 5)
    handshake.finish()
    assert context.buffered == 0
    facts = handshake.facts()
    facts["appliance"]["tls"].pop("bytes", None)
    return facts


@pytest.mark.parametrize("scene", SCENES)
def test_single_bytes_are_the_whole(scene):
    single = [(side, data[at : at + 1]) for side, data in SCENES[scene] for at in range(len(data))]
    assert facts_of(single) == facts_of(SCENES[scene])


@pytest.mark.parametrize("scene", SCENES)
def test_a_split_at_any_byte_is_the_whole(scene):
    whole = facts_of(SCENES[scene])
    for place, (side, data) in enumerate(SCENES[scene][:4]):
        for at in range(1, min(len(data), 700)):
            turns = [*SCENES[scene][:place], (side, data[:at]), (side, data[at:]), *SCENES[scene][place + 1 :]]
            assert facts_of(turns) == whole, at


@given(st.sampled_from(sorted(SCENES)), st.data())
def test_any_split_is_the_whole(scene, data):
    turns = []
    for side, said in SCENES[scene]:
        cuts = sorted({0, len(said), *data.draw(st.lists(st.integers(0, len(said)), max_size=8))})
        turns += [(side, said[start:stop]) for start, stop in pairwise(cuts)]
    assert facts_of(turns) == facts_of(SCENES[scene])


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 100])
def test_records_of_any_size_are_one(size):
    hello = client_hello(USUAL)
    flight = server_hello([alpn(b"h2")]) + certificate(b"no der" * 50) + message(14, b"")
    whole = [(CLIENT, record(HANDSHAKE, hello)), (SERVER, record(HANDSHAKE, flight))]
    pieces = [(CLIENT, records(HANDSHAKE, hello, size)), (SERVER, records(HANDSHAKE, flight, size))]
    assert facts_of(pieces) == facts_of(whole)


@given(st.lists(st.tuples(st.integers(0, 1), st.binary(max_size=300)), max_size=20))
def test_any_bytes_are_taken(turns):
    facts_of(turns)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_hellos_are_taken(first, second):
    facts_of([(CLIENT, record(HANDSHAKE, message(1, first))), (SERVER, record(HANDSHAKE, message(2, second)))])


@given(st.lists(st.tuples(st.integers(0, 60), st.binary(max_size=30)), max_size=30))
def test_any_extensions_are_taken(extensions):
    facts_of([(CLIENT, record(HANDSHAKE, client_hello(extensions)))])


# -- hostile sizes ---------------------------------------------------------------------------------------------------


def test_a_hello_of_64_kib_in_records_of_one_byte():
    hello = client_hello([server_name(b"a.example"), (21, bytes(65_000))])
    whole = facts_of([(CLIENT, records(HANDSHAKE, hello, 16_384))])
    assert whole["tls"]["client"]["server_name"] == "a.example"
    assert facts_of([(CLIENT, records(HANDSHAKE, hello, 1))]) == whole


def test_thousands_of_extensions_and_ciphers():
    extensions = [(1000 + place, b"") for place in range(16_000)]
    hello = client_hello(extensions, ciphers=[place * 7 % 65_536 for place in range(30_000)])
    facts = facts_of([(CLIENT, records(HANDSHAKE, hello, 16_384))])
    assert facts["appliance"]["tls"]["ja4"].startswith("t12i999900_")


def test_a_certificate_of_16_mib_is_skipped_by_its_length():
    context = TlsContext(certificates=Certificates())
    handshake = Handshake(context)
    handshake.feed(CLIENT, record(HANDSHAKE, client_hello(USUAL)))
    handshake.feed(SERVER, record(HANDSHAKE, server_hello([])))
    flight = message(11, (0xFFFFF9).to_bytes(3, "big") + (0xFFFFF6).to_bytes(3, "big") + bytes(0xFFFFF6))
    chunk = 16_384
    for at in range(0, len(flight), chunk):
        handshake.feed(SERVER, record(HANDSHAKE, flight[at : at + chunk]))
        assert context.buffered < 100_000
    assert context.counts()["certificates_over_limit"] == 1
    assert "server" not in handshake.facts()["tls"]


def test_a_limit_of_memory_holds_over_many_connections():
    context = TlsContext(max_total_bytes=100_000)
    hello = records(HANDSHAKE, client_hello([(21, bytes(60_000))]), 16_384)
    open_ones = []
    for _ in range(20):
        handshake = Handshake(context)
        handshake.feed(CLIENT, hello[:-1])
        open_ones.append(handshake)
        assert context.buffered <= 100_000
    for handshake in open_ones:
        handshake.finish()
    assert context.buffered == 0


def test_a_message_that_never_ends_holds_no_more_than_its_limit():
    context = TlsContext(max_hello_bytes=4096)
    handshake = Handshake(context)
    handshake.feed(CLIENT, record(HANDSHAKE, b"\1\xff\xff\xff" + bytes(16_000)))
    for _ in range(50):
        handshake.feed(CLIENT, record(HANDSHAKE, bytes(16_000)))
        assert context.buffered <= 4096


def test_empty_records_are_passed():
    empty = record(HANDSHAKE, b"") * 3 + record(APPLICATION_DATA, b"")
    turns = full_1_2()
    turns[0] = (CLIENT, record(HANDSHAKE, b"") * 3 + turns[0][1] + empty)
    assert facts_of(turns) == facts_of(full_1_2())


@pytest.mark.parametrize("size", range(7))
def test_few_bytes_may_begin_a_hello(size):
    assert hello_may_begin(record(HANDSHAKE, client_hello(USUAL))[:size])


@pytest.mark.parametrize("data", [b"\x15\3\3\0\2\2\x28", b"\x16\2\0", b"\x16\3\1\0\0", b"\x16\3\1\1\0\x0b", b"GET /"])
def test_other_bytes_do_not(data):
    assert not hello_may_begin(data)
