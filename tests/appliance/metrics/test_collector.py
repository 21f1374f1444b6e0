"""Metrics and health over real HTTP on this host."""

import errno
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

import pytest
from eventually import PATIENCE_S, read_line
from prometheus_client.parser import text_string_to_metric_families as parse

from appliance.config.load import resolve
from appliance.metrics import collector as exporter
from appliance.metrics import families as metrics
from appliance.metrics import http_server
from appliance.metrics.collector import Collector
from appliance.metrics.http_server import MetricsServer
from appliance.stats import layout
from appliance.stats import names as stats
from appliance.wire import tcp_locator as locate

CONFIG = resolve(None, {"source.interfaces": ["eth0", "eth1"], "workers.count": 2})


@dataclass
class Pages:
    captures: list[dict[str, int]]
    workers: list[dict[str, int]]
    feed: dict[str, int]
    supervisor: dict[str, int]
    recorder: dict[str, int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    keeper: dict[str, int] = field(default_factory=dict)


@pytest.fixture
def pages() -> Pages:
    return Pages(
        [dict.fromkeys(layout.capture_layout(2, locate.VERDICTS), 0) for _ in range(2)],
        [dict.fromkeys(layout.worker_layout(2), 0) for _ in range(2)],
        dict.fromkeys(layout.feed_layout(2), 0),
        dict.fromkeys(layout.supervisor_layout(2, 2), 0),
    )


@pytest.fixture
def serve():
    """Starts servers and closes them."""
    servers = []

    def start(collect=list, healthy=lambda: (True, ""), bind="127.0.0.1:0") -> MetricsServer:
        servers.append(MetricsServer(bind, collect, healthy))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def scrape(serve, pages):
    """One scrape: {(name, labels as sorted pairs): value}."""
    server = serve(Collector(CONFIG, lambda: pages).collect)

    def once() -> dict[tuple, float]:
        status, _, body = get(server, "/metrics")
        assert status == 200
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in parse(body)
            for sample in family.samples
        }

    return once


def get(server: MetricsServer, path: str, method: str = "GET", host: str = "127.0.0.1") -> tuple[int, str, str]:
    connection = http.client.HTTPConnection(host, server.port, timeout=PATIENCE_S)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read().decode()
    finally:
        connection.close()


# -- values ------------------------------------------------------------------------------------------------------------


def test_every_series_is_there_before_anything_happened(scrape, pages):
    before = set(scrape())
    for page in [*pages.captures, *pages.workers, pages.feed]:
        page |= dict.fromkeys((name for name in page if name not in ("pid", "state", "progress_ns")), 1)
    assert set(scrape()) == before
    assert ("appliance_frames_outcome_total", ("outcome", "lost"), ("stage", "link"), ("worker", "1")) in before
    for verdict in locate.VERDICTS:
        assert ("appliance_capture_rejected_frames_total", ("interface", "eth1"), ("reason", verdict)) in before


def test_a_counter_is_reported_under_its_interface(scrape, pages):
    pages.captures[1] |= {"frames": 7, "kernel_dropped": 3}
    got = scrape()
    assert got["appliance_capture_frames_total", ("interface", "eth1")] == 7
    assert got["appliance_capture_frames_total", ("interface", "eth0")] == 0
    assert got["appliance_capture_dropped_frames_total", ("interface", "eth1"), ("stage", "kernel")] == 3


def test_fragments_are_reported_by_what_became_of_them(scrape, pages):
    pages.captures[1] |= {"fragments.merged": 6, "fragments.crash": 1, "fragments.held": 2}
    pages.captures[1] |= {"reassembled": 3, "fragment_conflicts": 4}
    got, eth1 = scrape(), ("interface", "eth1")
    assert got["appliance_capture_fragments_total", eth1, ("outcome", "merged")] == 6
    assert got["appliance_capture_fragments_total", eth1, ("outcome", "crash")] == 1
    assert got["appliance_capture_fragments_held", eth1] == 2
    assert got["appliance_capture_reassembled_datagrams_total", eth1] == 3
    assert got["appliance_capture_fragment_conflicts_total", eth1] == 4


def test_outcomes_of_all_frames_add_up_to_the_frames_read(scrape, pages):
    pages.captures[0] |= {"frames": 100, "rejected.not_tcp": 10, "offered.1": 90, "sent.1": 80, "dropped_backlog.1": 10}
    pages.workers[1] |= {"received.0": 75, "lost.0": 5, "segments": 70, "rejected.bad_header": 3, "crash_lost": 2}
    got = scrape()
    assert sum(value for key, value in got.items() if key[0] == "appliance_frames_outcome_total") == 100
    assert got["appliance_frames_unaccounted", ("identity", "L3")] == 0
    assert got["appliance_frames_in_flight",] == 0


def test_what_is_on_its_way_shows_in_the_ledger_and_the_queue(scrape, pages):
    pages.captures[0] |= {"frames": 10, "offered.0": 10, "sent.0": 10}
    got = scrape()
    assert got["appliance_frames_unaccounted", ("identity", "L3")] == 10
    assert got["appliance_frames_in_flight",] == 10
    assert got["appliance_ipc_queue_frames", ("worker", "0")] == 10


