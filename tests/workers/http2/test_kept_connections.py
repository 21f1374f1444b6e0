"""The header tables of an HTTP/2 connection outlive its worker: behind a kill nothing is wrong, little unknown."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from builders import MILLISECOND, SECOND, Conversation, Frame, batches_of, config, event_of, outcome_of, summaries
from h2_talk import START, answer, ask, block, message
from h2_wire import END_HEADERS, END_STREAM, Said, Talk, headers, settings
from hpack_encoder import integer
from hypothesis import given
from hypothesis import strategies as st

from appliance.ipc.frame_batch import header
from workers.pipeline import Pipeline

seeds = st.integers(0, 2**48)
ALL = config(http={"headers": ["all"], "redaction": False})
Event = dict[str, Any]
Batch = list[Frame]
HEAD, SLOT, SNAPSHOT = 8, 4096, 24512  # places in the memory, and the size of a snapshot
TRIES = SLOT + 48


class Shard:
    """The workers of one shard, one after the other. `events` are those of finished batches."""

    def __init__(self, slots: int = 4, options: Any = ALL) -> None:
        self.memory = bytearray(Pipeline(options).kept_bytes(slots))
        self.options = options
        self.events: list[Event] = []
        self.counts: list[dict[str, int]] = []
        self.begin()

    def begin(self, allocate: Callable[[int], bool] = lambda slots: True) -> None:
        """A worker begins; the one before was killed."""
        self.worker = Pipeline(self.options)
        self.worker.keep(self.memory, allocate)

    def read(self, batch: Batch) -> None:
        """A batch is read, up to the moment before it counts as finished."""
        parts = [part for part in batches_of(batch, batch_bytes=1 << 20)[0][0] if header(part).frames]
        assert len(parts) <= 1  # without END
        for part in parts:
            self.worker.feed(part)

    def finish(self, batch: Batch) -> None:
        """A batch is read and finished, and its events leave."""
        self.read(batch)
        self.worker.done()
        self.take()

    def take(self) -> None:
        for _, _, lines in self.worker.take():
            self.events += [event_of(line) for line in lines.split(b"\n")]

    def kill(self) -> None:
        """The worker is killed, and another one begins."""
        self.counts.append(self.worker.counts())
        self.begin()

    def end(self) -> list[Event]:
        """The run ends; the events of all workers."""
        self.worker.finish()
        self.take()
        self.counts.append(self.worker.counts())
        return self.events


def sent(talk: Talk, chance: random.Random) -> tuple[Conversation, dict[int, int], int]:
    """The frames of a conversation; for each stream the place of its first one, and the place behind both SETTINGS."""
    made = Conversation().handshake()
    begins: dict[int, int] = {}
    ready = 0
    for place, (side, data) in enumerate(talk.said):
        stream = int.from_bytes(data[5:9], "big")
        if side == 0 and data[3] == 1:
            begins.setdefault(stream, len(made.frames))
        size = chance.choice((None, None, 700, 50))
        (made.server_sends if side else made.client_sends)(data, size).idle(MILLISECOND)
        if place == 1:
            ready = len(made.frames)
    return made.close(), begins, ready


def content(event: Event) -> dict[str, object]:
    """The content of an event that depends on its stream alone."""
    return {"url": event.get("url"), "http": event.get("http"), "headers": event["appliance"]["http2"]["headers"]}


def stream_of(event: Event) -> int:
    return int(event["appliance"]["http2"]["stream_id"])


def wrong(event: Event, said: Said) -> list[object]:
    """Values of an event that its stream does not carry."""
    fields = {*said.request, *said.response, *(said.trailers or ())}
    fields |= {(b":status", b"%d" % code) for code in said.interim}
    told = []
    http, url = event["http"], event.get("url", {})
    told += [(b":path", url["original"])] if "original" in url else []
    told += [(b":method", http["request"]["method"])] if "method" in http.get("request", {}) else []
    if "status_code" in http.get("response", {}):
        told.append((b":status", str(http["response"]["status_code"])))
    for section in ("request", "response"):
        for kind in ("headers", "trailers"):
            for name, values in http.get(section, {}).get(kind, {}).items():
                told += [(name.encode(), value) for value in values]
    known = {(name, value.decode("latin-1")) for name, value in fields}
    return [field for field in told if field not in known]


def cut(frames: list[Frame], chance: random.Random) -> list[int]:
    """Places at which batches begin."""
    return [0, *sorted(chance.sample(range(1, len(frames)), min(len(frames) - 1, chance.randrange(2, 12))))]


@given(seeds, st.booleans())
def test_behind_a_kill_at_any_batch_the_events_are_the_same(seed, replayed):
    chance = random.Random(seed)
    talk = Talk(seed, sensible=seed % 2 == 0)
    made, begins, ready = sent(talk, chance)
    whole = {stream_of(event): content(event) for event in outcome_of(made.frames, config=ALL).events}
    places = cut(made.frames, chance)
    batches = [made.frames[a:b] for a, b in zip(places, [*places[1:], None], strict=True)]
    killed = sorted(chance.sample(range(len(batches)), chance.choice((1, 1, 2))))
    shard = Shard()
    for place, batch in enumerate(batches):
        if place in killed:
            if replayed:
                shard.read(batch)  # and its events with it
            shard.kill()
        shard.finish(batch)
    events = shard.end()
    for event in events:
        assert wrong(event, talk.streams[stream_of(event)]) == []
    last = places[killed[-1]]
    if last >= ready and len(killed) == 1:  # a second kill may lose what waits for the first byte of its stream
        got = {stream_of(event): content(event) for event in events}
        behind = [stream for stream, begin in begins.items() if begin >= last]
        assert {stream: got.get(stream) for stream in behind} == {stream: whole[stream] for stream in behind}


@given(seeds)
def test_with_batches_lost_at_a_kill_no_value_is_wrong(seed):
    chance = random.Random(seed)
    talk = Talk(seed, sensible=seed % 2 == 0)
    made, _, _ = sent(talk, chance)
    places = cut(made.frames, chance)
    shard = Shard()
    for start, stop in zip(places, [*places[1:], None], strict=True):
        fate = chance.random()
        if fate < 0.3:
            shard.kill()
        if fate > 0.2:
            shard.finish([frame for frame in made.frames[start:stop] if chance.random() > 0.01])
    for event in shard.end():
        assert wrong(event, talk.streams[stream_of(event)]) == []


@given(seeds)
def test_whatever_a_hijacked_worker_leaves_its_successor_goes_on(seed):
    chance = random.Random(seed)
    made, _, _ = sent(Talk(seed), chance)
    middle = chance.randrange(len(made.frames))
    shard = Shard(2)
    shard.finish(made.frames[:middle])
    for _ in range(chance.choice((1, 5, 50))):
        place = chance.choice((HEAD, SLOT, SLOT + 64, SLOT + 64 + SNAPSHOT)) + chance.randrange(
            chance.choice((64, 1400))
        )
        if chance.random() < 0.2:
            place = SLOT + chance.randrange(2 * SNAPSHOT)
        shard.memory[place] = chance.choice((0, 1, 0x7F, 0xFF, chance.randrange(256)))
    shard.kill()
    shard.finish(made.frames[middle:])
    shard.end()


# -- one call after the other ------------------------------------------------------------------------------------------

KNOWN = block((b":method", b"POST"), (b":scheme", b"http"))
FIRST = headers(
    1, KNOWN + block((b":path", b"/s.S/Call"), (b":authority", b"a.example"), indexed=True), END_HEADERS | END_STREAM
)


def again(stream: int) -> bytes:
    """A call as the first one, by indices alone: of its authority and path."""
    return headers(stream, KNOWN + b"\xbf\xbe", END_HEADERS | END_STREAM)


def calls(made: Conversation, *streams: int) -> Conversation:
    for stream in streams:
        made.client_sends(FIRST if stream == 1 else again(stream)).idle(MILLISECOND)
        made.server_sends(message(stream, answer())).idle(MILLISECOND)
    return made


def opened() -> Conversation:
    made = Conversation().handshake().client_sends(START).idle(MILLISECOND).server_sends(settings())
    return calls(made.idle(MILLISECOND), 1)


def outcomes(shard: Shard) -> dict[str, int]:
    """The connections by outcome, of all workers."""
    names = [name for name in shard.counts[0] if name.startswith("http2_kept_outcomes.")]
    return {name.rpartition(".")[2]: n for name in names if (n := sum(counts[name] for counts in shard.counts))}


def paths(events: list[Event]) -> list[str]:
    """Those that are known."""
    return [event["url"]["original"] for event in events if "original" in event["url"]]


def halves(made: Conversation, *streams: int) -> tuple[Batch, Batch]:
    """The frames so far, and those of more calls up to the end."""
    before = len(made.frames)
    calls(made, *streams).close()
    return made.frames[:before], made.frames[before:]


def test_an_index_from_before_the_kill_is_known():
    first, second = halves(opened(), 3, 5)
    shard = Shard()
    shard.finish(first)
    assert shard.worker.counts()["http2_kept"] == 1
    shard.kill()
    shard.finish(second)
    events = shard.end()
    assert summaries(events) == [("/s.S/Call", 200, "verified")] * 3
    assert {event["appliance"]["http2"]["headers"] for event in events} == {"exact"}
    assert outcomes(shard) == {"restored": 1}
    assert shard.counts[-1]["http2_joined"] == 0
    assert shard.counts[-1]["http2_kept"] == 0


def test_a_reload_leaves_what_is_kept():
    first, second = halves(opened(), 3)
    shard = Shard()
    shard.finish(first)
    shard.worker.configure(config(events={"datasets": ["http"]}))
    assert shard.worker.counts()["http2_kept"] == 1
    shard.kill()
    shard.finish(second)
    assert summaries(shard.end()) == [("/s.S/Call", 200, "verified")] * 2


def test_bytes_that_come_again_are_read_once():
    made = opened()
    before, resent = len(made.frames), made.client.next
    calls(made, 3)
    middle = len(made.frames)
    made.client.next = resent
    made.client_sends(again(3)).idle(MILLISECOND)
    calls(made, 5).close()
    shard = Shard()
    shard.finish(made.frames[:before])
    shard.finish(made.frames[before:middle])
    shard.kill()
    shard.finish(made.frames[middle:])
    assert summaries(shard.end()) == [("/s.S/Call", 200, "verified")] * 3


def test_lost_bytes_behind_the_snapshot_are_a_gap():
    made = opened()
    before = len(made.frames)
    calls(made, 3)
    middle = len(made.frames)
    for stream in (5, 7, 9, 11):
        calls(made, stream)
    made.close()
    shard = Shard()
    shard.finish(made.frames[:before])
    shard.kill()
    shard.finish(made.frames[middle:])
    events = shard.end()
    assert len(events) == 5
    assert set(paths(events)) == {"/s.S/Call"}
    assert "exact" not in {event["appliance"]["http2"]["headers"] for event in events[1:]}
    assert outcomes(shard) == {"restored": 1}


@pytest.mark.parametrize("side", ["client", "server"])
def test_another_connection_on_the_same_ports_gets_nothing(side):
    made = opened()
    before = len(made.frames)
    getattr(made, side).next += 1 << 24
    calls(made, 3, 5).close()
    shard = Shard()
    shard.finish(made.frames[:before])
    shard.kill()
    shard.finish(made.frames[before:])
    events = shard.end()
    assert paths(events) == ["/s.S/Call"]
    assert outcomes(shard) == {"refused": 1}


def test_a_new_connection_on_the_same_ports_begins_anew():
    old, new = opened(), opened()
    later = [(at + 5 * SECOND, frame) for at, frame in calls(new, 3).close().frames]
    shard = Shard()
    shard.finish(old.frames)
    shard.kill()
    shard.finish(later)
    assert summaries(shard.end()) == [("/s.S/Call", 200, "verified")] * 3
    assert outcomes(shard) == {}


def test_an_idle_connection_is_not_taken_up_behind_its_timeout():
    made = opened()
    before = len(made.frames)
    made.idle(3600 * SECOND)
    calls(made, 3, 5).close()
    shard = Shard()
    shard.finish(made.frames[:before])
    shard.kill()
    shard.finish(made.frames[before:])
    assert paths(shard.end()) == ["/s.S/Call"]
    assert outcomes(shard) == {"refused": 1}


def several(count: int) -> list[Conversation]:
    return [opened_at(40000 + number) for number in range(count)]


def opened_at(port: int) -> Conversation:
    made = Conversation(client_port=port).handshake().client_sends(START).idle(MILLISECOND).server_sends(settings())
    return calls(made.idle(MILLISECOND), 1)


def test_the_connection_that_is_silent_the_longest_gives_way():
    made = several(3)
    shard = Shard(2)
    for place, one in enumerate(made):
        shard.finish([(at + place * 2 * SECOND, frame) for at, frame in one.frames])
    assert shard.worker.counts()["http2_kept"] == 2
    shard.kill()
    before = [len(one.frames) for one in made]
    for start, one in zip(before, made, strict=True):
        calls(one, 3, 5).close()
        shard.finish([(at + 6 * SECOND, frame) for at, frame in one.frames[start:]])
    known = [event["source"]["port"] for event in shard.end() if "original" in event["url"]]
    assert sorted(known) == [40000, *[40001] * 3, *[40002] * 3]
    assert outcomes(shard) == {"restored": 2, "evicted": 1}


def test_without_room_the_others_stay():
    shard = Shard(2)
    for one in several(4):
        shard.finish(one.frames)
    shard.kill()
    assert outcomes(shard) == {"no_room": 2}


def test_without_memory_nothing_is_kept():
    first, second = halves(opened(), 3, 5)
    shard = Shard()
    shard.begin(lambda slots: slots == 0)
    shard.finish(first)
    shard.kill()
    shard.finish(second)
    assert paths(shard.end()) == ["/s.S/Call"]
    assert outcomes(shard) == {"no_room": 1}


def test_a_snapshot_with_which_two_workers_died_is_left_alone():
    first, second = halves(opened(), 3, 5)
    shard = Shard()
    shard.finish(first)
    shard.memory[TRIES] = 2
    shard.kill()
    shard.finish(second)
    assert paths(shard.end()) == ["/s.S/Call"]
    assert outcomes(shard) == {"refused": 1}


def test_of_an_endless_table_the_newest_entries_are_kept():
    made = Conversation().handshake().client_sends(START).idle(MILLISECOND)
    made.server_sends(settings(header_table_size=65536)).idle(MILLISECOND)
    for stream in range(1, 61, 2):
        fields = block((b"x-%d" % stream, b"v" * 500), (b":authority-%d" % stream, b"x"), indexed=True)
        update = integer(65536, 5, 0x20) if stream == 1 else b""
        made.client_sends(headers(stream, update + block(*ask(b"/%d" % stream)) + fields, END_HEADERS | END_STREAM))
        made.idle(MILLISECOND).server_sends(message(stream, answer())).idle(MILLISECOND)
    before = len(made.frames)
    for stream, index in ((61, 0xBF), (63, 0xFE)):
        made.client_sends(headers(stream, block(*ask(b"/late")) + bytes([index]), END_HEADERS | END_STREAM))
        made.idle(MILLISECOND).server_sends(message(stream, answer())).idle(MILLISECOND)
    shard = Shard()
    shard.finish(made.frames[:before])
    shard.kill()
    shard.finish(made.close().frames[before:])
    newest, older = [event for event in shard.end() if event["url"]["original"] == "/late"]
    assert newest["http"]["request"]["headers"]["x-59"] == ["v" * 500]
    assert older["appliance"]["http2"]["unknown_headers"] == 1
