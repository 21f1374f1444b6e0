"""Batches that workers die of: tried twice, left out, kept to be looked at; everything else goes on."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from box import Box
from capture_files import records
from hosts import HERE
from traffic import Conversation, Exchange, PcapWriter, exchange

POISON = b"a word that no worker can bear"
BATCH = 4096
QUIET = ("--workers", 1, "--feed", "off", "--metrics", "off", "--set", f"shard.batch_bytes={BATCH}")


def conversation(number: int, word: bytes) -> Conversation:
    """One transaction that brings this word with it."""
    made: Exchange = exchange("GET", f"/{number}", body=word + b"." * 1000)
    return Conversation(client_port=20000 + number).handshake().exchange(made).close()


def write(path: Path, poisoned: set[int], count: int = 40) -> None:
    """So many connections, one after the other, some of them with the word in it."""
    with PcapWriter(path) as file:
        for number in range(count):
            for frame in conversation(number, POISON if number in poisoned else b"fine").frames:
                file.write(*frame)


Run = Callable[..., Box]


@pytest.fixture
def run(run_box: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run over a file in which these connections are poisoned; it has ended."""
    monkeypatch.setenv("POISON", POISON.decode())

    def start(poisoned: set[int], *words: str | int) -> Box:
        write(tmp_path / "frames.pcap", poisoned)
        box = run_box("-r", str(tmp_path / "frames.pcap"), *QUIET, *words, program=(HERE / "stand_ins" / "fragile.py",))
        assert box.wait() == 1, box.errors()  # what was lost was asked for
        return box

    return start


def kept(box: Box) -> list[Path]:
    return sorted((box.home / "quarantine").glob("*.pcap"))


def test_a_batch_that_two_workers_died_of_is_left_out_and_kept(run: Run) -> None:
    box = run({20})
    (file,) = kept(box)
    frames = [frame for _, _, frame in records(file)]
    assert any(POISON in frame for frame in frames)
    assert box.ledger()["L4"]["quarantined"] == len(frames)
    assert box.count("supervisor", "restarts.worker.0") == 2
    assert "worker 0 was killed by SIGSEGV" in box.errors()
    assert f"two workers died of a batch of {len(frames)} frames; it is left out, see {file}" in box.errors()
    assert POISON.decode() not in box.errors()


def test_an_exception_costs_no_more_than_a_signal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POISON_RAISES", "1")
    box = run({20})
    (file,) = kept(box)
    assert box.ledger()["L4"]["quarantined"] == sum(1 for _ in records(file))
    assert box.count("supervisor", "restarts.worker.0") == 2
    assert "RuntimeError" in box.errors()


def test_what_is_not_in_such_a_batch_comes_out(run: Run) -> None:
    box = run({20})
    spoilt = {
        int(number)
        for _, _, frame in records(kept(box)[0])
        for number in [int.from_bytes(frame[34:36], "big") - 20000, int.from_bytes(frame[36:38], "big") - 20000]
        if 0 <= number < 40
    }
    seen = {int(event["url"]["path"][1:]) for event in box.events() if "url" in event}
    # What a killed worker knew of a connection that went on, and what it had not published, is gone with it.
    assert set(range(max(spoilt) + 1, 40)) <= seen
    assert 20 not in seen
    assert len(box.events()) == len({event["event"]["id"] for event in box.events()})


def test_what_is_kept_is_bounded_and_private(run: Run) -> None:
    box = run({10, 18, 26}, "--set", "workers.quarantine_files=2")
    files = kept(box)
    assert len(files) == 2
    assert [stat.S_IMODE(os.stat(path).st_mode) for path in (box.home / "quarantine", *files)] == [0o700, 0o640, 0o640]
    assert box.count("worker-0", "quarantined_batches") == 3
    assert box.ledger()["L4"]["quarantined"] > sum(1 for path in files for _ in records(path))


def test_nothing_is_kept_where_nothing_is_wanted(run: Run) -> None:
    box = run({20}, "--set", "workers.quarantine_files=0")
    assert not (box.home / "quarantine").exists()
    assert box.ledger()["L4"]["quarantined"] > 0
