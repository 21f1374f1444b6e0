"""The words of the progress line, the closing line and the warnings."""

from __future__ import annotations

import pytest

from appliance.config.load import resolve
from appliance.config.schema import Config
from appliance.report import losses
from appliance.report import status_lines as summary
from appliance.stats.layout import capture_layout, feed_layout, supervisor_layout, worker_layout
from appliance.stats.snapshot import Snapshots
from appliance.text import units


def snapshots(**counters: int) -> Snapshots:
    """One capture, one worker; `counters` are set wherever a page has them ("__" stands for a dot)."""
    given = {name.replace("__", "."): value for name, value in counters.items()}
    layouts = [capture_layout(1, ["not_ip", "fragment"]), worker_layout(1), feed_layout(1), supervisor_layout(1, 1)]
    capture, worker, feed, supervisor = ({name: given.get(name, 0) for name in layout} for layout in layouts)
    return Snapshots([capture], [worker], feed, supervisor)


@pytest.fixture
def config() -> Config:
    return resolve(None, {"source.file": "x.pcap", "workers.count": 1})


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (12_345, "12.3 kB"), (999_950, "1.00 MB"), (2.5e12, "2.50 TB")],
)
def test_size(count: float, text: str) -> None:
    assert units.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "0.50 s"), (12.34, "12.3 s"), (61, "1:01"), (3725, "1:02:05"), (59.99, "60.0 s")]
)
def test_duration(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


def test_progress_says_share_rate_events_and_time_left() -> None:
    before = snapshots(frames=0)
    now = snapshots(
        frames=1000,
        wire_bytes=1_000_000,
        input_bytes_read=250_000,
        input_bytes_total=1_000_000,
        **{"published__http.2xx.": 5},
    )
    line = summary.progress(now, before, 0.5, 2.0)
    assert line == (" 25 %  250 kB of 1.00 MB  2.00 kframes/s, 16.0 Mbit/s  5 events  1.50 s left  2.00 s so far")


def test_progress_without_a_size_shows_no_share() -> None:
    line = summary.progress(snapshots(input_bytes_read=5000), snapshots(), 1.0, 1.0)
    assert line.startswith("5.00 kB")
    assert "left" not in line


def test_closing_line_counts_events_by_class() -> None:
    now = snapshots(frames=2000, wire_bytes=1_000_000, **{"published__http.2xx.": 9, "published__http.none.": 1})
    assert summary.closing(now, 2.0) == (
        "2,000 frames, 1.00 MB, 10 events (2xx 9, none 1) in 2.00 s: 1.00 kframes/s, 4.00 Mbit/s"
    )


def test_nothing_lost_is_no_warning(config: Config) -> None:
    assert losses.warnings(snapshots(frames=5), config) == []


@pytest.mark.parametrize(
    ("counter", "place", "remedy"),
    [
        ("kernel_dropped", "kernel", "--ring"),
        ("kernel_if_dropped", "interface", "ethtool"),
        ("dropped_backlog__0", "workers fell behind", "--workers"),
        ("dropped_memory__0", "is full", "lower [shard] link_bytes"),
        ("dropped_memory__http.2xx.", "is full", "--shm-size"),
        ("dropped_stopping__0", "stopping", "drain_s"),
        ("dropped_crash__0", "capture that was killed", "above"),
        ("truncated_frames", "snapshot length", "capture whole frames"),
        ("crash_lost", "killed", "above"),
        ("dropped_backlog__http.2xx.", "feed fell behind", "link_bytes"),
        ("dropped_share__http.2xx.", "exceeded its share", "connection_share"),
        ("dropped_output", "could not be written", "above"),
    ],
)
def test_every_loss_is_named_with_its_place_and_a_remedy(config: Config, counter: str, place: str, remedy: str) -> None:
    warnings = losses.warnings(snapshots(**{counter: 1234}), config)
    assert warnings
    assert any("1,234" in text and place in text and remedy in text for _, text in warnings)


def test_restarts_are_a_warning(config: Config) -> None:
    now = snapshots(restarts__feed=2, restarts__worker__0=1)
    assert losses.warnings(now, config) == [("restart", "restarts of processes: 3; see the messages above")]


def test_dropped_frames_are_those_that_no_worker_saw() -> None:
    now = snapshots(kernel_dropped=1, dropped_backlog__0=2, dropped_stopping__0=4, lost__0=8)
    assert losses.dropped_frames(now) == 15


@pytest.mark.parametrize("width", [20, 40, 79, 99, 199])
def test_numbers_of_the_progress_line_are_whole(width: int) -> None:
    before = snapshots()
    now = snapshots(
        frames=123_456_789, wire_bytes=987_654_321_000, input_bytes_read=987_654_321, input_bytes_total=1_234_567_890,
        **{"published__http.2xx.": 123_456_789},
    )  # fmt: skip
    whole = summary.progress(now, before, 1.0, 3725.0)
    parts = summary.progress(now, before, 1.0, 3725.0, width)
    assert len(parts) <= width
    assert parts
    assert set(parts.split("  ")) <= set(whole.split("  "))


@pytest.mark.parametrize("width", [69, 89, 189])
def test_numbers_of_the_closing_line_are_whole(width: int) -> None:
    now = snapshots(frames=17_697, wire_bytes=12_345_678, **{"published__http.2xx.": 1234, "published__http.none.": 9})
    line = summary.closing(now, 1.2, width, summary.CLOSED)
    assert len(line) <= width
    assert line.startswith("17,697 frames, 12.3 MB, 1,243 events")
    assert summary.CLOSED in line
    assert (": 14.7 kframes/s, 82.3 Mbit/s" in line) is (width > 89)
