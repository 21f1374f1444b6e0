"""Heads whose every text is hostile: an event is one line of JSON, moves no terminal, and gives the bytes back."""

from __future__ import annotations

import json
import re
import struct

from builders import START_NS, config
from cases import Case
from drive import through
from packets import handshake, segment
from target_http import WORDS
from targets import Target
from wire import ACK, FIN

from appliance.text.event_text import wire_bytes
from workers.body.redact import REDACTED
from workers.events.http_json import ALWAYS_REDACTED
from workers.events.json_text import text_json

(TARGET_TEXT, REASON, FIELD, FOLD) = range(4)
METHODS = (b"GET", b"POST", b"OPTIONS", b"BREW", b"M-SEARCH", b"DELETE")
NAMES = (b"X-A", b"Cookie", b"Host", b"User-Agent", b"Referer", b"Content-Type", b"AUTHORIZATION", b"x-a", b"Upgrade")
ALL = config(http={"headers": ["all"], "redact": ["x-secret"]})
NONE = config()
LONGEST = 1000  # bytes of a text
MOST_FIELDS = 60
FRAMING = (b"content-length", b"transfer-encoding", b"connection")
# What neither JSON nor a terminal may see: controls, DEL, C1 controls, the two separators of lines.
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

Field = tuple[bytes, list[bytes]]


def clean(data: bytes, blanks: bytes) -> bytes:
    """A text as it can stand on its line: without line ends, and without what is cut off at its ends."""
    return data.replace(b"\n", b"")[:LONGEST].strip(blanks)


def seeds() -> list[Case]:
    every = bytes(range(256))
    texts = [
        every,
        every[::-1],
        b"\\x41\\x5c\\\\x",
        "é漢😀\u2028\u2029\x85".encode(),
        b"\xc2\xe2\x80\xf0\x9f",
        b"a" * 900,
        b"",
    ]
    cases = []
    for place, text in enumerate(texts):
        items = [((TARGET_TEXT, 0), b"/" + text + b"?" + text), ((REASON, 0), text)]
        items += [((FIELD + (side << 4), name), text) for name in range(12) for side in (0, 1)]
        items += [((FOLD, 0), text)]
        cases += [Case([split, config, place], items) for split in (0, 1, 50) for config in (0, 1)]
    return cases


class Head:
    """The fields of one side as they are said, and as they must be reported."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.fields: list[Field] = []

    def field(self, number: int, data: bytes) -> None:
        name = NAMES[number % len(NAMES)]
        if number >= 2 * len(NAMES):
            name = re.sub(rb"[^!#$%&'*+.^_`|~0-9A-Za-z-]", b"", data[:20]) or b"x-secret"
        if name.lower() not in FRAMING and len(self.fields) < MOST_FIELDS:
            value = clean(data, b" \t\r")
            self.lines.append(name + b":" + b" " * (number & 1) + value)
            self.fields.append((name.lower(), [value]))

    def fold(self, data: bytes) -> None:
        if self.fields:
            value = clean(data, b" \t\r")
            self.lines.append(b" " + value)
            self.fields[-1][1].append(value)

    def expected(self) -> dict[bytes, list[bytes]]:
        out: dict[bytes, list[bytes]] = {}
        for name, values in self.fields:
            hidden = name.decode() in (*ALWAYS_REDACTED, "x-secret")
            out.setdefault(name, []).append(REDACTED if hidden else b" ".join(values).strip(b" \t"))
        return out


def reported(headers: dict[str, list[str]]) -> dict[bytes, list[bytes]]:
    return {wire_bytes(name): [wire_bytes(value) for value in values] for name, values in headers.items()}


def run(case: Case) -> int:
    target, reason = b"/", b"OK"
    heads = Head(), Head()
    for (what, number), data in case.items:
        head = heads[what >> 4 & 1]
        if what & 3 == TARGET_TEXT:
            target = re.sub(rb"[ \t\r]", b"", clean(data, b"")) or b"/"
        elif what & 3 == REASON:
            reason = clean(data, b"\r")
        elif what & 3 == FIELD:
            head.field(number, data)
        else:
            head.fold(data)
        assert wire_bytes(json.loads(text_json(data))) == data
    method = METHODS[case.knob(2, len(METHODS))]
    client = b"\r\n".join([b"%b %b HTTP/1.1" % (method, target), *heads[0].lines, b"", b""])
    server = b"\r\n".join([b"HTTP/1.1 204 %b" % reason, *heads[1].lines, b"", b""])
    if max(len(client), len(server)) > 60_000:
        return 0
    at = [1001, 5001]
    frames = handshake(0, 1000, 5000)
    for back, said in ((False, client), (True, server)):
        step = max(case.knob(0, 256), len(said) // 40) or 60_000
        for start in range(0, len(said), step):
            piece = said[start : start + step]
            frames.append(segment(0, back, at[back], at[not back], ACK, 5, 0, piece))
            at[back] += len(piece)
    frames += [segment(0, back, at[back], at[not back], FIN | ACK, 5, 0, b"") for back in (False, True)]
    all_fields = case.knob(1, 2) == 0
    wired = [(START_NS + n, frame, len(frame)) for n, frame in enumerate(frames)]
    outcome = through(wired, ALL if all_fields else NONE)

    for line in outcome.lines:
        assert not UNSEEN.search(line.decode()), line
    event = outcome.only
    assert wire_bytes(event["url"]["original"]) == target
    assert wire_bytes(event["http"]["request"]["method"]) == method
    assert wire_bytes(event["http"]["response"].get("reason", "")) == reason
    if target[:1] == b"/":
        parts = [event["url"][name] for name in ("path", "query") if name in event["url"]]
        assert b"?".join(map(wire_bytes, parts)) == target
    if all_fields:
        for head, side in zip(heads, ("request", "response"), strict=True):
            assert reported(event["http"][side]["headers"]) == head.expected()
    return len(frames)


# what it is (and, << 4, whose), which field
TARGET = Target("encode", struct.Struct("<BB"), seeds, run, [*WORDS, bytes(range(128)), bytes(range(128, 256))])
