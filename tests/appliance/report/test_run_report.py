"""The messages of a run and their times: none on standard output, none twice, and when quiet only what went wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.config.load import resolve
from appliance.config.schema import Config
from appliance.report.run_report import Report
from appliance.stats import ledger
from appliance.stats.layout import capture_layout, feed_layout, supervisor_layout, worker_layout
from appliance.stats.snapshot import Snapshots


def snapshots(**counters: int) -> Snapshots:
    layouts = [capture_layout(1, ["not_ip", "fragment"]), worker_layout(1), feed_layout(1), supervisor_layout(1, 1)]
    capture, worker, feed, supervisor = ({name: counters.get(name, 0) for name in layout} for layout in layouts)
    return Snapshots([capture], [worker], feed, supervisor)


def live(**options: object) -> Config:
    return resolve(None, {"source.interfaces": ["eth0"], "workers.count": 1, **options})


def test_a_warning_is_one_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    Report(live(), quiet=True).warn("the sky is falling")
    assert capsys.readouterr() == ("", "appliance: the sky is falling\n")


def test_ready_says_where_things_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "feed.endpoint").write_text("tcp://127.0.0.1:5556")
    (tmp_path / "metrics.endpoint").write_text("127.0.0.1:9470")
    Report(live()).ready(tmp_path)
    places = "feed tcp://127.0.0.1:5556, metrics http://127.0.0.1:9470/metrics"
    assert capsys.readouterr().err == f"appliance: capturing on eth0, {places}; Ctrl-C ends it\n"
    Report(live(), quiet=True).ready(tmp_path)
    assert capsys.readouterr().err == ""


def test_status_lines_only_when_verbose_and_only_in_time(capsys: pytest.CaptureFixture[str]) -> None:
    for verbose, lines in [(False, 0), (True, 1)]:
        report = Report(live(), verbose=verbose)
        report.watch(lambda: snapshots(frames=5))
        for after in (1.0, 11.0, 12.0):
            report.tick(report._started + after)
        assert len(capsys.readouterr().err.splitlines()) == lines


def test_no_progress_line_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(resolve(None, {"source.file": "x.pcap"}))
    assert report.interval_s == 0
    report.watch(snapshots)
    report.tick(report._started + 100)
    assert capsys.readouterr().err == ""


def test_conclusion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = snapshots(kernel_dropped=7)
    path = tmp_path / "ledger.json"
    Report(live(**{"run.ledger": str(path)}), verbose=True).conclude(last, ledger.identities(last))
    said = capsys.readouterr()
    assert said.out == ""
    assert "7 frames dropped by the kernel" in said.err
    assert "0 frames," in said.err
    assert "L7 closed" in said.err
    assert json.loads(path.read_text())["unaccounted"] == 0


def test_a_run_that_went_well_closes_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    last = snapshots()
    Report(live()).conclude(last, ledger.identities(last))
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert said.endswith("; ledger closed: nothing is unaccounted for\n")


@pytest.mark.parametrize("how", [{}, {"verbose": True}, {"quiet": True}])
def test_a_ledger_that_does_not_close_is_said_in_any_case(
    how: dict[str, bool], capsys: pytest.CaptureFixture[str]
) -> None:
    last = snapshots(kernel_received=9)
    assert ledger.unaccounted(ledger.identities(last))
    Report(live(), **how).conclude(last, ledger.identities(last))
    assert "LEDGER OPEN" in capsys.readouterr().err


def test_a_quiet_conclusion_keeps_its_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    last = snapshots(kernel_dropped=7)
    Report(live(), quiet=True).conclude(last, ledger.identities(last))
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_ledger_that_cannot_be_written_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    last = snapshots()
    Report(live(**{"run.ledger": "/no/such/ledger"}), quiet=True).conclude(last, ledger.identities(last))
    assert capsys.readouterr().err == "appliance: --ledger /no/such/ledger: No such file or directory\n"


def test_the_first_loss_of_a_live_run_is_said_within_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(live(), quiet=True)
    now = {"kernel_dropped": 0}
    report.watch(lambda: snapshots(**now))
    for second in range(20):
        now["kernel_dropped"] = 9 if second >= 5 else 0
        report.tick(1000.0 + second)
    assert capsys.readouterr().err == (
        "appliance: 9 frames dropped by the kernel before the capture read them; "
        "raise --ring (now 256M) or narrow --filter\n"
    )
