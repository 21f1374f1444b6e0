"""The reasons of a run without events: the words, from the counters."""

from __future__ import annotations

import pytest

from appliance.config.load import resolve
from appliance.config.schema import Config
from appliance.report import no_events as reasons
from appliance.stats.layout import capture_layout, feed_layout, supervisor_layout, worker_layout
from appliance.stats.names import NOT_HTTP, SEGMENT_VERDICTS, SPOKEN
from appliance.stats.snapshot import Snapshots
from appliance.wire.tcp_locator import VERDICTS

CONFIG = resolve(None, {"source.file": "x.pcap", "workers.count": 1})
FILTERED = resolve(None, {"source.interfaces": ["eth0"], "source.filter": "tcp port 80"})


def snapshots(**counters: int) -> Snapshots:
    """One capture, one worker; `counters` are set wherever a page has them ("__" stands for a dot)."""
    given = {name.replace("__", "."): value for name, value in counters.items()}
    layouts = [capture_layout(1, VERDICTS), worker_layout(1), feed_layout(1), supervisor_layout(1, 1)]
    capture, worker, feed, supervisor = ({name: given.get(name, 0) for name in layout} for layout in layouts)
    return Snapshots([capture], [worker], feed, supervisor)


def said(now: Snapshots, config: Config = CONFIG, width: int = 80) -> str:
    reason = reasons.no_event(now, config, width)
    return reason.text if reason else ""


def test_connections_of_one_protocol() -> None:
    now = snapshots(frames=90, segments=90, connections__tls=20, not_http_bytes__tls=155_592)
    assert said(now) == "no event: 20 of 20 connections are TLS (155,592 bytes)"


def test_connections_of_several_protocols_most_bytes_first() -> None:
    kinds = {
        "connections__tls": 20,
        "connections__http2": 4,
        "not_http_bytes__tls": 1234,
        "not_http_bytes__http2": 155_592,
    }
    now = snapshots(frames=90, segments=90, connections__silent=1, **kinds)
    assert said(now, width=100) == (
        "no event: 4 of 25 connections are HTTP/2 (155,592 bytes), 20 TLS (1,234 bytes), 1 sent no data"
    )
    assert said(now) == "no event: 4 of 25 connections are HTTP/2 (155,592 bytes), 20 TLS (1,234 bytes)"


def test_a_dataset_that_is_left_out_is_named() -> None:
    config = resolve(None, {"source.file": "x.pcap", "workers.count": 1, "events.datasets": ["tls"]})
    now = snapshots(frames=90, segments=90, connections__http=12, connections__tls=1, messages__started=40)
    assert said(now, config) == "no event: 12 of 13 connections are HTTP/1, but http is not in events.datasets"
    assert said(now, config, 50) == "no event: http is not in events.datasets"
    assert said(now) == ""


def test_open_connections_count_too() -> None:
    now = snapshots(frames=9, segments=9, flows=5, connections_open__ssh=2, not_http_bytes__ssh=40)
    assert said(now) == "no event: 2 of 5 connections are SSH (40 bytes), 3 sent no data"


def test_connections_without_data_and_one_direction_alone() -> None:
    assert said(snapshots(frames=9, segments=9, connections__silent=3)) == "no event: 3 of 3 connections sent no data"
    one_sided = snapshots(frames=9, segments=9, connections__silent=3, flows_one_sided=3)
    reason = reasons.no_event(one_sided, CONFIG)
    assert reason is not None
    assert (reason.cause, reason.note) == ("data", "only one direction was captured of 3 of 3 connections")


@pytest.mark.parametrize(
    ("counter", "words"),
    [
        ("rejected__not_tcp", "8 of 8 frames are not TCP or QUIC but UDP or another"),
        ("rejected__not_ip", "8 of 8 frames are not IP"),
        ("rejected__unknown_link", "8 of 8 frames are of a link type that is not decoded"),
        ("rejected__bad_checksum", "8 of 8 frames are of a wrong checksum"),
        ("shed_frames", "8 of 8 frames are shed because of overload"),
    ],
)
def test_frames_without_any_tcp(counter: str, words: str) -> None:
    assert said(snapshots(frames=8, **{counter: 8})) == f"no event: {words}"


def test_frames_of_several_kinds() -> None:
    now = snapshots(frames=8, rejected__not_ip=1, rejected__not_tcp=7)
    assert said(now) == "no event: 7 of 8 frames are not TCP or QUIC but UDP or another, 1 not IP"


def test_no_frame_and_the_filter_that_may_be_the_cause() -> None:
    assert said(snapshots()) == ""
    assert said(snapshots(), FILTERED) == "no event: no frame passed the filter tcp port 80"
    assert said(snapshots(kernel_dropped=7)) == "no event: all 7 frames were dropped"


@pytest.mark.parametrize("counter", ["published__http.2xx.", "messages__started"])
def test_where_http_was_found_no_reason_is_given(counter: str) -> None:
    assert said(snapshots(frames=9, segments=9, connections__tls=4, **{counter: 1})) == ""


def test_every_verdict_and_every_kind_has_words() -> None:
    assert set(reasons.FRAMES) == {*VERDICTS, *SEGMENT_VERDICTS}
    assert {*reasons.WORDS, "silent"} == set(SPOKEN)


@pytest.mark.parametrize("width", [0, 1, 20, 40, 80])
@pytest.mark.parametrize(
    "counter", [*(f"connections__{kind}" for kind in SPOKEN), *(f"rejected__{v}" for v in VERDICTS)]
)
def test_a_reason_fits_its_line(counter: str, width: int) -> None:
    segments = 0 if counter.startswith("rejected") else 10**7
    kinds = {f"not_http_bytes__{kind}": 10**12 for kind in NOT_HTTP}
    text = said(snapshots(frames=10**7, segments=segments, **kinds, **{counter: 10**7}), width=width)
    assert len(text) <= max(width, 1)
    assert width < 80 or "…" not in text


def test_what_most_of_the_payload_is() -> None:
    before = snapshots(payload_bytes=1_000, not_http_bytes__tls=0)
    kinds = {"connections__http": 1, "connections_open__tls": 19, "connections__http2": 2}
    now = snapshots(payload_bytes=2_000, not_http_bytes__tls=700, not_http_bytes__http2=50, **kinds)
    assert reasons.mostly(now, before) == "70 % of the payload is TLS (19 of 22 connections), 5 % HTTP/2 (2)"
    assert reasons.mostly(now, now) == ""
    assert reasons.mostly(snapshots(payload_bytes=2_000, not_http_bytes__tls=400), before) == ""
