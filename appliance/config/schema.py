"""The options of the appliance: one frozen structure per section, each in its own file.

A field's metadata has its unit, the reason for its default, the effect of reaching it and the metric of that. The
checks, their messages and the commented default file derive from it, so none of them can drift.
"""

import os

import msgspec

# `as`: the rest of the code imports the sections from here.
from appliance.config.section_bodies import Bodies as Bodies
from appliance.config.section_capture import Capture as Capture
from appliance.config.section_events import Events as Events
from appliance.config.section_feed import Feed as Feed
from appliance.config.section_files import Files as Files
from appliance.config.section_http import Http as Http
from appliance.config.section_metrics import Metrics as Metrics
from appliance.config.section_output import Output as Output
from appliance.config.section_quic import Quic as Quic
from appliance.config.section_record import Record as Record
from appliance.config.section_run import Run as Run
from appliance.config.section_shedding import Shedding as Shedding
from appliance.config.section_source import Source as Source
from appliance.config.section_tcp import Tcp as Tcp
from appliance.config.section_tls import Tls as Tls
from appliance.config.section_websocket import WebSocket as WebSocket
from appliance.config.section_workers import Shard as Shard
from appliance.config.section_workers import Workers as Workers

LIVE_LINK_BYTES = 1 << 27
FILE_LINK_BYTES = 1 << 25


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
