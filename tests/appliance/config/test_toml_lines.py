"""The line of a key in a TOML file."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.config.errors import ConfigError
from appliance.config.toml_lines import line_of
from appliance.supervisor.reload import check

TEXT = """# a comment
root = 1
[tcp]  # limits
settle_ms = 7
'gap_timeout_s'=0.5

[ http ]
headers = [
  "a = b",
]
max_headers = 3
"""


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("root", 2),
        ("tcp", 3),
        ("tcp.settle_ms", 4),
        ("tcp.gap_timeout_s", 5),
        ("http", 7),
        ("http.headers", 8),
        ("http.max_headers", 11),
        ("http.settle_ms", 0),
        ("feed.bind", 0),
    ],
)
def test_a_key_has_a_line(key: str, line: int) -> None:
    assert line_of(TEXT, key) == line


def faults(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        check(file)
    return [fault.replace(str(file), "a.toml") for fault in caught.value.faults]


def test_each_fault_is_told_with_its_line(tmp_path: Path) -> None:
    text = '[captur]\n[shard]\nbatch_bytes = "x"\n'
    text += "[tcp]\nmax_pending_bytes = 2048\nmax_total_pending_bytes = 1024\nfoo = 1\n"
    assert [fault.partition(": ")[0] for fault in faults(tmp_path, text)] == [
        "a.toml:1",
        "a.toml:3",
        "a.toml:7",
        "a.toml:6",
    ]


def test_a_filter_that_no_kind_of_frames_can_do_with_is_a_fault(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, '[source]\n\nfilter = "tcp prot 80"\n')
    assert fault.startswith("a.toml:3: source.filter: the filter 'tcp prot 80' does not compile: ")
    (tmp_path / "b.toml").write_text('[source]\nfilter = "wlan type mgt"\n')
    check(tmp_path / "b.toml")


def test_keys_that_cannot_be_read_are_faults(tmp_path: Path) -> None:
    found = faults(tmp_path, f'[feed]\ncurve_key = "{tmp_path}/k"\ncurve_clients = "{tmp_path}/c"\n')
    assert [fault.split(": ")[:2] for fault in found] == [
        ["a.toml:3", "feed.curve_clients"],
        ["a.toml:2", "feed.curve_key"],
    ]
