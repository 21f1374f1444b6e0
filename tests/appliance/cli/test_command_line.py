"""The command as a person or a script meets it: exit codes, what goes to which stream, and what mistakes are told."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from event_contract import event_of
from eventually import PATIENCE_S, eventually, read_all, read_line

from appliance.cli.main import main

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
ALONE = ["--feed", "off", "--metrics", "off"]  # tests run side by side


def appliance(*arguments: object, stdin: Any = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "appliance", *map(str, arguments)],
        stdin=stdin or subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        cwd=cwd or ROOT,
        env=environment(),
    )


def environment() -> dict[str, str]:
    known = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{known}" if known else str(ROOT)}


def start(*arguments: object, **files: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "appliance", *map(str, arguments)]
    return subprocess.Popen(command, text=True, cwd=ROOT, env=environment(), **files)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample capture, with the transactions that are in it beside it."""
    path = tmp_path_factory.mktemp("sample") / "sample.pcap"
    subprocess.run(
        [sys.executable, str(ROOT / "ops/bench/traffic.py"), "sample", str(path), "--truth"],
        check=True,
        timeout=PATIENCE_S,
    )
    return path


@pytest.fixture(scope="session")
def expected(sample: Path) -> list[tuple[str, int | None]]:
    """(url, status) of every transaction in the sample."""
    found = appliance("run", "-r", sample, "-o", "-", "-q", *ALONE)
    assert found.returncode == 0, found.stderr
    return sorted(pairs(found.stdout))


def pairs(lines: str) -> list[tuple[str, int]]:
    events = [event_of(line) for line in lines.splitlines()]
    return [
        (event["url"]["original"], event.get("http", {}).get("response", {}).get("status_code", 0)) for event in events
    ]


