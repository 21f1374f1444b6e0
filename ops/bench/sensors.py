"""The sensors probed on the cable: the appliance, libpcap alone, and Suricata where it is installed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from contenders import HERE, ROOT
from measure import Failed
from probe import PATIENCE_S, Verdict, cpu_s, last_words, started
from reading import Reading
from veth import SENSING, Cable

sys.path.insert(0, str(ROOT))

from appliance.stats.names import READY
from appliance.stats.page import Page

ENDPOINT = "tcp://127.0.0.1:5556"  # in a namespace of its own: nobody else is there
_PYTHON_PATH = {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
_MOVING = ("frames", "segments", "made.", "published.", "written_events")
_EMPTY_GAP_S = 0.02


def _wait(true: Callable[[], bool], what: str, process: subprocess.Popen[bytes], errors: Path) -> None:
    late = time.monotonic() + PATIENCE_S
    while not true():
        if process.poll() is not None or time.monotonic() > late:
            raise Failed(f"{what}\n{last_words(errors)}")
        time.sleep(_EMPTY_GAP_S)


def end(process: subprocess.Popen[bytes] | None) -> None:
    """Kills what is left of a process group."""
    if process is not None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


class Appliance:
    """The real thing: live capture, events to a file, and a ledger.

    arguments: more of them for `appliance run`. subscribed: events go to a subscriber too, which measures their age.
    """

    name = "appliance"

    def __init__(self, arguments: Sequence[str] = (), *, subscribed: bool = False) -> None:
        self._arguments = list(arguments)
        self._subscribed = subscribed
        self._process: subprocess.Popen[bytes] | None = None
        self._subscriber: subprocess.Popen[bytes] | None = None
        self._pages: dict[str, Page] = {}
        self._events: Reading[int] | None = None
        self.latency: dict[str, float] = {}

    def start(self, cable: Cable, scratch: Path) -> None:
        """Returns when every process is ready, and the subscriber has heard the feed."""
        self._scratch = scratch
        self._run = Path(tempfile.mkdtemp(prefix="run-", dir=scratch))
        files = ["-o", str(scratch / "events"), "--ledger", str(scratch / "ledger.json"), "--run-dir", str(self._run)]
        feed = ["--feed", ENDPOINT if self._subscribed else "off", "--metrics", "off"]
        words = [sys.executable, "-m", "appliance", "run", "-i", SENSING, *files, *feed, *self._arguments]
        self._errors = scratch / "appliance.txt"
        self._events = Reading(scratch / "events", lambda blocks: sum(block.count(b"\n") for block in blocks))
        self._process = started(cable.at_sensor(words), self._errors, _PYTHON_PATH)
        _wait(self._ready, "the appliance did not start", self._process, self._errors)
        self._pages = {path.stem: Page.open(path) for path in self._run.glob("*.stats")}
        if self._subscribed:
            self._said = scratch / "latency.json"
            words = [sys.executable, str(HERE / "latency.py"), ENDPOINT, str(self._said)]
            errors = scratch / "subscriber.txt"
            self._subscriber = started(cable.at_sensor(words), errors, _PYTHON_PATH)
            _wait(lambda: b"ready" in errors.read_bytes(), "no subscriber", self._subscriber, errors)

    def _ready(self) -> bool:
        """Every process has a page from the beginning; the supervisor's own says nothing."""
        pages = [Page.open(path) for path in self._run.glob("*.stats") if path.stem != "supervisor"]
        return bool(pages) and all(page["state"] == READY for page in pages)

    def pids(self) -> dict[str, int]:
        """Every process by name."""
        assert self._process is not None
        found = {name: page["pid"] for name, page in sorted(self._pages.items()) if name != "supervisor"}
        found["supervisor"] = self._process.pid
        return {**found, "subscriber": self._subscriber.pid} if self._subscriber else found

    def moved(self) -> int:
        """Grows with everything that is done."""
        pages = [page.snapshot() for page in self._pages.values()]
        return sum(number for page in pages for slot, number in page.items() if slot.startswith(_MOVING))

    def stop(self) -> Verdict:
        """Its ledger and its events. Raises Failed when it does not end well."""
        assert self._process is not None
        assert self._events is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"the appliance did not end\n{last_words(self._errors)}") from None
        if code != 128 + signal.SIGTERM:
            raise Failed(f"the appliance ended with {code}\n{last_words(self._errors)}")
        if self._subscriber is not None:
            if self._subscriber.wait(PATIENCE_S):
                raise Failed(f"the subscriber failed\n{last_words(self._scratch / 'subscriber.txt')}")
            self.latency = json.loads(self._said.read_text())
        return judge(json.loads((self._scratch / "ledger.json").read_text()), self._events.result())

    def kill(self) -> None:
        """Leaves nothing behind, whatever went wrong."""
        children = [page["pid"] for name, page in self._pages.items() if name != "supervisor"]
        end(self._process)
        end(self._subscriber)
        if self._events is not None:
            self._events.abandon()
        for pid in children:
            try:
                if str(self._run) in Path(f"/proc/{pid}/cmdline").read_text():
                    os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        for page in self._pages.values():
            page.close()
        self._process = self._subscriber = None
        self._pages = {}


