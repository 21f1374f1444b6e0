"""The options of the appliance: one frozen structure per stage, each field with its default and its meaning.

A field's metadata says its unit, why its default is what it is, what happens when it is reached and which metric moves
then. The checks, their messages and the commented default file are made from it (config.py), so none of them can drift.
"""

import os
from typing import Annotated, Literal

import msgspec

from appliance.notes import Section, note
from appliance.option_bodies import Bodies
from appliance.option_output import Output as Output  # others import it from here
from appliance.option_shedding import Shedding

MAX_WORKERS = 256  # the sharder's table of open batches
CHECKSUMS = ("off", "count", "drop")


class Source(Section, frozen=True):
    """Where frames come from: interfaces, or one capture file."""

    interfaces: Annotated[
        list[str], note("Interfaces to capture on, one process each; two for the two halves of a TAP.")
    ] = []
    file: Annotated[str, note('A pcap or pcapng file to read instead of interfaces; "-" is standard input.')] = ""
    filter: Annotated[
        str, note("Capture filter in BPF syntax, run in the kernel. Frames it refuses are never seen, nor counted.")
    ] = ""


class Capture(Section, frozen=True):
    """The capture process, one per interface."""

    snaplen: Annotated[
        int,
        note(
            "Longest part of a frame that is kept. The default is libpcap's own maximum: it holds any frame, even one "
            "that offloading made larger than the MTU.",
            unit="bytes",
            ge=64,
            le=1 << 24,
            reached="the frame is cut; the missing end is a gap in its stream",
            counter="appliance_capture_truncated_frames_total",
        ),
    ] = 262144
    ring_bytes: Annotated[
        int,
        note(
            "The kernel's buffer, per interface. The default rides out a stall of a second at 2 Gbit/s.",
            unit="bytes",
            ge=1 << 20,
            le=(1 << 31) - 1,
            reached="the kernel drops the newest frames",
            counter='appliance_capture_dropped_frames_total{stage="kernel"}',
        ),
    ] = 268435456
    promiscuous: Annotated[bool, note("Take frames that are not addressed to this host: what a TAP or SPAN sends.")] = (
        True
    )
    timeout_ms: Annotated[
        int,
        note(
            "How long the kernel holds a block of frames that is not full. Short wakes up often; long adds latency.",
            unit="milliseconds",
            ge=1,
            le=1000,
        ),
    ] = 50
    vlan_aware: Annotated[
        bool,
        note("The filter also matches frames inside VLAN tags; without it `tcp port 80` sees untagged frames only."),
    ] = True
    max_tunnels: Annotated[
        int,
        note(
            "How many tunnels inside each other (GRE, VXLAN, Geneve, GTP-U, IP in IP, …) are entered to find a flow.",
            unit="tunnels",
            ge=0,
            le=16,
            reached="the frame is counted and not followed",
            counter='appliance_capture_rejected_frames_total{reason="too_many_tunnels"}',
        ),
    ] = 4
    max_fragmented_datagrams: Annotated[
        int,
        note(
            "IP datagrams of which some fragments are held. The table must not grow with a flood of first fragments.",
            unit="datagrams per interface",
            ge=1,
            le=1 << 20,
            reached="the oldest is given up",
            counter='appliance_capture_fragments_total{outcome="evicted"}',
        ),
    ] = 16384
    max_fragment_bytes: Annotated[
        int,
        note(
            "Memory for what those fragments carry. The default is what Suricata takes for the same purpose.",
            unit="bytes per interface",
            ge=1 << 17,
            le=1 << 36,
            reached="the oldest datagram is given up",
            counter='appliance_capture_fragments_total{outcome="evicted"}',
        ),
    ] = 33554432
    fragment_timeout_s: Annotated[
        float,
        note(
            "How long the rest of a datagram is waited for, as hosts do (Linux 30 s).",
            unit="seconds",
            ge=0.001,
            le=3600,
            reached="the datagram is given up",
            counter='appliance_capture_fragments_total{outcome="timeout"}',
        ),
    ] = 30.0
    vlan_in_flow: Annotated[
        bool,
        note(
            "Equal addresses on two VLANs are two flows. false makes them one, for taps that tag one direction only; "
            "events then name no VLAN."
        ),
    ] = True


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
            "What may wait between a capture and one worker: the memory that a slow or restarting worker costs.",
            unit="bytes per worker",
            ge=8192,
            le=1 << 36,
            reached="live, the batch is dropped; from a file, reading waits",
            counter='appliance_frames_outcome_total{stage="link",outcome="dropped_backlog"}',
        ),
    ] = 67108864


