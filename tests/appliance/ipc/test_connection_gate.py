"""Strangers at the feed's ports: whatever they send, however many come, memory is bounded and readers are served."""

from __future__ import annotations

import json
import os
import resource
import socket
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
import zmq
from eventually import PATIENCE_S, eventually, join
from feed_process import FeedProcess, feed_config
from zmq.auth import load_certificate
from zmtp_peers import MORE, frame, is_open, peak, pour, stranger

from appliance.pubsub.curve_keys import make_keys
from appliance.subscriber.subscriber import Subscriber

pytestmark = pytest.mark.slow

FLOOD = 256 << 20  # bytes
GROWTH = 48 << 20  # bytes of memory that any attack may cost for a while
EVENT = b'{"n":1}'


def long_topics() -> bytes:
    return b"".join(frame(b"\x01" + os.urandom(4000)) for _ in range(200))


def short_topics() -> bytes:
    return b"".join(frame(b"\x01%05x" % number) for number in range(100_000))


def refused(feed: FeedProcess, reason: str) -> int:
    return feed.page[f"refused.{reason}"]


def follows(feed: FeedProcess, subscriber: Subscriber) -> None:
    """The subscriber gets what is published now."""
    feed.workers[0].send(1, EVENT)
    message = subscriber.receive(PATIENCE_S)
    assert message is not None
    assert message.events == [EVENT]


@pytest.mark.parametrize(
    "piece",
    [frame(bytes(4096), MORE), frame(b"", MORE), short_topics(), long_topics(), frame(b"\x02none of mine")],
    ids=["large-parts", "empty-parts", "short-topics", "long-topics", "messages"],
)
def test_what_one_stranger_sends_to_the_feed_is_bounded(tmp_path: Path, piece: bytes) -> None:
    with FeedProcess(tmp_path, feed_config()) as feed, Subscriber(feed.endpoint, ["http."]) as subscriber:
        eventually(lambda: subscriber.receive(0) is None and subscriber.heartbeats, "it follows the feed")
        before = peak(feed.process.pid)
        with stranger(feed.endpoint, b"SUB") as attacker:
            pour(attacker, piece, FLOOD)
        assert peak(feed.process.pid) - before < GROWTH
        follows(feed, subscriber)
        assert subscriber.lost == 0


@pytest.mark.parametrize("size", [4096, 0])
def test_a_message_to_the_feed_or_the_replay_that_never_ends_is_cut_off(tmp_path: Path, size: int) -> None:
    with FeedProcess(tmp_path, feed_config()) as feed:
        before = peak(feed.process.pid)
        for number, (endpoint, kind) in enumerate([(feed.endpoint, b"SUB"), (feed.replay, b"DEALER")], 1):
            with stranger(endpoint, kind) as attacker:
                assert pour(attacker, frame(bytes(size), MORE), FLOOD) < FLOOD
            eventually(lambda number=number: refused(feed, "greedy") == number, "it is counted")
        assert peak(feed.process.pid) - before < GROWTH


def test_messages_that_never_end_are_bounded_together(tmp_path: Path) -> None:
    config = feed_config(peer_bytes=1 << 20)
    with FeedProcess(tmp_path, config) as feed, ExitStack() as stack:
        before = peak(feed.process.pid)
        for _ in range(60):
            attacker = stack.enter_context(stranger(feed.replay, b"DEALER"))
            attacker.sendall(frame(bytes(4000), MORE) * 50)
        eventually(lambda: refused(feed, "greedy") >= 50, "most are cut off")
        assert peak(feed.process.pid) - before < GROWTH


def test_a_client_with_a_key_is_held_to_the_same(tmp_path: Path) -> None:
    keys, run_dir = tmp_path / "keys", tmp_path / "run"
    run_dir.mkdir(mode=0o700)
    make_keys(keys, ["alice"])
    lock = {"curve_key": str(keys / "server.key_secret"), "curve_clients": str(keys / "clients")}
    with FeedProcess(run_dir, feed_config(**lock)) as feed, zmq.Context() as context:
        before = peak(feed.process.pid)
        for number, (endpoint, kind) in enumerate([(feed.endpoint, zmq.XSUB), (feed.replay, zmq.DEALER)], 1):
            with context.socket(kind) as attacker:
                attacker.linger = 0
                attacker.curve_serverkey = load_certificate(keys / "server.key")[0]
                attacker.curve_publickey, attacker.curve_secretkey = load_certificate(keys / "alice.key_secret")
                attacker.connect(endpoint)
                for _ in range(16384):
                    attacker.send(b"\x02" + bytes(4000), zmq.SNDMORE)
                attacker.send(b"")
                eventually(lambda number=number: refused(feed, "greedy") >= number, "it is cut off")
        assert peak(feed.process.pid) - before < GROWTH


