"""From TOML and command line to one checked configuration."""

import os
import re
import tomllib
from pathlib import Path

import pytest

from appliance.config.address import split_address
from appliance.config.errors import ConfigError
from appliance.config.load import former_names, load_toml, resolve
from appliance.config.template import default_toml, differences
from appliance.config.values import RENAMED
from appliance.metrics.families import FAMILIES
from appliance.metrics.family import PREFIX
from appliance.runtime.resolved_config import load_resolved, save_resolved

ETH = {"source.interfaces": ["eth0"]}


@pytest.fixture
def toml(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "appliance.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def faults(file: Path | None, options: dict[str, object]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        resolve(file, options)
    return caught.value.faults


def only_fault(file: Path | None, options: dict[str, object]) -> str:
    (fault,) = faults(file, options)
    return fault


# -- merging -----------------------------------------------------------------------------------------------------------


def test_an_interface_is_all_that_has_to_be_said():
    config = resolve(None, ETH)
    assert config.interface_names == ["eth0"]
    assert (config.capture_count, config.lossless) == (1, False)


def test_an_interface_may_have_several_captures_each_with_a_name():
    config = resolve(None, {"source.interfaces": ["eth0", "eth1"], "capture.fanout": 2})
    assert config.interface_names == ["eth0/0", "eth0/1", "eth1/0", "eth1/1"]
    assert [config.interface_of(capture) for capture in range(config.capture_count)] == ["eth0", "eth0", "eth1", "eth1"]
    assert [config.is_first(capture) for capture in range(config.capture_count)] == [True, False, True, False]


def test_a_file_has_one_capture_whatever_interfaces_have():
    config = resolve(None, {"source.file": "/tmp/a.pcap", "capture.fanout": 4})
    assert (config.interface_names, config.interface_of(0)) == (["a.pcap"], "a.pcap")


def test_the_command_line_wins_over_the_file(toml):
    config = resolve(toml("[capture]\nsnaplen = 1000\ntimeout_ms = 7\n"), {**ETH, "capture.snaplen": 2000})
    assert (config.capture.snaplen, config.capture.timeout_ms) == (2000, 7)


def test_an_option_that_was_not_given_leaves_the_file_alone(toml):
    assert resolve(toml("[capture]\nsnaplen = 1000\n"), {**ETH, "capture.snaplen": None}).capture.snaplen == 1000


def test_a_capture_file_on_the_command_line_replaces_the_interfaces_of_the_file(toml):
    config = resolve(toml('[source]\ninterfaces = ["eth0"]\n'), {"source.file": "/somewhere/a.pcap"})
    assert (config.interface_names, config.lossless) == (["a.pcap"], True)


def test_what_was_left_open_is_decided_once_for_all_processes():
    config = resolve(None, {**ETH, "feed.bind": "off"})
    assert config.workers.count >= 1
    assert config.run.observer
    assert config.feed.replay == "off"


def test_a_tuple_is_a_list_as_click_gives_it():
    assert resolve(None, {"source.interfaces": ("a", "b")}).source.interfaces == ["a", "b"]


def test_the_children_read_back_what_the_supervisor_resolved(tmp_path):
    config = resolve(None, {**ETH, "tcp.gap_timeout_s": 0.25})
    save_resolved(config, tmp_path)
    assert load_resolved(tmp_path) == config
    assert (tmp_path / "config.json").stat().st_mode & 0o077 == 0


def test_a_resolved_configuration_of_another_version_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"capture": {"megafast": true}}')
    with pytest.raises(ConfigError, match="not written by this version"):
        load_resolved(tmp_path)


def test_a_resolved_configuration_names_the_version_that_wrote_it(tmp_path):
    (tmp_path / "config.json").write_text('{"capture": {"megafast": true}}')
    (tmp_path / "version").write_text("9.8.7")
    with pytest.raises(ConfigError, match=r"megafast.*not written by this version \(.+\) but by 9\.8\.7"):
        load_resolved(tmp_path)


@pytest.mark.parametrize("strange", [b"", b"\x1b[2J", b"\xff", b"1" * 100 + b"\n"])
def test_a_strange_version_in_a_run_directory_is_not_shown(tmp_path, strange):
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "version").write_bytes(strange)
    with pytest.raises(ConfigError) as raised:
        load_resolved(tmp_path)
    assert "\x1b" not in str(raised.value)


# -- faults ------------------------------------------------------------------------------------------------------------


def test_every_fault_of_file_and_command_line_is_told_at_once(toml):
    path = toml('snaplen = 1\n[shard]\nbatch_bytes = "big"\n[captur]\n[tcp]\ngap_timeout_s = -1\n')
    told = faults(path, {**ETH, "workers.count": 1000, "metrics.bind": "nowhere"})
    assert len(told) == 6
    assert [fault.startswith(str(path)) for fault in told] == [True] * 4 + [False] * 2


