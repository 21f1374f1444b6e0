"""The capture process on files, with workers played by the test. Live capture: tests/live."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from eventually import PATIENCE_S, eventually, read_all
from feed_process import ROOT

from appliance.capture.process import shared_key
from appliance.config.schema import Config, Run, Shard, Source, Workers
from appliance.ipc.frame_batch import frames as frames_of
from appliance.ipc.frame_batch import header
from appliance.ipc.frame_link import FrameReceiver
from appliance.ipc.memory_sizes import slots
from appliance.ipc.sockets import Bus
from appliance.runtime.resolved_config import save_resolved
from appliance.stats.layout import capture_layout, worker_layout
from appliance.stats.names import DONE, READY
from appliance.stats.page import Page
from appliance.wire.tcp_locator import VERDICTS

pytestmark = pytest.mark.slow

SHARD = Shard(batch_bytes=4096, link_bytes=8 * 4096 * 4)


def tcp_frame(number: int, *, port: int = 80, tags: int = 0, size: int = 0) -> bytes:
    tcp = struct.pack(">HHIIBBHHH", 1024 + number % 60000, port, number, 0, 0x50, 16, 65535, 0, 0) + bytes(size)
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0, b"\x0a\0\0\1", b"\x0a\0\0\2")
    return bytes(12) + b"\x81\x00\x00\x07" * tags + b"\x08\x00" + ip + tcp


def write_pcap(path: Path, frames: list[bytes]) -> Path:
    records = [struct.pack("<IIII", 1, number, len(frame), len(frame)) + frame for number, frame in enumerate(frames)]
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1) + b"".join(records))
    return path


class Rig:
    """A run directory, a capture process, and the receivers of its workers."""

    def __init__(self, run_dir: Path, file: Path | str, drain_s: float = PATIENCE_S, **source: str) -> None:
        run_dir.chmod(0o700)
        self.run_dir = run_dir
        self.config = Config(
            source=Source(file=str(file), **source) if file else Source(interfaces=["nowhere0"], **source),
            shard=SHARD,
            workers=Workers(count=2),
            run=Run(drain_s=drain_s),
        )
        save_resolved(self.config, run_dir)
        self.page = Page.create(run_dir / "capture-0.stats", capture_layout(2, VERDICTS))
        self.pages = [Page.create(run_dir / f"worker-{w}.stats", worker_layout(1)) for w in range(2)]
        self.bus = Bus()
        self.listen()
        self.received: list[list[bytes]] = [[], []]
        self.ends = [0, 0]
        self.process: subprocess.Popen[bytes] | None = None

    def listen(self) -> None:
        """Opens the receivers, after closing those that there are with what they hold."""
        self.bus.close()
        self.bus = Bus()
        self.receivers = [FrameReceiver(self.bus, self.config, self.run_dir, w) for w in range(2)]

    def start(self, prelude: str = "") -> subprocess.Popen[bytes]:
        """prelude: Python that the process executes before it begins."""
        self.page["state"] = 0
        program = (
            f"import sys\n{prelude}\nfrom appliance.capture import process\nprocess.exit_now(process.main(sys.argv))"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, str(self.run_dir), "0"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        return self.process

    def take(self) -> None:
        """Receive from each link as a worker does; only `hear` acknowledges the end mark."""
        for worker, receiver in enumerate(self.receivers):
            while (message := receiver.receive()) is not None:
                about = header(message)
                assert about.cumulative == len(self.received[worker])
                self.received[worker] += [frame for _, _, frame in frames_of(message)]
                self.ends[worker] += about.end

    def hear(self) -> None:
        for worker, page in enumerate(self.pages):
            page["ended.0"] = int(self.ends[worker] > 0)

    def finish(self) -> int:
        """Plays the workers to the end of the capture; its exit code."""
        process = self.process
        assert process is not None

        def ended() -> bool:
            self.take()
            self.hear()
            return process.poll() is not None

        eventually(ended, "the end of the capture")
        self.take()
        return process.returncode

    def error(self) -> str:
        assert self.process is not None
        assert self.process.stderr is not None
        return read_all(self.process.stderr).decode()

    def balance(self) -> dict[str, int]:
        """Return the number of frames unaccounted for: in the capture, and in each link."""
        page = self.page.snapshot()
        drops = ("dropped_backlog", "dropped_stopping", "dropped_crash")
        return {
            "frames": page["frames"]
            + page["reassembled"]
            - sum(n for name, n in page.items() if name.startswith(("offered.", "rejected.", "shed_frames"))),
            **{f"{w}": page[f"offered.{w}"] - page[f"sent.{w}"] - sum(page[f"{d}.{w}"] for d in drops) for w in (0, 1)},
        }

    def close(self) -> None:
        self.bus.close()
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE_S)
            for pipe in (self.process.stdin, self.process.stderr):
                assert pipe is not None
                pipe.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(file: Path | str, **options: Any) -> Rig:
        made.append(Rig(tmp_path, file, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_the_end_is_said_as_soon_as_a_full_link_has_room(rig: Callable[..., Rig], tmp_path: Path) -> None:
    quota, _ = slots(Config(source=Source(file="-"), shard=SHARD, workers=Workers(count=2)))
    frames = [tcp_frame(0, size=1000)] * (3 * quota)  # three to a batch, and all to one worker
    made = rig(write_pcap(tmp_path / "f.pcap", frames))
    made.start("import appliance.capture.worker_links\nappliance.capture.worker_links.END_RETRY_INTERVAL_S = 1e9")
    eventually(lambda: sum(made.page[f"sent_batches.{w}"] for w in (0, 1)) == quota + 1, "the other worker's end")
    assert made.finish() == 0
    assert made.ends == [1, 1]


def test_every_frame_of_a_file_arrives_once_and_in_order(tmp_path: Path, rig: Callable[..., Rig]) -> None:
    frames = [tcp_frame(number, size=number % 1400) for number in range(2000)]
    with_others = [*frames[:1000], b"\0" * 60, *frames[1000:]]
    run = rig(write_pcap(tmp_path / "x.pcap", with_others))
    run.start()
    assert run.finish() == 0
    assert sorted(run.received[0] + run.received[1]) == sorted(frames)
    for got in run.received:
        assert len(got) > 500
        assert got == [frame for frame in frames if frame in set(got)]
    assert run.page["frames"] == 2001
    assert run.page["input_bytes_read"] == run.page["input_bytes_total"] == (tmp_path / "x.pcap").stat().st_size
    assert run.page["state"] == DONE
    assert set(run.balance().values()) == {0}


def test_reading_waits_for_a_worker_that_does_not_take(tmp_path: Path, rig: Callable[..., Rig]) -> None:
    run = rig(write_pcap(tmp_path / "x.pcap", [tcp_frame(number, size=1000) for number in range(2000)]))
    run.start()
    eventually(lambda: run.page["sent.0"] and run.page["progress_ns"], "the first batches")
    before = -1
    while before != (before := run.page["sent.0"] + run.page["sent.1"]):  # until the links are full
        with pytest.raises(subprocess.TimeoutExpired):
            run.process.wait(0.3)  # type: ignore[union-attr]
    assert before < 2000
    assert run.finish() == 0
    assert len(run.received[0] + run.received[1]) == 2000


def test_it_says_the_end_until_every_worker_has_heard_it(tmp_path: Path, rig: Callable[..., Rig]) -> None:
    run = rig(write_pcap(tmp_path / "x.pcap", [tcp_frame(1)]))
    process = run.start()

    def said_twice() -> bool:
        run.take()
        assert process.poll() is None
        return min(run.ends) >= 2

    eventually(said_twice, "the end mark, twice")
    assert run.finish() == 0


def test_a_worker_that_never_hears_the_end_is_given_up_after_a_stop(tmp_path: Path, rig: Callable[..., Rig]) -> None:
    run = rig(write_pcap(tmp_path / "x.pcap", [tcp_frame(number, size=1000) for number in range(2000)]), drain_s=0.3)
    process = run.start()
    eventually(lambda: run.page["state"] >= READY and run.page["sent.0"], "the first batches")
    process.terminate()
    assert process.wait(PATIENCE_S) == 1
    assert "not every worker took the last batches" in run.error()
    assert run.page["dropped_stopping.0"] > 0
    assert set(run.balance().values()) == {0}


def test_a_stop_accounts_for_what_was_read(tmp_path: Path, rig: Callable[..., Rig]) -> None:
    run = rig(write_pcap(tmp_path / "x.pcap", [tcp_frame(number, size=1000) for number in range(20000)]))
    process = run.start()
    eventually(lambda: run.page["sent.0"], "the first batches")
    process.terminate()
    assert run.finish() == 0
    assert 0 < len(run.received[0] + run.received[1]) == run.page["frames"] < 20000
    assert set(run.balance().values()) == {0}


def test_a_killed_reading_is_not_resumed_but_accounted_for(tmp_path: Path, rig: Callable[..., Rig]) -> None:
    run = rig(write_pcap(tmp_path / "x.pcap", [tcp_frame(number, size=1000) for number in range(20000)]))
    process = run.start()
    eventually(lambda: run.page["sent.0"], "the first batches")
    process.kill()
    process.wait(PATIENCE_S)
    run.error()
    for pipe in (process.stdin, process.stderr):
        assert pipe is not None
        pipe.close()
    # What it left for the workers is not looked at here: what is missing shows in the cumulative of the end mark.
    run.listen()
    for receiver in run.receivers:
        receiver.queued.clear()
    run.received = [[b""] * run.page[f"sent.{w}"] for w in (0, 1)]
    run.start()
    assert run.finish() == 1
    assert "cannot be resumed" in run.error()
    assert set(run.balance().values()) == {0}


def test_it_leaves_when_its_supervisor_dies(tmp_path: Path, rig: Callable[..., Rig]) -> None:
    run = rig(write_pcap(tmp_path / "x.pcap", [tcp_frame(1)]))
    process = run.start()
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(PATIENCE_S) == 1
    assert run.page["state"] != DONE


def test_a_cut_off_file_is_read_to_the_cut(tmp_path: Path, rig: Callable[..., Rig]) -> None:
    path = write_pcap(tmp_path / "x.pcap", [tcp_frame(number) for number in range(10)])
    path.write_bytes(path.read_bytes()[:-5])
    run = rig(path)
    run.start()
    assert run.finish() == 0
    assert run.page["frames"] == 9
    assert "appliance: " in (error := run.error())
    assert "truncated" in error


@pytest.mark.parametrize(
    ("file", "source", "message"),
    [
        ("README", {}, "not a pcap"),
        ("missing", {}, "missing"),
        ("", {}, "nowhere0"),
        ("x.pcap", {"filter": "tcp prt 80"}, "does not compile"),
    ],
)
def test_an_unusable_source_is_told_apart(
    tmp_path: Path, rig: Callable[..., Rig], file: str, source: dict[str, str], message: str
) -> None:
    (tmp_path / "README").write_text("This is no capture file, whatever its name says.")
    write_pcap(tmp_path / "x.pcap", [tcp_frame(1)])
    run = rig(tmp_path / file if file else "", **source)
    run.start()
    assert run.finish() == 2
    assert message in run.error()
    assert run.page["error"] == 1


@pytest.mark.parametrize(("aware", "found"), [(True, 3), (False, 1)])
def test_the_filter_reaches_into_vlan_tags(tmp_path: Path, rig: Callable[..., Rig], aware: bool, found: int) -> None:
    frames = [tcp_frame(1, port=port, tags=tags) for tags in range(3) for port in (80, 443)]
    run = rig(write_pcap(tmp_path / "x.pcap", frames), filter="tcp port 80")
    run.config = msgspec.structs.replace(
        run.config, capture=msgspec.structs.replace(run.config.capture, vlan_aware=aware)
    )
    save_resolved(run.config, tmp_path)
    run.start()
    assert run.finish() == 0
    assert run.page["frames"] == found


@pytest.mark.parametrize("vlan_in_flow", [True, False])
def test_vlan_ids_tell_flows_apart_only_if_asked_to(
    tmp_path: Path, rig: Callable[..., Rig], vlan_in_flow: bool
) -> None:
    frames = [tcp_frame(number, tags=tags) for number in range(20) for tags in range(3)]
    run = rig(write_pcap(tmp_path / "x.pcap", frames))
    run.config = msgspec.structs.replace(
        run.config, capture=msgspec.structs.replace(run.config.capture, vlan_in_flow=vlan_in_flow)
    )
    save_resolved(run.config, tmp_path)
    run.start()
    assert run.finish() == 0
    assert sum(map(len, run.received)) == 60
    first = set(run.received[0])
    together = [len({frame in first for frame in frames[at : at + 3]}) == 1 for at in range(0, 60, 3)]
    assert all(together) is not vlan_in_flow


@pytest.mark.parametrize(("max_tunnels", "found"), [(0, 1), (1, 2), (16, 3)])
def test_tunnels_are_entered_to_the_configured_depth(
    tmp_path: Path, rig: Callable[..., Rig], max_tunnels: int, found: int
) -> None:
    packet = tcp_frame(1)[14:]
    frames = []
    for _ in range(3):
        frames.append(tcp_frame(1)[:14] + packet)
        packet = struct.pack(">BBHIBBH8x", 0x45, 0, 20 + len(packet), 0, 64, 4, 0) + packet
    run = rig(write_pcap(tmp_path / "x.pcap", frames))
    run.config = msgspec.structs.replace(
        run.config, capture=msgspec.structs.replace(run.config.capture, max_tunnels=max_tunnels)
    )
    save_resolved(run.config, tmp_path)
    run.start()
    assert run.finish() == 0
    assert sum(map(len, run.received)) == found
    assert run.page["rejected.too_many_tunnels"] == 3 - found


def test_all_captures_share_a_key_that_nobody_else_knows(tmp_path: Path) -> None:
    assert shared_key(tmp_path) == shared_key(tmp_path)
    assert len(shared_key(tmp_path)) == 16
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    other = tmp_path / "other"
    other.mkdir()
    assert shared_key(other) != shared_key(tmp_path)
