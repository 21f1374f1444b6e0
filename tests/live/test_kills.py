"""Any process killed or stopped at any time under load: each comes back, and the ledger closes to the frame.

APPLIANCE_KILLS says how many (`make kills` has 200), APPLIANCE_SEED repeats a run."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter

import pytest
from box import Box, alive
from eventually import eventually
from load import Load
from scene import Scene
from transactions import of_event

from appliance.stats.names import READY

KILLS = int(os.environ.get("APPLIANCE_KILLS", "12"))
SIGNALS = [signal.SIGKILL] * 3 + [signal.SIGSTOP]
pytestmark = pytest.mark.root


def at_work(box: Box, name: str) -> bool:
    return box.count(name, "state") == READY and alive(box.count(name, "pid"))


def hurt(box: Box, name: str, number: int) -> None:
    """SIGKILL, or SIGSTOP, after which it is not helped; waits until a successor was started."""
    starts = box.count(name, "starts")
    box.send(name, number)
    eventually(lambda: box.count(name, "starts") > starts, f"{name} is started again")


def strike(box: Box, dice: random.Random) -> str:
    """Hurts any process that is at work. Others may be hurt before a killed one is back."""
    names = box.names()
    eventually(lambda: any(at_work(box, name) for name in names), "somebody is at work")
    name, number = dice.choice([name for name in names if at_work(box, name)]), dice.choice(SIGNALS)
    time.sleep(dice.random() * 0.4)
    if number == signal.SIGSTOP or dice.random() < 0.5:
        hurt(box, name, number)
    else:
        box.send(name, number)
        eventually(lambda: not at_work(box, name), f"{name} is dead")
    return name


def test_random_kills_under_load_leave_a_closed_ledger(scene: Scene) -> None:
    seed = int(os.environ.get("APPLIANCE_SEED") or time.time_ns() % 2**32)
    dice = random.Random(seed)
    options = ("--dataset", "http", "--dataset", "flow", "--set", f"record.path={scene.directory}/ring")
    box = scene.capture("--workers", 2, "--feed", "off", "--metrics", "off", "--set", "run.hung_s=3", *options)
    load = Load(scene)
    done: Counter[str] = Counter()
    print(f"APPLIANCE_SEED={seed}")
    while done.total() < KILLS:
        done[strike(box, dice)] += 1
    eventually(lambda: all(at_work(box, name) for name in box.names()), "all are at work again")
    last = Load(scene, "last")
    before = box.count("feed", "written_events")
    eventually(lambda: box.count("feed", "written_events") > before + 100, "events are written")
    told = {one.target for one in last.stop()} | {one.target for one in load.stop()}
    assert box.stop() == 143, box.errors()

    ledger = box.ledger()
    events = [of_event(event) for event in box.events() if "http" in event]
    flows = [event["appliance"]["flow"]["since_last"]["payload_bytes"] for event in box.events() if "http" not in event]
    reported, counted = sum(flows), ledger["L8"]["flow_payload.reported"]
    made = sum(box.page(f"worker-{worker}").snapshot()["made.flow."] for worker in range(2))
    # The ledger counts events that died with a process in L7, not their bytes.
    assert reported == counted if len(flows) == made else reported < counted
    requests = Counter(one.target for one in events if one.target)
    assert requests.keys() <= told
    assert set(requests.values()) == {1}, requests.most_common(3)
    assert (
        box.page("supervisor").snapshot().items()
        >= {f"restarts.{name.replace('-', '.')}": count for name, count in done.items()}.items()
    ), box.errors()


@pytest.mark.parametrize("name", ["capture-0", "worker-0", "feed"])
def test_a_stopped_process_is_replaced_by_itself(scene: Scene, name: str) -> None:
    box = scene.capture("--workers", 1, "--feed", "off", "--metrics", "off", "--set", "run.hung_s=6")
    load = Load(scene)
    eventually(lambda: box.count("feed", "written_events") > 50, "events are written")
    hurt(box, name, signal.SIGSTOP)
    before = box.count("feed", "written_events")
    eventually(lambda: box.count("feed", "written_events") > before + 50, "events are written again")
    load.stop()
    assert box.stop() == 143
    box.ledger()
    assert box.count("supervisor", f"hung.{name.replace('-', '.')}") == 1