def test_the_text_of_the_error_is_all_faults():
    with pytest.raises(ConfigError) as caught:
        resolve(None, {"workers.count": -1, "capture.snaplen": 1})
    assert str(caught.value).splitlines() == caught.value.faults


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("[shard]\nbatch_byte = 1\n", "shard.batch_bytes"),
        ("[shard]\nsnaplen = 1\n", "capture.snaplen"),
        ("snaplen = 1\n", "capture.snaplen"),
        ("[metric]\n", "[metrics]"),
        ("[shard]\nworkers = 1\n", "workers.count"),
        ("[tcp]\nworker = 1\n", "workers.count"),
        ("[capture]\ninterface = 1\n", "source.interfaces"),
        ("[tcp]\nidle_timeout = 1\n", "tcp.idle_timeout_s"),
        ("[tcp]\nmax_total_head_byte = 1\n", "http.max_total_head_bytes"),
    ],
)
def test_an_unknown_key_is_answered_with_the_one_that_was_meant(toml, text, meant):
    assert f"did you mean {meant}?" in only_fault(toml(text), ETH)


def test_an_unknown_key_that_is_like_none_is_answered_with_those_of_its_section(toml):
    assert "; [workers] has count, quarantine_files" in only_fault(toml("[workers]\nfoo = 1\n"), ETH)
    assert only_fault(toml("foo = 1\n"), ETH).endswith("foo is not an option")


def test_an_option_that_was_replaced_is_answered_with_what_to_do(toml):
    said = only_fault(toml("[http]\nmax_pipelined = 512\n"), ETH)
    assert "http.max_pipelined is not an option any more" in said
    assert "remove it, or set http.max_total_waiting_bytes" in said


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RENAMED, "capture.longest", "capture.snaplen")


def test_a_former_name_works_and_the_note_names_the_present_one(toml, renamed):
    path = toml("[capture]\nlongest = 1500\n")
    assert resolve(path, ETH).capture.snaplen == 1500
    note = "capture.longest is now capture.snaplen; the former name works in this version only"
    assert former_names(path, ETH) == [f"{path}:2: {note}"]


def test_a_former_name_works_on_the_command_line(toml, renamed):
    given = {**ETH, "capture.longest": 1500}
    assert resolve(toml("[capture]\nsnaplen = 64\n"), given).capture.snaplen == 1500
    assert [note.partition(": ")[0] for note in former_names(None, given)] == ["command line"]


def test_a_former_name_beside_the_present_one_is_a_fault(toml, renamed):
    said = only_fault(toml("[capture]\nsnaplen = 1500\nlongest = 1500\n"), ETH)
    assert "capture.snaplen is set twice, by its present and its former name; remove one" in said


def test_the_value_of_a_former_name_is_checked_as_the_present_one(toml, renamed):
    assert "capture.snaplen = 1: must be a whole number" in only_fault(toml("[capture]\nlongest = 1\n"), ETH)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("capture.snaplen", 63),
        ("capture.snaplen", True),
        ("capture.snaplen", 1500.0),
        ("capture.promiscuous", 1),
        ("tcp.idle_timeout_s", float("nan")),
        ("tcp.idle_timeout_s", float("inf")),
        ("http.headers", "host"),
        ("http.headers", [1]),
        ("bodies.hashes", ["sha1"]),
        ("source.filter", 80),
        ("source.filter", "tcp\0"),
    ],
)
def test_a_value_of_the_wrong_kind_or_range_is_refused_with_its_key(key, value):
    assert only_fault(None, {**ETH, key: value}).startswith(f"command line: {key} = ")


def test_a_fault_says_what_would_be_right():
    told = only_fault(None, {**ETH, "capture.snaplen": 63})
    assert "must be a whole number from 64 to" in told
    assert "bytes" in told


def test_a_fault_in_a_list_of_choices_says_which_there_are():
    told = only_fault(None, {**ETH, "bodies.hashes": ["sha256", "crc"]})
    assert 'must be a list of some of "md5", "sha256"' in told


def test_a_refused_value_does_not_cause_a_second_fault():
    assert only_fault(None, {"source.file": 5}).startswith("command line: source.file")


@pytest.mark.parametrize("content", [b"[a\n", b"\xff", None])
def test_a_file_that_cannot_be_read_is_one_fault(tmp_path, content):
    path = tmp_path / "a.toml"
    if content is not None:
        path.write_bytes(content)
    assert only_fault(path, {}).startswith(f"{path}: ")


def test_a_section_that_is_a_value_is_refused(toml):
    assert "[capture]" in only_fault(toml("capture = 5\n"), ETH)


def test_a_file_can_be_checked_without_its_source(toml):
    path = toml("[capture]\nsnaplen = 1000\n")
    assert resolve(path, {}, source_required=False).capture.snaplen == 1000
    assert load_toml(path) == {"capture.snaplen": 1000}


