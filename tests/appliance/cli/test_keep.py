"""`appliance keep`: chosen events, when their frames are looked for, and what cannot work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_command_line import appliance

from appliance.cli.keep import KeepArgs, Keeping
from appliance.expression.event_filter import compile_where
from appliance.extract.keeping import MOST_BYTES, SETTLE_S, Waiting
from appliance.extract.kept_folder import KeptFolder

EVENT = {
    "@timestamp": "2026-11-30T19:41:21.000000000Z",
    "event": {"id": "0" * 32, "start": "2026-11-30T19:41:21.000000000Z", "end": "2026-11-30T19:41:21.000000000Z"},
    "network": {"transport": "tcp", "type": "ipv4"},
    "source": {"ip": "192.0.2.1", "port": 4000},
    "destination": {"ip": "192.0.2.2", "port": 80},
    "http": {"response": {"status_code": 404}},
    "appliance": {"connection": "1" * 32},
}


def test_events_wait_for_their_frames_and_for_each_other() -> None:
    waiting = Waiting(10.0)
    waiting.add(b"a", 0.0)
    waiting.add(b"b", 9.0)
    assert waiting.due(9.9) == []
    assert waiting.due(10.0) == [b"a"]  # the frames of b may not be written yet
    assert waiting.due(18.9) == []
    assert waiting.due(19.0) == [b"b"]
    waiting.add(b"c", 20.0)
    assert waiting.rest() == [b"c"]
    assert waiting.due(100.0) == []


def test_no_more_events_wait_than_memory_is_for() -> None:
    waiting = Waiting(SETTLE_S)
    for _ in range(16):
        assert waiting.due(0.0) == []
        waiting.add(bytes(MOST_BYTES // 16), 0.0)
    assert len(waiting.due(0.0)) == 16


@pytest.mark.parametrize(
    ("event", "wanted"),
    [
        (EVENT, True),
        (EVENT | {"http": {"response": {"status_code": 200}}}, False),
        (EVENT | {"@timestamp": "2026-11-29T19:41:21.000000000Z"}, False),
        (EVENT | {"source": {}}, False),
        (EVENT | {"source": {"ip": "nowhere", "port": 1}}, False),
        ([], False),
    ],
)
def test_only_events_that_match_are_wanted(tmp_path: Path, event: object, wanted: bool) -> None:
    test = compile_where("status = 404")
    args = KeepArgs(tmp_path, tmp_path, test, 1, since="2026-11-30T00:00:00.000000000Z")
    keeping = Keeping(args, KeptFolder(tmp_path / "kept", 1 << 20))
    assert keeping.is_wanted(json.dumps(event).encode()) == wanted
    assert not keeping.is_wanted(b"no JSON")


def test_events_without_frames_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = KeepArgs(tmp_path, tmp_path, compile_where("status = 404"), 1)
    keeping = Keeping(args, KeptFolder(tmp_path / "kept", 1 << 20))
    keeping.keep([json.dumps(EVENT).encode()])
    assert (keeping.files, keeping.frames, keeping.missed) == (1, 0, 1)
    assert "the ring has no frames of 1 events" in capsys.readouterr().err
    (tmp_path / "kept").chmod(0o700)
    keeping.args = args._replace(record=tmp_path / "gone")
    keeping.keep([json.dumps(EVENT).encode()])
    assert keeping.missed == 2
    assert "No such file or directory; the frames of 1 events are not kept" in capsys.readouterr().err


def test_what_cannot_work_says_why(tmp_path: Path) -> None:
    done = appliance("keep", "--record", tmp_path / "no", "--where", "status = 404", "--to", tmp_path / "kept")
    assert (done.returncode, f"--record {tmp_path}/no: no such folder" in done.stderr) == (2, True)
    done = appliance("keep", "--record", tmp_path, "--where", "status", "--to", tmp_path / "kept")
    assert (done.returncode, "--where" in done.stderr) == (2, True)
    KeptFolder(tmp_path / "kept", 1)
    done = appliance("keep", "--record", tmp_path, "--where", "status = 1", "--to", "/proc/no")
    assert (done.returncode, "--to /proc/no" in done.stderr) == (2, True)
