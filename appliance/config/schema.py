"""The options of the appliance: one frozen structure per section, each field with its default and its meaning.

A field's metadata has its unit, the reason for its default, the effect of reaching it and the metric of that. The
checks, their messages and the commented default file derive from it, so none of them can drift.
"""

import os
from typing import Annotated

import msgspec

from appliance.config import defaults
from appliance.config.field import Section, note
from appliance.config.section_bodies import Bodies
from appliance.config.section_capture import Capture as Capture
from appliance.config.section_events import Events as Events
from appliance.config.section_files import Files as Files
from appliance.config.section_output import Output as Output  # other packages import it from here
from appliance.config.section_quic import Quic as Quic
from appliance.config.section_record import Record as Record
from appliance.config.section_run import Run as Run
from appliance.config.section_shedding import Shedding
from appliance.config.section_tcp import Tcp as Tcp
from appliance.config.section_tls import Tls as Tls
from appliance.config.section_websocket import WebSocket as WebSocket

MAX_WORKERS = 256  # size of the sharder's table of open batches
LIVE_LINK_BYTES = 1 << 27
FILE_LINK_BYTES = 1 << 25
CHECKSUMS = ("off", "count", "drop")


class Source(Section, frozen=True):
    """The source of frames: interfaces, or one capture file."""

    interfaces: Annotated[list[str], note("Interfaces to capture on; two for the two halves of a TAP.")] = []
    file: Annotated[str, note('A pcap or pcapng file to read instead of interfaces; "-" is standard input.')] = ""
    filter: Annotated[
        str, note("Capture filter in BPF syntax, run in the kernel. No counter includes the frames it refuses.")
    ] = ""


class Shard(Section, frozen=True):
    """The links from a capture to the workers."""

    batch_bytes: Annotated[
        int,
        note(
            "Size of a batch of frames. Large batches cost less per frame; a longer frame gets a batch of its own.",
            unit="bytes",
            ge=4096,
            le=1 << 26,
            reached="the batch is sent",
        ),
    ] = 1048576
    batch_age_ms: Annotated[
        int,
        note(
            "Longest time a frame waits for its batch to fill; most of the latency on a quiet network.",
            unit="milliseconds",
            ge=1,
            le=10000,
            reached="the batch is sent",
        ),
    ] = 20
    link_bytes: Annotated[
        int,
        note(
            "Maximum backlog between a capture and one worker: the memory that a slow or restarting worker "
            "costs. The backlog between a worker and the feed may have half as much, also in shared memory. 0 is "
            "134217728, a tenth of a second at 10 Gbit/s, and 33554432 to read a file, when the capture waits "
            "instead.",
            unit="bytes per worker",
            ge=0,
            le=1 << 36,
            reached="live, the batch (or the events) is dropped; from a file, the sender waits",
            counter='appliance_frames_outcome_total{stage="link",outcome="dropped_backlog"}, '
            'appliance_feed_dropped_events_total{reason="backlog"}',
        ),
    ] = 0


class Workers(Section, frozen=True):
    """The processes that reassemble and parse."""

    count: Annotated[
        int,
        note(
            "Number of workers; 0 is one less than this machine's usable cores, at least 1; as many as cores to "
            "read a file, and 1 for a file that fits into shard.batch_bytes.",
            unit="processes",
            ge=0,
            le=MAX_WORKERS,
        ),
    ] = 0
    quarantine_files: Annotated[
        int,
        note(
            "Batches kept as capture files after two workers died of each, in the folder quarantine of the run "
            "directory, for analysis. Each has about shard.batch_bytes. Such a batch is skipped; 0 keeps none.",
            unit="files",
            ge=0,
            le=1024,
            reached="the oldest file is removed",
            counter="appliance_worker_quarantined_batches_total",
        ),
    ] = 8
    kept_connections: Annotated[
        int,
        note(
            "HTTP/2 connections of a worker of which a copy of the header tables outlives it, so that its successor "
            "takes them over. Each takes 48 KiB of the run directory, from when it is needed. 0 keeps none.",
            unit="connections per worker",
            ge=0,
            le=65536,
            reached="the one that was silent the longest gives way; if none was for a second, the new one is not kept",
            counter='appliance_http2_kept_outcomes_total{outcome="no_room"}',
        ),
    ] = 1024


