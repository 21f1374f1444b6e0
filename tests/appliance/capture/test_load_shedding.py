"""The amount of load shedding: never too much for long, no oscillation, and nothing once the overload is over."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import KEY, config, sharder_of, talk
from hypothesis import given
from hypothesis import strategies as st
from wire import arp_request, udp

from appliance import Filter
from appliance.capture.load_shedding import (
    CHECK_INTERVAL_S,
    KERNEL_CHECK_INTERVAL_S,
    KERNEL_STEPS,
    MOST,
    KernelShedding,
    ShedController,
    Shedder,
    refusal,
)
from appliance.stats.layout import capture_layout
from appliance.stats.names import READY
from appliance.stats.page import Page
from appliance.wire.tcp_locator import VERDICTS

HIGH, RELEASE_S = 0.25, 4.0


class Look:
    """A controller, looked at every hundredth of a second."""

    def __init__(self) -> None:
        self.controller = ShedController(HIGH, RELEASE_S)
        self.now = 100.0

    def for_(self, seconds: float, fill: float = 0.0, lost: float = 0.0) -> list[int]:
        """The share at each look while it is so full."""
        found = []
        for _ in range(round(seconds / CHECK_INTERVAL_S)):
            self.now += CHECK_INTERVAL_S
            found.append(self.controller.look(self.now, fill, lost))
        return found


def test_nothing_is_left_out_while_there_is_room():
    assert set(Look().for_(10, fill=HIGH - 0.01)) == {0}


def test_losses_bring_it_up_within_a_third_of_a_second():
    found = Look().for_(0.3, lost=1)
    assert found == sorted(found)
    assert found[-1] == MOST


def test_the_fuller_the_faster():
    sizes = [Look().for_(0.2, fill=fill)[-1] for fill in (HIGH, 0.5, 0.75, 1.0)]
    assert sizes == sorted(set(sizes))
    assert sizes[0] > 0


def test_it_waits_while_the_queue_drains_by_itself():
    look = Look()
    reached = look.for_(0.1, fill=0.9)[-1]
    for fill in (0.8, 0.7, 0.6, 0.5, 0.4, 0.3):
        assert look.for_(CHECK_INTERVAL_S, fill=fill) == [reached]


def test_a_queue_that_stands_between_the_marks_changes_nothing():
    look = Look()
    reached = look.for_(0.2, fill=0.9)[-1]
    assert set(look.for_(60, fill=HIGH / 2)) == {reached}


def test_it_shrinks_to_where_the_pressure_began_and_stays_there_longest():
    look = Look()
    look.for_(0.2, fill=0.9)
    look.for_(1.0)
    began = look.controller.steps
    look.for_(0.3, lost=1)
    found = look.for_(RELEASE_S + CHECK_INTERVAL_S)
    assert found == sorted(found, reverse=True)
    assert 10 < began < 100
    assert sum(0.8 * began < steps < 1.2 * began + 2 for steps in found) > len(found) // 3
    assert found[0] > 250
    assert found[-1] == 0


def test_a_process_that_slept_does_not_jump():
    look = Look()
    look.for_(CHECK_INTERVAL_S, fill=1.0)
    look.now += 3600
    assert look.for_(CHECK_INTERVAL_S, fill=1.0)[0] < 64


def test_a_loss_now_and_then_does_not_add_up():
    look = Look()
    found = []
    for _ in range(120):
        found += look.for_(0.1, lost=0.01) + look.for_(0.9)
    assert 0 < max(found) < 48


FILLS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), max_size=60)


@given(FILLS)
def test_it_stays_within_its_bounds_and_is_nothing_soon_after_any_overload(fills):
    controller = ShedController(HIGH, RELEASE_S)
    now = 0.0
    for fill, lost, passed in fills:
        now += passed
        assert 0 <= controller.look(now, fill, lost) <= MOST
    for _ in range(500):  # 5 s
        now += CHECK_INTERVAL_S
        controller.look(now, 0.0, 0)
    assert controller.steps == 0


@given(FILLS)
def test_it_grows_only_under_pressure_and_shrinks_only_in_calm(fills):
    controller = ShedController(HIGH, RELEASE_S)
    now, before = 0.0, 0
    for fill, lost, passed in fills:
        now += passed
        steps = controller.look(now, fill, lost)
        if steps > before:
            assert lost or fill >= HIGH
        if steps < before:
            assert not lost
            assert fill < HIGH / 4
        before = steps


@given(st.floats(0.05, 0.9), st.floats(0.02, 0.5))
def test_under_a_lasting_overload_it_settles(sustainable, life_s):
    """A queue of a tenth of a second behind a link that takes part of the load, connections living for life_s."""
    controller = ShedController(HIGH, RELEASE_S)
    now, queue, kept = 0.0, 0.0, 1.0
    lost, shares = 0.0, []
    for _ in range(6000):  # 60 s
        now += CHECK_INTERVAL_S
        queue += (kept - sustainable) * CHECK_INTERVAL_S
        dropped = max(0.0, queue - 0.1)
        queue = min(max(queue, 0.0), 0.1)
        steps = controller.look(now, queue / 0.1, int(dropped > 0))
        kept += (1 - steps / 256 - kept) * min(1.0, CHECK_INTERVAL_S / life_s)
        if now > 10:
            lost += dropped
            shares.append(kept)
    assert lost < 0.05 * 50  # of the load
    assert sum(shares) / len(shares) > 0.6 * sustainable


# -- in the kernel -----------------------------------------------------------------------------------------------------


def kernel_after(*intervals: tuple[int, int]) -> list[int]:
    """Return the share the kernel refuses after each interval with (the share of the capture, frames lost in it)."""
    made, now, lost, found = KernelShedding(), 100.0, 0, []
    for share, more in intervals:
        lost += more
        for _ in range(round(KERNEL_CHECK_INTERVAL_S / CHECK_INTERVAL_S)):
            now += CHECK_INTERVAL_S
            steps = made.look(now, share, lost)
        found.append(steps)
    return found


def test_the_kernel_refuses_nothing_while_its_ring_has_room():
    assert kernel_after((200, 0), (200, 0), (200, 0)) == [0, 0, 0]


def test_the_kernel_refuses_what_has_been_left_out_for_a_while_when_its_ring_overflows():
    found = kernel_after((200, 9), (250, 9), (250, 9), (250, 9), (250, 0))
    assert found[0] == 0
    assert found[-1] == 240


@given(st.lists(st.tuples(st.integers(0, MOST), st.integers(0, 1)), min_size=1, max_size=30))
def test_the_kernel_soon_refuses_no_more_than_is_left_out(seconds):
    for (share, _), steps in zip(seconds, kernel_after(*seconds, (0, 0), (0, 0))[:-2], strict=True):
        assert steps % KERNEL_STEPS == 0
        assert 0 <= steps <= max(MOST, share)
    assert kernel_after(*seconds, (0, 1), (0, 1), (0, 1))[-1] == 0


ADDRESSES = [("192.0.2.1", "198.51.100.7"), ("255.255.255.255", "0.0.0.1"), ("2001:db8::1", "2001:db8:ffff::fffe:2")]


@given(
    st.sampled_from(ADDRESSES),
    st.integers(1, 65535),
    st.integers(1, 65535),
    st.integers(0, MOST),
    st.binary(min_size=16, max_size=16),
)
def test_the_kernel_refuses_the_very_flows_that_the_capture_leaves_out_both_directions(ends, port, other, steps, key):
    made = talk(client=ends[0], server=ends[1], client_port=port, server_port=other)
    sharder = sharder_of(key, 1, 4096)
    sharder.shed(0, steps)
    sharder.push(*made.frames[0])
    kernel = Filter(refusal(sharder.salt, steps))
    left_out = sharder.counts()["shed_flows"] == 1
    assert [kernel.matches(frame) for _, frame in made.frames] == [not left_out] * len(made.frames)


@pytest.mark.parametrize("text", ["tcp port 80", "tcp port 80 or (vlan and tcp port 80)", "not tcp or port 80"])
def test_the_users_filter_still_holds(text):
    for port in range(20000, 20030):
        frame = talk(client_port=port).frames[0][1]
        other = talk(client_port=port, server_port=81).frames[0][1]
        assert Filter(f"{refusal(0x80000001, 0)} and ({text})").matches(frame)
        assert not Filter(f"{refusal(0x80000001, 0)} and ({text})").matches(other)
        assert not Filter(f"{refusal(0x80000001, 256)} and ({text})").matches(frame)


def test_what_is_no_plain_tcp_is_never_refused():
    kernel = Filter(refusal(0x80000001, 256))
    others = [
        arp_request("192.0.2.1", "192.0.2.2"),
        udp("192.0.2.1", "192.0.2.2", (1, 2), b"x"),
        talk(vlans=[7]).frames[0][1],
    ]
    assert all(kernel.matches(frame) for frame in others)


# -- all links together ----------------------------------------------------------------------------------------------


class Rig:
    """Captures of two workers, each with its page."""

    def __init__(self, run_dir: Path, captures: int = 1) -> None:
        self.config = config(source={"interfaces": [f"mon{n}" for n in range(captures)]}, workers={"count": 2})
        self.pages = [Page.create(run_dir / f"capture-{n}.stats", capture_layout(2, VERDICTS)) for n in range(captures)]
        self.sharders = [sharder_of(KEY, 2, 4096) for _ in range(captures)]
        self.shedders = [Shedder(self.config, run_dir, n, page) for n, page in enumerate(self.pages)]
        self.now = 100.0

    def look(self, index: int = 0, fills: tuple[float, float] = (0.0, 0.0)) -> list[int]:
        self.now += CHECK_INTERVAL_S
        self.shedders[index].look(self.now, fills, self.sharders[index])
        return [self.pages[index][f"shed_steps.{w}"] for w in (0, 1)]

    def leaves_out(self, index: int = 0) -> int:
        """Return the number of flows this capture leaves out, of 400 new ones."""
        before = self.sharders[index].counts()["shed_flows"]
        for port in range(400):
            self.sharders[index].push(self.now, talk(client_port=20000 + port).frames[0][1])
        return self.sharders[index].counts()["shed_flows"] - before


def test_only_the_worker_that_is_behind_gets_less(tmp_path):
    rig = Rig(tmp_path)
    for _ in range(50):
        found = rig.look(fills=(1.0, 0.0))
    assert found[0] > 200
    assert found[1] == 0
    assert 100 < rig.leaves_out() < 300


def test_losses_in_the_kernel_ask_every_link(tmp_path):
    rig = Rig(tmp_path)
    rig.look()
    rig.shedders[0].see_ring((10, 5, 0), rig.sharders[0], mirror=False)
    assert min(rig.look()) > 0
    rig.shedders[0].see_ring((20, 5, 0), rig.sharders[0], mirror=False)
    before = rig.look()
    assert rig.look() <= before


def test_losses_on_a_link_ask_this_link(tmp_path):
    rig = Rig(tmp_path)
    rig.look()
    rig.pages[0].add("dropped_backlog.1", 5)
    found = rig.look()
    assert found[0] == 0
    assert found[1] > 0


def test_losses_of_a_predecessor_ask_nothing(tmp_path):
    rig = Rig(tmp_path)
    rig.pages[0].update({"kernel_dropped": 100, "dropped_backlog.0": 100, "shed_steps.0": 77})
    rig.shedders[0] = Shedder(rig.config, tmp_path, 0, rig.pages[0])
    assert rig.pages[0]["shed_steps.0"] == 0
    assert rig.look() == [0, 0]


def test_a_kernel_that_cannot_refuse_is_asked_once(tmp_path):
    rig = Rig(tmp_path)
    found = []
    for turn in range(400):
        rig.shedders[0].see_ring((10 + turn, turn, 0), rig.sharders[0], mirror=True)
        rig.look()
        found.append(rig.shedders[0].refused)
        assert rig.pages[0]["kernel_shed_steps"] == found[-1]
        if turn == 350:
            assert found[-1] == MOST // KERNEL_STEPS * KERNEL_STEPS
            rig.shedders[0].spare_kernel()
    assert set(found[351:]) == {0}
    assert 1 < rig.pages[0]["kernel_shed_ns"] / 1e9 < 3


@pytest.mark.parametrize(
    ("waiting", "mirror", "asks"), [(1000, False, False), (200_000, False, True), (200_000, True, False)]
)
def test_a_ring_that_fills_asks_every_link_where_that_can_be_known(tmp_path, waiting, mirror, asks):
    rig = Rig(tmp_path)
    frame = talk().frames[0][1].ljust(1400, b"\0")
    for _ in range(100):
        rig.sharders[0].push(1, frame)
    for _ in range(2):
        rig.shedders[0].see_ring((100 + waiting, 0, 0), rig.sharders[0], mirror=mirror)
        rig.sharders[0].push(1, frame)
        found = rig.look()
    assert (min(found) > 0) is asks


def test_captures_do_what_any_of_them_wants(tmp_path):
    rig = Rig(tmp_path, captures=2)
    rig.pages[0]["state"] = READY
    for _ in range(50):
        rig.look(0, (1.0, 1.0))
    assert rig.look(1) == [0, 0]
    assert rig.leaves_out(1) == rig.leaves_out(0) > 300
    rig.shedders[0].rest()
    rig.look(1)
    assert rig.leaves_out(1) == 0
