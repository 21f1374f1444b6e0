"""The pairing of responses with requests: both sides take turns at random, in pieces, with losses, copies, late frames.

Every message has a number of its own, so that the events tell: of an honest server, which answers in order, no message
is in two of them; and where its client waits for each answer and a message is a frame, none is with another's.
"""

from __future__ import annotations

import struct

from builders import MILLISECOND, START_NS, Event
from cases import Case, Item
from drive import CONFIGS, Wired, through
from packets import handshake, segment
from targets import Target
from wire import ACK, FIN

(GET, POST, UPLOAD, HEAD, ANSWER, CHUNKED, EMPTY, INTERIM, ACK_C, ACK_S, EXTRA_C, EXTRA_S) = range(12)
(HOSTILE, HONEST, IN_TURN) = range(3)
(AS_IT_IS, LOST, TWICE, LATER, CUT, FIRST_LOST, LAST_LOST, ONE_LOST) = range(8)
LONGEST = 60_000
MOST_PIECES = 300


class Scene:
    """The connection so far, and the frames of it that were captured."""

    def __init__(self, flow: int, isns: tuple[int, int], manners: int) -> None:
        self.flow = flow
        self.manners = manners
        self.at = [isns[0] + 1, isns[1] + 1]
        self.now = START_NS
        self.asked = 0
        self.waiting: list[tuple[int, bool]] = []  # (number, HEAD)
        self.out: list[Wired] = []
        self.held: list[bytes] = []

    def request(self, what: int, size: int) -> bytes:
        if self.waiting and self.manners == IN_TURN:
            return b""
        number = self.asked
        self.asked += 1
        self.waiting.append((number, what == HEAD))
        method = (b"GET", b"POST", b"POST", b"HEAD")[what]
        head = b"%b /%d HTTP/1.1\r\nHost: a.example\r\n" % (method, number)
        if what == POST:
            return b"%bContent-Length: %d\r\n\r\n%b" % (head, size, b"u" * size)
        if what == UPLOAD:
            return b"%bTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (head, size + 1, b"u" * (size + 1))
        return head + b"\r\n"

    def response(self, what: int, size: int) -> bytes:
        if not self.waiting:
            return b""
        number, bodiless = self.waiting[0]
        if what == INTERIM:
            return b"HTTP/1.1 103 Early Hints\r\n\r\n"
        del self.waiting[0]
        if what == EMPTY:
            return b"HTTP/1.1 204 R%d\r\n\r\n" % number
        if what == CHUNKED and not bodiless:
            head = b"HTTP/1.1 200 R%d\r\nTransfer-Encoding: chunked\r\n\r\n" % number
            return b"%b%x\r\n%b\r\n0\r\n\r\n" % (head, size + 1, b"d" * (size + 1))
        return b"HTTP/1.1 200 R%d\r\nContent-Length: %d\r\n\r\n" % (number, size) + b"d" * (0 if bodiless else size)

    def say(self, item: Item) -> None:
        """One item: a message, whole or in pieces, as far as it was captured."""
        (what, fate, split, which, idle), data = item
        what %= 12
        self.now += idle * 1000
        back = what in (ANSWER, CHUNKED, EMPTY, INTERIM, ACK_S, EXTRA_S)
        said = b""
        if what <= HEAD:
            said = self.request(what, len(data))
        elif what <= INTERIM:
            said = self.response(what, len(data))
        elif what >= EXTRA_C and self.manners == HOSTILE:
            said = data
        step = max(split, len(said) // MOST_PIECES) if split and self.manners != IN_TURN else LONGEST
        starts = range(0, max(1, len(said)), step)
        lost = {LOST: starts, FIRST_LOST: starts[:1], LAST_LOST: starts[-1:], ONE_LOST: [starts[which % len(starts)]]}
        for start in starts:
            piece = said[start : start + step]
            frame = segment(self.flow, back, self.at[back], self.at[1 - back], ACK, 5, 0, piece)
            self.at[back] += len(piece)
            if fate == LATER:
                self.held.append(frame)
            elif start not in lost.get(fate, ()):
                self.send(frame, len(frame) - len(piece) // 2 if fate == CUT else len(frame))
                if fate == TWICE:
                    self.send(frame, len(frame))
        if fate != LATER:
            self.release()

    def send(self, frame: bytes, keep: int) -> None:
        self.out.append((self.now, frame[:keep], len(frame)))

    def release(self) -> None:
        for frame in self.held:
            self.send(frame, len(frame))
        self.held = []

    def close(self) -> None:
        for back in (False, True):
            self.send(segment(self.flow, back, self.at[back], self.at[1 - back], FIN | ACK, 5, 0, b""), 1 << 18)
            self.at[back] += 1


def seeds() -> list[Case]:
    turns = [GET, ANSWER, POST, INTERIM, ANSWER, HEAD, EMPTY, UPLOAD, CHUNKED, GET, ANSWER]
    batches = [GET, GET, POST, ANSWER, CHUNKED, GET, ANSWER, ANSWER, HEAD, GET, ANSWER, ACK_C, EMPTY]
    cases = []
    for place, scene in enumerate((turns, batches, turns * 3)):
        for split in (0, 1, 20):
            items: list[Item] = [((what, AS_IT_IS, split, 0, 1000), b"b" * (what * 3)) for what in scene]
            cases.append(Case([0, place % 2, 0, 1 + split % 2, place, 0], items))
            for fate in range(1, 8):
                for at in (fate % 5, 5 + fate % 5):
                    damaged = list(items)
                    damaged[at] = ((scene[at], fate, split, 1, 1000), damaged[at][1])
                    cases.append(Case([0, 1, place, 1 + (place != 1), fate, 0], damaged))
    strange = [b"HTTP/1.1 200 X\r\n\r\n", b"GET /x HTTP/1.1\r\n\r\n", b"\0"]
    items = [((what, AS_IT_IS, 0, 0, 1000), data) for data in strange for what in (GET, EXTRA_S, ANSWER, EXTRA_C)]
    cases.append(Case([0, 1, 1, 0, 0, 0], items))
    return cases


def run(case: Case) -> int:
    isns = ((1_000_000, 2_000_000), (0xFFFFFFFF, 0xFFFFFF00))[case.knob(2, 2)]
    scene = Scene(case.knob(4, 16), isns, case.knob(3, 3))
    if case.knob(1, 2):
        for frame in handshake(scene.flow, *isns):
            scene.send(frame, len(frame))
    for item in case.items:
        scene.say(item)
    scene.release()
    if case.knob(5, 2):
        scene.close()
    outcome = through(scene.out, CONFIGS[case.knob(0, len(CONFIGS))], later_ns=case.knob(5, 3) * 500 * MILLISECOND)
    if scene.manners != HOSTILE:
        once(outcome.events, scene.manners == IN_TURN)
    return len(scene.out)


def once(made: list[Event], in_turn: bool) -> None:
    """No message is in two events; in_turn: and none is with another's."""
    targets: set[str] = set()
    reasons: set[str] = set()
    for event in made:
        target = event.get("url", {}).get("original")
        reason = event["http"].get("response", {}).get("reason")
        assert target is None or target not in targets, f"{target} twice"
        assert reason is None or reason not in reasons, f"{reason} twice"
        right = target is None or reason is None or target[1:] == reason[1:]
        assert right or not in_turn, f"{reason} answers {target}"
        targets |= {target} if target is not None else set()
        reasons |= {reason} if reason is not None else set()


# what is said, what becomes of it, bytes in a segment (0: all), which piece is lost, µs since the one before
TARGET = Target("pairing", struct.Struct("<BBBBI"), seeds, run, [b"HTTP/1.1 200 X\r\n\r\n", b"GET /x HTTP/1.1\r\n\r\n"])