class Http(Section, frozen=True):
    """Limits of the HTTP parser, and the content of events."""

    max_head_bytes: Annotated[
        int,
        note(
            "Maximum size of a start line with its header fields. Servers allow 8 to 64 KiB.",
            unit="bytes",
            ge=256,
            le=1 << 24,
            reached="the partial message is reported, marked head_too_long, and the parser searches for the next one",
            counter="appliance_http_parse_errors_total",
        ),
    ] = 65536
    max_total_head_bytes: Annotated[
        int,
        note(
            "Bytes of unfinished heads, and of potential ones, buffered by all connections of a worker: bounds "
            "its memory when many clients send half a head each.",
            unit="bytes per worker",
            ge=256,
            le=1 << 40,
            reached="the head that grew last is treated as too long",
            counter="appliance_http_parse_errors_total",
        ),
    ] = 268435456
    max_headers: Annotated[
        int,
        note(
            "Maximum number of header fields parsed per message, as in Suricata; servers allow 100 to 200.",
            unit="fields",
            ge=16,
            le=1 << 20,
            reached="the rest of the head is skipped; the event is marked too_many_headers",
            counter='appliance_http_anomalies_total{anomaly="too_many_headers"}',
        ),
    ] = 1024
    max_total_waiting_bytes: Annotated[
        int,
        note(
            "Memory for messages without their counterpart, of all connections of a worker: requests without a "
            "response, including pipelined ones, and responses whose request is not known yet. The default holds "
            "some 150,000.",
            unit="bytes per worker",
            ge=4096,
            le=1 << 40,
            reached="the oldest message of a connection that has most of it is reported alone; a connection with "
            "less than 4096 bytes of it, or one request, keeps them",
            counter="appliance_http_given_up_total",
        ),
    ] = 134217728
    max_streams: Annotated[
        int,
        note(
            "Open streams followed on one HTTP/2 connection. Servers allow 100 to 250, some of gRPC any number.",
            unit="streams per connection",
            ge=16,
            le=1 << 20,
            reached="the oldest stream of the connection is reported as it is",
            counter="appliance_http2_streams_given_up_total",
        ),
    ] = 4096
    max_streams_bytes: Annotated[
        int,
        note(
            "Bytes of header fields of the open streams of one HTTP/2 connection.",
            unit="bytes per connection",
            ge=4096,
            le=1 << 30,
            reached="the oldest stream of the connection is reported as it is",
            counter="appliance_http2_streams_given_up_total",
        ),
    ] = 4194304
    max_join_bytes: Annotated[
        int,
        note(
            "Bytes of a connection that are kept until a header block proves that they are the middle of HTTP/2. "
            "max_total_head_bytes bounds their memory, of all connections.",
            unit="bytes per connection",
            ge=4096,
            le=1 << 24,
            reached="the bytes are read as if they were not HTTP/2; the next piece may try again",
            counter="appliance_http2_joins_given_up_total",
        ),
    ] = 65536
    max_total_table_bytes: Annotated[
        int,
        note(
            "Memory for the header tables (HPACK) of all HTTP/2 connections of a worker. Two of at most 64 KiB belong "
            "to a connection, usually of 4 KiB.",
            unit="bytes per worker",
            ge=65536,
            le=1 << 40,
            reached="the table that grew last is emptied: header fields that refer to its entries are unknown",
            counter="appliance_http2_tables_emptied_total",
        ),
    ] = 268435456
    max_connect_depth: Annotated[
        int,
        note(
            "CONNECT tunnels that are entered one inside another. 0 enters none.",
            unit="tunnels",
            ge=0,
            le=16,
            reached="the bytes of the innermost tunnel are counted only",
            counter="appliance_http_tunnels_too_deep_total",
        ),
    ] = 4
    headers: Annotated[list[str], note('Header fields to put into events, by name; ["all"] for every one.')] = []
    redact: Annotated[
        list[str],
        note("More fields whose value is redacted, beside authorization, proxy-authorization, cookie and set-cookie."),
    ] = []
    redaction: Annotated[bool, note("false writes even credentials into every event and every output.")] = True
    redact_parameters: Annotated[
        list[str],
        note(
            "Parameters of queries and forms whose value is redacted wherever an event shows it: in url, in "
            "header fields and in excerpts of form bodies. Case and percent-encoding do not matter."
        ),
    ] = []


