"""The secrets of a worker: what arrives beyond a limit costs the same for each, however many are kept."""

from __future__ import annotations

import time

import pytest

from appliance.keylog.parser import KeyLogParser
from appliance.keylog.ring import KeyRing
from appliance.keylog.secrets import MASTER, packed
from workers.tls.key_store import MOST_LINGERING, KeyStore

SMALL, LARGE, ARRIVALS = 1000, 100_000, 40_000
MOST = 4.0  # what they may take in a store of a hundred times the size; 1 is the same, and memory is slower
TRIES = 5


def secrets(first, count):
    """Secrets of as many sessions, as they travel on a link."""
    return b"".join(packed((MASTER, number.to_bytes(32, "big"), bytes(48))) for number in range(first, first + count))


def seconds(limit):
    """Processor time of secrets that arrive in a full store."""
    store = KeyStore(limit, 0, expects=True, lingers=False)
    store.add(secrets(0, limit), 1)
    more = secrets(limit, ARRIVALS)
    begun = time.process_time()
    store.add(more, 1)
    assert (store.held, store.over_limit) == (limit, ARRIVALS)
    return time.process_time() - begun


def test_a_secret_beyond_the_limit_costs_the_same_for_any_limit():
    ratios = []
    for _ in range(TRIES):  # a busy machine disturbs one or another
        ratios.append(seconds(LARGE) / seconds(SMALL))
        if ratios[-1] <= MOST:
            return
    pytest.fail(f"a secret takes {min(ratios):.1f} times as long in a large store")


def test_the_newest_secrets_stay():
    store = KeyStore(100, 0, expects=True, lingers=False)
    store.add(secrets(0, 1000), 1)
    assert [store.find(number.to_bytes(32, "big")) is not None for number in (0, 899, 900, 999)] == [
        False,
        False,
        True,
        True,
    ]


def test_a_key_log_of_many_lines_is_bounded_all_the_way():
    lines = b"".join(b"CLIENT_RANDOM %064x %096x\n" % (number, number) for number in range(50_000))
    parser, ring, store = KeyLogParser(), KeyRing(1000, 0), KeyStore(500, 0, expects=True, lingers=False)
    sent = 0
    for at in range(0, len(lines), 1 << 20):
        ring.add(parser.feed(lines[at : at + (1 << 20)]), 0.0)
        assert len(ring) <= 1000
        sent, content = ring.since(sent)
        store.add(content, 1)
        assert store.held <= 500
    assert (parser.secrets, parser.junk, sent) == (50_000, 0, 50_000)
    assert store.find((49_999).to_bytes(32, "big")) is not None


class Ended:
    """A connection that has ended; it counts its ends."""

    def __init__(self, store):
        self.store = store
        self.expired = 0

    def keys_came(self):
        """Nothing: its secrets never come."""

    def expire(self):
        self.expired += 1
        self.store.linger_no_more(self)


def test_connections_that_wait_for_secrets_are_bounded():
    store = KeyStore(100, 0, expects=True, lingers=True)
    ended = [Ended(store) for _ in range(MOST_LINGERING + 10)]
    for place, one in enumerate(ended):
        store.linger(one, place)
    assert [one.expired for one in ended[:11]] == [1] * 10 + [0]
    store.expire(19)
    assert sum(one.expired for one in ended) == 20
    store.expire()
    assert all(one.expired == 1 for one in ended)
