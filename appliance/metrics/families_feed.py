"""The metrics of the feed process: events, subscribers, replay, and its output."""

from collections.abc import Callable

from appliance.metrics.family import MetricsInput, Rows, counter, gauge, one
from appliance.stats.links import ReceivedLink, TopicEvents
from appliance.stats.names import EVENT_DROPS, REFUSALS, REPLAY_RESULTS, TOPICS


def _feed(slot: str) -> Callable[[MetricsInput], Rows]:
    return lambda view: [([], view.pages.feed[slot])]


def _by_topic(slot: str) -> Callable[[MetricsInput], Rows]:
    return lambda view: [([topic], view.pages.feed[f"{slot}.{topic}"]) for topic in TOPICS]


def _feed_dropped(view: MetricsInput) -> Rows:
    """Count unpublished events, by topic if known; losses of a link or a crash have none."""
    feed, workers = view.pages.feed, view.pages.workers
    for topic in TOPICS:
        for reason, drop in zip(("backlog", "memory", "connection_share", "worker_crash"), EVENT_DROPS, strict=True):
            yield [topic, reason], sum(page[f"{drop}.{topic}"] for page in workers)
    yield ["", "link_lost"], sum(ReceivedLink(feed, w).lost for w in range(len(workers)))
    yield ["", "feed_crash"], feed["crash_lost"]


def _made(view: MetricsInput) -> Rows:
    return [([topic], sum(TopicEvents(page, topic).made for page in view.pages.workers)) for topic in TOPICS]


def _feed_queue(view: MetricsInput) -> float:
    feed, workers = view.pages.feed, view.pages.workers
    return max(0, sum(p["events_sent"] - ReceivedLink(feed, w).accounted for w, p in enumerate(workers)))


def _refused(view: MetricsInput) -> Rows:
    return [([reason], view.pages.feed[f"refused.{reason}"]) for reason in REFUSALS]


def _replays(view: MetricsInput) -> Rows:
    return [([result], view.pages.feed[f"replay_{result}"]) for result in REPLAY_RESULTS]


FEED_FAMILIES = (
    gauge("feed_up", "1 while the feed runs and is ready.", (),
          one(lambda view: view.up("feed", view.pages.feed))),
    counter("feed_restarts", "Restarts of the feed.", (), one(lambda view: view.pages.supervisor["restarts.feed"])),
    counter("events_made", "Events made by the workers.", ("topic",), _made),
    counter("feed_events", "Events published.", ("topic",), _by_topic("published")),
    counter("feed_messages", "Messages published.", ("topic",), _by_topic("published_messages")),
    counter("feed_bytes", "Bytes of events published.", ("topic",), _by_topic("published_bytes")),
    counter("feed_dropped_events", "Events made and never published; topic is empty if unknown.",
            ("topic", "reason"), _feed_dropped),
    gauge("feed_queue_events", "Events sent by workers that the feed has not received.", (), one(_feed_queue)),
    gauge("feed_subscribers", "Peers with a subscription, each counted once.", (), _feed("subscribers")),
    counter("feed_invalid_messages", "Messages of workers that the feed could not read.", (),
            _feed("invalid_messages")),
    counter("feed_heartbeats", "Heartbeats sent.", (), _feed("heartbeats")),
    counter("feed_refused_peers", "Peers refused or disconnected: key not allowed, handshake incomplete, memory "
            "limit exceeded, or no free place.",
            ("reason",), _refused),
    gauge("feed_allowed_clients", "Keys that may read the feed; 0 without CURVE.", (), _feed("clients_allowed")),
    gauge("feed_store_messages", "Messages in the replay store.", (), _feed("store_messages")),
    gauge("feed_store_bytes", "Memory of the replay store.", (), _feed("store_bytes")),
    gauge("feed_store_limit_bytes", "Maximum memory of the replay store.",
          (), one(lambda view: view.config.feed.replay_bytes)),
    counter("feed_store_evicted_messages", "Messages evicted from the replay store.", (), _feed("store_evicted")),
    counter("feed_replay_requests", "Replay requests: answered in full (served) or in part (gone), malformed "
            "(invalid), too many at a time (refused), or unread by the client (abandoned).",
            ("result",), _replays),
    counter("feed_replay_messages", "Messages replayed.", (), _feed("replay_messages")),
    counter("feed_replay_bytes", "Bytes of replay answers.", (), _feed("replay_bytes")),
    counter("feed_replay_pauses", "Pauses of replay answers at their rate limit.", (), _feed("replay_pauses")),
    counter("output_events", "Events written to the output.", (), _feed("written_events")),
    counter("output_bytes", "Bytes written to the output.", (), _feed("written_bytes")),
    counter("output_write_errors", "Failed writes to the output.", (), _feed("write_errors")),
    counter("output_dropped_events", "Events that the output did not accept; the feed still publishes them, if it "
            "is on.",
            (), _feed("dropped_output")),
    counter("output_rotations", "Output files closed because of their size or age.", (), _feed("rotations")),
    counter("output_rotation_errors", "Failed attempts to close an output file; writing continues in it.",
            (), _feed("rotation_errors")),
    counter("output_compressed_files", "Closed files compressed.", (), _feed("compressed_files")),
    counter("output_removed_files", "Closed files removed by the retention limits.", (), _feed("removed_files")),
    counter("output_archive_errors", "Failed attempts to compress or remove closed files, which are repeated.",
            (), _feed("archive_errors")),
    counter("output_torn_bytes", "Bytes of incomplete lines of killed processes, removed from the output.",
            (), _feed("torn_bytes")),
    counter("output_opened", "Opens of the output: at the start and after each move or removal of the file.",
            (), _feed("output_opened")),
    gauge("output_open_events", "Events in an unfinished Parquet file, which a kill would lose.",
          (), _feed("open_events")),
)  # fmt: skip