class Feed(Section, frozen=True):
    """The ZeroMQ feed."""

    bind: Annotated[
        str,
        note(
            'Endpoint of the feed: tcp://HOST:PORT, ipc://PATH or "off", the default for a capture file unless '
            "this, replay or a lock is set."
        ),
    ] = defaults.FEED
    replay: Annotated[str, note('Endpoint for replay requests, same forms; "off" whenever bind is.')] = defaults.REPLAY
    subscriber_queue: Annotated[
        int,
        note(
            "Messages queued for one subscriber, each of up to about event_batch_bytes.",
            unit="messages",
            ge=1,
            le=1 << 24,
            reached="that subscriber, and no other, loses messages; it sees a gap in the sequence",
        ),
    ] = 1000
    peers: Annotated[
        int,
        note(
            "Maximum connections to each port of the feed, fewer if the limit of open files is low.",
            unit="connections",
            ge=8,
            le=1 << 16,
            reached="the oldest connection without a subscription or request is closed; if there is none, the latest "
            "one of the address that has most",
            counter='appliance_feed_refused_peers_total{reason="crowded"}',
        ),
    ] = 1000
    peer_bytes: Annotated[
        int,
        note(
            "Memory for unfinished messages and subscriptions of all connections to a port; one connection may "
            "use a quarter of it.",
            unit="bytes",
            ge=65536,
            le=1 << 30,
            reached="the connection with most of it is closed",
            counter='appliance_feed_refused_peers_total{reason="greedy"}',
        ),
    ] = 1048576
    curve_key: Annotated[
        str,
        note(
            "File with the feed's secret key, as `appliance keygen` makes it. With it the feed is encrypted, and "
            'only keys in curve_clients may read, replay included. "" is no lock.',
            counter="appliance_feed_refused_peers_total",
        ),
    ] = ""
    curve_clients: Annotated[
        str, note("Folder with the public keys (NAME.key) of permitted readers; SIGHUP reloads it.")
    ] = ""
    anyone_may_read: Annotated[
        bool,
        note(
            "Allow an unlocked feed on an address that other hosts reach: any of them can read everything. Use "
            "it behind a firewall only."
        ),
    ] = False
    replay_bytes: Annotated[
        int,
        note(
            "Memory for messages that can be replayed. The default holds a minute of 6,000 events a second.",
            unit="bytes",
            ge=0,
            le=1 << 40,
            reached="the oldest messages are removed; a request for one gets the answer that it is gone",
            counter="appliance_feed_store_evicted_messages_total",
        ),
    ] = 268435456
    replay_rate_bytes: Annotated[
        int,
        note(
            "Rate limit of all replay answers, so that they do not delay new messages. A request by itself "
            "counts as a 2,000th of it.",
            unit="bytes per second",
            ge=1024,
            le=1 << 40,
            reached="answers continue later",
            counter="appliance_feed_replay_pauses_total",
        ),
    ] = 134217728
    replay_requests: Annotated[
        int,
        note(
            "Replay requests that may wait for their answers, of all clients; 8 of one.",
            unit="requests",
            ge=1,
            le=1 << 20,
            reached="further requests are refused, and may be repeated",
            counter='appliance_feed_replay_requests_total{result="refused"}',
        ),
    ] = 256
    heartbeat_s: Annotated[
        float,
        note(
            "Time between heartbeats, which reveal missed messages on a quiet topic.", unit="seconds", ge=0.05, le=3600
        ),
    ] = 1.0
    connection_share: Annotated[
        float,
        note(
            "Share of the remaining backlog of a worker's link (half of shard.link_bytes) that events of one "
            "connection may use: with 0.5, one alone may use a third, two a quarter each, and room for others "
            "remains for any number. Live only; reading a file drops nothing.",
            unit="of the remaining room",
            ge=0.001,
            le=1000,
            reached="further events of this connection, and of no other, are dropped until the feed has caught up",
            counter='appliance_feed_dropped_events_total{reason="connection_share"}',
        ),
    ] = 0.5
    connection_bytes_s: Annotated[
        int,
        note(
            "Bytes of events of one connection per second of capture time, some 18,000 events: pipelined "
            "requests of 28 bytes become 28 times as much. Live only.",
            unit="bytes per second",
            ge=1024,
            le=1 << 40,
            reached="further events of this connection are dropped until its rate is lower",
            counter='appliance_feed_dropped_events_total{reason="connection_share"}',
        ),
    ] = 16777216
    event_batch_bytes: Annotated[
        int,
        note(
            "Size of a batch of events on its way to the feed.", unit="bytes", ge=1024, le=1 << 26, reached="it is sent"
        ),
    ] = 262144
    event_batch_age_ms: Annotated[
        int,
        note(
            "Longest time an event waits for its batch to fill.",
            unit="milliseconds",
            ge=1,
            le=10000,
            reached="the batch is sent",
        ),
    ] = 20


