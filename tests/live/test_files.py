"""Capture files through the real processes: exactly the truth, in every format, with any number of workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from box import Result, appliance
from capture_files import MICRO, NANO, records, write_pcap, write_pcapng
from event_contract import event_of
from eventually import PATIENCE_S
from hosts import environment
from scene import require
from traffic import write_sample
from transactions import Event, assert_in_order, assert_whole, read_events

QUIET = ("--feed", "off", "--metrics", "off")


class Sample(NamedTuple):
    """The sample capture, what has to be found in it, and what was found with one worker."""

    path: Path
    truth: Counter[tuple[Any, ...]]
    lines: list[str]  # sorted


def facts_of_truth(one: dict[str, Any]) -> tuple[Any, ...]:
    """A transaction as the builder of the traffic knows it."""
    names = "client client_port server server_port index method target host status"
    sizes = "request_body response_body request_bytes response_bytes"
    facts = [one[name] for name in f"{names} {sizes}".split()]
    facts[7] = facts[7].partition(":")[0]
    return (*facts, *one["vlans"][:1], tuple(one["informational"]))


def facts_of_event(event: Event) -> tuple[Any, ...]:
    """The same of an event."""
    request, response = event["http"]["request"], event["http"]["response"]
    vlan = event["network"].get("vlan")
    return (
        event["source"]["ip"],
        event["source"]["port"],
        event["destination"]["ip"],
        event["destination"]["port"],
        event["appliance"]["transaction"],
        request["method"],
        event["url"]["original"],
        event["url"]["domain"],
        response["status_code"],
        request["body"]["bytes"],
        response["body"]["bytes"],
        request["bytes"],
        response["bytes"],
        *([int(vlan["id"])] if vlan else []),
        tuple(event["appliance"].get("informational", ())),
    )


def facts(events: Iterable[Event]) -> Counter[tuple[Any, ...]]:
    return Counter(map(facts_of_event, events))


def sorted_lines(path: Path) -> list[str]:
    return sorted(path.read_text().splitlines())


def read(path: Path, directory: Path, *words: str | int, **how: Any) -> Result:
    """Reads a capture file into events.jsonl of the directory; its ledger has to close when the run succeeds."""
    ledger = directory / "ledger.json"
    out = directory / "events.jsonl"
    result = appliance("run", "-r", path, "-o", out, "--ledger", ledger, *QUIET, *words, **how)
    if result.code == 0:
        assert json.loads(ledger.read_text())["unaccounted"] == 0, result.err
    assert "Traceback" not in result.err
    return result


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    directory = tmp_path_factory.mktemp("sample")
    path = directory / "sample.pcap"
    write_sample(path, with_truth=True)
    listed = json.loads(path.with_suffix(".truth.json").read_text())["transactions"]
    assert read(path, directory, "--workers", 1).code == 0
    return Sample(path, Counter(map(facts_of_truth, listed)), sorted_lines(directory / "events.jsonl"))


def test_the_events_of_a_file_are_exactly_the_truth(sample: Sample) -> None:
    events = [event_of(line) for line in sample.lines]
    assert facts(events) == sample.truth
    assert_whole(events)
    assert len({event["event"]["id"] for event in events}) == len(events)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("feed", ["off", "tcp://127.0.0.1:0"])
def test_the_events_of_a_connection_stand_in_the_order_in_which_they_ended(
    sample: Sample, tmp_path: Path, workers: int, feed: str
) -> None:
    words = ("--feed", feed, "--set", "feed.replay=off")
    assert read(sample.path, tmp_path, "--workers", workers, *words).code == 0
    assert_in_order(read_events(tmp_path / "events.jsonl"))


def test_standard_output_keeps_the_order_of_a_connection(sample: Sample) -> None:
    result = appliance("run", "-r", sample.path, "-o", "-", "--workers", 2, *QUIET)
    assert_in_order(json.loads(line) for line in result.out.splitlines())


def test_parquet_keeps_the_order_of_a_connection(sample: Sample, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    path = tmp_path / "events.parquet"
    assert appliance("run", "-r", sample.path, "-o", path, "--workers", 2, *QUIET).code == 0
    rows = parquet.read_table(path).select(["event_id"]).to_pylist()
    told = {event["event"]["id"]: event for event in map(event_of, sample.lines)}
    assert_in_order(told[row["event_id"]] for row in rows)


@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers_gives_the_same_events(sample: Sample, tmp_path: Path, workers: int) -> None:
    assert read(sample.path, tmp_path, "--workers", workers).code == 0
    assert sorted_lines(tmp_path / "events.jsonl") == sample.lines


def test_the_same_file_again_replaces_its_events(sample: Sample, tmp_path: Path) -> None:
    for _ in range(2):
        assert read(sample.path, tmp_path).code == 0
    assert sorted_lines(tmp_path / "events.jsonl") == sample.lines


# -- formats -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "magic"), [("<", MICRO), (">", NANO), (">", MICRO)], ids=["le-us", "be-ns", "be-us"])
def test_every_pcap_format_holds_the_same_transactions(sample: Sample, tmp_path: Path, order: str, magic: int) -> None:
    path = tmp_path / sample.path.name
    write_pcap(path, sample.path, order=order, magic=magic)
    assert read(path, tmp_path).code == 0
    assert facts(read_events(tmp_path / "events.jsonl")) == sample.truth
    if magic == NANO:
        assert sorted_lines(tmp_path / "events.jsonl") == sample.lines


@pytest.mark.parametrize("order", ["<", ">"], ids=["le", "be"])
def test_pcapng_gives_the_same_events(sample: Sample, tmp_path: Path, order: str) -> None:
    path = tmp_path / sample.path.name
    write_pcapng(path, sample.path, order=order)
    assert read(path, tmp_path).code == 0
    assert sorted_lines(tmp_path / "events.jsonl") == sample.lines


@pytest.mark.peer
def test_pcapng_as_wiresharks_tools_write_it_gives_the_same_events(sample: Sample, tmp_path: Path) -> None:
    require("editcap")
    path = tmp_path / sample.path.name
    subprocess.run(["editcap", "-F", "pcapng", sample.path, path], check=True, capture_output=True, timeout=PATIENCE_S)
    assert path.read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"
    assert read(path, tmp_path).code == 0
    assert sorted_lines(tmp_path / "events.jsonl") == sample.lines


# -- files that are not whole ------------------------------------------------------------------------------------------


def test_a_truncated_file_gives_the_events_up_to_the_cut(sample: Sample, tmp_path: Path) -> None:
    ends = [24]
    for _, _, frame in records(sample.path):
        ends.append(ends[-1] + 16 + len(frame))
    whole = ends[len(ends) // 2]
    data = sample.path.read_bytes()
    found = []
    for name, size in (("whole", whole), ("cut", whole + 20)):
        directory = tmp_path / name
        directory.mkdir()
        path = directory / sample.path.name
        path.write_bytes(data[:size])
        result = read(path, directory)
        assert result.code == 0, result.err
        assert ("every whole frame before that was read" in result.err) == (name == "cut"), result.err
        found.append(sorted_lines(directory / "events.jsonl"))
    assert found[0] == found[1]
    complete = [event for event in map(event_of, found[1]) if event["appliance"].get("response", {}).get("complete")]
    assert len(complete) > 50
    assert facts(complete) <= sample.truth


@pytest.mark.parametrize("piece", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 4, b"\xd4\xc3\xb2"])
def test_what_is_no_capture_is_refused_by_name(tmp_path: Path, piece: bytes) -> None:
    path = tmp_path / "odd.pcap"
    path.write_bytes(piece)
    result = read(path, tmp_path)
    assert result.code == 2
    assert str(path) in result.err
    assert ("empty" in result.err) == (not piece), result.err


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    result = read(tmp_path / "none.pcap", tmp_path)
    assert result.code == 2
    assert "none.pcap" in result.err


def test_a_capture_without_frames_has_no_events(sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / "header.pcap"
    path.write_bytes(sample.path.read_bytes()[:24])
    assert read(path, tmp_path).code == 0
    assert (tmp_path / "events.jsonl").read_text() == ""


# -- pipes -------------------------------------------------------------------------------------------------------------


def test_standard_input_gives_the_same_events(sample: Sample, tmp_path: Path) -> None:
    with subprocess.Popen(["cat", sample.path], stdout=subprocess.PIPE) as source:
        result = read(Path("-"), tmp_path, stdin=source.stdout)
    assert result.code == 0
    text = (tmp_path / "events.jsonl").read_text().replace('"name":"-"', f'"name":"{sample.path.name}"')
    assert sorted(text.splitlines()) == sample.lines


def test_a_file_as_standard_input_gives_the_same_transactions(sample: Sample, tmp_path: Path) -> None:
    with sample.path.open("rb") as source:
        assert read(Path("-"), tmp_path, stdin=source).code == 0
    assert facts(read_events(tmp_path / "events.jsonl")) == sample.truth


def test_standard_input_that_comes_in_drops_gives_the_same_transactions(sample: Sample, tmp_path: Path) -> None:
    data = sample.path.read_bytes()
    out = tmp_path / "events.jsonl"
    words = ["run", "-r", "-", "-o", str(out), *QUIET]
    with subprocess.Popen(
        [sys.executable, "-m", "appliance", *words], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdin
        for at in range(0, len(data), 20_011):  # cuts frames and their headers anywhere
            process.stdin.write(data[at : at + 20_011])
            process.stdin.flush()
            time.sleep(0.002)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    assert facts(read_events(out)) == sample.truth


def test_standard_output_holds_events_and_nothing_else(sample: Sample) -> None:
    result = appliance("run", "-r", sample.path, "-o", "-", *QUIET)
    assert result.code == 0
    assert sorted(result.out.splitlines()) == sample.lines
    assert "ledger closed" in result.err


@pytest.mark.parametrize("wanted", [0, 1, 20])
def test_a_reader_of_the_output_may_stop_early(sample: Sample, wanted: int) -> None:
    reader, writer = os.pipe()
    words = [sys.executable, "-m", "appliance", "run", "-r", str(sample.path), "-o", "-", *QUIET]
    process = subprocess.Popen(words, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment())
    os.close(writer)
    with os.fdopen(reader) as lines:
        for _ in range(wanted):
            assert json.loads(lines.readline())["event"]["kind"] == "event"
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode in (0, 1), errors
    assert "Traceback" not in errors


def test_head_may_read_the_output(sample: Sample) -> None:
    text = f"{sys.executable} -m appliance run -r {sample.path} -o - {' '.join(QUIET)} | head -n 1"
    done = subprocess.run(
        ["sh", "-c", text], capture_output=True, text=True, check=True, timeout=PATIENCE_S, env=environment()
    )
    assert len(done.stdout.splitlines()) == 1
    assert done.stdout.strip() in sample.lines
    assert "Traceback" not in done.stderr
