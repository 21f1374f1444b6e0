"""The real data path over frames that may be anything, and what must hold whatever they are."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from builders import KEY, Outcome, collect, config, differences
from cover import Exact

from appliance.capture.sharder import Sharder
from appliance.config.schema import Capture, Config, Shard, Shedding, Source
from appliance.ipc.frame_batch import header
from appliance.stats.names import PAIRINGS
from workers.events import schema as events
from workers.pipeline import Pipeline

HEADER = struct.Struct("<4sHHQQQIIQQQ")  # batch.pxd
RECORD = struct.Struct("<QQQIIIHH")
FRAMES_AT, LENGTH_AT, CAPLEN_AT = 32, 36, 24

Wired = tuple[int, bytes, int]  # ts_ns, captured bytes, bytes on the wire

# The first is the default; the others make every limit a near one.
CONFIGS = (
    config(),
    config(
        tcp={
            "max_pending_bytes": 1024,
            "max_total_pending_bytes": 2048,
            "max_pending_segments": 4,
            "max_connections": 16,
            "max_half_open": 16,
        },
        http={"max_head_bytes": 256, "max_total_head_bytes": 300, "max_total_waiting_bytes": 4096, "headers": ["all"]},
    ),
    config(
        tcp={
            "settle_ms": 0,
            "gap_timeout_s": 0,
            "closed_linger_s": 0,
            "idle_timeout_s": 0.1,
            "half_open_timeout_s": 0.1,
            "checksums": "off",
        },
        http={"max_total_waiting_bytes": 8192, "headers": ["host", "cookie", "x-a"], "redact": ["x-a"]},
    ),
    config(
        tcp={"settle_ms": 10000, "gap_timeout_s": 300, "closed_linger_s": 3600, "overlap": "last"},
        http={"max_head_bytes": 1024, "headers": ["all"], "redaction": False},
    ),
    config(
        tcp={"checksums": "drop", "overlap": "last", "max_connections": 16, "max_pending_segments": 1},
        quic={"max_initials_per_second": 3, "max_connections": 1, "timeout_s": 0.1, "max_crypto_pieces": 1},
    ),
    config(
        http={"headers": ["all"], "redact_parameters": ["q", "b"]},
        bodies={
            "hashes": ["sha256", "md5"],
            "mime_type": True,
            "excerpt_bytes": 100,
            "excerpt_types": ["*"],
            "max_decoded_bytes": 4096,
            "max_bombs": 1,
            "decode_reserve_ms": 1 << 30,  # whom a short one serves depends on the order of frames
            "max_memory_bytes": 1 << 20,
        },
    ),
)


def singles(message: memoryview | bytes) -> Iterator[bytes]:
    """Each frame of a good batch as a batch of its own that ends with the frame's last byte; a header alone as it
    is."""
    count = header(message).frames
    if count == 0:
        yield bytes(message)
    at = HEADER.size
    for _ in range(count):
        (caplen,) = struct.unpack_from("<I", message, at + CAPLEN_AT)
        size = RECORD.size + caplen
        out = bytearray(message[: HEADER.size])
        struct.pack_into("<II", out, FRAMES_AT, 1, HEADER.size + size)
        yield bytes(out + message[at : at + size])
        at += RECORD.size + (caplen + 7 & ~7)


def within_limits(counts: dict[str, int], config: Config) -> None:
    """Assert that the bytes and connections of a pipeline stay within the limits, whatever its input."""
    assert counts["pending_bytes"] <= config.tcp.max_total_pending_bytes, counts
    assert counts["head_bytes"] <= config.http.max_total_head_bytes, counts
    alone = counts["flows"] * (2 * config.http.max_head_bytes + 8192)  # what each connection may keep anyway
    assert counts["waiting_bytes"] <= config.http.max_total_waiting_bytes + alone, counts
    assert counts["flows"] <= config.tcp.max_connections, counts
    assert counts.get("quic_connections", 0) <= config.quic.max_connections, counts  # the library has none


def pipe(
    batches: Iterable[bytes], config: Config, outcome: Outcome, *, exact: bool, later_ns: int = 0, look: int = 32
) -> None:
    """Feeds one worker's batches to a Pipeline of its own. exact: each frame ends where its memory ends."""
    pipeline = Pipeline(config)
    fed = 0
    for batch in batches:
        for message in singles(batch) if exact else (batch,):
            pipeline.feed(Exact(message))
            fed += 1
            if fed % look == 0:
                within_limits(pipeline.counts(), config)
    within_limits(pipeline.counts(), config)
    if later_ns:
        pipeline.advance(min(pipeline.now_ns + later_ns, (1 << 64) - 1))
    outcome.running.update({**pipeline.counts(), "pending_datagrams": pipeline.pending_datagrams})
    pipeline.finish()
    outcome.counts.update(pipeline.counts())
    collect(pipeline, outcome)


