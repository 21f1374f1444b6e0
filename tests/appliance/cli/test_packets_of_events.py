"""`appliance packets --event`, as a person calls it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import START_NS
from conversation import Conversation
from exchange import exchange
from pcapfile import PcapWriter
from test_command_line import appliance, mistake
from tls_writer import Session13
from wire import udp

from appliance.ring.pcapng import PcapngWriter

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two connections of two transactions each."""
    frames = []
    for number in range(2):
        talk = Conversation(client_port=40000 + number).handshake()
        for path in "ab":
            talk.exchange(exchange("GET", f"/{number}{path}", body=b"hello"))
        frames += talk.close("client").frames
    path = tmp_path_factory.mktemp("packets-event") / "two.pcap"
    with PcapWriter(path) as writer:
        writer.write_all(sorted(frames, key=lambda frame: frame[0]))
    return path


@pytest.fixture(scope="module")
def events(capture: Path) -> Path:
    out = capture.with_name("events.jsonl")
    assert appliance("run", "-q", "-r", capture, "-o", out).returncode == 0
    return out


def all_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def frames_in(path: Path) -> int:
    return len(appliance("packets", "-r", path).stdout.splitlines())


def test_the_id_of_an_event_gives_its_connection(capture, events, tmp_path):
    event = all_of(events)[1]
    done = appliance("packets", "--event", event["event"]["id"], "-r", capture, "-w", tmp_path / "o.pcapng")
    assert done.returncode == 0
    assert f"frames of 1 connection in {tmp_path}/o.pcapng" in done.stderr
    assert "a run over it gives the same events" in done.stderr
    assert frames_in(tmp_path / "o.pcapng") * 2 == frames_in(capture)


def test_the_id_of_a_connection_gives_it_too(capture, events, tmp_path):
    connection = all_of(events)[0]["appliance"]["connection"]
    assert appliance("packets", "--event", connection, "-r", capture, "-w", tmp_path / "o").returncode == 0
    assert frames_in(tmp_path / "o") * 2 == frames_in(capture)


def test_a_file_of_events_gives_all_their_connections(capture, events, tmp_path):
    done = appliance("packets", "--event", events, "-r", capture, "-w", tmp_path / "o")
    assert "of 2 connections" in done.stderr
    assert frames_in(tmp_path / "o") == frames_in(capture)


