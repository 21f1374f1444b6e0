"""TLS with its secrets: any content, splits, losses, changed bytes, late secrets. Every byte has one outcome."""

from __future__ import annotations

import struct

from builders import MILLISECOND, Conversation, Outcome, batches_of, collect, config, differences, timeless
from cases import Case, Item
from targets import Target
from tls_bytes import APPLICATION_DATA, CLIENT, HANDSHAKE, SERVER, message, record
from tls_writer import Session12, Session13

from appliance.keylog.parser import KeyLogParser
from appliance.keylog.secrets import packed
from workers.pipeline import Pipeline

(REQUEST, RESPONSE, DATA, MESSAGE, UPDATE, TICKET, CLOSE, RAW, IDLE) = range(9)  # what an item is
AS_IT_IS, LOST, ONE_LOST, CHANGED = range(4)  # what becomes of it
CONFIGS = (
    config(tls={"keylog": "x"}),
    config(tls={"keylog": "x", "max_pending_bytes": 4096, "max_keys": 16}),
    config(tls={"keylog": "x", "key_wait_s": 0.0, "max_total_pending_bytes": 65536}, tcp={"gap_timeout_s": 0.1}),
)
MADE = (
    Session13,
    lambda: Session13(b"h2"),
    lambda: Session13(chacha=True, der=b"0\3abc"),
    lambda: Session13(early=b"GET /r0 HTTP/1.1\r\nHost: h\r\n\r\n"),
    Session12,
    lambda: Session12(cbc=True),
    lambda: Session12(cbc=True, etm=True),
)
PAUSE = 2  # instead of a side
LONGEST = 16_384
MOST_PIECES = 60


def seeds() -> list[Case]:
    turns = [REQUEST, RESPONSE, TICKET, REQUEST, RESPONSE, UPDATE, REQUEST, RESPONSE, CLOSE, IDLE]
    cases = []
    for made in range(len(MADE)):
        for late in range(3):
            items: list[Item] = [((what, place % 2, AS_IT_IS, 0, 100), b"x" * 300) for place, what in enumerate(turns)]
            cases.append(Case([made, late, 0, 0], items))
            for place, fate in ((1, LOST), (4, ONE_LOST), (3, CHANGED)):
                damaged = list(items)
                damaged[place] = ((turns[place], place % 2, fate, 40, 100), b"x" * 3000)
                cases.append(Case([made, late, place % 3, fate], damaged))
        cases.append(Case([made, 0, 0, 0], [((what, what % 2, 0, 0, 9), b"\x16\3\3\0\5hello") for what in range(9)]))
    return cases


