"""The options of the appliance: one frozen structure per stage, each field with its default and its meaning.

A field's metadata says its unit, why its default is what it is, what happens when it is reached and which metric moves
then. The checks, their messages and the commented default file are made from it (config.py), so none of them can drift.
"""

import os
from typing import Annotated

import msgspec

from appliance.notes import Section, note
from appliance.option_bodies import Bodies
from appliance.option_capture import Capture as Capture
from appliance.option_output import Output as Output  # others import it from here
from appliance.option_run import Run as Run
from appliance.option_shedding import Shedding
from appliance.option_tcp import Tcp as Tcp

MAX_WORKERS = 256  # the sharder's table of open batches
LIVE_LINK_BYTES = 1 << 27
FILE_LINK_BYTES = 1 << 25
CHECKSUMS = ("off", "count", "drop")


class Source(Section, frozen=True):
    """Where frames come from: interfaces, or one capture file."""

    interfaces: Annotated[list[str], note("Interfaces to capture on; two for the two halves of a TAP.")] = []
    file: Annotated[str, note('A pcap or pcapng file to read instead of interfaces; "-" is standard input.')] = ""
    filter: Annotated[
        str, note("Capture filter in BPF syntax, run in the kernel. Frames it refuses are never seen, nor counted.")
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
            "What may wait between a capture and one worker: the memory that a slow or restarting worker costs. Half "
            "as much may wait between a worker and the feed, in shared memory too. 0 is 134217728, a tenth of a second "
            "at 10 Gbit/s, and 33554432 to read a file, where the capture waits instead.",
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
    def link_bytes(self) -> int:
        """Of each worker."""
        return self.shard.link_bytes or (FILE_LINK_BYTES if self.lossless else LIVE_LINK_BYTES)

    @property
    def capture_count(self) -> int:
        return len(self.interface_names)

    @property
    def interface_names(self) -> list[str]:
        """One name per capture process: the interface, with /0, /1 … when it has several, or the file's without its
        directory."""
        if self.source.file:
            return [os.path.basename(self.source.file)]
        if self.capture.fanout == 1:
            return list(self.source.interfaces)
        return [f"{name}/{member}" for name in self.source.interfaces for member in range(self.capture.fanout)]

    def interface_of(self, capture: int) -> str:
        """The interface that this capture process reads, or the file's name without its directory."""
        return self.interface_names[0] if self.source.file else self.source.interfaces[capture // self.capture.fanout]

    def is_first(self, capture: int) -> bool:
        """Of the capture processes of its interface: it answers for what there is once."""
        return capture == 0 or self.interface_of(capture) != self.interface_of(capture - 1)
