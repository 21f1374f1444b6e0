"""`appliance doctor` on real interfaces and beside a real appliance: it finds what is wrong, its command fixes it."""

from __future__ import annotations

import json
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from typing import Any

import pytest
from box import Box, appliance, resume
from builders import get, talk
from eventually import PATIENCE_S, eventually, join
from hosts import Host, environment
from inside import inside
from scene import Scene, require

from appliance.doctor import nic_facts as nic

EXIT_CODES = {"pass": 0, "warn": 1, "fail": 2}


class Examination:
    """Findings of the doctor, by check."""

    def __init__(self, host: Host, *words: str | int) -> None:
        result = appliance("doctor", "--json", *words, host=host)
        document = json.loads(result.out)
        self.findings: list[dict[str, Any]] = document["findings"]
        assert result.code == EXIT_CODES[document["verdict"]], result.err

    def __getitem__(self, check: str) -> dict[str, Any]:
        found = [finding for finding in self.findings if finding["check"] == check]
        assert len(found) == 1, self.findings
        return found[0]

    def verdict(self, check: str) -> str:
        return str(self[check]["verdict"])


def examine(scene: Scene, *words: str | int) -> Examination:
    return Examination(scene.server, "-i", "s0", "--seconds", 0, *words)


def follow(host: Host, command: str) -> None:
    """Does what the doctor says."""
    host.run(*shlex.split(command))


def test_without_an_interface_the_machine_is_looked_at(scene: Scene) -> None:
    found = Examination(scene.server, "--seconds", 0)
    assert "-i IFACE" in found["interfaces"]["seen"]
    assert {finding["subject"] for finding in found.findings} == {"host"}


def test_an_interface_that_is_not_there_fails(scene: Scene) -> None:
    found = Examination(scene.server, "-i", "nothing0", "--seconds", 0)
    assert (found.verdict("state"), found["state"]["fix"]) == ("fail", "appliance devices")


def test_an_interface_that_is_down_fails_until_its_command_was_given(scene: Scene) -> None:
    scene.server.run("ip", "link", "set", "s0", "down")
    found = examine(scene)
    assert found.verdict("state") == "fail"
    follow(scene.server, found["state"]["fix"])
    eventually(lambda: examine(scene).verdict("state") == "pass", "the interface is up")


def test_a_cable_without_another_end_is_a_warning(scene: Scene) -> None:
    scene.client.run("ip", "link", "set", "c0", "down")
    eventually(lambda: "no carrier" in examine(scene)["state"]["seen"], "the carrier is gone")


def test_what_the_kernel_says_is_what_ethtool_reads(scene: Scene) -> None:
    require("ethtool")
    with inside(scene.server):
        seen = nic.look("s0")
    assert seen is not None
    assert f"driver: {seen.driver}\n" in scene.server.run("ethtool", "-i", "s0")
    lines = [line.strip().split(": ") for line in scene.server.run("ethtool", "-k", "s0").splitlines()[1:]]
    theirs = {name: state.split()[0] == "on" for name, state in lines if name in seen.features}
    fixed = {name: state.endswith("[fixed]") for name, state in lines if name in seen.features}
    assert len(theirs) > 20
    assert {name: seen.features[name].on for name in theirs} == theirs
    assert {name: seen.features[name].fixed for name in fixed} == fixed


def test_gro_is_a_warning_until_its_command_was_given(scene: Scene) -> None:
    require("ethtool")
    scene.server.run("ethtool", "-K", "s0", "gro", "on")
    found = examine(scene)
    assert (found.verdict("offloads"), "rx-gro" in found["offloads"]["seen"]) == ("warn", True)
    follow(scene.server, found["offloads"]["fix"])
    assert examine(scene).verdict("offloads") == "pass"


def test_a_snaplen_below_the_mtu_is_a_warning_until_its_option_was_given(scene: Scene) -> None:
    require("ethtool")
    scene.server.run("ethtool", "-K", "s0", "gro", "off", "tso", "off", "gso", "off")
    config = scene.directory / "short.toml"
    config.write_text("[capture]\nsnaplen = 256\n")
    found = examine(scene, "--config", str(config))
    assert found.verdict("snaplen") == "warn"
    option, value = found["snaplen"]["fix"].split()
    assert option == "--snaplen"
    config.write_text(f"[capture]\nsnaplen = {value}\n")
    assert examine(scene, "--config", str(config)).verdict("snaplen") == "pass"


def test_the_kernel_gives_the_ring_that_was_asked_for(scene: Scene) -> None:
    config = scene.directory / "ring.toml"
    config.write_text(f"[capture]\nring_bytes = {8 << 20}\n")
    assert examine(scene, "--config", str(config))["ring"]["seen"].startswith("8.39 MB")


def test_a_filter_that_does_not_compile_fails(scene: Scene) -> None:
    config = scene.directory / "filter.toml"
    config.write_text('[source]\nfilter = "tcp prot 80"\n')
    assert examine(scene, "--config", str(config)).verdict("filter") == "fail"


class Mirror:
    """Frames as a mirror port sends them, from the other end of the cable, over and over while it is open."""

    def __init__(self, scene: Scene, frames: Iterable[bytes]) -> None:
        with inside(scene.client):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.bind(("c0", 0))
        self._frames = list(frames)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def _send(self) -> None:
        while not self._end.wait(0.1):
            for frame in self._frames:
                self._socket.send(frame)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        join(self._thread)
        self._socket.close()


def connections(**where: Any) -> list[bytes]:
    """Twenty of them, four requests each."""
    some = [talk(*map(get, range(4)), client_port=40000 + number, **where) for number in range(20)]
    return [frame for one in some for _, frame in one.frames]


