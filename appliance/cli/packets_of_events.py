"""`appliance packets --event`: the frames behind events, out of captures and a ring into one pcapng file."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from appliance.cli.event_sources import EventsOfCapture, lines_of_file
from appliance.cli.kept_frames import kept_lines, kept_of
from appliance.expression.event_filter import Test, decode_fields
from appliance.extract.connections import Connections, nanoseconds
from appliance.extract.extract import Extract
from appliance.extract.session_secrets import key_log, secrets_of
from appliance.extract.sources import CaptureFiles, MergedFrames, RecordedFrames, Source
from appliance.keylog.secrets import Secret
from appliance.native.file_identity import clashes
from appliance.native.safe_files import OUTPUT_MODE, Unusable, whole_file
from appliance.pcap.errors import PcapError
from appliance.ring.pcapng import PcapngWriter
from appliance.ring.reader import LATEST_NS, Ring
from appliance.text.terminal import safe, stderr_line

if TYPE_CHECKING:
    from appliance.ring.sealing import PrivateKey

ID = re.compile("[0-9a-f]{32}")
PRIVATE_MODE = 0o600  # of a file with secrets
# The options of a run that has every event.
ALL_EVENTS = {"events.datasets": ["http", "websocket", "tls", "flow"], "events.udp_flows": True}
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class EventPacketsArgs(NamedTuple):
    """The arguments of the command. events: ids of events or connections, or files of events.

    record: the folder of a ring, or of kept frames. identity: the file of the private key to a sealed ring. where,
    since, until: a test for events, and times as events have them. keylog: a key log of TLS. secrets: the output gets
    the secrets of its sessions.
    """

    captures: Sequence[str]
    events: Sequence[str]
    output: str
    record: str = ""
    where: Test | None = None
    since: str = ""
    until: str = ""
    keylog: str = ""
    secrets: bool = False
    identity: str = ""

    def options(self) -> dict[str, object]:
        """Return those of a run that has every event."""
        return ALL_EVENTS | ({"tls.keylog": os.path.abspath(self.keylog)} if self.keylog else {})


def packets_of_events(args: EventPacketsArgs) -> int:
    """Write the frames of the connections of events. Return the exit code. Raises Unusable before any output."""
    inputs = [("-r", path) for path in args.captures] + [
        ("--event", path) for path in args.events if not ID.fullmatch(path)
    ]
    inputs += [("--keylog", args.keylog)] if args.keylog else []
    for mine, other in clashes(dict.fromkeys(inputs), [("-w", args.output)]):
        raise Unusable(f"{mine} {args.output}: is the file of {other}, too; name another one")
    for path in args.captures:
        if not os.path.isfile(path):
            why = "it is read twice, so it must be a file" if os.path.exists(path) else os.strerror(errno.ENOENT)
            raise Unusable(f"-r {path}: {why}")
    if args.record and not os.path.isdir(args.record):
        raise Unusable(f"--record {args.record}: no such folder")
    if args.keylog and not os.path.isfile(args.keylog):
        why = "it is read twice, so it must be a file" if os.path.exists(args.keylog) else os.strerror(errno.ENOENT)
        raise Unusable(f"--keylog {args.keylog}: {why}")
    events = list(_events(args))
    if not events:
        raise Unusable("no event matches; there is nothing to write")
    files, recorded, secrets = CaptureFiles(args.captures), None, list[Secret]()
    try:
        connections = Connections(events)
        sources: list[Source] = [files] if args.captures else []
        if args.record:
            recorded = RecordedFrames(Path(args.record), connections, identity=_identity(args))
            kept = [CaptureFiles([str(path)]) for path in kept_of(args.record, events)]
            sources.append(MergedFrames([recorded, *kept]))
        extract = Extract(sources, connections)
        extract.survey()
        if args.secrets:
            secrets = secrets_of(extract.client_randoms(), [args.keylog] if args.keylog else [], args.captures)
        with whole_file(args.output, PRIVATE_MODE if secrets else OUTPUT_MODE) as out:
            comment = f"{len(events)} events of {len(connections.all)} connections"
            extract.write(PcapngWriter(out, comment, key_log(secrets)))
    except PcapError as error:
        raise Unusable(str(error)) from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise Unusable(f"--event: an event has no such field as a run writes it: {error}") from error
    except OSError as error:
        raise Unusable(f"{error.filename or args.output}: {error.strerror}") from error
    for path in dict.fromkeys(files.cut):
        stderr_line(f"{safe(path)} ends within a frame")
    if recorded and recorded.left_out:
        stderr_line(f"{recorded.left_out:,} frames of any connections were left out of the same files")
    frames = sum(wanted.written for wanted in connections.all)
    many = "connection" if len(connections.all) == 1 else "connections"
    stderr_line(f"{frames:,} frames of {len(connections.all):,} {many} in {safe(args.output)}")
    if args.secrets:
        sessions = len({random for _, random, _ in secrets})
        stderr_line(f"TLS secrets in it: {len(secrets):,}, sessions: {sessions:,}")
    return _compare(args, events)


def _events(args: EventPacketsArgs) -> Iterator[dict[str, Any]]:
    """Yield the wanted events. Raises Unusable."""
    ids = [name for name in args.events if ID.fullmatch(name)]
    for path in args.events:
        if path in ids:
            continue
        if path != "-" and not os.path.exists(path):
            raise Unusable(f"--event {path}: {os.strerror(errno.ENOENT)}; it is neither an id of 32 hexadecimal digits")
        for number, line in enumerate(lines_of_file(path, "--event"), 1):
            if line.strip() and (event := _wanted(args, line, f"--event {path}, line {number}")):
                yield event
    if args.events and not ids:
        return
    sought = [name.encode() for name in ids]
    found: set[str] = set()
    yielded: set[str] = set()
    for where, lines in _runs(args):
        if ids and yielded.issuperset(ids):
            break  # each is one event, and known: a run over the rest would find nothing more
        for line in lines:
            if args.events and not any(name in line for name in sought):
                continue  # decoding every line would take longer than the run
            event = _wanted(args, line, where)
            if event is None:
                continue
            names = {event["event"]["id"], event["appliance"].get("connection", "")} & set(ids)
            found |= names
            if (names or not args.events) and event["event"]["id"] not in yielded:  # ring and capture may both have it
                yielded.add(event["event"]["id"])
                yield event
    if missing := [name for name in ids if name not in found]:
        searched = ", ".join([*args.captures, *([args.record] if args.record else [])])
        raise Unusable(f"--event {missing[0]}: no such event or connection in {searched}")


def _runs(args: EventPacketsArgs) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Yield the runs over captures and ring, each with its name and its events. Raises Unusable."""
    for path, lines in kept_lines(args.record) if args.record else ():
        yield f"--record {path}", lines
    for name in args.captures:
        yield f"-r {name}", EventsOfCapture(name, args.options())
    if not args.record:
        return
    try:
        ring = Ring(Path(args.record), _identity(args))
    except OSError as error:
        raise Unusable(f"--record {error.filename or args.record}: {error.strerror}") from error
    since = nanoseconds(args.since) if args.since else 0
    until = nanoseconds(args.until) if args.until else LATEST_NS
    if ring.files:
        yield f"--record {args.record}", EventsOfCapture("-", args.options(), pieces=ring.capture(since, until))
    ring.close()


