"""The feed as a process: numbering, heartbeats, output, replay, and what it does with faults on either side."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections import defaultdict
from pathlib import Path

import msgspec
import pytest
import zmq
from feed_process import PATIENCE_S, FeedProcess, eventually, feed_config

from appliance.bus import EventMessage, pack_events
from appliance.options import Feed, Output, Run
from appliance.stats import DONE, READY, TOPICS
from appliance.subscriber import Subscriber

EVENT = b'{"n":%d}'


def subscribe(feed: FeedProcess, *topics: str) -> Subscriber:
    """A subscriber whose subscription has arrived: everything published from here on is its."""
    before = feed.page["subscribers"]
    subscriber = Subscriber(feed.endpoint, topics, timeout_s=PATIENCE_S)
    eventually(lambda: feed.page["subscribers"] > before, "the feed knows the subscriber")
    return subscriber


def test_sequences_are_contiguous_by_topic(tmp_path: Path) -> None:
    with FeedProcess(tmp_path, feed_config(workers=3)) as feed, subscribe(feed, "http.") as subscriber:
        for turn in range(100):
            for worker in feed.workers:
                worker.send((turn + worker.index) % len(TOPICS), *(EVENT % n for n in range(turn % 5 + 1)))
        sequences: dict[str, list[int]] = defaultdict(list)
        for _ in range(300):
            message = subscriber.receive(PATIENCE_S)
            assert message is not None
            assert message.epoch == feed.page["epoch"]
            assert message.events == [EVENT % n for n in range(len(message.events))]
            sequences[message.topic].append(message.sequence)
        assert set(sequences) == set(TOPICS)
        for topic, numbers in sequences.items():
            assert numbers == list(range(1, len(numbers) + 1))
            assert feed.page[f"published_messages.{topic}"] == len(numbers)
        assert subscriber.lost == 0
        assert subscriber.received == feed.published() == sum(worker.sent for worker in feed.workers)


def test_it_ends_when_every_worker_said_end(tmp_path: Path) -> None:
    with FeedProcess(tmp_path, feed_config(workers=2)) as feed, subscribe(feed, "status.") as subscriber:
        feed.workers[0].send(1, EVENT % 1)
        feed.workers[0].end()
        eventually(lambda: feed.page["ended.0"], "the first end mark")
        assert feed.page["state"] == READY
        feed.workers[1].end()
        states = []
        while "done" not in states:
            message = subscriber.receive(PATIENCE_S)
            assert message is not None
            states += [json.loads(event)["state"] for event in message.events]
        assert states == ["draining", "done"]
        assert feed.wait() == 0
        assert feed.page["state"] == DONE
        assert feed.page["error"] == 0
        assert feed.published() == 1


def test_it_leaves_when_its_supervisor_dies(tmp_path: Path) -> None:
    with FeedProcess(tmp_path, feed_config()) as feed:
        assert feed.process.stdin is not None
        feed.process.stdin.close()
        assert feed.wait() == 1
        assert feed.page["state"] == READY


def test_sigterm_brings_out_what_has_arrived_and_counts_the_rest(tmp_path: Path) -> None:
    with FeedProcess(tmp_path, feed_config()) as feed:
        feed.workers[0].send(1, EVENT % 1, EVENT % 2)
        eventually(lambda: feed.published() == 2, "two events published")
        feed.worker_pages[0]["events_sent"] = 5
        feed.process.terminate()
        assert feed.wait() == 0
        assert feed.page["lost.0"] == 3


def test_events_lost_on_the_way_are_counted_exactly(tmp_path: Path) -> None:
    with FeedProcess(tmp_path, feed_config()) as feed:
        feed.workers[0].send(1, EVENT % 1)
        feed.workers[0].send(1, EVENT % 2, EVENT % 3, skipped=4)
        feed.workers[0].send(5, EVENT % 4)
        feed.workers[0].end()
        assert feed.wait() == 0
        assert (feed.page["received.0"], feed.page["lost.0"]) == (4, 4)


def test_a_killed_feed_loses_nothing_uncounted(tmp_path: Path) -> None:
    with FeedProcess(tmp_path, feed_config()) as feed:
        worker = feed.workers[0]
        for number in range(50):
            worker.send(1, EVENT % number)
        eventually(lambda: feed.published() > 0, "something published")
        first_epoch = feed.page["epoch"]
        feed.kill()
        for number in range(50):
            worker.send(1, EVENT % number)
        feed.start()
        worker.end()
        assert feed.wait() == 0
        assert feed.page["epoch"] > first_epoch
        assert feed.page["received.0"] + feed.page["lost.0"] == 100
        assert feed.published() + feed.page["crash_lost"] == feed.page["received.0"]


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"HCE1",
        bytes(1000),
        b"ABCD" + bytes(100),
        pack_events(EventMessage(1, 999, 1, 1, 0, 0, b"{}")),
        pack_events(EventMessage(6, 0, 1, 1, 0, 0, b"{}")),
    ],
    ids=["empty", "short", "zeros", "magic", "worker", "topic"],
)
def test_garbage_on_the_events_socket_is_counted(tmp_path: Path, garbage: bytes) -> None:
    with FeedProcess(tmp_path, feed_config()) as feed:
        feed.workers[0].raw(garbage)
        feed.workers[0].send(1, EVENT % 1)
        feed.workers[0].end()
        assert feed.wait() == 0
        assert (feed.page["invalid_messages"], feed.published()) == (1, 1)


# -- heartbeat -------------------------------------------------------------------------------------------------------


def test_the_heartbeat_says_the_last_number_of_every_topic(tmp_path: Path) -> None:
    with FeedProcess(tmp_path, feed_config()) as feed:
        feed.workers[0].send(1, EVENT % 1, EVENT % 2)
        feed.workers[0].send(1, EVENT % 3)
        feed.workers[0].send(5, EVENT % 4)
        eventually(lambda: feed.published() == 4, "four events published")
        context = zmq.Context()
        socket = context.socket(zmq.SUB)
        socket.subscribe("heartbeat.")
        socket.connect(feed.endpoint)
        assert socket.poll(PATIENCE_S * 1000)
        topic, header, body = socket.recv_multipart()
        context.destroy(linger=0)
        beat = json.loads(body)
        assert topic == b"heartbeat."
        assert len(header) == 24
        assert beat["epoch"] == feed.page["epoch"] == int.from_bytes(header[:8], "big")
        assert int.from_bytes(header[16:], "big") == 1
        assert beat["last"] == {**dict.fromkeys(TOPICS, 0), "http.2xx.": 2, "http.none.": 1, "status.": 1}
        assert beat["events"] == {**dict.fromkeys(TOPICS, 0), "http.2xx.": 3, "http.none.": 1, "status.": 1}
        assert msgspec.convert(beat["time"], type=__import__("datetime").datetime).tzinfo is not None


# -- output ----------------------------------------------------------------------------------------------------------


def test_the_output_file_has_one_event_per_line(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    path.write_bytes(b"before\n")
    config = msgspec.structs.replace(feed_config(), output=Output(path=str(path)))
    with FeedProcess(tmp_path, config) as feed:
        feed.workers[0].send(1, EVENT % 1, EVENT % 2)
        feed.workers[0].send(4, EVENT % 3)
        feed.workers[0].end()
        assert feed.wait() == 0
        assert path.read_bytes() == b'before\n{"n":1}\n{"n":2}\n{"n":3}\n'
        assert feed.page["written_events"] == 3
        assert feed.page["written_bytes"] == 24


def test_the_output_works_without_a_feed(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    config = msgspec.structs.replace(feed_config(), output=Output(path=str(path)), feed=Feed(bind="off"))
    with FeedProcess(tmp_path, config) as feed:
        assert not (tmp_path / "feed.endpoint").exists()
        feed.workers[0].send(1, EVENT % 1)
        feed.workers[0].end()
        assert feed.wait() == 0
        assert path.read_bytes() == b'{"n":1}\n'


def test_reading_a_file_waits_for_the_reader_of_the_output(tmp_path: Path) -> None:
    config = msgspec.structs.replace(feed_config(file=True), output=Output(path="-"))
    body, messages = b'"%s"' % (b"x" * 200_000), 300  # far more than the pipe, the feed and the link hold together
    with FeedProcess(tmp_path, config, stdout=subprocess.PIPE) as feed:
        stdout = feed.process.stdout
        assert stdout is not None
        sent = 0
        while feed.workers[0].link.wait(0.5):
            feed.workers[0].send(1, body)
            sent += 1
        assert feed.page["written_events"] < sent
        got = 0
        while got < messages:
            while sent < messages and feed.workers[0].link.wait(0):
                feed.workers[0].send(1, body)
                sent += 1
            assert stdout.readline() == body + b"\n"
            got += 1
        feed.workers[0].end()
        assert stdout.readline() == b""
        assert feed.wait() == 0
        assert feed.page["dropped_output"] == 0
        assert feed.page["written_events"] == messages


def test_live_a_stalled_reader_of_the_output_costs_only_output(tmp_path: Path) -> None:
    config = feed_config()
    shard = msgspec.structs.replace(config.shard, link_bytes=1 << 20)
    config = msgspec.structs.replace(config, output=Output(path="-"), shard=shard, run=Run(drain_s=0.1))
    with FeedProcess(tmp_path, config, stdout=subprocess.PIPE) as feed, subscribe(feed, "http.") as subscriber:
        for number in range(20):
            feed.workers[0].send(1, b"x" * 200_000)
            message = subscriber.receive(PATIENCE_S)
            assert message is not None
            assert message.sequence == number + 1
        feed.workers[0].end()
        assert feed.wait() == 0
        assert feed.page["dropped_output"] > 0
        assert feed.page["written_events"] + feed.page["dropped_output"] == feed.published() == 20


def test_a_reader_that_closes_the_output_is_reported(tmp_path: Path) -> None:
    config = msgspec.structs.replace(feed_config(), output=Output(path="-"))
    with FeedProcess(tmp_path, config, stdout=subprocess.PIPE) as feed:
        feed.workers[0].send(1, EVENT % 1)
        assert feed.process.stdout is not None
        assert feed.process.stdout.readline() == b'{"n":1}\n'
        feed.process.stdout.close()
        eventually(lambda: feed.page["output_closed"], "the feed notices, although no event comes")
        feed.workers[0].send(1, EVENT % 2)
        feed.workers[0].end()
        assert feed.wait() == 0
        assert feed.page["dropped_output"] == 1
        assert feed.published() == 2


def test_a_named_pipe_is_written_once_somebody_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    config = msgspec.structs.replace(feed_config(), output=Output(path=str(path)))
    with FeedProcess(tmp_path, config) as feed:
        feed.workers[0].send(1, EVENT % 1)
        eventually(lambda: feed.published() == 1, "one event published")
        with path.open("rb") as reader:
            feed.workers[0].end()
            assert reader.read() == b'{"n":1}\n'
        assert feed.wait() == 0


def test_a_full_disk_costs_whole_messages_and_never_the_process(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    config = msgspec.structs.replace(feed_config(), output=Output(path=str(path)))
    with FeedProcess(tmp_path, config) as feed:
        # A limit on the size of files stands for the full disk: both cut a write short, then refuse the next.
        resource.prlimit(feed.process.pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        for _ in range(5):
            feed.workers[0].send(1, b"x" * 299)
        eventually(lambda: feed.page["dropped_output"] == 2, "two messages do not fit")
        assert path.read_bytes() == (b"x" * 299 + b"\n") * 3
        resource.prlimit(feed.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        feed.workers[0].send(1, EVENT % 1)
        feed.workers[0].end()
        assert feed.wait() == 0
        assert path.read_bytes() == (b"x" * 299 + b"\n") * 3 + b'{"n":1}\n'
        assert (feed.page["write_errors"], feed.page["written_events"]) == (2, 4)


def test_an_output_that_cannot_be_opened_is_unusable(tmp_path: Path) -> None:
    config = msgspec.structs.replace(feed_config(), output=Output(path=str(tmp_path / "none" / "events.json")))
    with FeedProcess(tmp_path, config) as feed:
        assert feed.wait() == 2
        assert feed.process.stderr is not None
        assert b"No such file or directory" in feed.process.stderr.read()
        assert feed.page["error"] == 1


# -- replay ----------------------------------------------------------------------------------------------------------


def ask(feed: FeedProcess, question: bytes, *, answers: int = 2) -> list[dict[str, object]]:
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.connect(feed.replay)
    socket.send_multipart([b"", question])
    got = []
    for _ in range(answers):
        assert socket.poll(PATIENCE_S * 1000)
        delimiter, answer = socket.recv_multipart()
        assert delimiter == b""
        got.append(json.loads(answer))
    context.destroy(linger=0)
    return got


def test_replay_says_what_is_gone(tmp_path: Path) -> None:
    wanted = {"topic": "http.2xx.", "epoch": 1, "from": 2, "to": 3}
    with FeedProcess(tmp_path, feed_config()) as feed:
        gone, end = ask(feed, json.dumps(wanted).encode())
        assert gone["gone"] == wanted
        assert gone["reason"]
        assert end == {"end": True}
        eventually(lambda: feed.page["replay_gone"] == 1, "the answer is counted")


@pytest.mark.parametrize(
    "question",
    [b"", b"{", b"[]", b'{"topic":"http."}', b'{"topic":1,"epoch":1,"from":1,"to":1}', b"\xff\xfe", b"[" * 50_000],
)
def test_replay_answers_a_bad_question_with_an_error(tmp_path: Path, question: bytes) -> None:
    with FeedProcess(tmp_path, feed_config()) as feed:
        error, end = ask(feed, question)
        assert error["error"]
        assert end == {"end": True}
        eventually(lambda: feed.page["replay_invalid"] == 1, "the question is counted")