class Workers(Section, frozen=True):
    """The processes that reassemble and parse."""

    count: Annotated[
        int,
        note(
            "How many; 0 is one less than this machine's usable cores, at least 1; as many as cores to read a file.",
            unit="processes",
            ge=0,
            le=MAX_WORKERS,
        ),
    ] = 0
    quarantine_files: Annotated[
        int,
        note(
            "A batch of frames of which two workers died is left out. So many of them, each about shard.batch_bytes "
            "long, are kept as capture files in the folder quarantine of the run directory, so that they can be looked "
            "at; 0 keeps none.",
            unit="files",
            ge=0,
            le=1024,
            reached="the oldest file makes room",
            counter="appliance_worker_quarantined_batches_total",
        ),
    ] = 8


class Tcp(Section, frozen=True):
    """Limits of TCP reassembly, each per worker. All are on by default: the traffic is not to be trusted."""

    max_connections: Annotated[
        int,
        note(
            "Connections followed at a time. The table must not grow with a flood of SYNs.",
            unit="connections",
            ge=16,
            le=1 << 26,
            reached="the connection idle for longest is given up, its open messages end truncated",
            counter='appliance_tcp_flows_total{end="evicted"}',
        ),
    ] = 1000000
    max_half_open: Annotated[
        int,
        note(
            "Attempts followed at the same time: connections that only one side has spoken of so far. A flood of them "
            "costs this many, and no established connection.",
            unit="connections per worker",
            ge=16,
            le=1 << 26,
            reached="the oldest attempt is forgotten; if it goes on, it is picked up in the middle",
            counter='appliance_tcp_flows_total{end="half_open"}',
        ),
    ] = 65536
    half_open_timeout_s: Annotated[
        float,
        note(
            "How long an attempt is followed: a SYN is repeated after 1, 3, 7 and 15 s.",
            unit="seconds",
            ge=0.1,
            le=86400,
            reached="the attempt is forgotten",
            counter='appliance_tcp_flows_total{end="timeout"}',
        ),
    ] = 30.0
    checksums: Annotated[
        Literal["off", "count", "drop"],
        note(
            'Checksums of IPv4 and TCP: "count" verifies them, "drop" also leaves a segment with a wrong one out, as '
            "its receiver does. What a host's own stack leaves to its card is neither, and is counted apart.",
            counter="appliance_tcp_checksums_total",
        ),
    ] = "count"
    overlap: Annotated[
        Literal["first", "last"],
        note(
            "Which copy counts when bytes come twice with different content while they are held. Bytes that were "
            "handed on stay. Either way the difference is counted, and its event marked overlap_conflict.",
            counter='appliance_tcp_payload_bytes_total{outcome="conflicting"}',
        ),
    ] = "first"
    idle_timeout_s: Annotated[
        float,
        note(
            "A connection without a frame for so long is over. Longer than the usual keep-alive of a server.",
            unit="seconds",
            ge=0.1,
            le=86400,
            reached="the connection is closed, its open messages end truncated",
            counter='appliance_tcp_flows_total{end="timeout"}',
        ),
    ] = 300.0
    closed_linger_s: Annotated[
        float,
        note(
            "How long a closed connection is remembered, so that its late frames do not open a new one.",
            unit="seconds",
            ge=0,
            le=3600,
            reached="it is forgotten",
        ),
    ] = 5.0
    gap_timeout_s: Annotated[
        float,
        note(
            "How long bytes are waited for that the receiver has acknowledged and nobody will send again: covers the "
            "skew of a TAP's halves. Ten times as long if the receiver lacks them too.",
            unit="seconds",
            ge=0,
            le=300,
            reached="the bytes become a gap and the stream goes on behind it; what its receiver never took is left out",
            counter="appliance_tcp_gaps_total",
        ),
    ] = 1.0
    settle_ms: Annotated[
        int,
        note(
            "How long a connection whose SYN was not seen is watched before its first byte is decided; also how long a "
            "direction that was never seen is waited for, and frames behind a RST: covers the skew of a TAP's halves.",
            unit="milliseconds",
            ge=0,
            le=10000,
            reached="the lowest byte seen counts as the first; a missing direction is not waited for; a reset is final",
        ),
    ] = 100
    max_pending_bytes: Annotated[
        int,
        note(
            "Bytes held behind a hole of one stream: a window of 1 MiB is rarely exceeded.",
            unit="bytes per stream",
            ge=1024,
            le=1 << 32,
            reached="the oldest hole becomes a gap and what waited behind it is delivered",
            counter="appliance_tcp_gaps_total",
        ),
    ] = 1048576
    max_pending_segments: Annotated[
        int,
        note(
            "Segments held behind a hole of one stream: tiny ones cost more by their number than by their bytes.",
            unit="segments per stream",
            ge=1,
            le=1 << 20,
            reached="the oldest hole becomes a gap and what waited behind it is delivered",
            counter="appliance_tcp_gaps_total",
        ),
    ] = 4096
    max_total_pending_bytes: Annotated[
        int,
        note(
            "Bytes held behind holes by all streams of a worker: bounds its memory whatever the traffic does.",
            unit="bytes per worker",
            ge=1024,
            le=1 << 40,
            reached="holes become gaps and what waited behind them is delivered",
            counter="appliance_tcp_gaps_total",
        ),
    ] = 268435456