def test_load_toml_tells_the_faults_of_the_file(toml):
    with pytest.raises(ConfigError, match=r"capture\.snaplen"):
        load_toml(toml("[capture]\nsnaplen = 1\n"))


# -- contradictions ----------------------------------------------------------------------------------------------------


def test_a_source_is_required():
    assert "source.interfaces or source.file" in only_fault(None, {})


def test_interfaces_and_a_file_exclude_each_other():
    assert "exclude each other" in only_fault(None, {**ETH, "source.file": "a.pcap"})


@pytest.mark.parametrize("names", [[""], [" eth0"], ["a/b"], ["eth0", "eth0"]])
def test_an_interface_has_a_name_and_is_there_once(names):
    assert "source.interfaces" in only_fault(None, {"source.interfaces": names})


def test_the_input_is_never_overwritten(tmp_path):
    path = tmp_path / "a.pcap"
    options = {"source.file": str(path), "output.path": f"{tmp_path}/../{tmp_path.name}/a.pcap"}
    assert "overwritten" in only_fault(None, options)


def test_standard_input_and_standard_output_are_not_the_same_file():
    assert resolve(None, {"source.file": "-", "output.path": "-"}).interface_names == ["-"]


def test_a_link_is_longer_where_nobody_can_wait():
    live, file = resolve(None, ETH), resolve(None, {"source.file": "a.pcap"})
    assert live.link_bytes > file.link_bytes >= 2 * file.shard.batch_bytes
    assert resolve(None, {**ETH, "shard.link_bytes": 3 << 20}).link_bytes == 3 << 20


def test_a_link_holds_two_batches():
    assert "shard.link_bytes" in only_fault(None, {**ETH, "shard.link_bytes": 1 << 20})


def test_all_streams_together_may_hold_what_one_may():
    assert "http.max_total_head_bytes" in only_fault(None, {**ETH, "http.max_total_head_bytes": 65535})
    assert "tcp.max_total_pending_bytes" in only_fault(None, {**ETH, "tcp.max_total_pending_bytes": 2048})


@pytest.mark.parametrize("name", ["", "a b", "a:", "ü"])
def test_a_header_name_is_a_token(name):
    assert "http.redact" in only_fault(None, {**ETH, "http.redact": [name]})


# -- addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"feed.bind": "tcp://0.0.0.0:5556"},
        {"feed.bind": "tcp://*:5556"},
        {"feed.bind": "tcp://[::]:5556"},
        {"feed.replay": "tcp://192.0.2.1:5557"},
        {"feed.bind": "tcp://sensor.example:5556"},
    ],
)
def test_a_feed_beyond_this_host_needs_a_lock_or_words_that_there_is_none(options):
    remote = {**ETH, **options}
    assert "set feed.anyone_may_read = true" in only_fault(None, {**remote, "run.allow_remote": True})
    resolve(None, {**remote, "feed.anyone_may_read": True})
    resolve(None, {**remote, "feed.curve_key": "server.key_secret", "feed.curve_clients": "clients"})


def test_a_lock_without_those_who_may_read_is_refused():
    assert "belong together" in only_fault(None, {**ETH, "feed.curve_key": "server.key_secret"})
    assert "belong together" in only_fault(None, {**ETH, "feed.curve_clients": "clients"})


def test_metrics_are_not_bound_beyond_this_host_unless_it_is_allowed():
    remote = {**ETH, "metrics.bind": "0.0.0.0:9470"}
    assert "set run.allow_remote = true" in only_fault(None, {**remote, "feed.anyone_may_read": True})
    resolve(None, {**remote, "run.allow_remote": True})


@pytest.mark.parametrize(
    "bind", ["tcp://127.0.0.1:0", "tcp://127.9.9.9:1", "tcp://localhost:1", "tcp://[::1]:1", "ipc:///run/x", "off"]
)
def test_loopback_and_local_sockets_are_always_allowed(bind):
    assert resolve(None, {**ETH, "feed.bind": bind}).feed.bind == bind


@pytest.mark.parametrize(
    "bind",
    ["", "127.0.0.1:1", "tcp://", "tcp://:1", "tcp://127.0.0.1", "tcp://127.0.0.1:65536", "tcp://127.0.0.1:+1",
     "tcp://::1:5", "ipc://", f"ipc:///{'x' * 107}", "pgm://1:2", "inproc://x"],
)  # fmt: skip
def test_a_feed_address_that_cannot_be_one_is_refused(bind):
    assert "feed.bind" in only_fault(None, {**ETH, "feed.bind": bind})


def test_two_sockets_do_not_share_a_port():
    assert "feed.bind is there already" in only_fault(None, {**ETH, "feed.replay": "tcp://127.0.0.1:5556"})


