"""An interface that goes down, loses its carrier, is taken away and made anew: the capture sees it again by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from box import Box
from eventually import eventually
from hosts import administer
from load import Load
from scene import Metrics, Scene

pytestmark = pytest.mark.root


def written(box: Box) -> int:
    return box.count("feed", "written_events")


def blind_s(box: Box, reason: str) -> float:
    return box.count("capture-0", f"blind_ns.{reason}") / 1e9


def is_promiscuous(scene: Scene) -> bool:
    """Return whether any process has asked for promiscuous mode; the flag of the link itself does not say."""
    return "promiscuity 1" in scene.server.run("ip", "-details", "link", "show", "s0")


def ring_bytes(box: Box) -> int:
    """Of the capture's packet socket, as it is mapped."""
    maps = Path(f"/proc/{box.count('capture-0', 'pid')}/maps").read_text()
    (line,) = [line for line in maps.splitlines() if "socket:" in line]
    first, last = line.split()[0].split("-")
    return int(last, 16) - int(first, 16)


@pytest.mark.parametrize("end", ["s0", "c0"], ids=["set down", "without a carrier"])
def test_a_link_that_goes_down_and_up_is_seen_again(scene: Scene, end: str) -> None:
    host = scene.server if end == "s0" else scene.client
    box = scene.capture("--workers", 1, "--feed", "off")
    load = Load(scene)
    eventually(lambda: written(box) > 50, "events are written")
    load.stop()
    administer("-n", host.name, "link", "set", end, "down")
    eventually(lambda: box.count("capture-0", "link_down"), "the link is known to be down")
    assert Metrics(scene.server)("appliance_capture_link_down", interface="s0") == 1
    eventually(lambda: blind_s(box, "down") > 1, "the time is counted")
    administer("-n", host.name, "link", "set", end, "up")
    eventually(lambda: not box.count("capture-0", "link_down"), "the link is known to be up")
    counted = blind_s(box, "down")
    before = written(box)
    later = Load(scene, "later")
    eventually(lambda: written(box) > before + 50, "events are written again")
    later.stop()
    assert blind_s(box, "down") == counted
    assert box.count("capture-0", "starts") == 1
    assert Metrics(scene.server)("appliance_capture_blind_seconds_total", reason="down") == pytest.approx(counted)
    assert box.stop() == 143
    box.ledger()


def replug(scene: Scene) -> None:
    """The cable anew: a veth pair comes and goes as one."""
    here, there = ("name", "s0", "netns", scene.server.name), ("name", "c0", "netns", scene.client.name)
    administer("link", "add", *here, "type", "veth", "peer", *there)
    scene.network.plug("s0", "c0", "192.0.2.1/28", "192.0.2.2/28")


def test_an_interface_that_is_made_anew_is_opened_as_before(scene: Scene) -> None:
    ring = 8 << 20
    box = scene.capture("--workers", 1, "--feed", "off", "--ring", ring, "-f", "tcp", "--name", "x")
    assert is_promiscuous(scene)
    load = Load(scene)
    eventually(lambda: written(box) > 50, "events are written")
    load.stop()
    administer("-n", scene.server.name, "link", "delete", "s0")
    eventually(lambda: "waiting for it" in box.errors(), "it is said that it is gone")
    assert box.process.poll() is None
    assert Metrics(scene.server)("appliance_capture_link_down", interface="s0") == 1
    replug(scene)
    eventually(lambda: "s0 is there again" in box.errors(), "it is opened again")
    eventually(lambda: is_promiscuous(scene), "it is promiscuous again")
    assert ring_bytes(box) == ring
    before = written(box)
    later = Load(scene, "later")
    eventually(lambda: written(box) > before + 50, "events are written again")
    later.stop()
    rejected = {name for name, n in box.page("capture-0").snapshot().items() if name.startswith("rejected.") and n}
    assert rejected == set()  # by the filter: there was ARP on the wire
    assert blind_s(box, "gone") > 0
    assert box.count("capture-0", "opened") == 2
    assert box.stop() == 143
    box.ledger()