class Metrics(Section, frozen=True):
    """Prometheus metrics and /healthz."""

    bind: Annotated[
        str, note('Address of /metrics and /healthz: HOST:PORT or "off". "off" for a capture file, unless set.')
    ] = defaults.METRICS


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every option, one section per stage."""

    source: Source = Source()
    capture: Capture = Capture()
    shard: Shard = Shard()
    shedding: Shedding = Shedding()
    workers: Workers = Workers()
    tcp: Tcp = Tcp()
    http: Http = Http()
    quic: Quic = Quic()
    bodies: Bodies = Bodies()
    tls: Tls = Tls()
    events: Events = Events()
    websocket: WebSocket = WebSocket()
    output: Output = Output()
    record: Record = Record()
    files: Files = Files()
    feed: Feed = Feed()
    metrics: Metrics = Metrics()
    run: Run = Run()

    @property
    def lossless(self) -> bool:
        """Return whether every stage waits for the slowest one, as for a file; a live capture never waits."""
        return bool(self.source.file)

    @property
    def worker_count(self) -> int:
        """Return the number of workers. A live capture uses a core by itself; with a file, waiting processes free
        theirs.
        """
        cores = len(os.sched_getaffinity(0))
        return self.workers.count or (cores if self.lossless else max(1, cores - 1))

    @property
    def opens_quic(self) -> bool:
        """Return whether workers get the datagrams that may open a QUIC connection."""
        return self.quic.max_initials_per_second > 0

    @property
    def decrypts(self) -> bool:
        """Return whether workers may get secrets of TLS sessions."""
        in_capture = self.lossless and self.tls.capture_secrets and "tls" in self.events.datasets
        return bool(self.tls.keylog) or in_capture

    @property
    def link_bytes(self) -> int:
        """Return the backlog of each worker."""
        return self.shard.link_bytes or (FILE_LINK_BYTES if self.lossless else LIVE_LINK_BYTES)

    @property
    def capture_count(self) -> int:
        return len(self.interface_names)

    @property
    def interface_names(self) -> list[str]:
        """Return one name per capture process: the interface, with /0, /1 … if it has several, or the
        file's base name.
        """
        if self.source.file:
            return [os.path.basename(self.source.file)]
        if self.capture.fanout == 1:
            return list(self.source.interfaces)
        return [f"{name}/{member}" for name in self.source.interfaces for member in range(self.capture.fanout)]

    def interface_of(self, capture: int) -> str:
        """Return the interface of this capture process, or the file's base name."""
        return self.interface_names[0] if self.source.file else self.source.interfaces[capture // self.capture.fanout]

    def is_first(self, capture: int) -> bool:
        """Return whether this is the first capture process of its interface, which reports the shared counters."""
        return capture == 0 or self.interface_of(capture) != self.interface_of(capture - 1)