def test_any_free_port_may_be_asked_for_more_than_once():
    zero = "tcp://127.0.0.1:0"
    resolve(None, {**ETH, "feed.bind": zero, "feed.replay": zero, "metrics.bind": "127.0.0.1:0"})


def test_an_address_is_split_with_and_without_brackets():
    assert split_address("127.0.0.1:80") == ("127.0.0.1", 80)
    assert split_address("[::1]:80") == ("::1", 80)


# -- the default file --------------------------------------------------------------------------------------------------


def test_the_default_file_sets_nothing(toml):
    assert load_toml(toml(default_toml())) == {}


def test_what_differs_from_the_defaults_is_a_file_that_means_the_same(toml):
    file = toml("[capture]\nsnaplen = 4096\npromiscuous = true\n[output]\nkeep_files = 3\nrotate_s = 60\n")
    text = differences(file)
    assert text.splitlines()[0] == "[capture]"
    assert "snaplen = 4096  # default: 262144" in text
    assert "promiscuous" not in text
    assert load_toml(toml(text)) == {"capture.snaplen": 4096, "output.keep_files": 3, "output.rotate_s": 60}


def test_a_file_that_changes_nothing_differs_in_nothing(toml):
    assert differences(toml("")) == ""


def test_the_default_file_without_its_marks_sets_every_default(toml):
    text = re.sub(r"^#(?=\w)", "", default_toml(), flags=re.MULTILINE)
    path = toml(text.replace("interfaces = []", 'interfaces = ["eth0"]'))
    assert resolve(path, {}) == resolve(None, ETH)
    keys = {f"{section}.{key}" for section, content in tomllib.loads(text).items() for key in content}
    assert keys == set(load_toml(path))
    assert {"capture.snaplen", "run.allow_remote", "tcp.max_pending_segments"} <= keys


def test_every_metric_that_the_default_file_names_exists():
    known = {PREFIX + family.name + ("_total" if family.kind == "counter" else "") for family in FAMILIES}
    named = re.findall(r"Shown by: (\w+)", default_toml())
    assert named
    assert set(named) <= known


def test_reading_a_file_opens_no_ports() -> None:
    config = resolve(None, {"source.file": "x.pcap"})
    assert (config.feed.bind, config.feed.replay, config.metrics.bind) == ("off", "off", "off")
    config = resolve(None, ETH)
    assert "off" not in (config.feed.bind, config.feed.replay, config.metrics.bind)


@pytest.mark.parametrize(
    "asked", [{"feed.bind": "tcp://127.0.0.1:7000"}, {"feed.replay": "tcp://127.0.0.1:7000"}, {"feed.curve_key": "k"}]
)
def test_a_file_has_the_feed_that_is_asked_for(asked: dict[str, object]) -> None:
    given = {"source.file": "x.pcap", "feed.curve_clients": "c" if "feed.curve_key" in asked else None, **asked}
    config = resolve(None, given)
    assert "off" not in (config.feed.bind, config.feed.replay)
    assert config.metrics.bind == "off"


def test_keys_of_a_configuration_file_turn_feed_and_metrics_on(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[feed]\nbind = "tcp://127.0.0.1:5556"\n[metrics]\nbind = "127.0.0.1:9470"\n')
    config = resolve(file, {"source.file": "x.pcap"})
    assert config.feed.bind == "tcp://127.0.0.1:5556"
    assert config.metrics.bind == "127.0.0.1:9470"


@pytest.mark.parametrize(("size", "workers"), [(24, 1), (1 << 20, 1), ((1 << 20) + 1, 3)])
def test_a_file_that_fits_a_batch_gets_one_worker(tmp_path, monkeypatch, size, workers):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    file = tmp_path / "capture.pcap"
    file.touch()
    os.truncate(file, size)
    assert resolve(None, {"source.file": str(file)}).workers.count == workers
    assert resolve(None, {"source.file": str(file), "workers.count": 2}).workers.count == 2


@pytest.mark.parametrize("source", ["-", "/no/such.pcap", "/dev/null"])
def test_what_is_no_regular_file_gets_a_worker_for_each_core(monkeypatch, source):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    assert resolve(None, {"source.file": source}).workers.count == 3


def test_an_expression_for_kept_frames_is_checked_and_needs_a_ring():
    assert "'status =', at character 9" in only_fault(None, ETH | {"record.path": "/ring", "record.only": "status ="})
    assert "record.only: nothing is recorded" in only_fault(None, ETH | {"record.only": "status = 404"})


def test_frames_of_an_encrypted_ring_cannot_be_kept_by_the_sensor():
    options = {"record.path": "/ring", "record.only": "status = 404", "record.encrypt_to": "/ring.pub"}
    assert "record.only and record.encrypt_to exclude each other" in only_fault(None, ETH | options)
