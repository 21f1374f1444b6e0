"""Every command with standard descriptors that are closed or full, odd names, and signals that come twice."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from box import Result
from eventually import PATIENCE_S
from hosts import environment
from traffic import write_sample

QUIET = "--feed off --metrics off"
WRITING = {  # what each command is to write on standard output
    "run": f"run -r sample.pcap -o - {QUIET}",
    "packets": "packets -r sample.pcap -n 3",
    "packets many": "packets -r sample.pcap --json",
    "packets -w": "packets -r sample.pcap -w -",
    "devices": "devices",
    "config": "config",
    "check": "check good.toml",
    "keygen": "keygen keys one",
    "doctor": "doctor -i lo --seconds 0",
    "doctor --json": "doctor -i lo --seconds 0 --json",
    "help": "--help",
    "help of a command": "run --help",
    "version": "--version",
}
SILENT = {
    "run": f"run -r sample.pcap -o events.jsonl {QUIET}",
    "packets": "packets -r sample.pcap -w out.pcap",
    "check": "check bad.toml",
    "top": "top --once --run none",
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "sample.pcap"
    write_sample(path)
    return path


@pytest.fixture
def place(sample: Path, tmp_path: Path) -> Path:
    """A folder with what the commands above name."""
    (tmp_path / "sample.pcap").symlink_to(sample)
    (tmp_path / "good.toml").write_text('[source]\nfile = "a.pcap"\n')
    (tmp_path / "bad.toml").write_text("[sauce]\n")
    return tmp_path


def shell(place: Path, words: str, redirections: str) -> Result:
    """The command line, by a shell."""
    line = f"{shlex.quote(sys.executable)} -m appliance {words} {redirections}"
    done = subprocess.run(
        ["sh", "-c", line], cwd=place, capture_output=True, env=environment(), timeout=PATIENCE_S, check=False
    )
    said = Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode())
    assert "Traceback" not in said.err + said.out
    assert "Exception ignored" not in said.err
    return said


@pytest.mark.parametrize("end", [">/dev/full", ">&-"])
@pytest.mark.parametrize("words", WRITING.values(), ids=WRITING.keys())
def test_a_standard_output_that_takes_nothing_is_a_failure(place: Path, words: str, end: str) -> None:
    said = shell(place, words, end)
    assert said.code in (1, 2)
    reason = "No space left on device" if "full" in end else "Bad file descriptor|standard output is closed"
    assert any(one in said.err for one in reason.split("|")), said.err


@pytest.mark.parametrize("end", ["<&- >&- 2>&-", "<&-", "2>&-", "2>/dev/full"])
@pytest.mark.parametrize("words", SILENT.values(), ids=SILENT.keys())
def test_descriptors_that_a_command_does_not_need_may_be_closed(place: Path, words: str, end: str) -> None:
    assert shell(place, words, end).code == (2 if "bad" in words or "none" in words else 0)


def test_what_is_written_with_closed_descriptors_is_whole(place: Path) -> None:
    assert shell(place, f"run -r sample.pcap -o one.jsonl {QUIET}", "").code == 0
    assert shell(place, f"run -r sample.pcap -o two.jsonl {QUIET}", "<&- >&- 2>&-").code == 0
    one, two = (sorted((place / name).read_text().splitlines()) for name in ("one.jsonl", "two.jsonl"))
    assert one == two
    assert one


def test_a_closed_standard_input_holds_no_capture(place: Path) -> None:
    (place / "events.jsonl").write_text("kept")
    assert shell(place, f"run -r - -o events.jsonl {QUIET}", "<&-").code == 2
    assert (place / "events.jsonl").read_text() == "kept"


@pytest.mark.parametrize(
    "words", ["check good.toml", "check bad.toml", f"run -r sample.pcap -c good.toml -o events.jsonl {QUIET}"]
)
def test_a_file_may_begin_with_the_mark_of_its_encoding(place: Path, words: str) -> None:
    plain = shell(place, words, "")
    for name in ("good.toml", "bad.toml"):
        (place / name).write_bytes(b"\xef\xbb\xbf" + (place / name).read_bytes())
    marked = shell(place, words, "")
    assert marked.code == plain.code
    if plain.code:
        assert marked.err == plain.err


ODD = {
    "run -r": (f"run -r {{}} -o out {QUIET}", 2),
    "run -o": (f"run -r sample.pcap -o {{}} {QUIET}", 2),
    "run --ledger": (f"run -r sample.pcap --ledger {{}} {QUIET}", 2),
    "run -i": (f"run -i {{}} {QUIET}", 2),
    "run --feed": ("run -r sample.pcap --feed ipc://{} --metrics off", 2),
    "run -c": ("run -c {}", 2),
    "packets": ("packets -r {}", 2),
    "packets -w": ("packets -r sample.pcap -w {}", 0),
    "packets -i": ("packets -i {}", 2),
    "check": ("check {}", 2),
    "keygen": ("keygen {} one", 0),
    "doctor": ("doctor -i {} --seconds 0", 2),
    "top": ("top --run {}", 2),
    "inject": ("inject -i {} sample.pcap", 2),
    "events": ("events --connect {}", 2),
    "events --topic": ("events --connect tcp://127.0.0.1:1 --topic {}", 2),
    "forward": ("forward --to nats://127.0.0.1:1 --connect {}", 2),
}


@pytest.mark.parametrize(("words", "code"), ODD.values(), ids=ODD.keys())
def test_a_name_that_is_not_utf_8_works_or_is_refused(place: Path, words: str, code: int) -> None:
    said = shell(place, words.replace("{}", "\"$(printf 'odd\\377')\""), "")
    assert said.code == code, said.err
