"""Small sentences for tests: frames of a connection, and what the real data path makes of them.

Nothing is replaced by a double: frames go through a real Sharder into real batches, and each worker's batches through a
real Pipeline. Only processes, sockets and the clock are missing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from conversation import START_NS, Conversation
from event_contract import event_of
from exchange import Exchange, exchange
from msgspec import structs
from pcapfile import Frame

from appliance.capture.sharder import Sharder
from appliance.config.schema import Capture, Config, Events, Quic, Shard, Shedding, Source, Tcp
from appliance.config.values import SECTIONS
from appliance.ipc.event_runs import by_topic
from appliance.ipc.frame_batch import header, stamp
from appliance.stats.names import (
    FLOW_PAYLOAD,
    HTTP2_STREAM_OUTCOMES,
    PAYLOAD_OUTCOMES,
    QUIC_OUTCOMES,
    SEGMENT_VERDICTS,
    TOPICS,
)
from workers.pipeline import Pipeline

__all__ = ["MILLISECOND", "SECOND", "START_NS", "Conversation", "Exchange", "Frame", "exchange"]

MILLISECOND = 1_000_000
SECOND = 1_000_000_000
KEY = bytes(range(16))
ETHERNET = 1

Event = dict[str, Any]


def config(**sections: Mapping[str, object]) -> Config:
    """A configuration from options by section, as in config(tcp={"settle_ms": 0}); observer and interface are named."""
    given: dict[str, dict[str, object]] = {
        "source": {"interfaces": ["mon0"]},
        "run": {"observer": "sensor-1"},
    }
    for name, values in sections.items():
        given[name] = {**given.get(name, {}), **values}
    return Config(**{name: SECTIONS[name](**values) for name, values in given.items()})


@dataclass
class Outcome:
    """All that came out of the data path: events as objects and as lines, and the counters of both halves."""

    events: list[Event] = field(default_factory=list)
    flows: list[Event] = field(default_factory=list)  # those of the dataset flow, which have no line in `lines`
    lines: list[bytes] = field(default_factory=list)
    topics: Counter[int] = field(default_factory=Counter)
    capture: Counter[str] = field(default_factory=Counter)
    running: Counter[str] = field(default_factory=Counter)  # counters before the end
    counts: Counter[str] = field(default_factory=Counter)  # counters after the end

    @property
    def only(self) -> Event:
        """The one event there is."""
        assert len(self.events) == 1, [summary(event) for event in self.events]
        return self.events[0]


WHERE = {  # the options of a sharder by shorter names
    "vlans": "vlan_in_flow",
    "max_shed_flows": "max_flows",
    "shed_timeout_ns": "flow_timeout_s",
    "fragment_timeout_ns": "fragment_timeout_s",
}


def sharder_of(
    key: bytes = KEY,
    workers: int = 1,
    batch_bytes: int = 0,
    epoch: int = 0,
    capture: int = 0,
    link_type: int = ETHERNET,
    **how: Any,
) -> Sharder:
    """A sharder with options of [capture] and [shedding], times in ns; halves, checksums and ports, {kind: ports}."""
    sources = ["a", "b"] if how.pop("halves", False) else ["a"]
    checksums = "count" if how.pop("checksums", True) else "off"
    quic = Quic(max_initials_per_second=how.pop("quic", Quic().max_initials_per_second))
    events = Events(udp_flows=how.pop("udp", False))
    options = {f"{kind}_ports": ports for kind, ports in (how.pop("ports", None) or {}).items()}
    for name, value in how.items():
        options[WHERE.get(name, name)] = value / 1e9 if name.endswith("_ns") else value
    shedding = {name: options.pop(name) for name in ("max_flows", "flow_timeout_s") if name in options}
    made = Config(
        source=Source(interfaces=sources),
        capture=Capture(**options),
        shedding=Shedding(**shedding),
        shard=Shard(batch_bytes=batch_bytes) if batch_bytes else Shard(),
        tcp=Tcp(checksums=checksums),
        quic=quic,
        events=events,
    )
    return Sharder(key, workers, made, epoch, capture, link_type)


def batches_of(
    frames: Iterable[Frame],
    workers: int = 1,
    *,
    batch_bytes: int = 1 << 16,
    link_type: int = ETHERNET,
    snaplen: int = 1 << 18,
    key: bytes = KEY,
    capture: int = 0,
    shed: int = 0,
    **how: Any,
) -> tuple[list[list[bytes]], Counter[str]]:
    """Each worker's batches, END included, and the capture's counters; `how` as for sharder_of().

    shed: 256ths of the new flows that are left out."""
    sharder = sharder_of(key, workers, batch_bytes, 7, capture, link_type, **how)
    out: list[list[bytes]] = [[] for _ in range(workers)]
    sent = [0] * workers
    for worker in range(workers):
        sharder.shed(worker, shed)
    for ts_ns, frame in frames:
        sharder.push(ts_ns, frame[:snaplen], len(frame))
    for worker, count, message in sharder.end():
        stamp(message, len(out[worker]), sent[worker])
        assert header(message).frames == count
        sent[worker] += count
        out[worker].append(bytes(message))
        sharder.recycle(message)
    return out, Counter(sharder.counts())


def outcome_of(frames: Iterable[Frame], workers: int = 1, config: Config | None = None, **how: Any) -> Outcome:
    """The whole data path over some frames; `how` as for batches_of().

    Flow events are always on, so that law 10 holds in every test: their sum is the payload, to the byte."""
    outcome = Outcome()
    config = with_flows(_default if config is None else config)
    links, outcome.capture = batches_of(frames, workers, udp=config.events.udp_flows, **how)
    for messages in links:
        pipeline = Pipeline(config)
        for message in messages:
            pipeline.feed(message)
        outcome.running.update({**pipeline.counts(), "pending_datagrams": pipeline.pending_datagrams})
        pipeline.finish()
        outcome.counts.update(pipeline.counts())
        collect(pipeline, outcome)
    reported = sum(flow["appliance"]["flow"]["since_last"]["payload_bytes"] for flow in outcome.flows)
    payload = outcome.counts["payload_bytes"] + outcome.counts["udp_payload_bytes"]
    assert reported == payload, "law 10"
    return outcome


def with_flows(config: Config) -> Config:
    """The configuration with flow events on."""
    datasets = dict.fromkeys([*config.events.datasets, "flow"])
    return structs.replace(config, events=structs.replace(config.events, datasets=list(datasets)))


def collect(pipeline: Pipeline, outcome: Outcome) -> Outcome:
    """Takes what a pipeline has ready."""
    for runs, count, body in pipeline.take():
        lines = body.split(b"\n")
        assert len(lines) == count
        for line in lines:
            event = event_of(line)
            if event["event"]["dataset"] == "appliance.flow":
                outcome.flows.append(event)
            else:
                outcome.lines.append(line)
                outcome.events.append(event)
        for topic, number, length, picked in by_topic(runs, body, len(TOPICS), True):  # as the feed takes it apart
            assert (len(picked), picked.count(b"\n") + 1) == (length, number)
            if TOPICS[topic] != "flow.":
                outcome.topics[topic] += number
    outcome.events.sort(key=lambda event: (event["source"]["port"], event["appliance"].get("transaction", 0)))
    return outcome


_default = config()


def events_of(frames: Iterable[Frame], workers: int = 1, config: Config | None = None, **how: Any) -> list[Event]:
    """The events of some frames, in order of client port and of each connection."""
    return outcome_of(frames, workers, config, **how).events


def counts_of(frames: Iterable[Frame], workers: int = 1, config: Config | None = None, **how: Any) -> Counter[str]:
    """The workers' counters over some frames, summed, after the end."""
    return outcome_of(frames, workers, config, **how).counts


