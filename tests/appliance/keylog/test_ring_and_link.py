"""KeyRing and the links of secrets: bounded, in order, complete for a child that starts later."""

from __future__ import annotations

import os
import socket

from hypothesis import given
from hypothesis import strategies as st

from appliance.keylog.link import NUMBER, ChildSecretLink, SecretLink
from appliance.keylog.ring import MOST_IN_MESSAGE, KeyRing
from appliance.keylog.secrets import unpacked


def secrets(*numbers):
    return [(0, number.to_bytes(32, "big"), bytes(48)) for number in numbers]


def numbers(content):
    return [int.from_bytes(random, "big") for _, random, _ in unpacked(content)]


@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 50))
def test_a_reader_that_follows_gets_each_secret_once(sizes, limit):
    ring, at, got, made = KeyRing(10_000, 0), 0, [], 0
    for size in sizes:
        ring.add(secrets(*range(made, made + size)), 0)
        made += size
        if size <= limit:
            at, content = ring.since(at)
            got += numbers(content)
    got += numbers(ring.since(at)[1])
    assert got == list(range(made))


def test_the_oldest_secrets_go_first():
    ring = KeyRing(3, 0)
    ring.add(secrets(1, 2, 3, 4, 5), 0)
    assert ring.since(0) == (5, ring.since(2)[1])
    assert numbers(ring.since(0)[1]) == [3, 4, 5]


def test_secrets_go_by_age():
    ring = KeyRing(100, 10)
    ring.add(secrets(1), 0)
    ring.add(secrets(2), 8)
    ring.sweep(11)
    assert numbers(ring.since(0)[1]) == [2]


def test_a_child_gets_everything_that_was_kept_and_then_what_is_new():
    ring = KeyRing(1 << 20, 0)
    ring.add(secrets(*range(MOST_IN_MESSAGE + 5)), 0)
    link = ChildSecretLink()
    link.supply(ring)
    child = SecretLink(link.theirs)
    first = child.receive()
    ring.add(secrets(7), 0)
    link.supply(ring)
    messages = first + child.receive()
    assert [number for message in messages for number in numbers(message.content)] == [*range(MOST_IN_MESSAGE + 5), 7]
    assert messages[-1].number == ring.added
    link.link.close()
    child.receive()
    assert child.ended
    link.close()


def test_a_full_link_is_continued_later():
    ring = KeyRing(1 << 20, 0)
    link = ChildSecretLink()
    child = SecretLink(link.theirs)
    for number in range(2000):
        ring.add(secrets(number), 0)
        link.supply(ring)
    got = [number for message in child.receive() for number in numbers(message.content)]
    link.supply(ring)
    got += [number for message in child.receive() for number in numbers(message.content)]
    assert got == list(range(2000))
    link.close()


def test_what_is_no_sealed_memory_is_not_read(tmp_path):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    (tmp_path / "file").write_bytes(b"secret")
    reader, writer = os.pipe()
    for file in (os.open(tmp_path / "file", os.O_RDONLY), reader, os.memfd_create("unsealed")):
        socket.send_fds(theirs, [NUMBER.pack(1)], [file])
        os.close(file)
    link = SecretLink(ours)
    assert all(message.content == b"" for message in link.receive())
    os.close(writer)
    theirs.close()
    link.close()
