"""The judgements of `appliance doctor` that no machine at hand can be made to show."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.config.load import resolve
from appliance.config.schema import Config, Feed
from appliance.doctor import findings as finding
from appliance.doctor import host_checks as check_host
from appliance.doctor import interface_checks as check_interface
from appliance.doctor import run_checks as check_run
from appliance.doctor.findings import Finding, to_json
from appliance.doctor.host_checks import HOST
from appliance.doctor.host_facts import Clock, Machine, Sandbox
from appliance.doctor.interface_checks import INTERFACE
from appliance.doctor.nic_facts import Feature, Interface, Rings
from appliance.doctor.run_checks import RUN
from appliance.doctor.traffic_sample import Traffic
from appliance.stats.layout import (
    capture_layout,
    feed_layout,
    keeper_layout,
    recorder_layout,
    supervisor_layout,
    worker_layout,
)
from appliance.stats.names import FENCES, READY
from appliance.stats.snapshot import Snapshots

GIB = 1 << 30
CONFIG = resolve(None, {"source.interfaces": ["eth0"], "workers.count": 1, "source.filter": "tcp"})


def verdicts(found: list[Finding]) -> dict[str, str]:
    """By check; the worst where there are several."""
    worst: dict[str, str] = {}
    for one in found:
        if finding.EXIT_CODES[one.verdict] >= finding.EXIT_CODES[worst.get(one.check, "pass")]:
            worst[one.check] = one.verdict
    return worst


def interface(**how: Any) -> Interface:
    made = Interface("eth0", True, True, False, 1500, "ixgbe", 10_000, {}, Rings(4096, 4096), {})
    return made._replace(**how)


def of_interface(nic: Interface, traffic: Traffic | None = None, got: int = 256 << 20) -> list[Finding]:
    facts = check_interface.InterfaceFacts("eth0", CONFIG, nic, 256 << 20, got, traffic, 3.0)
    return list(INTERFACE.run("eth0", facts))


def machine(**how: Any) -> Machine:
    made = Machine(
        8, 64 * GIB, 65536, 65536, True, Clock(True, 0.001), Sandbox(True, 5, True), 0, 1000, 131_072, 212_992
    )
    return made._replace(**how)


def of_host(found: Machine | None = None, **how: Any) -> list[Finding]:
    given = {"config": CONFIG, "machine": found or machine(), "libpcap": "libpcap version 1.10 (with TPACKET_V3)"}
    given |= {"run_directory": "/run", "run_free_bytes": GIB, "run_in_memory": True, "arena_bytes": 1 << 20}
    given |= {"running": False, "faults": {}, "ours": {}}
    return list(HOST.run("host", check_host.HostFacts(**{**given, "dropped_now": 0, **how})))


def snapshots(workers: int = 1, **counters: int) -> Snapshots:
    given = {
        "state": READY,
        **{f"sandbox.{fence}": 1 for fence in FENCES},
        **{name.replace("__", "."): value for name, value in counters.items()},
    }
    layouts = [worker_layout(1)] * workers
    pages = [{name: given.get(name, 0) for name in layout} for layout in layouts]
    others = [capture_layout(workers, ["not_ip", "fragment"]), feed_layout(workers), supervisor_layout(workers, 1)]
    capture, feed, supervisor = ({name: given.get(name, 0) for name in layout} for layout in others)
    return Snapshots([capture], pages, feed, supervisor)


def of_run(now: Snapshots, before: Snapshots | None = None) -> list[Finding]:
    before = before or snapshots(len(now.workers))
    return list(RUN.run("run", check_run.RunFacts(CONFIG, before, now, 3.0, 0)))


def test_traffic_without_any_http_is_said() -> None:
    now = snapshots(frames=80, segments=80, payload_bytes=900, connections_open__tls=40, flows=40)
    (found,) = (one for one in of_run(now) if one.check == "protocols")
    assert (found.verdict, "40 of 40 connections are TLS" in found.seen) == ("warn", True)


def test_frames_without_any_tcp_are_said() -> None:
    (found,) = (one for one in of_run(snapshots(frames=8, rejected__not_ip=8)) if one.check == "protocols")
    assert (found.verdict, "8 of 8 frames are not IP" in found.seen) == ("warn", True)


def test_other_traffic_beside_http_is_said_and_no_fault() -> None:
    now = snapshots(**{"published__http.2xx.": 3}, payload_bytes=1000, not_http_bytes__tls=900, connections__tls=9)
    (found,) = (one for one in of_run(now) if one.check == "protocols")
    assert (found.verdict, found.seen) == ("pass", "90 % of the payload is TLS (9 of 9 connections)")


def test_a_good_machine_passes() -> None:
    assert set(verdicts(of_host()).values()) == {"pass"}
    assert set(verdicts(of_interface(interface(), Traffic(100, 100, 0, 0, 1514, 9, 0, 0))).values()) == {"pass"}
    assert set(verdicts(of_run(snapshots(frames=30_000, segments=30_000, received__0=30_000))).values()) == {"pass"}


@pytest.mark.parametrize(
    ("check", "nic", "fix"),
    [
        ("card ring", {"rings": Rings(256, 8192)}, "ethtool -G eth0 rx 4096"),
        ("offloads", {"features": {"rx-lro": Feature(True, False)}}, "ethtool -K eth0 lro off"),
        ("offloads", {"features": {"rx-gro-hw": Feature(True, True)}}, "the driver cannot turn this off"),
        ("MTU", {"counters": {"rx_length_errors": 3}}, "ip link set eth0 mtu 9216"),
    ],
)
def test_what_a_card_has_wrong_is_a_warning(check: str, nic: dict[str, Any], fix: str) -> None:
    (said,) = [one for one in of_interface(interface(**nic)) if one.check == check]
    assert said.verdict == "warn"
    assert said.fix.startswith(fix)
    assert said.why


def test_a_ring_that_the_kernel_made_smaller_is_a_warning() -> None:
    assert verdicts(of_interface(interface(), got=64 << 20))["ring"] == "warn"


@pytest.mark.parametrize(
    ("check", "verdict", "found"),
    [
        ("permission", "fail", {"may_capture": False}),
        ("cores", "warn", {"cores": 1}),
        ("memory", "fail", {"available_bytes": 128 << 20}),
        ("memory", "warn", {"available_bytes": 2 * GIB}),
        ("open files", "warn", {"open_files": 256}),
        ("clock", "warn", {"clock": Clock(False, 16.0)}),
        ("clock", "warn", {"clock": Clock(True, 5.0)}),
        ("kernel", "warn", {"option_bytes": 20_480}),
        ("sandbox", "warn", {"sandbox": Sandbox(True, 0, True)}),
    ],
)
def test_what_a_machine_has_wrong_is_said(check: str, verdict: str, found: dict[str, Any]) -> None:
    config = resolve(None, {"source.interfaces": ["eth0"], "workers.count": 2})
    said = of_host(machine(**found), config=config)
    assert verdicts(said)[check] == verdict
    assert all(one.why and one.fix for one in said if one.verdict != "pass")


def test_captures_that_have_no_cores_are_too_many() -> None:
    config = resolve(None, {"source.interfaces": ["eth0"], "workers.count": 1, "capture.fanout": 4})
    said = next(one for one in of_host(machine(cores=2), config=config) if one.check == "cores")
    assert said.fix == "--set capture.fanout=1 --workers 1"


def test_frames_that_the_backlog_drops_now_are_a_warning() -> None:
    assert verdicts(of_host(dropped_now=5))["kernel"] == "warn"


def test_a_run_directory_without_room_fails() -> None:
    assert verdicts(of_host(run_free_bytes=1000))["run directory"] == "fail"


def test_a_run_directory_on_a_disk_is_a_warning() -> None:
    assert verdicts(of_host(run_in_memory=False))["run directory"] == "warn"


def test_an_old_libpcap_is_a_warning() -> None:
    assert verdicts(of_host(libpcap="libpcap version 1.4"))["libpcap"] == "warn"


@pytest.mark.parametrize(("key", "verdict"), [("", "warn"), ("server.key_secret", "pass")])
def test_a_feed_for_other_hosts_needs_a_lock(key: str, verdict: str) -> None:
    config = Config(source=CONFIG.source, feed=Feed(bind="tcp://0.0.0.0:1", replay="off", curve_key=key))
    assert verdicts(of_host(config=config))["listening"] == verdict


@pytest.mark.parametrize(
    ("check", "verdict", "now", "before"),
    [
        ("losses", "fail", {"kernel_dropped": 9}, {"kernel_dropped": 1}),
        ("losses", "warn", {"kernel_dropped": 9}, {"kernel_dropped": 9}),
        ("processes", "fail", {"state": 1}, {}),
        ("processes", "warn", {"restarts__feed": 1}, {}),
        ("both sides", "warn", {"flows_ended__fin": 10, "flows_one_sided": 5}, {}),
        ("before us", "warn", {"acked_unseen_bytes": 5, "payload__delivered": 95}, {}),
        ("before us", "fail", {"acked_unseen_bytes": 50, "payload__delivered": 50}, {}),
        ("before us", "pass", {"acked_unseen_bytes": 50, "payload__delivered": 50, "kernel_dropped": 9}, {}),
        ("copies", "warn", {"duplicate_frames": 50, "segments": 100}, {}),
        ("checksums", "warn", {"checksums__bad": 50, "segments": 100}, {}),
        ("lag", "warn", {"frames": 10, "lag_ns": 3 * 10**9}, {}),
        ("limits", "warn", {"flows_ended__evicted": 1}, {}),
        ("feed", "warn", {"refused__key": 1}, {}),
        ("sandbox", "warn", {"sandbox__seccomp": 0}, {}),
        ("ledger", "warn", {"frames": 500_000}, {"frames": 400_000}),
        ("traffic", "warn", {"frames": 7}, {"frames": 7}),
    ],
)
def test_what_a_run_has_wrong_is_said(check: str, verdict: str, now: dict[str, int], before: dict[str, int]) -> None:
    found = of_run(snapshots(**now), snapshots(**before))
    assert verdicts(found)[check] == verdict
    assert all(one.why and one.fix for one in found if one.verdict != "pass")


def test_one_worker_with_nearly_all_the_work_is_a_warning() -> None:
    now = snapshots(workers=4)
    now.workers[1]["segments"] = 100_000  # type: ignore[index]
    assert verdicts(of_run(now))["balance"] == "warn"


def test_the_worst_verdict_is_the_exit_code() -> None:
    one = Finding(check="a", subject="host", verdict="pass", seen="x")
    assert finding.exit_code([one]) == 0
    assert finding.exit_code([one, Finding(check="b", subject="host", verdict="warn", seen="y")]) == 1
    assert finding.exit_code([Finding(check="c", subject="host", verdict="fail", seen="z"), one]) == 2


def test_what_passed_is_shown_only_when_verbose() -> None:
    found = [
        Finding(check="state", subject="eth0", verdict="pass", seen="up"),
        Finding(check="memory", subject="host", verdict="pass", seen="enough"),
        Finding(check="clock", subject="host", verdict="warn", seen="nothing keeps it", why="w", fix="m"),
    ]
    text = "\n".join(finding.render(found, verbose=False))
    assert "eth0" not in text
    assert "enough" not in text
    assert "nothing keeps it" in text
    assert text.endswith("2 passed (-v shows them), 1 to look at, 0 failed")
    assert "enough" in "\n".join(finding.render(found, verbose=True))


def test_the_fix_has_its_former_name_in_json_too() -> None:
    finding = Finding(check="clock", subject="host", verdict="warn", seen="s", why="w", fix="timedatectl")
    (row,) = json.loads(to_json([finding]))["findings"]
    assert (row["fix"], row["mend"]) == ("timedatectl", "timedatectl")


@pytest.mark.parametrize(
    ("counters", "verdict"), [({}, "pass"), ({"write_errors": 1}, "warn"), ({"left_out_share": 9}, "warn")]
)
def test_a_recorder_that_leaves_frames_out_is_reported(counters: dict[str, int], verdict: str) -> None:
    now = snapshots()
    fences = {f"sandbox.{fence}": 1 for fence in FENCES}
    page = {**dict.fromkeys(recorder_layout(1), 0), **fences, "state": READY, "recorded": 1000, **counters}
    capture = {**now.captures[0], "to_recorder": 1000, "past_recorder": 7, "sent.0": 1007}
    found = of_run(now._replace(captures=[capture], recorder=page), now._replace(captures=[capture], recorder=page))
    (about,) = [one for one in found if one.check == "record"]
    assert about.verdict == verdict
    assert "7" in about.seen


@pytest.mark.parametrize(
    ("counters", "verdict"), [({}, "pass"), ({"left_out.disk": 1}, "warn"), ({"left_out.not_in_ring": 9}, "warn")]
)
def test_a_keeper_that_leaves_frames_out_is_reported(counters: dict[str, int], verdict: str) -> None:
    now = snapshots()
    fences = {f"sandbox.{fence}": 1 for fence in FENCES}
    page = {**dict.fromkeys(keeper_layout(), 0), **fences, "state": READY, "kept": 1000, **counters}
    now = now._replace(keeper=page, feed=now.feed | {"to_keeper": 1000, "past_keeper": 7})
    (about,) = [one for one in of_run(now, now) if one.check == "keep"]
    assert about.verdict == verdict
    assert "1,000 events kept" in about.seen
