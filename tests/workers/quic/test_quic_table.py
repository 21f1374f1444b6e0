"""The table of QUIC connections: what makes state, what is an event, and when it ends."""

from __future__ import annotations

import os
import time
from statistics import median

import pytest
from quic_packets import V1, ZERO_RTT, crypto, initial, other
from tls_bytes import USUAL, client_hello, server_hello_1_3

from workers.quic.context import QuicContext
from workers.quic.table import QuicTable
from workers.tls.context import TlsContext

CLIENT, SERVER = 0, 1
SECOND = 1_000_000_000
HELLO = initial(crypto(0, client_hello(USUAL)), b"ABCDEFGH")
ANSWER = initial(crypto(0, server_hello_1_3()), b"ABCDEFGH", server=True, target=b"", source=b"S" * 8)


def table(**limits):
    return QuicTable(QuicContext(TlsContext(), **limits))


def hello(connection_id):
    return initial(crypto(0, client_hello(USUAL)), connection_id)


def test_a_handshake_is_known_once():
    made = table()
    assert made.feed("a", CLIENT, HELLO) == "connection"
    assert made.feed("a", SERVER, ANSWER) == "known"
    assert made.connection.facts()["tls"]["cipher"] == "TLS_AES_128_GCM_SHA256"
    assert [made.feed("a", side, data) for side, data in ((CLIENT, HELLO), (SERVER, ANSWER))] == ["connection"] * 2
    assert made.finish() == []


def test_either_side_may_be_the_client():
    made = table()
    made.feed("a", 1, HELLO)
    made.feed("a", 0, ANSWER)
    assert made.connection.client == 1


NO_INITIAL = [b"", b"\0" * 1200, b"\xc0", ANSWER, other(ZERO_RTT), b"\xc3\0\0\0\1\x08" + bytes(1200)]


@pytest.mark.parametrize("data", NO_INITIAL)
def test_what_opens_nothing_makes_no_state(data):
    made = table()
    assert made.feed("a", CLIENT, data) == "not quic"
    assert len(made) == 0


def test_0_rtt_may_stand_before_the_first_initial():
    made = table()
    assert made.feed("a", CLIENT, other(ZERO_RTT, target=b"ABCDEFGH") + HELLO) == "connection"


def test_an_id_shorter_than_clients_choose_opens_nothing():
    made = table()
    assert made.feed("a", CLIENT, initial(crypto(0, client_hello(USUAL)), b"short")) == "not quic"
    assert made.cx.counts()["initials"] == 0


def test_forged_initials_cost_their_budget_and_no_memory():
    made = table(max_initials_per_second=100)
    for number in range(1000):
        forged = bytes((0xC3, 0, 0, 0, V1, 8)) + os.urandom(8) + b"\0\0\x44\x00" + os.urandom(1100)
        assert made.feed(number, CLIENT, forged, 5 * SECOND) == "not quic"
    assert len(made) == 0
    assert made.cx.counts()["initials_failed"] == 50  # the other half is for connections with an answer
    assert made.cx.counts()["initials_over_limit"] == 950


def test_a_hello_without_an_answer_is_an_event_in_the_end():
    made = table(timeout_s=10)
    made.feed("a", CLIENT, HELLO, SECOND)
    assert made.take_ended(10 * SECOND) == []
    (ended,) = made.take_ended(11 * SECOND)
    assert ended.facts()["tls"]["client"]["server_name"] == "a.example"
    assert len(made) == 0


def test_a_full_table_ends_its_oldest():
    made = table(max_connections=2)
    for key in "abc":
        made.feed(key, CLIENT, hello(key.encode() * 8), SECOND)
    assert [each.key for each in made.take_ended(SECOND)] == ["a"]
    assert made.cx.counts()["evicted"] == 1
    assert [each.key for each in made.finish()] == ["b", "c"]


def test_what_was_reported_leaves_a_full_table_uncounted():
    made = table(max_connections=2)
    for key in "abc":
        made.feed(key, CLIENT, HELLO, SECOND)
        made.feed(key, SERVER, ANSWER, SECOND)
    assert len(made) == 2
    assert made.cx.counts()["evicted"] == 0
    assert made.finish() == []


def test_another_connection_on_the_same_ports_is_another_event():
    made = table()
    made.feed("a", CLIENT, HELLO)
    made.feed("a", SERVER, ANSWER)
    before = made.connection
    assert made.feed("a", CLIENT, hello(b"another!"), SECOND) == "connection"
    assert made.connection is not before
    assert len(made) == 1
    assert len(made.finish()) == 1


def test_what_the_client_sends_to_the_servers_id_is_no_other_connection():
    made = table()
    made.feed("a", CLIENT, HELLO)
    made.feed("a", SERVER, ANSWER)
    later = initial(b"\2\0\0\0\0", b"ABCDEFGH", number=1, target=b"S" * 8)
    initials = made.cx.counts()["initials"]
    assert made.feed("a", CLIENT, later) == "connection"
    assert made.cx.counts()["initials"] == initials


def seconds_of_hellos(made, first):
    """Return the processor time of 500 connections that begin, each on ports of its own."""
    before = time.process_time()
    for number in range(first, first + 500):
        made.feed(number, CLIENT, HELLO, SECOND)
    made.take_ended(SECOND)
    return time.process_time() - before


def test_the_oldest_is_found_without_passing_over_those_that_are_gone():
    """A dict keeps the places of removed entries, and looks at each again: the work for n evictions grew as n².

    A small table takes turns with the large one, so a machine that slows down slows both: a dict gave 2.2 and more.
    """
    limits = {"max_initials_per_second": 10_000_000, "timeout_s": 3600}
    small, large = table(max_connections=200, **limits), table(max_connections=20_000, **limits)
    for number in range(0, 30_000, 500):
        seconds_of_hellos(large, number)
    turns = range(30_000, 41_000, 500)
    growth = [seconds_of_hellos(large, number) / seconds_of_hellos(small, number) for number in turns]
    assert median(growth) < 1.6


def test_memory_is_given_back():
    made = table()
    half = initial(crypto(0, client_hello(USUAL)[:50]) + crypto(80, b"x" * 30), b"ABCDEFGH")
    made.feed("a", CLIENT, half)
    assert made.cx.tls.buffered == 46 + 30  # a message without its header, and what waits
    assert made.finish() == []
    assert made.cx.tls.buffered == 0
