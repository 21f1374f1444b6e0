"""One connection made of requests only, while the feed stands still: it fills its share, and nobody else loses."""

from __future__ import annotations

import signal

import pytest
from box import Box
from eventually import PATIENCE_S, eventually
from hosts import HERE
from scene import PORT, Metrics, Scene
from traffic import Conversation, PcapWriter
from transactions import assert_same, of_client, of_event

GREEDY = 30000  # the client's port
LINK = 1 << 23  # of it half are the backlog of the feed: some 4,500 events
EACH = 52  # requests of a segment
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def counted(box: Box, what: str) -> int:
    return sum(count for slot, count in box.page("worker-0").snapshot().items() if slot.startswith(f"{what}."))


@pytest.mark.root
def test_a_connection_of_pipelined_requests_takes_nothing_from_the_others(scene: Scene) -> None:
    limits = (f"shard.link_bytes={LINK}", "run.hung_s=600", f"http.max_total_waiting_bytes={1 << 20}")
    box = scene.capture("--workers", 1, *(word for limit in limits for word in ("--set", limit)))
    with PcapWriter(scene.directory / "greedy.pcap") as file:
        made = Conversation("192.0.2.2", "192.0.2.1", client_port=GREEDY, server_port=PORT).handshake()
        for _ in range(400):
            made.client_sends(REQUEST * EACH)
        for frame in made.frames:
            file.write(*frame)
    box.send("feed", signal.SIGSTOP)
    scene.client.run("python3", HERE / "replay.py", "c0", scene.directory / "greedy.pcap")
    eventually(lambda: counted(box, "dropped_share") > 5000, "the greedy connection has its share")
    done = []
    for name in ("one", "two", "three"):
        process = scene.load("--name", name, "--connections", 2, "--requests", 40, "--largest", 2000)
        done += of_client(process.communicate(timeout=PATIENCE_S)[0])
    eventually(lambda: counted(box, "made") >= counted(box, "dropped_share") + len(done), "all events are made")
    assert counted(box, "dropped_backlog") == 0
    box.send("feed", signal.SIGCONT)
    eventually(lambda: box.count("feed", "written_events") >= len(done), "the feed goes on")
    metrics = Metrics(scene.server)
    assert metrics("appliance_feed_dropped_events_total", reason="connection_share") == counted(box, "dropped_share")
    box.stop()
    assert_same([of_event(event) for event in box.events() if event["source"]["port"] != GREEDY], done)
    feed = box.ledger()["L7"]
    assert (feed["dropped_backlog"], feed["lost"]) == (0, 0)
    assert feed["made"] == feed["published"] + feed["dropped_share"]
    assert "their connection exceeded its share of the feed" in box.errors()