def judge(ledger: Mapping[str, object], events: int) -> Verdict:
    """Return the verdict that a ledger gives: the losses, each with its place."""
    identities = ledger["identities"]
    assert isinstance(identities, dict)
    terms = {name: one["terms"] for name, one in identities.items()}
    losses = {f"{name} open by": abs(int(one["difference"])) for name, one in identities.items()}
    losses["dropped by the kernel"] = terms["L1"]["kernel_dropped"] + terms["L1"]["kernel_abandoned"]
    losses["shed_frames"] = terms["L2"]["shed_frames"]
    for place in ("L3", "L7"):
        for reason, number in terms[place].items():
            if reason.startswith(("dropped", "lost", "crash_lost")):
                losses[f"{place} {reason}"] = number
    for outcome in ("truncated", "failed"):
        losses[f"messages {outcome}"] = terms["L6"][f"messages.{outcome}"]
    return Verdict(terms["L1"]["kernel_received"], events, losses)


class Floor:
    """libpcap with an empty callback: what sending, the kernel and libpcap leave to any program. It has no events."""

    name = "libpcap floor"

    def __init__(self, program: Path) -> None:
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, cable: Cable, scratch: Path) -> None:
        """Returns when its ring is open."""
        self._said, self._errors = scratch / "floor", scratch / "floor.txt"
        words = ["sh", "-c", 'exec "$0" -i "$1" > "$2"', str(self._program), SENSING, str(self._said)]
        self._process = started(cable.at_sensor(words), self._errors, {})
        ready = b"ready"
        _wait(lambda: ready in self._errors.read_bytes(), "the floor did not start", self._process, self._errors)

    def pids(self) -> dict[str, int]:
        """It is one process."""
        assert self._process is not None
        return {self.name: self._process.pid}

    def moved(self) -> int:
        """Its processor time: it has no other sign of life."""
        return round(1000 * sum(map(cpu_s, self.pids().values())))

    def stop(self) -> Verdict:
        """Its own count, and the kernel's."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(PATIENCE_S)
        words = self._said.read_text().split()
        if len(words) != 8:
            raise Failed(f"the floor said nothing\n{last_words(self._errors)}")
        return Verdict(int(words[4]), None, {"dropped by the kernel": int(words[6])})

    def kill(self) -> None:
        """Leaves nothing behind."""
        end(self._process)
        self._process = None


class Suricata:
    """Suricata on the same interface, HTTP log only: one receiving thread, TPACKET_V3, a ring of about a second."""

    name = "suricata"

    def __init__(self, program: str) -> None:
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._verdict: Reading[Verdict] | None = None

    def start(self, cable: Cable, scratch: Path) -> None:
        """Returns when it says that it has started."""
        self._scratch = scratch
        self._errors = scratch / "suricata.txt"
        config = scratch / "suricata.yaml"
        config.write_text(live_config(HERE / "suricata.yaml"))
        self._verdict = Reading(scratch / "eve.json", judge_eve)
        words = [self._program, "-c", str(config), f"--af-packet={SENSING}", "-k", "none", "-S", os.devnull]
        self._process = started(cable.at_sensor([*words, "-l", str(scratch)]), self._errors, {})
        _wait(
            lambda: b"Engine started" in self._errors.read_bytes(),
            "Suricata did not start",
            self._process,
            self._errors,
        )
        sockets = Path(f"/proc/{self._process.pid}/net/packet")  # its threads say nothing when they have opened theirs
        _wait(lambda: sockets.read_text().count("\n") > 1, "Suricata opened no socket", self._process, self._errors)
        time.sleep(0.5)

    def pids(self) -> dict[str, int]:
        """It is one process."""
        assert self._process is not None
        return {self.name: self._process.pid}

    def moved(self) -> int:
        """Grows with every event; they are written as they are made."""
        return (self._scratch / "eve.json").stat().st_size

    def stop(self) -> Verdict:
        """Its own counters, as it writes them when it ends."""
        assert self._process is not None
        assert self._verdict is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"Suricata did not end\n{last_words(self._errors)}") from None
        return self._verdict.result()

    def kill(self) -> None:
        """Leaves nothing behind."""
        end(self._process)
        if self._verdict is not None:
            self._verdict.abandon()
        self._process = None


def judge_eve(blocks: Iterable[bytes]) -> Verdict:
    """The events of an EVE log in blocks of whole lines, and the losses of its last statistics.

    Raises Failed when there are none.
    """
    events, stats = 0, b""
    for block in blocks:
        events += block.count(b'"event_type":"http"')
        if b'"event_type":"stats"' in block:
            stats = [line for line in block.splitlines() if b'"event_type":"stats"' in line][-1]
    if not stats:
        raise Failed("no statistics in Suricata's log")
    found = json.loads(stats)["stats"]
    capture, tcp = found["capture"], found.get("tcp", {})
    losses = {"dropped by the kernel": capture.get("kernel_drops", 0)}
    for name in ("reassembly_gap", "segment_memcap_drop", "ssn_memcap_drop"):
        losses[f"tcp.{name}"] = tcp.get(name, 0)
    return Verdict(capture.get("kernel_packets", 0), events, losses)


def live_config(base: Path) -> str:
    """The configuration for files, with a packet socket and with statistics."""
    return f"""%YAML 1.1
---
include: {base}
stats:
  enabled: yes
  interval: 60
outputs:
  - eve-log:
      enabled: yes
      filetype: regular
      filename: eve.json
      types:
        - http:
            extended: yes
        - stats:
            totals: yes
            threads: no
af-packet:
  - interface: {SENSING}
    threads: 1
    cluster-id: 7
    cluster-type: cluster_flow
    defrag: no
    use-mmap: yes
    tpacket-v3: yes
    ring-size: 200000
    block-size: 1048576
"""