def talk(*made: Exchange, close: str = "client", **where: Any) -> Conversation:
    """One whole connection: handshake, the exchanges one after the other, end by "client", "server", "reset" or ""."""
    conversation = Conversation(**where).handshake()
    for one in made:
        conversation.exchange(one)
    if close == "reset":
        return conversation.reset()
    return conversation.close(close) if close else conversation


def get(number: int = 0, **how: Any) -> Exchange:
    """A numbered GET; the response's reason carries the number too, so that a wrong pair cannot hide."""
    return exchange("GET", f"/{number}", **{"reason": f"R{number}", "body": b"x" * 10, **how})


def post(number: int = 0, size: int = 10, **how: Any) -> Exchange:
    """A numbered POST with an upload of `size` bytes."""
    return exchange("POST", f"/{number}", **{"reason": f"R{number}", "upload": b"u" * size, "body": b"x" * 10, **how})


def request(
    target: bytes = b"/",
    *headers: bytes,
    method: bytes = b"GET",
    version: bytes = b"1.1",
    host: bytes | None = b"a.example",
) -> bytes:
    """A request head, byte for byte; with a Host field unless host is None or one is given."""
    if host is not None and not any(line.lower().startswith(b"host:") for line in headers):
        headers = (b"Host: " + host, *headers)
    return b"".join((method, b" ", target, b" HTTP/", version, b"\r\n", *(line + b"\r\n" for line in headers), b"\r\n"))