class Http(Section, frozen=True):
    """Limits of the HTTP parser, and what of a message goes into its event."""

    max_head_bytes: Annotated[
        int,
        note(
            "Longest start line with header fields. Servers allow 8 to 64 KiB.",
            unit="bytes",
            ge=256,
            le=1 << 24,
            reached="the message is reported as far as it came, marked head_too_long, and the next one is looked for",
            counter="appliance_http_parse_errors_total",
        ),
    ] = 65536
    max_total_head_bytes: Annotated[
        int,
        note(
            "Bytes of unfinished heads, and of what may become one, held by all connections of a worker: bounds its "
            "memory when many clients send half a head each.",
            unit="bytes per worker",
            ge=256,
            le=1 << 40,
            reached="the head that has just grown is treated as one that is too long",
            counter="appliance_http_parse_errors_total",
        ),
    ] = 268435456
    max_headers: Annotated[
        int,
        note(
            "Header fields of one message that are looked at, as many as Suricata does; servers allow 100 to 200.",
            unit="fields",
            ge=16,
            le=1 << 20,
            reached="the rest of the head is passed over; the event is marked too_many_headers",
            counter='appliance_http_anomalies_total{anomaly="too_many_headers"}',
        ),
    ] = 1024
    max_pipelined: Annotated[
        int,
        note(
            "Requests of one connection that may wait for their responses.",
            unit="requests",
            ge=1,
            le=1 << 20,
            reached="the oldest is reported without a response",
            counter='appliance_http_transactions_total{pairing="request_only"}',
        ),
    ] = 512
    headers: Annotated[list[str], note('Header fields to put into events, by name; ["all"] for every one.')] = []
    redact: Annotated[
        list[str],
        note("More fields whose value is replaced, beside authorization, proxy-authorization, cookie and set-cookie."),
    ] = []
    redaction: Annotated[bool, note("false lets even credentials through, into every event and every output.")] = True
    redact_parameters: Annotated[
        list[str],
        note(
            "Parameters of queries and forms whose value is replaced wherever an event shows it: in url, in header "
            "fields and in excerpts of form bodies. In any case of letters, also percent-encoded."
        ),
    ] = []


class Feed(Section, frozen=True):
    """The ZeroMQ feed."""

    bind: Annotated[str, note('Where subscribers connect: tcp://HOST:PORT, ipc://PATH or "off".')] = (
        "tcp://127.0.0.1:5556"
    )
    replay: Annotated[str, note('Where lost messages are asked for again, same forms; "off" whenever bind is.')] = (
        "tcp://127.0.0.1:5557"
    )
    subscriber_queue: Annotated[
        int,
        note(
            "Messages that may wait for one subscriber, each of up to about event_batch_bytes.",
            unit="messages",
            ge=1,
            le=1 << 24,
            reached="that subscriber, and no other, loses messages; it sees a hole in the sequence",
        ),
    ] = 1000
    curve_key: Annotated[
        str,
        note(
            "File with the feed's secret key, as `appliance keygen` makes it: then everything is encrypted, and only "
            'keys in curve_clients may read, replay included. "" is no lock.',
            counter="appliance_feed_refused_peers_total",
        ),
    ] = ""
    curve_clients: Annotated[
        str, note("Folder with the public keys (NAME.key) of those who may read; SIGHUP makes it be read again.")
    ] = ""
    anyone_may_read: Annotated[
        bool,
        note(
            "The feed may be bound beyond this host without a lock: whoever reaches it reads everything. "
            "Only behind a firewall."
        ),
    ] = False
    replay_bytes: Annotated[
        int,
        note(
            "Memory for messages that can be asked for again. The default holds a minute of 6,000 events a second.",
            unit="bytes",
            ge=0,
            le=1 << 40,
            reached="the oldest messages are forgotten; who asks for one is told that it is gone",
            counter="appliance_feed_store_evicted_messages_total",
        ),
    ] = 268435456
    replay_rate_bytes: Annotated[
        int,
        note(
            "What answers to all such requests may take together, so that the past never delays the present. A "
            "request by itself counts as a 2,000th of it.",
            unit="bytes per second",
            ge=1024,
            le=1 << 40,
            reached="answers go on later",
            counter="appliance_feed_replay_pauses_total",
        ),
    ] = 134217728
    replay_requests: Annotated[
        int,
        note(
            "Such requests that may wait for their answers, of all clients; 8 of one.",
            unit="requests",
            ge=1,
            le=1 << 20,
            reached="further ones are refused, and may be repeated",
            counter='appliance_feed_replay_requests_total{result="refused"}',
        ),
    ] = 256
    heartbeat_s: Annotated[
        float,
        note(
            "Time between heartbeats, which show a quiet subscriber what it missed.", unit="seconds", ge=0.05, le=3600
        ),
    ] = 1.0
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

    bind: Annotated[str, note('Where /metrics and /healthz are served: HOST:PORT or "off".')] = "127.0.0.1:9470"