def test_the_time_without_an_interface_is_counted_while_it_passes(scene: Scene) -> None:
    box = scene.capture("--workers", 1, "--feed", "off")
    administer("-n", scene.server.name, "link", "delete", "s0")
    eventually(lambda: blind_s(box, "gone") > 1, "a second is counted")
    before = Metrics(scene.server)("appliance_capture_blind_seconds_total", reason="gone")
    eventually(lambda: blind_s(box, "gone") > before + 1, "another second is counted")
    replug(scene)
    eventually(lambda: "s0 is there again" in box.errors(), "it is opened again")
    counted = blind_s(box, "gone")
    load = Load(scene)
    eventually(lambda: written(box) > 50, "events are written")
    load.stop()
    assert blind_s(box, "gone") == counted
    assert box.stop() == 143
    box.ledger()


def test_an_interface_that_is_renamed_is_gone_until_another_has_its_name(scene: Scene) -> None:
    box = scene.capture("--workers", 1, "--feed", "off")
    load = Load(scene)
    eventually(lambda: written(box) > 50, "events are written")
    administer("-n", scene.server.name, "link", "set", "s0", "name", "other")
    eventually(lambda: "s0: the interface was renamed to other" in box.errors(), "it is said")
    eventually(lambda: blind_s(box, "gone") > 0.5, "the time is counted")
    assert Metrics(scene.server)("appliance_capture_link_down", interface="s0") == 1
    box.wait_quiet()  # what came under the new name is none of ours
    administer("-n", scene.server.name, "link", "set", "other", "name", "s0")
    eventually(lambda: "s0 is there again" in box.errors(), "it is opened again")
    before = written(box)
    eventually(lambda: written(box) > before + 50, "events are written again")
    load.stop()
    assert box.stop() == 143
    box.ledger()


def test_a_name_that_goes_to_another_interface_takes_the_capture_with_it(scene: Scene) -> None:
    administer("-n", scene.server.name, "link", "add", "spare", "type", "veth", "peer", "name", "end")
    for end in ("spare", "end"):
        administer("-n", scene.server.name, "link", "set", end, "up")
    box = scene.capture("--workers", 1, "--feed", "off", interface="spare")
    for one, name in (("spare", "old"), ("s0", "spare")):
        administer("-n", scene.server.name, "link", "set", one, "name", name)
    eventually(lambda: box.count("capture-0", "opened") == 2, "it is opened anew")
    assert "spare: the interface was renamed to old; " in box.errors()
    load = Load(scene)
    eventually(lambda: written(box) > 50, "events of the interface of that name are written")
    load.stop()
    assert sum(box.count("capture-0", f"blind_ns.{reason}") for reason in ("gone", "restart")) > 0
    assert box.stop() == 143
    box.ledger()


def test_an_interface_that_moves_to_another_namespace_is_gone(scene: Scene) -> None:
    box = scene.capture("--workers", 1, "--feed", "off")
    administer("-n", scene.server.name, "link", "set", "s0", "netns", scene.client.name)
    eventually(lambda: blind_s(box, "gone") > 0.5, "the time is counted")
    assert Metrics(scene.server)("appliance_capture_link_down", interface="s0") == 1
    administer("-n", scene.client.name, "link", "set", "s0", "netns", scene.server.name)
    administer("-n", scene.server.name, "link", "set", "s0", "up")
    eventually(lambda: "s0 is there again" in box.errors(), "it is opened again")
    assert box.stop() == 143
    box.ledger()


def test_an_interface_made_anew_under_its_name_at_once_is_opened_again(scene: Scene) -> None:
    box = scene.capture("--workers", 1, "--feed", "off")
    administer("-n", scene.server.name, "link", "delete", "s0")
    replug(scene)
    eventually(lambda: box.count("capture-0", "opened") == 2, "it is opened anew")
    load = Load(scene)
    eventually(lambda: written(box) > 50, "events of the new one are written")
    load.stop()
    assert box.stop() == 143
    box.ledger()


def test_an_interface_that_was_never_there_ends_the_run(scene: Scene) -> None:
    box = Box(scene.server, scene.directory, "-i", "s9", "--feed", "off", "--metrics", "off")
    try:
        assert box.wait() == 2
        assert "there is no interface 's9'" in box.errors()
    finally:
        box.close()
