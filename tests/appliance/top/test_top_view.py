"""The picture of `appliance top`: what stands where, at which size."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.config.load import resolve
from appliance.stats.layout import (
    capture_layout,
    feed_layout,
    keeper_layout,
    recorder_layout,
    supervisor_layout,
    worker_layout,
)
from appliance.stats.snapshot import Snapshots
from appliance.top import view as board
from appliance.top.host_latency import Host
from appliance.top.view import ALARM, CALM, NOTE, Sample, ScreenLine, draw


def snapshots(workers: int = 2, **counters: int) -> Snapshots:
    """One capture; `counters` are set on every page that has them ("__" stands for a dot)."""
    given = {name.replace("__", "."): value for name, value in counters.items()}
    capture, feed, supervisor = (
        {name: given.get(name, 0) for name in layout}
        for layout in (
            capture_layout(workers, ["not_ip", "fragment"]),
            feed_layout(workers),
            supervisor_layout(workers, 1),
        )
    )
    pages = [{name: given.get(name, 0) for name in worker_layout(1)} for _ in range(workers)]
    return Snapshots([capture], pages, feed, supervisor)


def sample(now: Snapshots, **how: Any) -> Sample:
    config = resolve(None, {"source.interfaces": ["eth0"], "workers.count": len(now.workers)})
    made = Sample(config, snapshots(len(now.workers)), now, 2.0, 3725.0, "10:00:00", {"worker 0": 0.5}, [])
    return made._replace(**how)


def line(lines: list[ScreenLine], start: str) -> ScreenLine:
    (found,) = [one for one in lines if one.text.startswith(start)]
    return found


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (40, 10), (10, 3), (1, 1)])
@pytest.mark.parametrize("workers", [1, 3, 200])
def test_a_picture_fits_its_screen(width: int, height: int, workers: int) -> None:
    hosts = [Host(f"host{n}.example.com", 1.0, 0.5, 10, 0) for n in range(100)]
    lines = draw(sample(snapshots(workers), hosts=hosts, note="a note"), width, height)
    assert len(lines) <= height
    assert all(len(one.text) <= width for one in lines)


def test_nothing_is_cut_off_at_80_columns_by_a_busy_day() -> None:
    names = [*worker_layout(1), *feed_layout(2), *capture_layout(2, ["not_ip", "fragment"])]
    now = snapshots(
        2, **(dict.fromkeys(names, 200_000) | {"subscribers": 40, "refused.key": 0, "refused.handshake": 999})
    )
    wide = draw(sample(now), 500, 24)[1:-1]  # between the first and the last line, which fill any width
    assert [one.text for one in wide if len(one.text) > 80] == []


def test_rates_are_those_of_the_interval_and_totals_those_of_the_run() -> None:
    now = snapshots(frames=400, wire_bytes=1_000_000, kernel_dropped=20)
    lines = draw(sample(now), 80, 24)
    assert line(lines, "traffic").text.startswith("traffic   200 frames/s   4.00 Mbit/s")
    assert line(lines, "  kernel ring").text.split()[2:4] == ["10", "20"]


def test_a_recorder_has_a_line() -> None:
    assert not [one for one in draw(sample(snapshots()), 80, 24) if one.text.startswith("record")]
    before = dict.fromkeys(recorder_layout(1), 0)
    now = snapshots()
    capture = {**now.captures[0], "to_recorder": 0, "past_recorder": 10}
    page = {**before, "recorded_bytes": 2_000_000, "left_out.disk": 30, "ring_bytes": 5_000_000}
    shown = draw(
        sample(
            now._replace(captures=[capture], recorder=page),
            before=snapshots()._replace(captures=[{**capture, "past_recorder": 0}], recorder=before),
        ),
        80,
        24,
    )
    assert line(shown, "record").text == "record 1.00 MB/s, 20 frames/s left out, ring 5.00 MB of 10.7 GB"
    assert line(shown, "record").tone == NOTE


def test_a_keeper_has_a_line_behind_that_of_the_recorder() -> None:
    before, recorder = dict.fromkeys(keeper_layout(), 0), dict.fromkeys(recorder_layout(1), 0)
    now = snapshots()
    capture = {**now.captures[0], "to_recorder": 0, "past_recorder": 0}
    page = {**before, "kept": 8, "left_out.not_in_ring": 4, "waiting": 3, "stored_bytes": 5_000_000}
    now = now._replace(captures=[capture], recorder=recorder, feed=now.feed | {"to_keeper": 0, "past_keeper": 2})
    earlier = now._replace(keeper=before, feed=now.feed | {"to_keeper": 0, "past_keeper": 0})
    shown = draw(sample(now._replace(keeper=page), before=earlier), 80, 24)
    assert line(shown, "keep").text == "keep   4 events/s, 3 left out, 3 waiting, 5.00 MB of 10.7 GB"
    assert line(shown, "keep").tone == NOTE


def test_a_run_without_events_says_why() -> None:
    now = snapshots(1, frames=40, segments=40, connections_open__tls=20, flows=20, not_http_bytes__tls=155_592)
    words = "no event: 20 of 20 connections are TLS (155,592 bytes)"
    assert line(draw(sample(now), 80, 24), f"       {words}").tone == NOTE


def test_traffic_that_is_mostly_of_another_protocol_is_said() -> None:
    now = snapshots(1, **{"published__http.2xx.": 3, "payload_bytes": 100, "not_http_bytes__http2": 87})
    assert line(draw(sample(now), 80, 24), "       87 % of the payload is HTTP/2")
    now = snapshots(1, **{"published__http.2xx.": 3, "payload_bytes": 100, "not_http_bytes__http2": 13})
    assert not [one for one in draw(sample(now), 80, 24) if "HTTP/2" in one.text]


def test_protocols_beside_http1_have_their_lines_once_they_are_seen() -> None:
    assert not [one for one in draw(sample(snapshots(1)), 80, 24) if "http2" in one.text or "tls" in one.text]
    counts = {"http2_streams": 20, "http2_streams_open": 3, "http2_resets.client": 4, "tls_handshakes.established": 6}
    counts |= {"websockets.started": 5, "websockets.open": 2, "websocket_messages": 8, "quic_connections_opened": 2}
    lines = draw(sample(snapshots(1, **{name.replace(".", "__"): count for name, count in counts.items()})), 80, 24)
    assert line(lines, "http2").text == "http2  10 streams/s, 3 open, 2/s reset"
    assert line(lines, "websocket").text == "websocket 2 open (4 messages/s), tls 3/s, quic 1/s"


def test_a_loss_now_is_an_alarm_and_an_old_one_a_note() -> None:
    now = snapshots(kernel_dropped=20)
    tones = [
        line(draw(sample(now, before=snapshots(kernel_dropped=then)), 80, 24), "  kernel ring").tone for then in (0, 20)
    ]
    assert tones == [ALARM, NOTE]
    assert line(draw(sample(snapshots()), 80, 24), "  kernel ring").tone == CALM


def test_a_worker_with_three_quarters_of_the_work_has_drifted_by_a_half() -> None:
    now = snapshots()
    now.workers[0]["segments"], now.workers[1]["segments"] = 300, 100  # type: ignore[index]
    lines = draw(sample(now), 80, 24)
    assert line(lines, "     0").text.split()[:8] == ["0", "50", "%", "150", "75", "%", "+50", "%"]
    assert line(lines, "     1").text.split()[1:7] == ["-", "50", "25", "%", "-50", "%"]


def test_workers_without_room_are_summed_up_and_the_busiest_are_shown() -> None:
    now = snapshots(30)
    now.workers[17]["segments"] = 1000  # type: ignore[index]
    lines = draw(sample(now), 80, 24)
    assert line(lines, "    17").text.split()[2] == "500"
    assert "more workers" in line(lines, "     …").text


def test_response_times_are_those_of_the_interval() -> None:
    before = snapshots(1, response_seconds__le__10=50)
    now = snapshots(1, response_seconds__le__10=50, response_seconds__le__1=9, response_seconds__le__5=1)
    shown = sample(now, before=before)
    assert (board.quantile(shown, 0.5), board.quantile(shown, 0.95)) == ("< 1000 ms", "< 5000 ms")
    assert board.quantile(sample(before, before=before), 0.5) == "-"


def test_a_host_name_from_the_wire_cannot_act_on_the_terminal() -> None:
    hosts = [Host("\x1b[2Jevil\u202e.example", 0.1, 0.05, 3, 1)]
    text = draw(sample(snapshots(), hosts=hosts), 80, 24)[-1].text
    assert text.isascii()
    assert text.isprintable()


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (0.04, "0.1"), (3.0, "3"), (9.94, "9.9"), (12_345.4, "12,345"), (1.5e6, "1.50 M")]
)
def test_numbers_are_short(count: float, text: str) -> None:
    assert board.number(count) == text


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
@pytest.mark.parametrize("count", [0, 7, 12_345, 987_654, 10**12])
def test_no_number_of_a_picture_is_cut(width: int, count: int) -> None:
    names = [*worker_layout(1), *feed_layout(2), *capture_layout(2, ["not_ip", "fragment"])]
    hosts = [Host("2001:db8:1234:5678:9abc:def0:1234:5678", 12.3, 0.5, count, count)]
    made = sample(snapshots(2, **dict.fromkeys(names, count)), hosts=hosts)
    whole = {part for one in draw(made, 500, 30) for part in one.text.split()}
    for one in draw(made, width, 30)[1:]:
        assert len(one.text) <= width
        numbers = {part.strip(",()") for part in one.text.split() if part[0].isdigit() and "..." not in part}
        assert numbers <= {part.strip(",()") for part in whole}


def test_a_column_without_room_is_left_out_as_a_whole() -> None:
    rows = [["name", "one", "two"], ["x", "1,000", "2,000"]]
    assert board.grid(rows, (6, 8, 8), 22) == ["  name     one     two", "     x   1,000   2,000"]
    assert board.grid(rows, (6, 8, 8), 16) == ["name   one   two", "   x 1,000 2,000"]
    assert board.grid(rows, (6, 8, 8), 15) == ["name   one", "   x 1,000"]


def test_many_interfaces_leave_the_time_of_a_run_whole() -> None:
    made = sample(snapshots(), config=resolve(None, {"source.interfaces": [f"enp{n}s0f0" for n in range(20)]}))
    assert "…, up 1:02:05" in draw(made, 80, 24)[0].text
