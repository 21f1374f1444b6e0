"""The log: its two forms, its priorities, and that no flood gets through it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eventually import PATIENCE_S

from appliance.config.schema import Config
from appliance.runtime import log
from appliance.runtime.log import ERROR, INFO, Log
from appliance.stats.layout import feed_layout
from appliance.stats.names import LOG_REASONS
from appliance.stats.page import Page

ROOT = Path(log.__file__).parents[2]
# They speak to a person at a terminal.
COMMANDS = {
    "log.py",
    "terminal.py",
    "events.py",
    "packets.py",
    "inject.py",
    "forwarder.py",
    "run_report.py",
}


class Clock:
    """A clock that stands still unless it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    page = Page.create(tmp_path / "feed.stats", feed_layout(1))
    yield page
    page.close()


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    said = capsys.readouterr()
    assert said.out == ""
    return said.err.splitlines()


def test_a_line_of_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    Log("feed").write("the disk is full")
    assert lines(capsys) == ["appliance: the disk is full"]


def test_a_line_of_json_says_when_who_how_bad_why_and_the_facts(capsys: pytest.CaptureFixture[str]) -> None:
    Log("worker 1", form="json", observer="sensor-1").write("3 lost", reason="loss.kernel", level=ERROR, lost=3)
    (line,) = lines(capsys)
    said: dict[str, Any] = json.loads(line)
    assert said.pop("@timestamp").endswith("Z")
    assert said == {
        "log": {"level": "error"},
        "message": "3 lost",
        "event": {"dataset": "appliance.log", "reason": "loss.kernel"},
        "process": {"name": "worker 1", "pid": os.getpid()},
        "observer": {"name": "sensor-1"},
        "appliance": {"lost": 3},
    }


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_others_chose_cannot_make_a_line_or_act_on_a_terminal(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Log("feed", form=form).write("key \x1b[2J\nappliance: all is well\u2028.key; left out")
    (line,) = lines(capsys)
    assert line.isprintable()


def test_a_byte_of_a_name_that_is_not_utf8_is_shown_as_that_byte(capsys: pytest.CaptureFixture[str]) -> None:
    Log("feed").write(f"{os.fsdecode(b'a' + bytes([255]))}: No such file")
    assert lines(capsys) == ["appliance: a\\xff: No such file"]


@pytest.mark.slow
def test_a_million_faults_in_a_second_are_ten_lines_and_one_with_the_exact_number(
    clock: Clock, page: Page, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Log("feed", page=page, clock=clock)
    for number in range(1_000_000):
        clock.now = 1000 + number / 1_000_001
        made.write(f"fault {number}", reason="keys")
    assert len(lines(capsys)) == 10
    clock.now = 1002
    made.report_suppressed()
    assert lines(capsys) == ["appliance: keys: 999,990 more lines within 2.0 s were suppressed, 999,990 so far"]
    assert (page["log_lines.keys"], page["log_suppressed.keys"]) == (11, 999_990)
    assert not made.pending


def test_in_no_second_there_are_more_than_ten_lines_of_a_reason(
    clock: Clock, page: Page, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Log("feed", page=page, clock=clock)
    said: list[tuple[float, str]] = []
    for number in range(5000):
        clock.now = 1000 + number / 500
        made.write("fault", reason="keys")
        said += [(clock.now, line) for line in lines(capsys)]
    assert max(sum(start <= time < start + 1 for time, _ in said) for start, _ in said) == 10
    faults = sum(line == "appliance: fault" for _, line in said)
    assert (page["log_lines.keys"], page["log_suppressed.keys"]) == (len(said), 5000 - faults)
    assert len(said) - faults < 12  # a word a second about the others
    made.report_suppressed(last=True)
    assert f"{5000 - faults:,} so far" in lines(capsys)[0]


def test_reasons_do_not_take_lines_from_each_other(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    made = Log("feed", clock=clock)
    for _ in range(1000):
        made.write("flood", reason="keys")
    made.write("the disk is full", reason="feed")
    assert lines(capsys)[-1] == "appliance: the disk is full"


def test_the_processes_of_a_kind_share_the_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for place, name in ((log, "_log"), (sys, "excepthook"), (threading, "excepthook")):
        monkeypatch.setattr(place, name, getattr(place, name))
    log.start(Config(), "worker 0", None, of=4)
    for _ in range(100):
        log.warning("fault", reason="link")
    assert len(lines(capsys)) == 2


def test_the_last_word_comes_without_waiting(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    made = Log("feed", lines_per_s=1, clock=clock)
    made.write("one")
    made.write("two")
    made.report_suppressed(last=True)
    assert [line.split(" within")[0] for line in lines(capsys)] == ["appliance: one", "appliance: run: 1 more lines"]


def test_a_block_is_lines_for_people_and_one_record_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    Log("supervisor").write_lines("ledger closed", "L1 closed\nL2 closed", reason="ledger")
    assert lines(capsys) == ["L1 closed", "L2 closed"]
    Log("supervisor", form="json").write_lines("ledger closed", "L1\nL2", reason="ledger", ledger={"L1": 0})
    assert json.loads(lines(capsys)[0])["appliance"] == {"ledger": {"L1": 0}}


def test_a_bug_is_one_record_with_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    made = Log("supervisor", form="json")
    try:
        raise ValueError("no such thing")
    except ValueError as error:
        made.exception(type(error), error, error.__traceback__)
    said = json.loads(lines(capsys)[0])
    assert (said["message"], said["log"]["level"], said["event"]["reason"]) == (
        "ValueError: no such thing",
        "error",
        "bug",
    )
    assert "test_log.py" in said["appliance"]["stack_trace"]


def test_in_the_journal_each_line_has_its_priority(tmp_path: Path) -> None:
    script = (
        f"from appliance.runtime.log import Log; Log().write('one', level={INFO});"
        f"Log().write_lines('', 'two\\nthree', reason='bug', level={ERROR})"
    )
    with (tmp_path / "journal").open("wb") as journal:
        about = os.fstat(journal.fileno())
        environment = {**os.environ, "JOURNAL_STREAM": f"{about.st_dev}:{about.st_ino}"}
        subprocess.run([sys.executable, "-c", script], stderr=journal, env=environment, check=True, timeout=PATIENCE_S)
    assert (tmp_path / "journal").read_text() == "<6>appliance: one\n<3>two\n<3>three\n"


@pytest.mark.parametrize(
    "path",
    [path for half in ("appliance", "workers") for path in sorted((ROOT / half).rglob("*.py"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_every_process_speaks_through_the_log_and_for_a_known_reason(path: Path) -> None:
    text = path.read_text()
    assert set(re.findall(r'(?<!\{)\breason=f?"(\w+)["{.]', text)) <= set(LOG_REASONS)
    if path.name not in COMMANDS:
        assert not re.search(r"file=sys\.stderr|sys\.stderr\.write", text)