def judged(scene: Scene, frames: Iterable[bytes], check: str, verdict: str, *words: str | int) -> str:
    """Wait until these frames lead to this verdict; return what the check has seen.

    The doctor looks for a second at a time, in which a machine that is busy elsewhere sends too few frames to judge.
    """

    def seen() -> str:
        found = {one["check"]: one for one in examine(scene, "--seconds", 1, *words).findings}
        enough = found["traffic"]["verdict"] == "pass" and check in found
        return str(found[check]["seen"]) if enough and found[check]["verdict"] == verdict else ""

    with Mirror(scene, frames):
        return eventually(seen, f"{check}: {verdict}")


@pytest.mark.parametrize(("aware", "verdict"), [("false", "warn"), ("true", "pass")])
def test_a_filter_that_is_blind_for_vlans_is_told_by_the_traffic(scene: Scene, aware: str, verdict: str) -> None:
    config = scene.directory / "vlan.toml"
    config.write_text(f'[source]\nfilter = "tcp"\n[capture]\nvlan_aware = {aware}\n')
    assert judged(scene, connections(vlans=(7,)), "filter", verdict, "--config", str(config))


def test_a_filter_that_takes_nothing_is_told_by_the_traffic(scene: Scene) -> None:
    config = scene.directory / "filter.toml"
    config.write_text('[source]\nfilter = "tcp port 1"\n')
    assert "accepts none" in judged(scene, connections(), "filter", "warn", "--config", str(config))


def test_a_mirror_of_one_direction_is_told_by_the_traffic(scene: Scene) -> None:
    one = [talk(*map(get, range(4)), client_port=40000 + number) for number in range(20)]
    requests = [frame for made in one for _, frame in made.frames if frame[34:36] == made.frames[0][1][34:36]]
    assert judged(scene, requests, "both sides", "warn")
    assert judged(scene, connections(), "both sides", "pass")


def test_copies_are_told_by_the_traffic(scene: Scene) -> None:
    assert judged(scene, [copy for frame in connections() for copy in (frame, frame)], "copies", "warn")
    assert judged(scene, connections(), "copies", "pass")


def test_a_port_that_another_program_has_fails(scene: Scene) -> None:
    with inside(scene.server), socket.create_server(("127.0.0.1", 9470)):
        found = [one for one in examine(scene).findings if one["check"] == "listening" and one["verdict"] == "fail"]
    assert "metrics 127.0.0.1:9470" in found[0]["seen"]


def test_the_ports_of_a_run_on_another_interface_are_its_own(scene: Scene) -> None:
    scene.capture("--workers", 1)
    found = [
        one for one in Examination(scene.server, "-i", "lo", "--seconds", 0).findings if one["check"] == "listening"
    ]
    assert {one["verdict"] for one in found} == {"pass"}
    seen = [one["seen"] for one in found if "the appliance in" in one["seen"]]
    assert [words.split()[0] for words in sorted(seen)] == ["feed", "metrics", "replay"]


def test_nothing_on_the_wire_is_a_warning(scene: Scene) -> None:
    for host in (scene.server, scene.client):
        host.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")
    eventually(lambda: examine(scene, "--seconds", 1).verdict("traffic") == "warn", "the last frame has passed")


def test_a_user_who_may_not_capture_is_told(scene: Scene) -> None:
    require("setpriv")
    bare = ["setpriv", "--bounding-set", "-net_raw", sys.executable, "-m", "appliance", "doctor", "-i", "s0", "--json"]
    done = subprocess.run(
        scene.server.argv(bare), capture_output=True, check=False, env=environment(), timeout=PATIENCE_S
    )
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert (done.returncode, findings["permission"]["verdict"], findings["open"]["verdict"]) == (2, "fail", "fail")


# -- beside an appliance -----------------------------------------------------------------------------------------------


def test_a_run_without_a_fault_passes(scene: Scene) -> None:
    box = scene.capture("--workers", 2)
    load = scene.load("--until-eof")
    found = Examination(scene.server, "--run", str(box.home), "--seconds", 2)
    load.kill()
    passed = {finding["check"] for finding in found.findings if finding["verdict"] == "pass"}
    assert {"processes", "traffic", "losses", "ledger", "both sides", "copies", "lag", "feed", "ring"} <= passed, (
        found.findings
    )


def test_the_run_that_captures_on_the_interface_is_found_by_itself(scene: Scene) -> None:
    scene.capture()
    assert examine(scene, "--seconds", 1).verdict("processes") == "pass"


def test_a_worker_that_stands_still_and_what_it_costs_are_told(scene: Scene) -> None:
    links = ["--set", "shard.link_bytes=65536", "--set", "shard.batch_bytes=16384"]
    # It is left standing, and frames are dropped all the time instead of connections left out.
    box = scene.capture("--workers", 1, *links, "--set", "shedding.enabled=false")
    load = scene.load("--until-eof")
    pid = box.send("worker-0", signal.SIGSTOP)
    try:
        eventually(lambda: dropped(box), "frames are dropped")
        found = Examination(scene.server, "--run", str(box.home), "--seconds", 2)
    finally:
        resume(pid)
        load.kill()
    said = [finding for finding in found.findings if finding["check"] == "losses" and finding["verdict"] == "fail"]
    assert any("workers fell behind" in finding["seen"] and "link_bytes" in finding["fix"] for finding in said), said


def dropped(box: Box) -> int:
    return box.count("capture-0", "dropped_backlog.0")


def test_a_directory_that_is_none_of_ours_is_a_fault_of_the_arguments(scene: Scene) -> None:
    result = appliance("doctor", "--run", scene.directory, host=scene.server)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert str(scene.directory) in result.err