def test_who_subscribes_and_asks_as_readers_do_is_never_cut_off(tmp_path: Path) -> None:
    config = feed_config(peer_bytes=65536, peers=8)
    with FeedProcess(tmp_path, config) as feed, zmq.Context() as context:
        feed.workers[0].send(1, EVENT)
        eventually(lambda: feed.published() == 1, "it is published")
        with context.socket(zmq.SUB) as reader, context.socket(zmq.DEALER) as asker:
            reader.linger = asker.linger = 0
            reader.connect(feed.endpoint)
            reader.subscribe("heartbeat.")
            asker.connect(feed.replay)
            question = json.dumps({"topic": "http.2xx.", "epoch": feed.page["epoch"], "from": 1, "to": 1}).encode()
            for number in range(2000):
                reader.subscribe(f"http.{number}.")
                reader.unsubscribe(f"http.{number}.")
                asker.send_multipart([b"", question])
                while not json.loads(asker.recv_multipart()[-1]).get("end"):
                    pass
            assert reader.recv_multipart()[0] == b"heartbeat."
        assert not any(refused(feed, reason) for reason in ("greedy", "crowded", "handshake"))


# -- many --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [b"", b"SUB"], ids=["silent", "greeted"])
def test_idle_strangers_keep_no_reader_out(tmp_path: Path, kind: bytes) -> None:
    own, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (own, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
        feed = stack.enter_context(FeedProcess(tmp_path, feed_config(), files=1024))
        early = stack.enter_context(Subscriber(feed.endpoint, ["http."]))
        eventually(lambda: early.receive(0) is None and early.heartbeats, "a reader that was there before")
        for endpoint, said in ((feed.endpoint, kind), (feed.replay, kind and b"DEALER")):
            for _ in range(1004):
                stack.enter_context(stranger(endpoint, said))
        late = stack.enter_context(Subscriber(feed.endpoint, ["http."], backfill=True))
        eventually(lambda: late.receive(0) is None and late.heartbeats, "a reader that comes afterwards")
        follows(feed, early)
        assert late.receive(PATIENCE_S) is not None
        assert early.lost == 0
        assert refused(feed, "crowded") > 500
        eventually(lambda: len(os.listdir(f"/proc/{feed.process.pid}/fd")) < 1024, "descriptors are free again")


def test_one_address_full_of_subscribers_leaves_room_for_others(tmp_path: Path) -> None:
    config = feed_config(peers=20)
    with FeedProcess(tmp_path, config) as feed, ExitStack() as stack:

        def subscriber(source: str) -> socket.socket:
            made = stack.enter_context(stranger(feed.endpoint, b"SUB", source=source))
            made.sendall(frame(b"\x01heartbeat."))
            assert made.recv(1)  # a heartbeat: it was heard
            return made

        crowd = [subscriber("127.0.0.2") for _ in range(20)]
        other = subscriber("127.0.0.3")
        eventually(lambda: refused(feed, "crowded") == 1, "one has to go")
        assert is_open(other)
        assert [is_open(one) for one in crowd] == [True] * 19 + [False]


def test_strangers_that_come_and_go_leave_nothing(tmp_path: Path) -> None:
    with FeedProcess(tmp_path, feed_config()) as feed:
        feed.workers[0].send(1, EVENT)
        eventually(lambda: feed.published() == 1, "its worker is connected")
        before = len(os.listdir(f"/proc/{feed.process.pid}/fd"))

        def visit() -> None:
            for number in range(300):
                stranger(feed.endpoint, b"SUB" if number % 2 else b"").close()

        visitors = [threading.Thread(target=visit) for _ in range(4)]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            join(visitor)
        eventually(lambda: len(os.listdir(f"/proc/{feed.process.pid}/fd")) <= before, "all descriptors are free")
        with Subscriber(feed.endpoint, ["http."]) as subscriber:
            eventually(lambda: subscriber.receive(0) is None and subscriber.heartbeats, "it follows the feed")
            follows(feed, subscriber)