def response(status: bytes = b"200 OK", *headers: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    """A response, byte for byte."""
    return b"".join((b"HTTP/", version, b" ", status, b"\r\n", *(line + b"\r\n" for line in headers), b"\r\n", body))


def spoken(client: bytes, server: bytes, close: str = "server", **where: Any) -> Conversation:
    """A connection in which the client says all it has, then the server."""
    conversation = Conversation(**where).handshake().client_sends(client).idle(MILLISECOND).server_sends(server)
    return conversation.close(close) if close else conversation


def summary(event: Event) -> tuple[str | None, int | None, str]:
    """(target, status, pairing): what most tests want to know of an event."""
    answer = event["http"].get("response", {})
    return event.get("url", {}).get("original"), answer.get("status_code"), event["appliance"]["pairing"]


def summaries(events: Iterable[Event]) -> list[tuple[str | None, int | None, str]]:
    """Every event's summary."""
    return [summary(event) for event in events]


def timeless(events: Iterable[Event]) -> list[str]:
    """Events without what depends on when their bytes came (times, the ids made of one), in fixed order."""
    out = []
    for event in events:
        kept = {key: value for key, value in event.items() if key not in ("@timestamp", "event")}
        kept["outcome"] = event["event"].get("outcome")
        timed = ("timing", "connection")
        kept["appliance"] = {key: value for key, value in event["appliance"].items() if key not in timed}
        if websocket := kept["appliance"].get("websocket"):
            kept["appliance"]["websocket"] = {
                key: value for key, value in websocket.items() if key != "longest_pause_ns"
            }
        out.append(json.dumps(kept, sort_keys=True))
    return sorted(out)


def whole(events: Iterable[Event]) -> list[str]:
    """Whole events in fixed order."""
    return sorted(json.dumps(event, sort_keys=True) for event in events)


PAYLOAD = PAYLOAD_OUTCOMES


def differences(outcome: Outcome) -> dict[str, int]:
    """Return the amount by which each identity of the ledger fails to close; empty when everything is accounted for."""
    out = {}
    capture = outcome.capture
    offered = sum(value for name, value in capture.items() if name.startswith("offered."))
    rejected = sum(value for name, value in capture.items() if name.startswith("rejected."))
    out["frames"] = capture["frames"] + capture["reassembled"] - offered - rejected - capture["shed_frames"]
    fragments = sum(value for name, value in capture.items() if name.startswith("fragments."))
    out["fragments"] = capture["rejected.fragment"] - fragments
    out["fragments held"] = capture["fragments.held"]
    for when, counts in (("running", outcome.running), ("end", outcome.counts)):
        taken = counts["segments"] + sum(counts[f"quic_datagrams.{outcome}"] for outcome in QUIC_OUTCOMES)
        taken += sum(counts[f"rejected.{verdict}"] for verdict in SEGMENT_VERDICTS) + counts["pending_datagrams"]
        taken += counts["udp_datagrams"]
        out[f"segments, {when}"] = offered - taken
        placed = sum(counts[f"payload.{name}"] for name in PAYLOAD) + counts["pending_bytes"]
        out[f"payload, {when}"] = counts["payload_bytes"] - placed
        told = sum(counts[f"flow_payload.{name}"] for name in FLOW_PAYLOAD) + counts["flow_open_bytes"]
        out[f"flows, {when}"] = counts["payload_bytes"] + counts["udp_payload_bytes"] - told
        ended = sum(counts[f"messages.{name}"] for name in ("complete", "truncated", "failed", "open"))
        out[f"messages, {when}"] = counts["messages.started"] - ended
        streams = sum(counts[f"http2_streams_ended.{name}"] for name in HTTP2_STREAM_OUTCOMES)
        out[f"streams, {when}"] = counts["http2_streams"] - streams - counts["http2_streams_open"]
    gauges = ("pending_bytes", "messages.open", "head_bytes", "waiting_bytes", "flows", "flow_open_bytes", "udp_flows")
    for name in (*gauges, "http2_streams_open", "http2_table_bytes"):
        out[f"{name}, end"] = outcome.counts[name]
    made = sum(value for name, value in outcome.counts.items() if name.startswith("made."))
    out["events"] = made - len(outcome.events) - len(outcome.flows)
    opened = outcome.counts["flows_opened"]
    out["flows"] = opened - sum(value for name, value in outcome.counts.items() if name.startswith("flows_ended."))
    return {name: value for name, value in out.items() if value}


def without(frames: Sequence[Frame], *places: int) -> list[Frame]:
    """The frames but those at some places (as in indexing, from the end too)."""
    lost = {place % len(frames) for place in places}
    return [frame for place, frame in enumerate(frames) if place not in lost]


def payload_of(frame: bytes) -> bytes:
    """The TCP payload of an untagged Ethernet frame made by the builders."""
    tcp = 54 if frame[12:14] == b"\x86\xdd" else 34
    return frame[tcp + (frame[tcp + 12] >> 4) * 4 :]


def carrying(frames: Sequence[Frame], *texts: bytes) -> list[int]:
    """The places of the frames whose payload has one of the texts."""
    return [place for place, (_, frame) in enumerate(frames) if any(text in payload_of(frame) for text in texts)]