def test_the_histogram_is_cumulative_though_the_pages_are_not(scrape, pages):
    pages.workers[0] |= {"response_seconds.le.0.001": 2, "response_seconds.le.1": 3, "response_seconds.sum_ns": 10**9}
    pages.workers[1] |= {"response_seconds.le.inf": 1, "response_seconds.sum_ns": 5 * 10**8}
    got = scrape()
    name = "appliance_http_response_duration_seconds"
    assert [got[f"{name}_bucket", ("le", bound)] for bound in ("0.001", "0.5", "1.0", "10.0", "+Inf")] == [
        2,
        2,
        5,
        5,
        6,
    ]
    assert (got[f"{name}_count",], got[f"{name}_sum",]) == (6, 1.5)


def test_nanoseconds_of_a_page_are_seconds_in_a_metric(scrape, pages):
    pages.workers[1]["lag_ns"] = 1_500_000_000
    assert scrape()["appliance_packet_lag_seconds", ("worker", "1")] == pytest.approx(1.5)


def test_restarts_are_counted_by_the_supervisor(scrape, pages):
    pages.supervisor |= {"restarts.worker.1": 3, "restarts.capture.0": 2, "restarts.feed": 1}
    got = scrape()
    assert got["appliance_worker_restarts_total", ("worker", "1")] == 3
    assert got["appliance_capture_restarts_total", ("interface", "eth0")] == 2
    assert got["appliance_feed_restarts_total",] == 1


def test_the_supervisor_reports_its_own_memory_and_processor_time(scrape):
    got = scrape()
    assert got["appliance_process_resident_memory_bytes", ("process", "supervisor")] > 1 << 20
    assert got["appliance_process_cpu_seconds_total", ("process", "supervisor")] > 0


def test_a_killed_worker_is_down_though_its_page_says_ready(scrape, pages):
    sleeper = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert sleeper.stdout is not None
    assert read_line(sleeper.stdout)  # it has memory of its own from here on
    pages.workers[0] |= {"state": stats.READY, "pid": sleeper.pid}
    assert scrape()["appliance_worker_up", ("worker", "0")] == 1
    sleeper.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # dead, and not reaped
    assert scrape()["appliance_worker_up", ("worker", "0")] == 0
    sleeper.communicate(timeout=PATIENCE_S)
    assert scrape()["appliance_worker_up", ("worker", "0")] == 0


@pytest.mark.parametrize(("slot", "value"), [("state", stats.STARTING), ("state", stats.DONE), ("error", 1)])
def test_a_capture_that_is_not_ready_is_down(scrape, pages, slot, value):
    pages.captures[0] |= {"state": stats.READY, "pid": os.getpid()}
    assert scrape()["appliance_capture_up", ("interface", "eth0")] == 1
    pages.captures[0][slot] = value
    assert scrape()["appliance_capture_up", ("interface", "eth0")] == 0


def test_processor_time_does_not_go_backwards_over_a_restart():
    clock = exporter._ProcessorTime()
    lives = [(0, 0.0), (100, 3.0), (100, 5.0), (0, 0.0), (200, 1.0)]
    assert [clock.over_restarts("worker-0", pid, seconds) for pid, seconds in lives] == [0.0, 3.0, 5.0, 5.0, 6.0]


# -- names -------------------------------------------------------------------------------------------------------------


def test_no_two_metrics_have_the_same_name_and_each_has_help():
    names = [(family.name, family.kind) for family in metrics.FAMILIES]
    assert len(set(names)) == len(names)
    assert all(family.help.endswith(".") for family in metrics.FAMILIES)


def test_no_label_can_hold_what_traffic_says():
    allowed = {"version", "python", "interface", "worker", "stage", "outcome", "reason", "identity", "end", "method",
               "status_class", "pairing", "direction", "topic", "result", "process", "found", "anomaly", "fence",
               "kind", "side", "table", "limit"}  # fmt: skip
    assert {label for family in metrics.FAMILIES for label in family.labels} <= allowed


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (package prometheus)")
def test_promtool_finds_nothing_to_say(serve, pages):
    server = serve(Collector(CONFIG, lambda: pages).collect)
    text = get(server, "/metrics")[2]
    said = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


# -- server ------------------------------------------------------------------------------------------------------------


def test_health_is_200_with_a_word_and_503_with_the_reason(serve):
    assert get(serve(), "/healthz") == (200, "text/plain; charset=utf-8", "ok\n")
    ill = serve(healthy=lambda: (False, "worker 1 is not running"))
    assert get(ill, "/healthz") == (503, "text/plain; charset=utf-8", "worker 1 is not running\n")


def test_the_index_names_both_pages(serve):
    status, kind, body = get(serve(), "/")
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert "/metrics" in body
    assert "/healthz" in body


