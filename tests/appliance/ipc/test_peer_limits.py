"""The bytes held for the peers of a port, and the choice of peers to disconnect."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.ipc.peer_limits import OVERHEAD, PLACES, SHARE, TOPIC_BYTE, Peers, origin

MOST_HELD = 4000


def peers(count: int = 0, most: int = 10) -> Peers:
    """Some peers, each from a place of its own."""
    made = Peers(most, MOST_HELD)
    for number in range(count):
        made.come(number, b"%d" % number)
    return made


def test_what_is_no_whole_message_is_held():
    made = peers(1)
    made.sent(0, 500)
    made.finished(0, 100)
    assert made.held == 500 - 100 - OVERHEAD
    made.sent(0, 600)
    assert made.held == 600 - 100 - OVERHEAD


def test_whole_messages_never_make_room_for_what_comes_later():
    made = peers(1)
    made.sent(0, 10)
    made.finished(0, 10_000)
    made.sent(0, 2000)
    assert made.held == 1990
    assert made.greedy(0) == 0


def test_a_topic_is_held_while_it_is_subscribed_to():
    made = peers(1)
    for _ in range(2):
        made.wants(0, b"http.", True)
    assert made.held == TOPIC_BYTE * 5 + OVERHEAD
    for _ in range(2):
        made.wants(0, b"http.", False)
    assert made.held == 0


def test_a_subscriber_counts_once_as_long_as_it_has_a_subscription():
    made = peers(3)
    for number, topic in ((0, b"http."), (0, b"heartbeat."), (1, b"http."), (1, b"http.")):
        made.wants(number, topic, True)
    assert made.subscribers == 2
    made.wants(0, b"http.", False)
    assert made.subscribers == 2
    made.wants(0, b"heartbeat.", False)
    assert made.subscribers == 1
    made.go(1)
    assert made.subscribers == 0


def test_bytes_that_may_become_topics_cost_as_much_until_the_thread_of_the_socket_has_had_them():
    made = Peers(10, MOST_HELD, handshake=100, byte_cost=TOPIC_BYTE)
    made.come(0, b"")
    made.sent(0, 100)
    assert made.held == 100
    made.sent(0, 160)
    assert made.held == 160 + 60 * (TOPIC_BYTE - 1)
    made.drained()
    made.sent(0, 170)  # the first call does not tell whether these had come before
    assert made.held == 170 + 70 * (TOPIC_BYTE - 1)
    made.drained()
    assert made.held == 170 + 10 * (TOPIC_BYTE - 1)


def test_a_burst_of_topics_on_many_connections_is_bounded_before_it_is_read():
    made = Peers(1000, 1 << 20, handshake=100, byte_cost=TOPIC_BYTE)
    for number in range(1000):
        made.come(number, b"")
        made.sent(number, 4100)
        while (one := made.greedy(number)) is not None:
            made.go(one)
    assert len(made) * 4000 * TOPIC_BYTE <= 1 << 20


def test_nothing_is_held_for_a_peer_that_is_gone():
    made = peers(2)
    made.sent(0, 700)
    made.wants(0, b"http.", True)
    made.sent(1, 5)
    made.go(0)
    assert made.held == 5


def test_one_peer_may_hold_a_share_and_all_together_the_whole():
    made = peers(8)
    made.sent(0, MOST_HELD // SHARE)
    assert made.greedy(0) is None
    for number in range(1, 8):
        made.sent(number, 500 - number)
        if made.held > MOST_HELD:
            assert made.greedy(number) == 0
            made.go(0)
    assert made.greedy(7) is None


def test_the_stranger_that_has_stayed_longest_goes_first():
    made = peers(5, most=4)
    made.finished(0, 0)
    assert made.crowded_out() == 1
    made.go(1)
    assert made.crowded_out() is None


def test_strangers_have_places_beside_those_that_talk():
    made = peers(4, most=4)
    for number in range(4):
        made.finished(number, 0)
    made.come(4, b"new")
    assert made.crowded_out() is None
    made.come(5, b"newer")
    assert made.crowded_out() == 4


def test_a_peer_that_subscribes_no_more_is_a_stranger_again():
    made = peers(5, most=4)
    for number in range(5):
        made.wants(number, b"a", number < 4)
    made.wants(1, b"a", False)
    assert made.crowded_out() == 1


def test_where_all_talk_the_last_of_the_most_common_address_goes():
    made = Peers(3, MOST_HELD)
    for number, where in enumerate([b"a", b"b", b"b", b"c"]):
        made.come(number, where)
        made.wants(number, b"", True)
    assert made.crowded_out() == 2


def test_another_host_has_a_part_of_the_places_and_its_silent_connections_go_first():
    made = Peers(PLACES * 3, MOST_HELD)
    for number in range(4):
        made.come(number, b"host")
        made.wants(number, b"", number != 2)
    made.come(9, b"else")
    assert made.crowded_out() == 2
    made.go(2)
    assert made.crowded_out() is None
    made.come(4, b"host")
    made.wants(4, b"", True)
    assert made.crowded_out() == 4


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (socket.AF_INET, "127.0.0.1"),
        (socket.AF_INET6, "::1"),
        (socket.AF_INET6, "::ffff:127.0.0.1"),
        (socket.AF_UNIX, ""),
    ],
)
def test_this_host_may_have_every_place(family, address):
    made = Peers(PLACES, MOST_HELD)
    for number in range(PLACES):
        made.come(number, origin(family, address))
    assert made.crowded_out() is None


@pytest.mark.parametrize(
    ("family", "one", "other", "same"),
    [
        (socket.AF_INET, "192.0.2.1", "192.0.2.2", False),
        (socket.AF_INET6, "2001:db8::1", "2001:db8::ffff:1", True),
        (socket.AF_INET6, "2001:db8::1", "2001:db8:0:1::1", False),
        (socket.AF_INET6, "::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        (socket.AF_INET6, "fe80::1%lo", "fe80::2", True),
        (socket.AF_UNIX, "", "", True),
    ],
)
def test_an_origin_is_what_one_host_can_fill(family, one, other, same):
    assert (origin(family, one) == origin(family, other)) is same


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["come", "go", "sent", "finished", "drained", "on", "off"]),
        st.integers(0, 5),
        st.integers(0, 900),
    )
)


@given(STEPS, st.sampled_from([1, TOPIC_BYTE]))
def test_limits_hold_whatever_peers_do(steps, byte_cost):
    made = Peers(4, MOST_HELD, 50, byte_cost)
    totals = dict.fromkeys(range(6), 0)
    for what, number, size in steps:
        if what == "come":
            totals[number] = 0
            made.come(number, b"%d" % (number % 2))
            while (one := made.crowded_out()) is not None:
                made.go(one)
        elif what == "go":
            made.go(number)
        elif what == "sent":
            totals[number] += size
            made.sent(number, totals[number])
        elif what == "finished":
            made.finished(number, size)
        elif what == "drained":
            made.drained()
        else:
            made.wants(number, b"x" * (size // 100), what == "on")
        while (one := made.greedy(number)) is not None:
            made.go(one)
        while (one := made.crowded_out()) is not None:
            made.go(one)
        assert len(made) <= 5
        assert 0 <= made.held <= MOST_HELD
    for number in range(6):
        made.go(number)
    assert made.held == 0
