"""Several captures of one interface: together they see what one would, and each frame once."""

from __future__ import annotations

import os
import socket

import pytest
from box import Box
from eventually import eventually
from inside import inside
from load import Load
from scene import Scene
from transactions import assert_same, assert_whole, of_event

from appliance.capture import fanout
from appliance.pcap import opening as pcap

pytestmark = pytest.mark.root

CAPTURES = 3
SHARED = ("--workers", "2", "--feed", "off", "-f", "tcp", "--set", f"capture.fanout={CAPTURES}")
NAMES = [f"capture-{index}" for index in range(CAPTURES)]
BY_TURNS = 1 << 16  # PACKET_FANOUT_LB
ALL = 3  # ETH_P_ALL


def frames(box: Box) -> list[int]:
    return [box.count(name, "frames") for name in NAMES]


def test_together_they_see_every_frame_once(scene: Scene) -> None:
    box = scene.capture(*SHARED)
    with inside(scene.server):
        witness = pcap.open_live("s0")
    with witness:
        witness.set_filter("tcp")
        before = witness.stats().received
        load = Load(scene)
        eventually(lambda: min(frames(box)) > 100, "every capture has its share")
        done = load.stop()
        box.wait_quiet()
        eventually(lambda: sum(frames(box)) == witness.stats().received - before, "each frame is counted, once")
    assert box.stop() == 143
    events = box.events()
    assert_same(map(of_event, events), done)
    assert_whole(events)
    assert {event["observer"]["ingress"]["interface"]["name"] for event in events} == {"s0"}
    box.ledger()


def test_one_that_was_killed_comes_back_into_the_group(scene: Scene) -> None:
    box = scene.capture(*SHARED)
    load = Load(scene)
    eventually(lambda: min(frames(box)) > 100, "every capture has its share")
    box.kill(NAMES[1])
    again = box.count(NAMES[1], "frames")
    eventually(lambda: box.count(NAMES[1], "frames") > again + 100, "it has its share again")
    load.stop()
    assert box.stop() == 143
    box.ledger()


def test_a_group_that_is_taken_says_what_to_do(scene: Scene) -> None:
    key = os.urandom(16)
    with inside(scene.server), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as other:
        other.bind(("s0", ALL))
        other.setsockopt(fanout.SOL_PACKET, fanout.PACKET_FANOUT, fanout.group_of("s0", key) | BY_TURNS)
        with pcap.open_live("s0") as handle, pytest.raises(pcap.PcapError, match=r"^s0: .*capture\.fanout = 1"):
            fanout.join(handle, "s0", key)