class Scene:
    """A session, the turns that it takes, and what becomes of each."""

    def __init__(self, made: int) -> None:
        self.session = MADE[made]()
        self.number = 0
        self.turns: list[tuple[int, bytes, int, int]] = []  # side, bytes, what becomes of them, bytes in a segment
        self.keep_turns(AS_IT_IS, 0)

    def keep_turns(self, fate: int, split: int) -> None:
        """Keep the turns that the session has made since the last call."""
        self.turns += [(side, data, fate, split) for side, data in self.session.turns]
        self.session.turns = []

    def frames(self, close: bool, cut: bool = True) -> list[tuple[int, bytes]]:
        """The frames that were captured. cut: into segments of the given size."""
        wire = Conversation().handshake()
        lost: set[int] = set()
        for side, data, fate, split in self.turns:
            if side == PAUSE:
                wire.idle(split * 100 * MILLISECOND)
                continue
            said = bytearray(data)
            if fate == CHANGED and said:
                said[split % len(said)] ^= 1 << split % 8
            before = len(wire.frames)
            step = max(split, len(said) // MOST_PIECES + 1) if split and cut else 1460
            (wire.client_sends if side == CLIENT else wire.server_sends)(bytes(said), step)
            frames = range(before, len(wire.frames))
            lost |= {LOST: set(frames), ONE_LOST: set(frames[split % 3 : split % 3 + 1])}.get(fate, set())
            wire.idle(MILLISECOND)
        if close:
            wire.close()
        return [frame for place, frame in enumerate(wire.frames) if place not in lost]

    def say(self, item: Item) -> None:
        (what, side, fate, split, size), data = item
        what, side, fate = what % 9, side % 2, fate % 4
        session = self.session
        size = max(1, size)
        if what == REQUEST:
            self.number += 1
            session.says(CLIENT, b"GET /r%d HTTP/1.1\r\nHost: h\r\n\r\n" % self.number, size)
        elif what == RESPONSE:
            head = b"HTTP/1.1 200 r%d\r\nContent-Length: %d\r\n\r\n" % (self.number, len(data))
            session.says(SERVER, head + b"b" * len(data), max(size, len(data) // 50 + 1))
        elif what == DATA:
            session.says(side, data, max(size, len(data) // 50 + 1))
        elif what == CLOSE:
            session.close(side)
        elif what == IDLE:
            self.turns.append((PAUSE, b"", AS_IT_IS, size))
        elif what == RAW:
            session.turns.append((side, data[:LONGEST]))
        elif isinstance(session, Session13):
            if what == UPDATE:
                session.update(side)
            elif what == TICKET:
                session.ticket()
            else:
                body = message(size & 31, data[:LONGEST])[:LONGEST]
                session.turns.append((side, session.sides[side].record(HANDSHAKE, body, split & 63)))
        else:
            session.turns.append((side, record(APPLICATION_DATA, data[:LONGEST])))
        self.keep_turns(fate, split)


def run(case: Case) -> int:
    scene = Scene(case.knob(0, len(MADE)))
    for item in case.items:
        scene.say(item)
    close = bool(case.knob(3, 2))
    frames = scene.frames(close)
    outcome = through(frames, scene.session.keylog, case)
    sound = all(numbers[0] % 9 != RAW and numbers[2] % 4 == AS_IT_IS for numbers, _ in case.items)
    if sound and case.knob(1, 3) == 0 and case.knob(2, len(CONFIGS)) == 0:
        whole = through(scene.frames(close, cut=False), scene.session.keylog, case)
        assert uncounted(outcome) == uncounted(whole), "law 1: another split, other events"
    return len(frames)


def uncounted(outcome: Outcome) -> list[str]:
    """Return the events without times and `bytes`: a handshake is known within a segment, of which all bytes count."""
    for event in outcome.events:
        for name in ("bytes", "handshake_ns"):
            event["appliance"].get("tls", {}).pop(name, None)
    return timeless(outcome.events)


def through(frames: list[tuple[int, bytes]], keylog: bytes, case: Case) -> Outcome:
    """Run the data path over the frames, with the secrets before, among or behind them."""
    (messages,), capture = batches_of(frames, batch_bytes=1 << 12)
    pipeline = Pipeline(CONFIGS[case.knob(2, len(CONFIGS))])
    secrets = [packed(secret) for secret in KeyLogParser().feed(keylog)]
    late = case.knob(1, 3)
    for place, batch in enumerate(messages):
        if late == 0 and place == 0:
            pipeline.add_keys(b"".join(secrets))
        elif late == 1 and place < len(secrets):
            pipeline.add_keys(secrets[-1 - place])
        pipeline.feed(batch)
    if late == 2:
        pipeline.add_keys(b"".join(secrets))
    outcome = Outcome(capture=capture)
    outcome.running.update(pipeline.counts())
    pipeline.finish()
    outcome.counts.update(pipeline.counts())
    collect(pipeline, outcome)
    counts = outcome.counts
    fates = sum(value for name, value in counts.items() if name.startswith("tls_bytes."))
    assert counts["tls_seen_bytes"] == fates, "bytes without an outcome"
    assert counts["tls_pending_bytes"] == counts["tls_open_bytes"] == 0, "connections that ended hold memory"
    assert differences(outcome).keys() <= {"flows, running", "flows, end", "flow_open_bytes, end"}, differences(outcome)
    return outcome


WORDS = [b"\x17\3\3", b"\x16\3\3", b"\x15\3\3", b"HTTP/1.1 200 x\r\n"]
# what it is, side, what becomes of it, bytes in a segment or place of a change, bytes in a record
TARGET = Target("decrypt", struct.Struct("<BBBHH"), seeds, run, WORDS)
