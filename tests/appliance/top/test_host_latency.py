"""The slowest hosts of the last minute."""

from __future__ import annotations

import random

import pytest

from appliance.top.host_latency import MAX_HOSTS, OTHERS, HostTimes


def test_the_slowest_comes_first() -> None:
    times = HostTimes()
    for host, seconds in (("quick", 0.001), ("slow", 0.5), ("middle", 0.02)):
        times.add(host, seconds, error=False, now=0)
    assert [host.name for host in times.worst(2, 0)] == ["slow", "middle"]


def test_percentiles_are_right_to_a_bucket() -> None:
    chosen = random.Random(1)
    values = [chosen.expovariate(10) for _ in range(5000)]
    times = HostTimes()
    for value in values:
        times.add("host", value, error=False, now=0)
    (host,) = times.worst(1, 0)
    ordered = sorted(values)
    assert host.p95_s == pytest.approx(ordered[4750], rel=0.1)
    assert host.median_s == pytest.approx(ordered[2500], rel=0.1)
    assert host.responses == 5000


def test_what_is_older_than_a_minute_is_forgotten() -> None:
    times = HostTimes()
    times.add("old", 1.0, error=False, now=100)
    times.add("new", 0.1, error=True, now=145)
    assert [host.name for host in times.worst(9, 150)] == ["old", "new"]
    assert [(host.name, host.errors) for host in times.worst(9, 165)] == [("new", 1)]
    assert times.worst(9, 1000) == []


def test_names_without_end_cost_a_thousand_hosts() -> None:
    times = HostTimes()
    for number in range(5 * MAX_HOSTS):
        times.add(f"h{number}", 0.1, error=False, now=0)
    found = times.worst(10 * MAX_HOSTS, 0)
    assert len(found) == MAX_HOSTS + 1
    assert {host.name: host.responses for host in found}[OTHERS] == 4 * MAX_HOSTS
