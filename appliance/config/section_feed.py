"""The section [feed] of the options."""

from typing import Annotated

from appliance.config import defaults
from appliance.config.field import Section, note


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
            "Maximum connections to each port of the feed, fewer if the limit of open files is low. Another host "
            "may have a sixteenth of them.",
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