def mistake(*arguments: object) -> str:
    """Return the message about unusable arguments: on standard error, with exit code 2, without a traceback."""
    done = appliance(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


# -- runs ------------------------------------------------------------------------------------------------------------


def test_a_file_becomes_json_lines_and_a_closed_ledger(sample: Path, tmp_path: Path) -> None:
    output, ledger = tmp_path / "events.jsonl", tmp_path / "ledger.json"
    done = appliance("run", "-r", sample, "--workers", 2, "-o", output, "--ledger", ledger, *ALONE)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    truth = json.loads(sample.with_suffix(".truth.json").read_text())
    events = output.read_text().splitlines()
    assert len(events) == len(truth["transactions"])
    assert json.loads(ledger.read_text())["unaccounted"] == 0
    assert "ledger closed: nothing is unaccounted for" in done.stderr
    assert f"{len(events)} events" in done.stderr


def test_events_alone_go_to_standard_output(sample: Path, expected: list[tuple[str, int]]) -> None:
    done = appliance("run", "-r", sample, "-o", "-", *ALONE)
    assert done.returncode == 0
    assert sorted(pairs(done.stdout)) == expected
    assert "ledger closed" in done.stderr


def test_standard_input_is_a_file_too(sample: Path, expected: list[tuple[str, int]]) -> None:
    with sample.open("rb") as file:
        done = appliance("run", "-r", "-", "-o", "-", *ALONE, stdin=file)
    assert done.returncode == 0, done.stderr
    assert sorted(pairs(done.stdout)) == expected


def test_a_pipe_is_standard_input_too(sample: Path, expected: list[tuple[str, int]]) -> None:
    with subprocess.Popen(["cat", str(sample)], stdout=subprocess.PIPE) as cat:
        done = appliance("run", "-r", "-", "-o", "-", *ALONE, stdin=cat.stdout)
    assert done.returncode == 0, done.stderr
    assert sorted(pairs(done.stdout)) == expected


def test_quiet_is_quiet(sample: Path) -> None:
    done = appliance("run", "-r", sample, "-q", *ALONE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_file_replaces_the_output_of_an_earlier_run(sample: Path, tmp_path: Path) -> None:
    output = tmp_path / "events.jsonl"
    for _ in range(2):
        assert appliance("run", "-r", sample, "-o", output, "-q", *ALONE).returncode == 0
    assert len(output.read_text().splitlines()) == len(set(output.read_text().splitlines()))


def test_options_come_from_toml_and_the_command_line_wins(sample: Path, tmp_path: Path) -> None:
    settings = tmp_path / "appliance.toml"
    settings.write_text(
        f'[source]\nfile = {json.dumps(str(sample))}\n[feed]\nbind = "off"\n[metrics]\nbind = "off"\n'
        f'[run]\nobserver = "from-file"\n[output]\npath = "{tmp_path}/no/such/place"\n'
    )
    done = appliance("run", "-c", settings, "-o", "-", "--set", "http.headers=['host']", "-q")
    assert done.returncode == 0, done.stderr
    event = event_of(done.stdout.splitlines()[0])
    assert event["observer"]["name"] == "from-file"
    assert "host" in event["http"]["request"]["headers"]


def test_a_truncated_capture_gives_what_it_has_and_a_warning(sample: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(sample.read_bytes()[:1_000_003])
    done = appliance("run", "-r", cut, "-o", "-", *ALONE)
    assert done.returncode == 0, done.stderr
    assert "truncated" in done.stderr
    assert len(done.stdout.splitlines()) > 50


def test_a_capture_without_frames_gives_no_events(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pcap"
    empty.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
    done = appliance("run", "-r", empty, "-o", "-", *ALONE)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "0 frames" in done.stderr


def test_a_reader_that_has_seen_enough_ends_the_run(sample: Path) -> None:
    process = start(
        "run", "-r", "-", "-o", "-", *ALONE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.buffer.write(sample.read_bytes())
    process.stdin.buffer.flush()
    assert read_line(process.stdout)
    process.stdout.close()
    assert process.wait(PATIENCE_S) == 0
    assert "standard output has no reader any more" in read_all(process.stderr)
    process.stderr.close()
    try:
        process.stdin.close()
    except BrokenPipeError:
        pass


def test_a_signal_while_reading_drains_what_was_read(sample: Path, tmp_path: Path) -> None:
    output = tmp_path / "events.jsonl"
    process = start("run", "-r", "-", "-o", output, *ALONE, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.buffer.write(sample.read_bytes())
    process.stdin.buffer.flush()
    eventually(lambda: output.exists() and output.stat().st_size, "events are written")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 143
    assert "ledger closed" in read_all(process.stderr)
    process.stdin.close()
    process.stderr.close()


def test_a_terminal_sees_progress(sample: Path, tmp_path: Path) -> None:
    arguments = ["-m", "appliance", "run", "-r", "-", *ALONE]
    feeder = (  # its pipe stays open until the progress was seen
        "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read()); sys.stdout.flush(); sys.stdin.read()"
    )
    code = (
        "import os, pty, subprocess, sys\n"
        f"words = [sys.executable, '-c', {feeder!r}, {str(sample)!r}]\n"
        "cat = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "main, child = pty.openpty()\n"
        f"run = subprocess.Popen([sys.executable, *{arguments!r}], stdin=cat.stdout, stderr=child)\n"
        "os.close(child)\nseen = b''\n"
        "while True:\n    try:\n        piece = os.read(main, 65536)\n    except OSError:\n        break\n"
        "    if not piece:\n        break\n    seen += piece\n"
        "    if b'so far' in seen:\n        cat.stdin.close()\n"
        "sys.stdout.buffer.write(seen)\nsys.exit(run.wait())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=PATIENCE_S, cwd=ROOT, env=environment()
    )
    assert done.returncode == 0, done.stderr
    assert b"so far" in done.stdout
    assert b"\r\x1b[K" in done.stdout


# -- mistakes --------------------------------------------------------------------------------------------------------


def test_no_source() -> None:
    assert "source.interfaces or source.file" in mistake("run")


def test_no_such_file() -> None:
    assert "/no/such.pcap: No such file or directory" in mistake("run", "-r", "/no/such.pcap", *ALONE)


def test_not_a_capture(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is no capture at all, whatever its name says\n")
    assert "is not a pcap or pcapng capture file" in mistake("run", "-r", tmp_path / "text", *ALONE)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert "is empty" in mistake("run", "-r", tmp_path / "empty", *ALONE)


def test_a_directory(tmp_path: Path) -> None:
    assert "is a directory" in mistake("run", "-r", tmp_path, *ALONE)


def test_no_such_interface_lists_those_there_are() -> None:
    said = mistake("run", "-i", "nosuch0", *ALONE)
    assert "no interface 'nosuch0'" in said
    assert "lo" in said


def test_a_filter_that_does_not_compile_is_shown_with_the_reason(sample: Path) -> None:
    said = mistake("run", "-r", sample, "-f", "tcp prot 80", *ALONE)
    assert "'tcp prot 80'" in said
    assert "syntax error" in said


def test_every_fault_of_a_configuration_at_once(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('[workers]\ncount = "two"\n[sourze]\nfile = "x"\n')
    said = mistake("run", "-c", tmp_path / "bad.toml", "--set", "tcp.idle_timeout_s=-1", "--set", "nope.key=1")
    for fault in ("workers.count", "[sourze]", "did you mean [source]", "tcp.idle_timeout_s", "nope.key"):
        assert fault in said


@pytest.mark.parametrize("ring", ["12x", "", "-1", "1.5M", "M"])
def test_a_size_that_is_none(ring: str) -> None:
    assert "--ring" in mistake("run", "-i", "lo", "--ring", ring)


def test_an_output_in_no_directory(sample: Path) -> None:
    assert "-o /no/such/file: No such file or directory" in mistake("run", "-r", sample, "-o", "/no/such/file", *ALONE)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_taken_metrics_port_names_its_option(sample: Path, taken: int) -> None:
    said = mistake("run", "-r", sample, "--feed", "off", "--metrics", f"127.0.0.1:{taken}")
    assert f"--metrics 127.0.0.1:{taken}: Address already in use" in said


def test_a_taken_feed_port_names_its_option(sample: Path, taken: int) -> None:
    said = mistake("run", "-r", sample, "--feed", f"tcp://127.0.0.1:{taken}", "--replay", "off", "--metrics", "off")
    assert "--feed" in said
    assert "in use" in said


def test_unknown_commands_and_options_are_usage_mistakes() -> None:
    assert "No such command" in mistake("capture")
    assert "No such option" in mistake("run", "--nope")
    assert "KEY=VALUE" in mistake("run", "--set", "nothing")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its capabilities")
@pytest.mark.root
def test_no_permission_says_which_and_how(tmp_path: Path) -> None:
    nobody = ["setpriv", "--bounding-set", "-all", "--inh-caps=-all"]
    command = [*nobody, sys.executable, "-m", "appliance", "run", "-i", "lo", *ALONE]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=PATIENCE_S)
    assert done.returncode == 2, done.stderr
    assert "CAP_NET_RAW" in done.stderr
    assert "Traceback" not in done.stderr


# -- the small commands ----------------------------------------------------------------------------------------------


def test_version() -> None:
    from appliance import __version__

    assert appliance("--version").stdout == f"appliance, version {__version__}\n"


def test_help_names_every_command() -> None:
    said = appliance("-h").stdout
    for command in ("run", "events", "devices", "check", "config"):
        assert f"\n  {command} " in said


def test_check(tmp_path: Path) -> None:
    (tmp_path / "good.toml").write_text("[workers]\ncount = 3\n")
    (tmp_path / "bad.toml").write_text("[workers]\ncont = 3\n[tcp]\nidle_timeout_s = -3\n")
    done = appliance("check", tmp_path / "good.toml")
    assert (done.returncode, done.stdout) == (0, "ok\n")
    said = mistake("check", tmp_path / "bad.toml")
    assert "did you mean workers.count?" in said
    assert "tcp.idle_timeout_s" in said
    assert "cannot be read" in mistake("check", tmp_path / "none.toml")


def test_the_configuration_printed_is_a_good_one(tmp_path: Path) -> None:
    text = appliance("config").stdout
    (tmp_path / "default.toml").write_text(text)
    (tmp_path / "all.toml").write_text(
        "".join(f"{line.removeprefix('#')}\n" for line in text.splitlines() if line[1:2] != " ")
    )
    assert appliance("check", tmp_path / "default.toml").stdout == "ok\n"
    assert appliance("check", tmp_path / "all.toml").stdout == "ok\n"


def test_devices_with_addresses_and_netmasks() -> None:
    lines = appliance("devices").stdout.splitlines()
    assert lines[0].split() == ["name", "flags", "address", "netmask", "description"]
    assert any(line.startswith("lo ") and "127.0.0.1" in line and "255.0.0.0" in line for line in lines)
    (loopback,) = [device for device in json.loads(appliance("devices", "--json").stdout) if device["name"] == "lo"]
    assert {"ip": "127.0.0.1", "netmask": "255.0.0.0"}.items() <= loopback["addresses"][0].items()


def test_each_command_is_explained_on_its_line_of_80_columns() -> None:
    text = main.get_help(click.Context(main, info_name="appliance", terminal_width=80))
    assert [line for line in text.splitlines()[1:] if line.endswith("...")] == []


def test_short_commands_load_little() -> None:
    code = (
        "import sys; from appliance.cli.main import main\n"
        "try:\n    main(['--version'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'rich', 'zmq', 'prometheus_client', 'msgspec', 'http.server'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