def _identity(args: EventPacketsArgs) -> PrivateKey | None:
    """Return the private key to the ring, if it is given. Raises Unusable."""
    if not args.identity:
        return None
    from appliance.ring.sealing import private_key  # here: it brings a large library with it

    try:
        return private_key(Path(args.identity))
    except OSError as error:
        raise Unusable(f"--identity {args.identity}: {error.strerror}") from error


def _wanted(args: EventPacketsArgs, line: bytes, where: str) -> dict[str, Any] | None:
    """Return the event of a line; None if the arguments exclude it. Raises Unusable."""
    event = _event(line, where)
    times = event["event"]
    if (args.since and times["end"] < args.since) or (args.until and times["start"] > args.until):
        return None
    if args.where and not args.where(decode_fields(line)):
        return None
    return event


def _event(line: bytes, where: str) -> dict[str, Any]:
    try:
        event = _decode(line)
        event["network"]["transport"]  # an event has it, other JSON has not
        return event
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, RecursionError) as error:
        raise Unusable(f"{where}: not an event, one JSON object a line, as `appliance run -o` writes it") from error


def _compare(args: EventPacketsArgs, events: Sequence[dict[str, Any]]) -> int:
    """Report whether the new file gives the same events. Return the exit code."""
    options = ALL_EVENTS if args.secrets else args.options()
    made = {event["event"]["id"]: event for event in map(_decode, EventsOfCapture(args.output, options))}
    differ = [event["event"]["id"] for event in events if _known(made.get(event["event"]["id"])) != _known(event)]
    if not differ:
        stderr_line("a run over it gives the same events")
        return 0
    stderr_line(f"a run over it gives {len(events) - len(differ)} of {len(events)} events; another one is {differ[0]}")
    if not (args.secrets or args.keylog) and any(event.get("url", {}).get("scheme") == "https" for event in events):
        stderr_line("events of decrypted traffic need its secrets: --keylog to read them, --secrets to write them")
    return 1


def _known(event: dict[str, Any] | None) -> dict[str, Any]:
    """Return the part of an event that does not depend on the sensor and its options."""
    if event is None:
        return {}
    http = event.get("http", {})
    plain = {
        side: {key: value for key, value in http[side].items() if key in ("method", "status_code", "bytes")}
        for side in http
        if side != "version"
    }
    return {
        "id": event["event"]["id"],
        "http": plain,
        "tls": event.get("tls"),
        "pairing": event["appliance"].get("pairing"),
    }