def settled(outcome: Outcome) -> None:
    """The ledger closes, every event is one, and every message that was started is in one of them."""
    missing = differences(outcome)
    assert missing == {}, missing
    for line in outcome.lines:
        events.decode(line)
    counts, made = outcome.counts, [event for event in outcome.events if "http" in event]
    requests = sum(value for name, value in counts.items() if name.startswith("requests."))
    asked = sum("request" in event["http"] for event in made)
    answers = [event["http"]["response"].get("status_code", 0) for event in made if "response" in event["http"]]
    pairings = Counter(event["appliance"]["pairing"] for event in made)
    assert all(counts[f"pairing.{name}"] == pairings[name] for name in PAIRINGS), pairings
    assert len(made) - pairings["response_only"] == asked, pairings
    # The request of an upgrade to h2c is in two events: the 101, and stream 1 (RFC 7540 section 3.2).
    upgraded = [event for event in made if event["appliance"].get("http2", {}).get("upgraded")]
    asked -= sum("request" in event["http"] for event in upgraded)
    assert len(made) - pairings["request_only"] == len(answers), pairings
    interim = counts["responses.1xx"] - answers.count(101)
    taken_back = requests - asked
    for status in range(2, 6):
        taken_back += counts[f"responses.{status}xx"] - sum(answer // 100 == status for answer in answers)
    assert 0 <= taken_back <= counts["retracted"], (taken_back, counts)
    # Beside these: what was dropped because both sides ask, or both answer.
    begun = requests + interim + len(answers) + counts["retracted"] - (requests - asked)
    unseen = counts["retracted"] - taken_back  # a 101 that was taken back stands among `interim` too
    assert -unseen <= counts["messages.started"] - begun <= counts["messages.failed"], counts


def through(
    frames: Iterable[Wired],
    config: Config,
    *,
    link_type: int = 1,
    workers: int = 1,
    batch_bytes: int = 4096,
    max_tunnels: int = 4,
    exact: bool = True,
    later_ns: int = 0,
    shed: Sequence[int] = (0,),
) -> Outcome:
    """The whole data path over frames as they were captured. shed: steps left out, each for four frames."""
    options = Config(
        source=Source(interfaces=["a", "b"] if shed[0] % 2 == 1 else ["a"]),
        capture=Capture(max_tunnels=max_tunnels, max_fragmented_datagrams=16, max_fragment_bytes=1 << 17),
        shedding=Shedding(max_flows=8),
        shard=Shard(batch_bytes=batch_bytes),
    )
    sharder = Sharder(KEY, workers, options, 7, 0, link_type)
    links: list[list[bytes]] = [[] for _ in range(workers)]
    for place, (ts_ns, frame, wirelen) in enumerate(frames):
        if place % 4 == 0:
            for worker in range(workers):
                sharder.shed(worker, shed[place // 4 % len(shed)])
        sharder.push(ts_ns, Exact(frame), wirelen)
        if sharder.ready:
            empty(sharder, sharder.take(), links)
    empty(sharder, sharder.end(), links)
    outcome = Outcome(capture=Counter(sharder.counts()))
    for batches in links:
        pipe(batches, config, outcome, exact=exact, later_ns=later_ns)
    settled(outcome)
    return outcome


def empty(sharder: Sharder, sealed: list[tuple[int, int, memoryview]], links: list[list[bytes]]) -> None:
    """Takes over sealed batches and gives their memory back."""
    for worker, count, message in sealed:
        assert header(message).frames == count
        links[worker].append(bytes(message))
        sharder.recycle(message)
