"""HTTP Archives, and the frames of connections, made of the events of hostile HTTP.

Every transaction with a request is an entry, and the frames behind the events are those of the connection.
"""

from __future__ import annotations

import io
import json
import struct

import target_http
from builders import config
from cases import Case
from drive import through
from targets import Target

from appliance.extract.connections import Connections
from appliance.extract.extract import comment_of
from appliance.har.archive import Archive
from appliance.ring.pcapng import PcapngWriter

ETHERNET = 1
CONFIG = config(http={"headers": ["all"], "redaction": False}, bodies={"excerpt_bytes": 200, "excerpt_types": ["*"]})
WORDS = [
    *target_http.WORDS, b"GET http://[ HTTP/1.1\r\n", b"Host: [x\r\n", b"//[", b"?a=%ff&=;", b"#",
    b"Set-Cookie: a=b; Expires=Fri, 31 Dec 9999 23:00:00 EST\r\n", b"Set-Cookie: ;;=; Path\r\n", b"Cookie: =;a;\r\n",
    b"Location: \xff\r\n", b"Content-Type: text/plain;charset=x\r\n",
]  # fmt: skip


def run(case: Case) -> int:
    frames = target_http.frames_of(case)
    outcome = through(frames, CONFIG, exact=False)
    archive = Archive(1000)
    for line in outcome.lines:
        archive.add(line)
    assert archive.invalid == 0, "an event that is none to the archive"
    out = io.BytesIO()
    archive.write(out, "0")
    assert len(json.loads(out.getvalue())["log"]["entries"]) == len(archive)
    if outcome.events:
        connections = Connections(outcome.events)
        writer = PcapngWriter(out, "")
        for ts_ns, frame, wirelen in frames:
            found, _ = connections.of(ETHERNET, frame, wirelen)
            assert found or len(frame) < wirelen, "a frame of no connection"
            comment = "; ".join(comment_of(event) for wanted in found for event in wanted.begun.get(ts_ns, ()))
            writer.write(frame, ts_ns, wirelen, ETHERNET, "", comment)
    return len(frames)


# direction, what happens to it, bytes in a segment (0: all), added to the acknowledgement, µs since the one before
TARGET = Target("evidence", struct.Struct("<BBBhI"), target_http.seeds, run, WORDS)
