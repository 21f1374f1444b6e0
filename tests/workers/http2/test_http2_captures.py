"""Real captures with expected answers: whole, joined in the middle, with segments lost. Nothing is wrong or missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from builders import outcome_of

from appliance import open_offline
from workers.assembly.assembler import Assembler, StreamPool
from workers.http2.detection import speaker
from workers.http2.driver import Http2Driver

CORPORA = Path(__file__).resolve().parents[4] / "shared" / "corpora"
if not (CORPORA / "compare2.py").exists():
    pytest.skip("the captures are not here: there is no shared/corpora beside the project", allow_module_level=True)
sys.path.append(str(CORPORA))
import compare2  # noqa: E402

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FIELDS = ("method", "uri", "host", "status", "request_body_len", "response_body_len", "reset", "pushed")
TRUTHS = sorted(path for folder in (CORPORA / "truth").glob("http2-*") for path in folder.glob("*.json"))
TUNNEL = "http2-errorcode"  # HTTP/2 inside a CONNECT tunnel of HTTP/1: the whole data path finds it

End = tuple[str, int]


class Direction:
    """One direction of a connection: what the assembler says of it goes to the connection's log."""

    def __init__(self, log: list[tuple[End, int, bytes]], source: End) -> None:
        self.log, self.source = log, source

    def reassembled(self, pieces):
        self.log += [(self.source, piece.skip, piece.data) for piece in pieces]

    def complete(self):
        pass


def connections(path: Path) -> list[tuple[tuple[End, End], list[tuple[End, int, bytes]]]]:
    """((source, destination) of a direction, [(source, bytes missing before, bytes)]) of each connection."""
    out: list[tuple[tuple[End, End], list[tuple[End, int, bytes]]]] = []
    open_ones: dict[tuple[End, End], list[tuple[End, int, bytes]]] = {}

    def new(net, transport):
        ends = (str(net.src), int(transport.src)), (str(net.dst), int(transport.dst))
        log = open_ones.pop(ends[::-1], None)
        if log is None:
            log = open_ones[ends] = []
            out.append((ends, log))
        return Direction(log, ends[0])

    assembler = Assembler(StreamPool(new))
    with open_offline(str(path)) as handle:
        for packet in handle.packets():
            assembler.assemble(packet)
    assembler.flush_all()
    return out


def rows(ends: tuple[End, End], log: list[tuple[End, int, bytes]]) -> list[dict[str, object]]:
    """Return an observer's report of a connection, in the words of the truth files."""
    heard = {end: b"".join(data for source, _, data in log if source == end)[: 1 << 16] for end in ends}
    told = {end: speaker(data) for end, data in heard.items()}
    client = next((end for end in ends if PREFACE in heard[end]), None)
    client = client or next((end for end in ends if told[end] == "client"), None)
    client = client or next((end for end in ends if told[ends[end == ends[0]]] == "server"), None)
    if client is None:
        return []
    server = ends[client == ends[0]]
    before = {client: max(0, heard[client].find(PREFACE)), server: 0}
    joined = PREFACE not in heard[client]
    connection = Http2Driver(joined, joined or not heard[server])
    upgraded = heard[client][: before[client]].split(b" ")
    if before[client]:
        connection.upgrade()
        before[server] = heard[server].index(b"\r\n\r\n") + 4
    for source, skip, data in log:
        side = int(source == server)
        if skip > 0:
            connection.gap(side, skip)
        passed = min(before[source], len(data))
        before[source] -= passed
        connection.data(side, data[passed:])
    connection.end()
    out = []
    for each in connection.take():
        request, response, _, _ = each.sections
        row: dict[str, object] = {
            "kind": "http2", "stream": each.stream,
            "src": client[0], "sport": client[1], "dst": server[0], "dport": server[1],
        }  # fmt: skip
        if request:
            row |= {"method": request.get(b":method"), "uri": request.get(b":path")}
            row["host"] = request.get(b":authority") if request.get(b":authority") is not None else request.get(b"host")
        elif each.marks["upgraded"]:
            row |= {"method": upgraded[0], "uri": upgraded[1]}
        if response:
            row["status"] = response.get(b":status")
        for side, name in enumerate(("request_body_len", "response_body_len")):
            half = each.half(side)
            row[name] = None if half["loss"] else half["body_bytes"]
        if each.reset:
            row["reset"] = each.reset[1]
        row["pushed"] = each.marks["pushed"] or None
        out.append({key: value.decode("latin-1") if isinstance(value, bytes) else value for key, value in row.items()})
    return out


def rows_of_events(path: Path) -> list[dict[str, object]]:
    """Return the same report, out of the events of the whole data path."""
    with open_offline(str(path)) as handle:
        link_type = handle.link_type
        frames = [(packet.metadata.ts_ns, packet.data) for packet in handle.packets()]
    out = []
    for event in outcome_of(frames, link_type=link_type).events:
        if event["http"]["version"] != "2":
            continue
        url, request, response = event["url"], event["http"]["request"], event["http"]["response"]
        row = {"kind": "http2", "stream": event["appliance"]["http2"]["stream_id"], "uri": url["original"]}
        row |= {"src": event["source"]["ip"], "sport": event["source"]["port"], "method": request["method"]}
        row |= {"dst": event["destination"]["ip"], "dport": event["destination"]["port"]}
        row |= {"host": f"{url['domain']}:{url['port']}", "status": response["status_code"]}
        row |= {"request_body_len": request["body"]["bytes"], "response_body_len": response["body"]["bytes"]}
        out.append(row)
    return out


@pytest.mark.parametrize("path", TRUTHS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_value_is_wrong_and_no_exchange_is_missing(path):
    truth = json.loads(path.read_text())
    if TUNNEL in path.name:
        found = rows_of_events(CORPORA / truth["pcap"])
    else:
        found = [row for ends, log in connections(CORPORA / truth["pcap"]) for row in rows(ends, log)]
    counts, fields, faults = compare2.compare(truth, found, FIELDS)
    assert [fault for fault in faults if fault[0] != "partial"] == []
    given = sum(count for (name, verdict), count in fields.items() if name in FIELDS and verdict != "absent")
    asked = sum(count for (name, _), count in fields.items() if name in FIELDS)
    assert given >= 0.6 * asked, counts
