"""The parts of a new configuration that may come into force while a run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.config.errors import ConfigError
from appliance.config.load import resolve
from appliance.supervisor import reload
from appliance.supervisor.reload import Origin, differences, may_change

ETH = {"source.interfaces": ["eth0"]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "appliance.toml"
    path.write_text("")
    return path


def changed(file: Path, text: str, link_types: tuple[int, ...] = (1,), **options: object) -> list[str]:
    """The new keys after the file was changed to this."""
    origin = Origin(file, ETH | options)
    before = resolve(file, origin.options)
    file.write_text(text)
    return reload.read(origin, before, link_types)[1]


def faults(file: Path, text: str, link_types: tuple[int, ...] = (1,)) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        changed(file, text, link_types)
    return caught.value.faults


def test_filter_limits_headers_and_redaction_may_change(file: Path) -> None:
    text = '[source]\nfilter = "tcp"\n[tcp]\nsettle_ms = 7\n[http]\nheaders = ["a"]\nredact = ["b"]\n'
    text += '[bodies]\ndecode = false\n[events]\ndatasets = ["tls"]\n'
    http = ["http.headers", "http.redact"]
    assert changed(file, text) == ["source.filter", "tcp.settle_ms", *http, "bodies.decode", "events.datasets"]


def test_nothing_new_is_no_fault(file: Path) -> None:
    assert changed(file, "# only a comment\n") == []


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[workers]\ncount = 7\n", "workers.count"),
        ('[tcp]\nchecksums = "drop"\n', "tcp.checksums"),
        ("[shard]\nlink_bytes = 90000000\n", "shard.link_bytes"),
        ('[feed]\nbind = "off"\n', "feed.bind"),
        ('[output]\npath = "/tmp/x"\n', "output.path"),
        ('[metrics]\nbind = "off"\n', "metrics.bind"),
    ],
)
def test_what_holds_processes_sockets_and_memory_may_not(file: Path, text: str, key: str) -> None:
    assert not may_change(key)
    assert f"{file}:2: {key}: cannot be changed while it runs" in "\n".join(faults(file, text))


def test_all_faults_are_told_together(file: Path) -> None:
    found = faults(file, '[source]\nfilter = "tcp port"\n[workers]\ncount = 7\n[capture]\nsnaplen = 99\n', (1, 1, 101))
    assert [fault.split(": ")[1] for fault in found] == [
        "capture.snaplen",
        "workers.count",
        "source.filter",
        "source.filter",
    ]


def test_a_filter_is_compiled_for_the_frames_that_are_captured(file: Path) -> None:
    assert changed(file, '[source]\nfilter = "ether host 00:00:5e:00:53:01"\n') == ["source.filter"]
    file.write_text("")
    assert "source.filter" in faults(file, '[source]\nfilter = "ether host 00:00:5e:00:53:01"\n', (101,))[0]


def test_the_command_line_still_wins(file: Path) -> None:
    assert changed(file, '[source]\nfilter = "udp"\n', **{"source.filter": "tcp"}) == []


def test_a_host_that_was_given_another_name_is_no_change(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = Origin(file, ETH)
    before = resolve(file, ETH)
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    assert differences(before, resolve(file, ETH)) == ["workers.count", "run.observer"]
    assert reload.read(origin, before, [1]) == (before, [])


def test_a_folder_of_keys_that_cannot_be_read_is_a_fault(file: Path, tmp_path: Path) -> None:
    lock = f'[feed]\ncurve_key = "{tmp_path}/k"\ncurve_clients = "{tmp_path}'
    (tmp_path / "clients").mkdir()
    file.write_text(f'{lock}/clients"\n')
    assert f"feed.curve_clients: {tmp_path}/nowhere" in faults(file, f'{lock}/nowhere"\n')[0]


def test_one_expression_for_kept_frames_may_replace_another(file: Path) -> None:
    options = {"record.path": "/tmp/ring", "record.only": "status = 404"}
    file.write_text('[record]\npath = "/tmp/ring"\nonly = "status = 404"\n')
    origin = Origin(file, ETH)
    before = resolve(file, ETH | options)
    file.write_text('[record]\npath = "/tmp/ring"\nonly = "status = 500"\nkept_bytes = 2000000\n')
    assert reload.read(origin, before, (1,))[1] == ["record.only", "record.kept_bytes"]
    file.write_text('[record]\npath = "/tmp/ring"\nonly = "status ="\n')
    with pytest.raises(ConfigError, match="status = is followed by a value"):
        reload.read(origin, before, (1,))
    file.write_text('[record]\npath = "/tmp/ring"\n')
    with pytest.raises(ConfigError, match="restart the appliance to turn it on or off"):
        reload.read(origin, before, (1,))