def test_other_events_than_before_are_reported(capture, events, tmp_path):
    event = all_of(events)[0]
    event["event"]["id"] = "0" * 32
    (tmp_path / "e").write_text(json.dumps(event))
    done = appliance("packets", "--event", tmp_path / "e", "-r", capture, "-w", tmp_path / "o")
    assert done.returncode == 1
    assert f"a run over it gives 0 of 1 events; another one is {'0' * 32}" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--event", "0" * 32, "-r", "CAPTURE"], "no such event or connection in"),
        (["--event", "/nowhere", "-r", "CAPTURE"], "it is neither an id of 32 hexadecimal digits"),
        (["--event", "CAPTURE", "-r", "CAPTURE"], "not an event, one JSON object a line"),
        (["--event", "0" * 32, "-r", "/nowhere"], "-r /nowhere: No such file or directory"),
        (["--event", "0" * 32, "-r", "/dev/null"], "it is read twice, so it must be a file"),
        (["--event", "0" * 32, "-r", "CAPTURE", "-n", "1"], "--event takes -r FILE or --record DIR, and -w OUT.pcapng"),
        (
            ["--event", "0" * 32, "-r", "CAPTURE", "--keylog", "/nowhere"],
            "--keylog /nowhere: No such file or directory",
        ),
        (["--event", "0" * 32, "-r", "CAPTURE", "--keylog", "/dev/null"], "--keylog /dev/null: it is read twice"),
        (["--event", "0" * 32, "-r", "CAPTURE", "--identity", "KEY"], "--identity needs --record DIR"),
        (["-r", "CAPTURE", "--secrets"], "--record needs --event, or --where"),
        (["--event", "0" * 32], "--event takes -r FILE or --record DIR, and -w OUT.pcapng"),
        (["-r", "CAPTURE", "-r", "CAPTURE"], "several -r FILE are for --event"),
    ],
)
def test_a_mistake_is_answered_with_what_to_do(words, said, capture, tmp_path):
    given = [str(capture) if word == "CAPTURE" else word for word in words]
    assert said in mistake("packets", *given, "-w", tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_the_output_may_not_be_a_capture(capture):
    said = mistake("packets", "--event", "0" * 32, "-r", capture, "-w", capture)
    assert "is the file of -r, too" in said


@pytest.mark.parametrize("port", ["80", 70_000, -1])
def test_an_event_that_somebody_changed_is_refused(capture, events, tmp_path, port):
    event = all_of(events)[0]
    event["source"]["port"] = port
    changed = tmp_path / "changed.jsonl"
    changed.write_text(json.dumps(event))
    said = mistake("packets", "--event", changed, "-r", capture, "-w", tmp_path / "o.pcapng")
    assert "an event has no such field" in said


def test_the_datagrams_of_a_udp_flow_give_the_same_flow(tmp_path):
    ends = ("192.0.2.10", "198.51.100.20")
    frames = [
        (
            START_NS + at * 1_000_000,
            udp(*ends[:: 1 - 2 * side], ports[:: 1 - 2 * side], bytes(10 + at), client=not side),
        )
        for at, (side, ports) in enumerate([(0, (5000, 53)), (0, (5001, 53)), (1, (5000, 53)), (1, (5001, 53))] * 3)
    ]
    with PcapWriter(tmp_path / "dns.pcap") as writer:
        writer.write_all(frames)
    options = ("--set", "events.udp_flows=true", "--dataset", "flow")
    ledger = tmp_path / "ledger.json"
    done = appliance("run", "-q", "-r", tmp_path / "dns.pcap", "-o", tmp_path / "e", "--ledger", ledger, *options)
    assert done.returncode == 0
    found = json.loads(ledger.read_text())
    events = all_of(tmp_path / "e")
    reported = sum(event["appliance"]["flow"]["since_last"]["payload_bytes"] for event in events)
    assert found["unaccounted"] == 0
    assert found["identities"]["L8"]["terms"]["udp_payload_bytes"] == reported == sum(range(10, 22))
    (tmp_path / "one").write_text(json.dumps(events[0]))
    done = appliance("packets", "--event", tmp_path / "one", "-r", tmp_path / "dns.pcap", "-w", tmp_path / "o")
    assert done.returncode == 0, done.stderr
    assert "a run over it gives the same events" in done.stderr
    assert frames_in(tmp_path / "o") == 6


@pytest.fixture
def decrypted(tmp_path: Path) -> Path:
    """A capture of a TLS session that contains its secrets, and others."""
    session, talk = Session13(), Conversation().handshake()
    session.says(0, b"GET /inside HTTP/1.1\r\nHost: a.example\r\n\r\n")
    session.says(1, b"HTTP/1.1 204 No Content\r\n\r\n")
    for side, data in session.turns:
        (talk.server_sends if side else talk.client_sends)(data)
    path = tmp_path / "tls.pcapng"
    with path.open("wb") as out:
        writer = PcapngWriter(
            out, "", session.keylog + session.keylog.replace(bytes(range(32)).hex().encode(), b"f" * 64)
        )
        for stamp, frame in talk.close("client").frames:
            writer.write(frame, stamp, len(frame), 1, "")
    return path


def test_the_secrets_of_a_capture_come_along_if_asked_for(decrypted, tmp_path):
    words = ("packets", "--where", "path = /inside", "-r", decrypted, "-w", tmp_path / "o.pcapng")
    done = appliance(*words, "--secrets")
    assert done.returncode == 0, done.stderr
    assert "TLS secrets in it: 5, sessions: 1" in done.stderr
    assert b"f" * 64 not in (tmp_path / "o.pcapng").read_bytes()
    again = appliance("run", "-q", "-r", tmp_path / "o.pcapng", "-o", "-").stdout
    assert "/inside" in again
    assert appliance("run", "-q", "-r", decrypted, "-o", "-").stdout == again.replace("o.pcapng", decrypted.name)


def test_unasked_an_extract_has_no_secrets(decrypted, tmp_path):
    done = appliance("packets", "--where", "path = /inside", "-r", decrypted, "-w", tmp_path / "o.pcapng")
    assert done.returncode == 1
    assert "events of decrypted traffic need its secrets" in done.stderr
    assert b"_SECRET" not in (tmp_path / "o.pcapng").read_bytes()
