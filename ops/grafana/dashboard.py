"""The dashboard in code:  python ops/grafana/dashboard.py   writes ops/grafana/dashboards/capture-appliance.json

Rows from what matters first to what explains it. The expressions use the recording rules of ops/prometheus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model
from panels import PREFIX, SOURCE, bars, by, heat, lines, number, of, rate, recorded, total

FILE = Path(__file__).parent / "dashboards" / "capture-appliance.json"
SECONDS, RATIO, BYTES, BYTES_RATE, FRAMES_RATE = "s", "percentunit", "bytes", "Bps", "pps"
PER_SECOND = "cps"
UNSURE = 'pairing=~"uncertain|request_only|response_only"'

HEALTH = (
    number("Scraped", "Sensors whose metrics can be read.", ('sum(up{job="appliance", instance=~"$instance"})', "")),
    number(
        "Not running", "Processes that are down; every one should be up.",
        (f"count({of('process_up')}) - sum({of('process_up')})", ""), bad_from=1,
    ),
    number(
        "No link", "Interfaces that are down, without a carrier, or gone.",
        (f"sum({of('capture_link_down')})", ""), bad_from=1,
    ),
    number(
        "Loss now", "Share of the frames of the last minute that this machine lost: nic, kernel, links, killed ones.",
        (f"max({recorded('instance:appliance_lost_frames:ratio_rate1m')})", ""), unit=RATIO, bad_from=0.001,
    ),
    number(
        "Left out", "Largest share of new connections that is left out on purpose, because the machine is not enough.",
        (f"max({of('capture_shed_ratio')})", ""), unit=RATIO, bad_from=0.001,
    ),
    number(
        "Unaccounted", "What the ledger lacked at the quietest moment of ten minutes. Under load, some is on its way; "
        "ApplianceUnaccounted fires when it is more than that.",
        (f"max({recorded('identity:appliance_frames_unaccounted:min10m')})", ""),
    ),
    number(
        "Behind", "Age of the last batch of the slowest worker when it took it.",
        (f"max({of('packet_lag_seconds')})", ""), unit=SECONDS, bad_from=5,
    ),
    number(
        "Last frame", "Time since the newest frame.",
        (f"time() - max({of('capture_last_frame_timestamp_seconds')} > 0)", ""), unit=SECONDS, bad_from=300,
    ),
    number(
        "Restarts", "Processes that died or hung and were started again, in the time shown.",
        (f"round({total('process_restarts_total')})", ""), bad_from=1,
    ),
    number(
        "Quarantined", "Batches that two workers died of and that were left out, in the time shown.",
        (f"round({total('worker_quarantined_batches_total')})", ""), bad_from=1,
    ),
    number(
        "Configuration", "Its number, the same in every process: 1 at the start, one more with each reload.",
        (f"min({of('config_generation')})", ""),
    ),
    number(
        "Refused", "Sensors whose last reload was refused, so that the configuration before it is in force.",
        (f"sum(1 - {of('config_last_reload_successful')})", ""), bad_from=1,
    ),
)  # fmt: skip

FRAMES = bars(
    "Frames from wire to worker",
    "In the time shown: every frame that reached the machine ends in one of the red, orange or last bars.",
    (total("capture_frames_total") + " + " + total("capture_dropped_frames_total"), "on the wire"),
    (total("capture_dropped_frames_total", 'stage="nic"'), "lost by the interface"),
    (total("capture_dropped_frames_total", 'stage="kernel"'), "lost for want of ring"),
    (total("capture_dropped_frames_total", 'stage="abandoned"'), "lost with a killed capture"),
    (total("capture_frames_total"), "read"),
    (total("capture_shed_frames_total"), "left out on purpose"),
    (total("capture_rejected_frames_total"), "not TCP or QUIC, or not whole"),
    (total("frames_outcome_total", 'stage="link"', 'outcome="dropped_backlog"'), "lost: link full"),
    (total("frames_outcome_total", 'stage="link"', 'outcome="dropped_memory"'), "lost: run directory full"),
    (total("frames_outcome_total", 'stage="link"', 'outcome!~"dropped_backlog|dropped_memory"'),
     "lost on a killed worker's link"),
    (total("frames_outcome_total", 'stage="worker"', 'outcome=~"crash_lost|quarantined"'), "lost with a killed worker"),
    (total("frames_outcome_total", 'stage="worker"', 'outcome=~"bad_header|no_connection|bad_checksum"'),
     "not of a connection"),
    (total("frames_outcome_total", 'stage="worker"', 'outcome="segment"'), "followed"),
    (total("frames_outcome_total", 'stage="worker"', 'outcome="quic"'), "QUIC handshakes"),
)  # fmt: skip
EVENTS = bars(
    "Events from worker to subscriber",
    "In the time shown. What a slow subscriber loses is its own: it sees holes in the numbers and asks for them again.",
    (total("events_made_total"), "made"),
    (total("feed_dropped_events_total", 'reason="backlog"'), "lost: feed behind"),
    (total("feed_dropped_events_total", 'reason="memory"'), "lost: run directory full"),
    (total("feed_dropped_events_total", 'reason="connection_share"'), "lost: over a connection's share"),
    (total("feed_dropped_events_total", 'reason="worker_crash"'), "lost with a killed worker"),
    (total("feed_dropped_events_total", 'reason="link_lost"'), "lost on the link to a killed feed"),
    (total("feed_dropped_events_total", 'reason="feed_crash"'), "lost with a killed feed"),
    (total("feed_events_total"), "published"),
    (total("output_dropped_events_total"), "lost by the output file"),
    (total("output_events_total"), "written"),
    (total("feed_replay_messages_total"), "messages sent again"),
    (total("feed_replay_requests_total", 'result="gone"'), "not to be had again: requests"),
)  # fmt: skip
LOSS = (
    FRAMES,
    EVENTS,
    lines(
        "Frames lost, by where", "Per second; 0 all the time on a sensor that is well.",
        (by("stage", recorded("stage:appliance_lost_frames:rate1m")), "{{stage}}"), unit=FRAMES_RATE, stacked=True,
    ),
    lines(
        "Events lost, by why", "Made and never published.",
        (by("reason", rate("feed_dropped_events_total")), "{{reason}}"), unit=PER_SECOND, stacked=True,
    ),
    lines(
        "Lost before this machine", "Share of the bytes that receivers acknowledged and that were never captured; less "
        "what is lost here, it was lost at mirror port, broker or tunnel.",
        (by("instance", recorded("instance:appliance_unseen_bytes:ratio_rate5m")), "{{instance}}"), unit=RATIO,
    ),
)  # fmt: skip

THROUGHPUT = (
    lines(
        "Frames", "Read, by interface.",
        (by("instance, interface", rate("capture_frames_total")), "{{instance}} {{interface}}"), unit=FRAMES_RATE,
    ),
    lines(
        "Bits", "Of these frames, as they were on the wire.",
        ("8 * " + by("instance, interface", rate("capture_wire_bytes_total")), "{{instance}} {{interface}}"),
        unit="bps",
    ),
    lines(
        "Drift of the workers", "How far each is from an even split of the frames: 50 % is half as much again.",
        (recorded("worker:appliance_frames:drift_rate1m"), "{{instance}} worker {{worker}}"), unit=RATIO,
    ).min(-1),
    lines(
        "Frames without a TCP segment or QUIC handshake", "Rejected by the capture, by reason.",
        (by("reason", rate("capture_rejected_frames_total")) + " > 0", "{{reason}}"), unit=FRAMES_RATE, stacked=True,
    ),
    lines(
        "QUIC datagrams", "UDP that may open a connection, by what became of it.",
        (by("outcome", rate("quic_datagrams_total")), "{{outcome}}"), unit=FRAMES_RATE, stacked=True,
    ),
    lines(
        "Left out on purpose", "Share of new connections, by worker; and of all, in the kernel's filter.",
        (of("capture_shed_ratio"), "worker {{worker}}"),
        (of("capture_kernel_shed_ratio"), "kernel, {{interface}}"), unit=RATIO,
    ),
    lines(
        "On their way to the workers", "Frames sent to a worker that it has not taken, and all between two counters.",
        (of("ipc_queue_frames"), "link to worker {{worker}}"),
        (by("instance", of("frames_in_flight")), "in flight, {{instance}}"),
    ),
)  # fmt: skip

TCP = (
    lines(
        "Connections", "Followed now, half-open ones included.", (by("worker", of("tcp_flows")), "worker {{worker}}"),
        (f"sum({of('tcp_half_open')})", "half open"),
    ),
    lines(
        "Connections ended", "By what ended them.", (by("end", rate("tcp_flows_total")), "{{end}}"), unit=PER_SECOND,
        stacked=True,
    ),
    lines(
        "Payload", "By what became of it; only what is delivered was new and in its place.",
        (by("outcome", rate("tcp_payload_bytes_total")), "{{outcome}}"), unit=BYTES_RATE, stacked=True,
    ),
    lines(
        "Holes and disorder", "Holes given up, segments before their turn, acknowledgements of bytes never seen.",
        (f"sum({rate('tcp_gaps_total')})", "gaps"),
        (f"sum({rate('tcp_out_of_order_segments_total')})", "out of order"),
        (f"sum({rate('tcp_ack_unseen_total')})", "acknowledged unseen"), unit=PER_SECOND,
    ),
    lines(
        "Share of the budgets", "What is taken of each limit of a worker; at 100 % the oldest is given up.",
        (by("budget", recorded("worker:appliance_budget:ratio"), "max"), "{{budget}}"), unit=RATIO,
    ),
    lines(
        "One direction only", "Share of the connections that ended of which one direction was never seen.",
        (by("instance", recorded("instance:appliance_tcp_one_sided:ratio_rate5m")), "{{instance}}"), unit=RATIO,
    ),
)  # fmt: skip

HTTP = (
    lines(
        "Requests", "By method.", (by("method", rate("http_requests_total")) + " > 0", "{{method}}"), unit="reqps",
        stacked=True,
    ),
    lines(
        "Responses", "By class of status.", (by("status_class", rate("http_responses_total")), "{{status_class}}"),
        unit="reqps", stacked=True,
    ),
    lines(
        "Errors", "Share of the responses.",
        *((f"sum({rate('http_responses_total', one)}) / (sum({rate('http_responses_total')}) > 0)", one[-4:-1])
          for one in ('status_class="5xx"', 'status_class="4xx"')), unit=RATIO,
    ),
    heat(
        "Latency", "Last byte of a request to the first of its response.",
        (by("le", f"increase({of('http_response_duration_seconds_bucket')}[$__rate_interval])"), "{{le}}"),
        unit=SECONDS,
    ),
    lines(
        "Latency, quantiles", "Within buckets, so exact to their bounds only.",
        *(
            (f"histogram_quantile({q}, {by('le', rate('http_response_duration_seconds_bucket'))})", f"p{q * 100:g}")
            for q in (0.5, 0.95, 0.99)
        ), unit=SECONDS,
    ),
    lines(
        "Not surely paired", "Share of the transactions without response, without request, or with an uncertain match.",
        (f"sum by (pairing) ({rate('http_transactions_total', UNSURE)})"
         f" / ignoring(pairing) group_left () (sum({rate('http_transactions_total')}) > 0)", "{{pairing}}"),
        unit=RATIO, stacked=True,
    ),
    lines(
        "Anomalies", "Transactions with something odd about them; ops/docs/operators/events.md says what each is.",
        (by("anomaly", rate("http_anomalies_total")) + " > 0", "{{anomaly}}"), unit=PER_SECOND, stacked=True,
    ),
    lines(
        "Parser", "Messages that are not HTTP as it is written down; messages found again behind a loss.",
        (f"sum({rate('http_parse_errors_total')})", "parse errors"),
        (f"sum({rate('http_resyncs_total')})", "found again"), unit=PER_SECOND,
    ),
    lines(
        "Bodies", "Bytes on the wire.", (by("direction", rate("http_body_bytes_total")), "of {{direction}}s"),
        unit=BYTES_RATE, stacked=True,
    ),
)  # fmt: skip

PROTOCOLS = (
    lines(
        "HTTP/2 and gRPC streams", "Opened; ended without an event, and reset by a side, as a call that is cancelled.",
        (f"sum({rate('http2_streams_total')})", "opened"),
        ("sum(" + rate("http2_streams_ended_total", 'outcome!="reported"') + ")", "without an event"),
        (by("side", rate("http2_streams_reset_total")), "reset by the {{side}}"), unit=PER_SECOND,
    ),
    lines(
        "HTTP/2 streams open", "Open now.", (by("worker", of("http2_streams_open")), "worker {{worker}}"),
    ),
    lines(
        "HTTP/2 header blocks", "By what is known of the table that they refer to: behind a late join or a loss, "
        "fields that it holds may be absent from events.",
        (by("table", rate("http2_header_blocks_total")), "{{table}}"), unit=PER_SECOND, stacked=True,
    ),
    lines(
        "WebSocket connections", "Open now.", (by("worker", of("websocket_connections_open")), "worker {{worker}}"),
    ),
    lines(
        "WebSocket messages", "Whole ones; sides whose next frame header was lost, and resynchronisations.",
        (f"sum({rate('websocket_messages_total')})", "messages"),
        (f"sum({rate('websocket_losses_total')})", "lost"),
        (f"sum({rate('websocket_resyncs_total')})", "found again"), unit=PER_SECOND,
    ),
    lines(
        "TLS handshakes", "By what became of them.",
        (by("outcome", rate("tls_handshakes_total")), "{{outcome}}"), unit=PER_SECOND, stacked=True,
    ),
    lines(
        "QUIC connections", "Opened, and Initial packets that no key opens.",
        (f"sum({rate('quic_connections_opened_total')})", "opened"),
        ("sum(" + rate("quic_initials_total", 'outcome="failed"') + ")", "Initials that do not open"), unit=PER_SECOND,
    ),
)  # fmt: skip

EVIDENCE = (
    lines(
        "Frames recorded", "Frames that workers got: in the ring, and left out of it, by reason.",
        (f"sum({rate('record_frames_total')})", "recorded"),
        (by("reason", rate("record_left_out_frames_total")), "left out: {{reason}}"), unit=FRAMES_RATE, stacked=True,
    ),
    lines(
        "Ring", "Its size; a full ring is normal, and then holds the newest frames.",
        (by("instance", of("record_ring_bytes")), "used, {{instance}}"),
        (by("instance", of("record_ring_limit_bytes")), "limit, {{instance}}"), unit=BYTES,
    ),
    lines(
        "Age of the ring", "Time since the oldest frames that the ring still has.",
        ("time() - (" + of("record_ring_oldest_timestamp_seconds") + " > 0) or "
         + of("record_ring_oldest_timestamp_seconds"), "{{instance}}"), unit=SECONDS,
    ),
    lines(
        "Bytes of TLS with a key log", "Of connections that might be decrypted, by outcome.",
        (by("outcome", rate("tls_decryption_bytes_total")), "{{outcome}}"), unit=BYTES_RATE, stacked=True,
    ),
    lines(
        "Decrypted connections", "Connections that might be decrypted, by what became of that.",
        (by("outcome", rate("tls_decrypted_total")), "{{outcome}}"), unit=PER_SECOND, stacked=True,
    ),
    lines("Secrets", "Secrets of TLS sessions in memory.", (by("worker", of("tls_keys")), "worker {{worker}}")),
)  # fmt: skip

FEED = (
    lines("Events", "Published, by topic.", (by("topic", rate("feed_events_total")), "{{topic}}"), unit=PER_SECOND,
          stacked=True),
    lines("On their way to the feed", "Events that workers have sent and the feed has not taken.",
          (by("instance", of("feed_queue_events")), "{{instance}}")),
    lines("Subscribers", "Peers of the feed that subscribe to anything, each counted once.",
          (by("instance", of("feed_subscribers")), "{{instance}}")),
    lines("Asked for again", "Requests for stored messages, by how they went.",
          (by("result", rate("feed_replay_requests_total")), "{{result}}"), unit=PER_SECOND),
    lines("Store", "Messages kept for who asks again: full is normal, it then holds the newest.",
          (by("instance", of("feed_store_bytes")), "kept, {{instance}}"),
          (by("instance", of("feed_store_limit_bytes")), "limit, {{instance}}"), unit=BYTES),
    lines("Output file", "Events written, events that it did not take, and failures.",
          (f"sum({rate('output_events_total')})", "written"),
          (f"sum({rate('output_dropped_events_total')})", "not taken"),
          (f"sum({rate('output_write_errors_total')})", "errors"), unit=PER_SECOND),
)  # fmt: skip

PROCESSES = (
    lines("Processor", "Cores, by process.", (rate("process_cpu_seconds_total"), "{{instance}} {{process}}")),
    lines("Memory", "Resident, by process.",
          (of("process_resident_memory_bytes"), "{{instance}} {{process}}"), unit=BYTES),
    lines("Restarts by process", "By why: it died, or it did not move and was killed.",
          (by("process, reason", f"increase({of('process_restarts_total')}[$__rate_interval])"),
           "{{process}} {{reason}}")),
    lines("Blind", "Share of the time in which frames could pass in no counter, by why.",
          (by("instance, reason", rate("capture_blind_seconds_total")), "{{instance}} {{reason}}"), unit=RATIO),
    lines("Log", "Lines said, and lines left out because there were too many of their reason.",
          (f"sum({rate('log_lines_total')})", "said"), (f"sum({rate('log_suppressed_total')})", "left out"),
          unit=PER_SECOND),
    lines("Last turn", "Time since each process last turned its loop.",
          (of("process_progress_age_seconds"), "{{instance}} {{process}}"), unit=SECONDS),
)  # fmt: skip

ROWS = {
    "Health": HEALTH,
    "Where it is lost, from wire to subscriber": LOSS,
    "Throughput": THROUGHPUT,
    "TCP": TCP,
    "HTTP": HTTP,
    "HTTP/2, gRPC, WebSocket, TLS and QUIC": PROTOCOLS,
    "Recording and decryption": EVIDENCE,
    "Feed": FEED,
    "Processes": PROCESSES,
}


def values_of(label: str, metric: str) -> str:
    """Of the sensors that are chosen; every sensor for the choice of them."""
    narrowed = "" if label == "instance" else '{instance=~"$instance"}'
    return f"label_values({PREFIX}{metric}{narrowed}, {label})"


def variable(name: str, label: str, values: str) -> dashboard.QueryVariable:
    """One or several of what a label has."""
    made = dashboard.QueryVariable(name).label(label).query(values).datasource(SOURCE).multi(True).include_all(True)
    made = (
        made.all_value(".*").refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.NATURAL_ASC)
    )
    return made.current(model.VariableOption(text="All", value="$__all"))


def build() -> model.Dashboard:
    made = (
        dashboard.Dashboard("Capture appliance")
        .uid("capture-appliance")
        .description("One sensor or several: what they see, what they lose and where, and how they are.")
        .tags(["capture", "http"])
        .readonly()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("30s")
        .with_variable(dashboard.DatasourceVariable("datasource").label("data source").type("prometheus"))
        .with_variable(variable("instance", "sensor", values_of("instance", "build_info")))
        .with_variable(variable("interface", "interface", values_of("interface", "capture_up")))
        .with_variable(variable("worker", "worker", values_of("worker", "worker_up")))
    )
    number_of = 0
    for title, panels in ROWS.items():
        number_of += 1
        made = made.with_row(dashboard.Row(title).id(number_of))
        for panel in panels:
            number_of += 1
            made = made.with_panel(panel.id(number_of))
    return made.build()


def text() -> str:
    return JSONEncoder(sort_keys=False, indent=2).encode(build()) + "\n"


def panels_of(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Every panel of a dashboard's JSON that has queries."""
    return [panel for panel in board["panels"] if panel.get("targets")]


if __name__ == "__main__":
    FILE.write_text(text())
    print(FILE)
