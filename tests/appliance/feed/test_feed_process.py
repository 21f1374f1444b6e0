"""The feed as a process: numbering, heartbeats, output, replay, and what it does with faults on either side."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
from eventually import PATIENCE_S, eventually, open_pipe, read_all, read_line
from feed_process import FeedProcess, feed_config

from appliance.config.schema import Feed, Output, Run
from appliance.feed.replay_store import OVERHEAD
from appliance.ipc.event_batch import EventMessage, pack_events, pack_runs
from appliance.pubsub.protocol import FEED_HEADER
from appliance.stats.names import DATASETS, DONE, READY, TOPICS
from appliance.subscriber.subscriber import Subscriber

pytestmark = pytest.mark.slow

EVENT = b'{"n":%d}'


def subscribe(feed: FeedProcess, *topics: str) -> Subscriber:
    """A subscriber whose subscription has arrived: everything published from here on is its."""
    before = feed.page["subscribers"]
    subscriber = Subscriber(feed.endpoint, topics, timeout_s=PATIENCE_S)
    eventually(lambda: feed.page["subscribers"] > before, "the feed knows the subscriber")
    return subscriber


def test_sequences_are_contiguous_by_topic(tmp_path: Path) -> None:
    datasets = [f"{name}." for name in DATASETS]
    with FeedProcess(tmp_path, feed_config(workers=3)) as feed, subscribe(feed, *datasets) as subscriber:
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
        eventually(lambda: feed.published() == sum(worker.sent for worker in feed.workers), "the page has the last one")
        for topic, numbers in sequences.items():
            assert numbers == list(range(1, len(numbers) + 1))
            assert feed.page[f"published_messages.{topic}"] == len(numbers)
        assert subscriber.lost == 0
        assert subscriber.received == feed.published() == sum(worker.sent for worker in feed.workers)


def test_a_subscriber_to_one_dataset_receives_no_other(tmp_path: Path) -> None:
    with FeedProcess(tmp_path, feed_config(workers=1)) as feed, subscribe(feed, "http.") as subscriber:
        (worker,) = feed.workers
        worker.mixed(*((place, topic.encode()) for place, topic in enumerate(TOPICS)))
        worker.mixed((TOPICS.index("tls."), b"tls."), (0, b"last"))
        received = []
        while received[-1:] != [b"last"]:
            message = subscriber.receive(PATIENCE_S)
            assert message is not None
            received += message.events
        assert received == [*(topic.encode() for topic in DATASETS["http"]), b"last"]


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
        b"HCE2",
        bytes(1000),
        b"ABCD" + bytes(100),
        pack_events(EventMessage(999, 1, 1, 0, 0, pack_runs([(1, 1, 3)]), b"{}")),
        pack_events(EventMessage(0, 1, 1, 0, 0, pack_runs([(len(TOPICS), 1, 3)]), b"{}")),
        pack_events(EventMessage(0, 2, 1, 0, 0, pack_runs([(1, 1, 3)]), b"{}")),
    ],
    ids=["empty", "short", "zeros", "magic", "worker", "topic", "count"],
)
def test_garbage_on_the_events_socket_is_counted(tmp_path: Path, garbage: bytes) -> None:
    with FeedProcess(tmp_path, feed_config()) as feed:
        feed.workers[0].raw(garbage)
        feed.workers[0].send(1, EVENT % 1)
        feed.workers[0].end()
        assert feed.wait() == 0
        assert (feed.page["invalid_messages"], feed.published()) == (1, 1)


# -- heartbeat -------------------------------------------------------------------------------------------------------


def heartbeat(feed: FeedProcess) -> dict[str, Any]:
    """The next one."""
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.subscribe("heartbeat.")
    socket.connect(feed.endpoint)
    assert socket.poll(PATIENCE_S * 1000)
    topic, header, body = socket.recv_multipart()
    context.destroy(linger=0)
    beat: dict[str, Any] = json.loads(body)
    assert topic == b"heartbeat."
    epoch, _sequence, events = FEED_HEADER.unpack(header)
    assert (epoch, events) == (beat["epoch"], 1)
    return beat


def test_the_heartbeat_says_the_last_number_of_every_topic(tmp_path: Path) -> None:
    with FeedProcess(tmp_path, feed_config()) as feed:
        feed.workers[0].send(1, EVENT % 1, EVENT % 2)
        feed.workers[0].send(1, EVENT % 3)
        feed.workers[0].send(5, EVENT % 4)
        eventually(lambda: feed.published() == 4, "four events published")
        beat = heartbeat(feed)
        assert beat["epoch"] == feed.page["epoch"]
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


def test_the_output_keeps_the_order_in_which_a_worker_wrote_events_of_all_topics(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    config = msgspec.structs.replace(feed_config(), output=Output(path=str(path)))
    with FeedProcess(tmp_path, config) as feed, subscribe(feed, "http.") as subscriber:
        feed.workers[0].mixed((1, EVENT % 1), (3, EVENT % 2), (1, EVENT % 3), (0, EVENT % 4), (3, EVENT % 5))
        heard = {}
        while len(heard) < 3:
            message = subscriber.receive(PATIENCE_S)
            assert message is not None
            heard[message.topic] = [json.loads(event)["n"] for event in message.events]
        feed.workers[0].end()
        assert feed.wait() == 0
        assert heard == {"http.2xx.": [1, 3], "http.4xx.": [2, 5], "http.1xx.": [4]}
        assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [1, 2, 3, 4, 5]
        assert feed.page["published_messages.http.2xx."] == 1
        assert feed.page["published_bytes.http.4xx."] == len(EVENT % 2) * 2 + 1


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
        while feed.workers[0].link.ready(0.5):
            feed.workers[0].send(1, body)
            sent += 1
        assert feed.page["written_events"] < sent
        got = 0
        while got < messages:
            while sent < messages and feed.workers[0].link.ready(0):
                feed.workers[0].send(1, body)
                sent += 1
            assert read_line(stdout) == body + b"\n"
            got += 1
        feed.workers[0].end()
        assert read_line(stdout) == b""
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
        assert read_line(feed.process.stdout) == b'{"n":1}\n'
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
        with open_pipe(path) as reader:
            feed.workers[0].end()
            assert read_all(reader) == b'{"n":1}\n'
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
        assert b"No such file or directory" in read_all(feed.process.stderr)
        assert feed.page["error"] == 1


# -- replay ----------------------------------------------------------------------------------------------------------


Answer = tuple[str, int, bytes] | dict[str, Any]  # a stored message (topic, sequence, body), or a word


def ask(feed: FeedProcess, question: bytes, *more: bytes) -> list[Answer]:
    """All that comes back, to as many ends as there are questions."""
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.connect(feed.replay)
    for asked in (question, *more):
        socket.send_multipart([b"", asked])
    got: list[Answer] = []
    while sum(isinstance(answer, dict) and "end" in answer for answer in got) < 1 + len(more):
        assert socket.poll(PATIENCE_S * 1000)
        delimiter, *answer = socket.recv_multipart()
        assert delimiter == b""
        if len(answer) == 1:
            got.append(json.loads(answer[0]))
        else:
            epoch, sequence, _events = FEED_HEADER.unpack(answer[1])
            assert epoch == feed.page["epoch"]
            got.append((answer[0].decode(), sequence, answer[2]))
    context.destroy(linger=0)
    return got


def question(feed: FeedProcess, first: int, last: int, topic: str = "http.2xx.", epoch: int | None = None) -> bytes:
    wanted = {"topic": topic, "epoch": feed.page["epoch"] if epoch is None else epoch, "from": first, "to": last}
    return json.dumps(wanted).encode()


def filled(feed: FeedProcess, messages: int, body: bytes = b"x" * 1000) -> None:
    """Messages 1 to `messages` of http.2xx., published."""
    for _ in range(messages):
        feed.workers[0].send(1, body)
    eventually(lambda: feed.published() == messages, "everything is published")


def test_replay_sends_stored_messages_again(tmp_path: Path) -> None:
    with FeedProcess(tmp_path, feed_config()) as feed:
        for number in range(1, 6):
            feed.workers[0].send(1, EVENT % number, EVENT % number)
        eventually(lambda: feed.published() == 10, "ten events")
        wanted = question(feed, 2, 4)
        assert ask(feed, wanted) == [
            *(("http.2xx.", number, b"\n".join([EVENT % number] * 2)) for number in (2, 3, 4)),
            {"end": True, **json.loads(wanted)},
        ]
        eventually(lambda: feed.page["replay_served"] == 1, "the answer is counted")
        assert feed.page["replay_messages"] == 3


def test_replay_ends_where_the_feed_does(tmp_path: Path) -> None:
    with FeedProcess(tmp_path, feed_config()) as feed:
        filled(feed, 3)
        *messages, end = ask(feed, question(feed, 3, 1000))
        assert [message[1] for message in messages] == [3]
        assert isinstance(end, dict)
        assert end["to"] == 3


def test_replay_says_what_the_store_had_no_room_for(tmp_path: Path) -> None:
    with FeedProcess(tmp_path, feed_config(replay_bytes=10 * (1000 + OVERHEAD))) as feed:
        filled(feed, 50)
        gone, *messages, _end = ask(feed, question(feed, 5, 50))
        kept = [message[1] for message in messages]
        assert kept == list(range(kept[0], 51))
        assert isinstance(gone, dict)
        assert gone["gone"] == {"topic": "http.2xx.", "epoch": feed.page["epoch"], "from": 5, "to": kept[0] - 1}
        assert feed.page["store_bytes"] <= 10 * (1000 + OVERHEAD)
        assert feed.page["store_messages"] + feed.page["store_evicted"] == 51  # the status message is one of them


def test_replay_of_another_run_of_the_feed_is_gone(tmp_path: Path) -> None:
    with FeedProcess(tmp_path, feed_config()) as feed:
        wanted = question(feed, 2, 3, epoch=1)
        assert ask(feed, wanted) == [
            {"gone": json.loads(wanted), "reason": "it is of another run of the feed"},
            {"end": True, **json.loads(wanted)},
        ]
        eventually(lambda: feed.page["replay_gone"] == 1, "the answer is counted")


def test_the_heartbeat_says_what_can_be_asked_for_and_where(tmp_path: Path) -> None:
    with FeedProcess(tmp_path, feed_config(replay_bytes=10 * (1000 + OVERHEAD))) as feed:
        filled(feed, 50)
        beat = heartbeat(feed)
        assert beat["replay"] == feed.replay
        _gone, first, *_ = ask(feed, question(feed, 1, 50))
        assert beat["first"]["http.2xx."] == first[1]
        assert beat["first"]["http.5xx."] == 1


def test_a_killed_feed_tells_how_its_last_life_ended(tmp_path: Path) -> None:
    with FeedProcess(tmp_path, feed_config()) as feed:
        filled(feed, 7)
        first = feed.page["epoch"]
        feed.kill()
        feed.start()
        assert heartbeat(feed)["before"] == [
            {"epoch": first, "last": {**dict.fromkeys(TOPICS, 0), "http.2xx.": 7, "status.": 1}}
        ]
        second = feed.page["epoch"]
        feed.kill()
        feed.start()
        assert [life["epoch"] for life in heartbeat(feed)["before"]] == [first, second]


def test_more_questions_than_one_client_may_ask_are_refused(tmp_path: Path) -> None:
    with FeedProcess(tmp_path, feed_config(replay_rate_bytes=200_000)) as feed:
        filled(feed, 50)
        got = ask(feed, *[question(feed, 1, 50)] * 12)
        errors = [answer for answer in got if isinstance(answer, dict) and "error" in answer]
        assert 1 <= len(errors) <= 4
        assert feed.page["replay_refused"] == len(errors)
        assert len(got) == 50 * (12 - len(errors)) + len(errors) + 12


def test_replay_keeps_to_its_rate(tmp_path: Path) -> None:
    with FeedProcess(tmp_path, feed_config(replay_rate_bytes=100_000)) as feed:
        filled(feed, 50)
        began = time.monotonic()
        ask(feed, question(feed, 1, 50))
        assert time.monotonic() - began > 50_000 * 0.7 / 100_000
        assert feed.page["replay_pauses"] > 0


def test_a_client_that_does_not_read_its_answer_holds_up_nobody(tmp_path: Path) -> None:
    with FeedProcess(tmp_path, feed_config()) as feed:
        filled(feed, 300, b"x" * 200_000)
        context = zmq.Context()
        deaf = context.socket(zmq.DEALER)
        deaf.rcvhwm = 1
        deaf.connect(feed.replay)
        for _ in range(8):
            deaf.send_multipart([b"", question(feed, 1, 300)])
        eventually(lambda: feed.page["replay_messages"] > 16, "it is being answered")
        assert len(ask(feed, question(feed, 300, 300))) == 2
        with subscribe(feed, "http.") as subscriber:
            feed.workers[0].send(1, EVENT % 1)
            assert subscriber.receive(PATIENCE_S)
        context.destroy(linger=0)
        eventually(lambda: feed.page["replay_abandoned"] == 8, "what it left unread is given up")


def test_a_flood_of_questions_is_read_at_a_bounded_rate(tmp_path: Path) -> None:
    with FeedProcess(tmp_path, feed_config()) as feed, subscribe(feed, "http.") as subscriber:
        context = zmq.Context()
        flood = [context.socket(zmq.DEALER) for _ in range(4)]
        for socket in flood:
            socket.sndhwm = 10_000
            socket.connect(feed.replay)
            for _ in range(3000):
                socket.send_multipart([b"", b"{"], zmq.DONTWAIT)
        for number in range(1, 50):
            feed.workers[0].send(1, EVENT % 1)
            message = subscriber.receive(PATIENCE_S)
            assert message is not None
            assert message.sequence == number
        eventually(lambda: feed.page["replay_invalid"] > 1000, "questions are read")
        assert feed.page["replay_pauses"] > 0
        context.destroy(linger=0)


def test_who_missed_the_end_can_still_ask_for_it(tmp_path: Path) -> None:
    with FeedProcess(tmp_path, feed_config()) as feed, subscribe(feed, "heartbeat.", "status.") as subscriber:
        filled(feed, 20)
        feed.workers[0].end()
        while subscriber.receive(PATIENCE_S).events[0].find(b'"done"') < 0:
            pass
        assert len(ask(feed, question(feed, 1, 20))) == 21
        assert feed.wait() == 0


@pytest.mark.parametrize(
    "asked",
    [
        b"",
        b"{",
        b"[]",
        b'{"topic":"http."}',
        b'{"topic":1,"epoch":1,"from":1,"to":1}',
        b'{"topic":"heartbeat.","epoch":1,"from":1,"to":1}',
        b'{"topic":"http.2xx.","epoch":1,"from":0,"to":1}',
        b'{"topic":"http.2xx.","epoch":1,"from":2,"to":1}',
        b'{"topic":"http.2xx.","epoch":1,"from":1,"to":99999999999999999999999}',
        b"\xff\xfe",
        b"[" * 4000,
    ],
)
def test_replay_answers_a_bad_question_with_an_error(tmp_path: Path, asked: bytes) -> None:
    with FeedProcess(tmp_path, feed_config()) as feed:
        error, end = ask(feed, asked)
        assert isinstance(error, dict)
        assert error["error"]
        assert end == {"end": True}
        eventually(lambda: feed.page["replay_invalid"] == 1, "the question is counted")
