"""`appliance har`: from a capture file, a file of events and a feed, as a person calls it."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from conversation import Conversation
from eventually import eventually
from exchange import exchange
from feed_process import FeedProcess, feed_config
from pcapfile import PcapWriter
from test_command_line import appliance, mistake

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three transactions: a text in gzip, a picture, and a form."""
    talk = Conversation(client="192.0.2.1", server="198.51.100.2").handshake()
    coded = [("Content-Encoding", "gzip"), ("Content-Type", "text/plain")]
    talk.exchange(exchange("GET", "/text", body=gzip.compress(b"hello " * 100), response_headers=coded))
    talk.exchange(exchange("GET", "/picture", body=PICTURE, response_headers=[("Content-Type", "image/png")]))
    talk.exchange(exchange("GET", "/none", status=404)).close("client")
    path = tmp_path_factory.mktemp("har") / "three.pcap"
    with PcapWriter(path) as writer:
        writer.write_all(talk.frames)
    return path


@pytest.fixture(scope="module")
def events(capture: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("har-events") / "events.jsonl"
    assert appliance("run", "-q", "-r", capture, "-o", out).returncode == 0
    return out.read_bytes()


def entries(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_bytes())["log"]["entries"]


def paths(path: Path) -> list[str]:
    return [one["request"]["url"].rpartition("/")[2] for one in entries(path)]


def test_a_capture_file_has_fields_and_decoded_bodies(capture, tmp_path):
    done = appliance("har", "-r", capture, "-o", tmp_path / "out.har")
    assert (done.returncode, done.stderr) == (0, f"appliance: 3 transactions in {tmp_path}/out.har\n")
    text, picture, missing = entries(tmp_path / "out.har")
    assert text["response"]["content"]["text"] == "hello " * 100
    assert base64.b64decode(picture["response"]["content"]["text"]) == PICTURE
    assert missing["response"]["status"] == 404
    assert any(field["name"] == "host" for field in text["request"]["headers"])


@pytest.mark.parametrize("how", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_a_file_of_events_may_be_compressed(how, events, tmp_path):
    path = tmp_path / f"events{how}"
    path.write_bytes({".gz": gzip.compress, ".zst": zstandard.compress}.get(how[6:], bytes)(events))
    assert appliance("har", "--events", path, "-o", tmp_path / "out.har").returncode == 0
    assert paths(tmp_path / "out.har") == ["text", "picture", "none"]


def test_events_come_from_standard_input_and_the_archive_goes_to_standard_output(events, tmp_path):
    (tmp_path / "events").write_bytes(events)
    with open(tmp_path / "events") as lines:
        done = appliance("har", "--events", "-", "-o", "-", stdin=lines)
    assert len(json.loads(done.stdout)["log"]["entries"]) == 3


def test_an_expression_selects(capture, tmp_path):
    assert appliance("har", "-r", capture, "--where", "status >= 400", "-o", tmp_path / "o.har").returncode == 0
    assert paths(tmp_path / "o.har") == ["none"]


def test_the_limit_says_what_it_left_out(events, tmp_path):
    (tmp_path / "e").write_bytes(events)
    done = appliance("har", "--events", tmp_path / "e", "-n", 1, "-o", tmp_path / "out.har")
    assert "2 more are left out: -n sets the limit" in done.stderr


def test_a_feed_gives_what_it_stores(tmp_path):
    event = {
        "@timestamp": "2999-01-01T00:00:00.000000000Z",
        "event": {"dataset": "appliance.http", "id": "1", "start": "2999-01-01T00:00:00.000000000Z"},
        "network": {},
        "source": {"ip": "192.0.2.1", "port": 1},
        "destination": {"ip": "192.0.2.2", "port": 80},
        "url": {"original": "/stored"},
        "http": {"request": {"method": "GET"}},
        "appliance": {},
    }
    (directory := tmp_path / "feed").mkdir()
    with FeedProcess(directory, feed_config()) as feed:
        feed.workers[0].send(1, json.dumps(event).encode())
        eventually(lambda: feed.published() == 1, "the feed has it")
        done = appliance("har", "--since", "1m", "--connect", feed.endpoint, "-o", tmp_path / "out.har")
    assert done.returncode == 0, done.stderr
    assert paths(tmp_path / "out.har") == ["stored"]


def test_a_file_that_was_there_stays_when_the_source_is_none(tmp_path):
    (tmp_path / "out.har").write_text("before")
    done = appliance("har", "-r", tmp_path / "nothing.pcap", "-o", tmp_path / "out.har")
    assert done.returncode == 2
    assert (tmp_path / "out.har").read_text() == "before"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give one of -r FILE, --events FILE and --since WHEN"),
        (["-r", "a", "--events", "b"], "give one of -r FILE, --events FILE and --since WHEN"),
        (["--events", "b", "--set", "http.headers=[]"], "-c and --set are for -r: events are made already"),
        (["--events", "/nowhere"], "--events /nowhere: No such file or directory"),
        (["--since", "soon"], "--since 'soon': write how long ago"),
        (["--events", "b", "--where", "x"], "--where"),
    ],
)
def test_a_mistake_is_answered_with_what_to_do(words, said):
    assert said in mistake("har", *words, "-o", "out.har")


def test_the_output_may_not_be_the_input(events, tmp_path):
    (tmp_path / "e").write_bytes(events)
    assert "is the file of --events, too" in mistake("har", "--events", tmp_path / "e", "-o", tmp_path / "e")


def test_a_damaged_compressed_file_is_named(tmp_path):
    for name in ("e.gz", "e.zst"):
        (tmp_path / name).write_bytes(b"not compressed")
        assert f"--events {tmp_path}/{name}: " in mistake("har", "--events", tmp_path / name, "-o", "-")