def test_a_path_that_is_not_there_is_404_and_a_query_does_not_matter(serve):
    server = serve()
    assert get(server, "/metric")[0] == 404
    assert get(server, "/metrics?x=1")[0] == 200


def test_head_answers_without_a_body(serve):
    assert get(serve(), "/healthz", "HEAD")[::2] == (200, "")


def test_a_port_that_is_taken_is_an_error_with_its_number(serve):
    taken = serve()
    with pytest.raises(OSError) as caught:
        serve(bind=f"127.0.0.1:{taken.port}")
    assert caught.value.errno == errno.EADDRINUSE


def test_an_ipv6_address_is_served_too(serve):
    try:
        server = serve(bind="[::1]:0")
    except OSError as error:
        pytest.skip(f"this host has no IPv6 loopback: {error.strerror}")
    assert get(server, "/healthz", host="::1")[0] == 200


def test_a_failing_collector_fails_the_scrape_and_not_the_server(serve, capsys):
    def collect():
        raise RuntimeError("a bug")

    server = serve(collect)
    assert get(server, "/metrics")[0] == 500
    assert get(server, "/healthz")[0] == 200
    assert "RuntimeError: a bug" in capsys.readouterr().err


def test_a_scrape_leaves_no_trace_on_standard_error(serve, capfd):
    get(serve(), "/healthz")
    assert capfd.readouterr() == ("", "")


def strangers(server, count, said=b""):
    """Connections that have said this, and no more."""
    with ExitStack() as stack:
        made = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(count)]
        for each in made:
            with suppress(OSError):  # it is out already
                each.sendall(said)
        return made, stack.pop_all()


@pytest.mark.slow
@pytest.mark.parametrize("said", [b"", b"GET /met", b"GET / HTTP/1.1\r\nX: " + b"y" * 8000], ids=["", "line", "head"])
@pytest.mark.parametrize("count", [32, 1004])
def test_clients_that_do_not_ask_keep_nobody_out(serve, monkeypatch, said, count):
    monkeypatch.setattr(http_server, "REQUEST_TIMEOUT_S", 1e9)
    server = serve()
    _, end = strangers(server, count, said)
    with end:
        assert get(server, "/healthz")[0] == 200
        assert get(server, "/metrics")[0] == 200


def test_clients_that_do_not_read_their_answers_keep_nobody_out(serve, monkeypatch):
    monkeypatch.setattr(http_server, "REQUEST_TIMEOUT_S", 1e9)
    monkeypatch.setattr(http_server, "_INDEX", bytes(64 << 20))
    server = serve()
    _, end = strangers(server, 2 * http_server.MAX_REQUESTS, b"GET / HTTP/1.1\r\n\r\n")
    with end:
        assert get(server, "/healthz")[0] == 200


def test_a_request_may_come_byte_by_byte(serve):
    server = serve()
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n":
            client.sendall(bytes([byte]))
        assert client.makefile("rb").read().startswith(b"HTTP/1.0 200 ")


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n", b"x" * http_server.MAX_HEAD])
def test_who_says_nothing_or_too_much_is_cut_off(serve, monkeypatch, said):
    monkeypatch.setattr(http_server, "REQUEST_TIMEOUT_S", 0.2)
    server = serve()
    (client,), end = strangers(server, 1, said)
    with end, suppress(ConnectionResetError):
        client.settimeout(PATIENCE_S)
        assert client.recv(1) == b""


def test_close_does_not_wait_for_an_idle_connection_and_frees_the_port():
    server = MetricsServer("127.0.0.1:0", list, lambda: (True, ""))
    idle = socket.create_connection(("127.0.0.1", server.port))
    server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))
    idle.close()


# -- who may ask -------------------------------------------------------------------------------------------------------


def asked(port: int, *hosts: str, path: str = "/metrics") -> int:
    """The status of an answer to a request with these Host fields."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        fields = "".join(f"Host: {host}\r\n" for host in hosts)
        client.sendall(f"GET {path} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n".encode())
        return int(client.makefile("rb").readline().split()[1])


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:9470", "[::1]:9470", "localhost", "LOCALHOST:1", "localhost.", "10.0.0.1:80"],
)
def test_an_address_or_a_name_of_this_machine_is_answered_on_loopback(serve, host):
    assert asked(serve().port, host) == 200
    assert asked(serve().port, f"{socket.gethostname()}:9470") == 200
    assert asked(serve().port) == 200


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/", "/none"])
@pytest.mark.parametrize(
    "host",
    ["attacker.example", "attacker.example:9470", "localhost.attacker.example", "127.0.0.1.nip.io", "x@127.0.0.1", ""],
)
def test_another_name_is_not_which_a_web_page_may_have_given_our_address(serve, path, host):
    assert asked(serve().port, host, path=path) == 421


def test_two_names_are_none(serve):
    assert asked(serve().port, "localhost", "attacker.example") == 421


def test_a_server_that_others_reach_is_asked_by_any_name(serve):
    assert asked(serve(bind="0.0.0.0:0").port, "sensor.example:9470") == 200