class Run(Section, frozen=True):
    """The run as a whole."""

    directory: Annotated[
        str, note('Private directory for sockets and counters; "" makes one in memory and removes it.')
    ] = ""
    observer: Annotated[str, note('Name of this sensor in its events; "" is the name of the host.')] = ""
    ledger: Annotated[str, note('File that receives the ledger as JSON at the end; "" is none.')] = ""
    drain_s: Annotated[
        float,
        note(
            "How long a stop may take to bring out what is on its way.",
            unit="seconds",
            ge=0,
            le=3600,
            reached="the processes still running are killed; the ledger says what was lost",
            counter="appliance_frames_unaccounted",
        ),
    ] = 5.0
    hung_s: Annotated[
        float,
        note(
            "How long a process of a live capture may stand still. None ever has to: whoever waits says that it does. "
            "A worker moves with every batch, which takes milliseconds.",
            unit="seconds",
            ge=0.5,
            le=3600,
            reached="it is killed and started again",
            counter='appliance_process_restarts_total{reason="hung"}',
        ),
    ] = 6.0
    sandbox: Annotated[
        Literal["on", "off"],
        note(
            "Each process gives up what it does not need as soon as it is at work: capabilities, network, files, other "
            "programs. Off is for debuggers and profilers.",
            counter="appliance_sandbox",
        ),
    ] = "on"
    user: Annotated[
        str,
        note(
            'User that every process but the supervisor becomes, when started as root; "" is nobody else: they stay '
            "root without its capabilities. It has to be able to write the output."
        ),
    ] = ""
    log: Annotated[
        Literal["text", "json"],
        note(
            "What standard error gets: lines for people, or one JSON object a line. In the journal each has a priority."
        ),
    ] = "text"
    log_lines_per_s: Annotated[
        int,
        note(
            "Lines of one reason in any second, of all processes of a kind together: a flood of faults must not fill "
            "the disk. What is left out is counted and said.",
            unit="lines per second",
            ge=1,
            le=10000,
            reached="further lines are left out, and how many that were is said when there is room again",
            counter="appliance_log_suppressed_total",
        ),
    ] = 10
    allow_remote: Annotated[
        bool,
        note("Metrics may be bound beyond this host. They do not ask who is there: use it behind a firewall."),
    ] = False


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every option, one section per stage."""

    source: Source = Source()
    capture: Capture = Capture()
    shard: Shard = Shard()
    shedding: Shedding = Shedding()
    workers: Workers = Workers()
    tcp: Tcp = Tcp()
    http: Http = Http()
    bodies: Bodies = Bodies()
    output: Output = Output()
    feed: Feed = Feed()
    metrics: Metrics = Metrics()
    run: Run = Run()

    @property
    def lossless(self) -> bool:
        """A file waits for the slowest stage; live capture never waits."""
        return bool(self.source.file)

    @property
    def worker_count(self) -> int:
        """Live, a core is the capture's; while a file is read, whoever waits leaves its core to the others."""
        cores = len(os.sched_getaffinity(0))
        return self.workers.count or (cores if self.lossless else max(1, cores - 1))

    @property
    def capture_count(self) -> int:
        return len(self.interface_names)

    @property
    def interface_names(self) -> list[str]:
        """One name per capture process: the interface, or the file's name without its directory."""
        return [os.path.basename(self.source.file)] if self.source.file else list(self.source.interfaces)
