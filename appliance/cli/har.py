"""The `appliance har` command: transactions of a capture file, of a file of events or of a feed as an HTTP Archive."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from appliance.cli.event_sources import EventsOfCapture, lines_of_file
from appliance.expression.event_filter import Test, decode_fields
from appliance.har.archive import Archive
from appliance.native.file_identity import clashes
from appliance.native.safe_files import Unusable, whole_file
from appliance.subscriber.subscriber import Subscriber
from appliance.text.terminal import safe, stderr_line

SILENCE_S = 3.0  # of a feed: then everything that it stores has come
LONGEST_EXCERPT = 1 << 20  # bytes of a body: the largest that events can hold
CAPTURE_OPTIONS = {  # of the run that reads a capture file
    "events.datasets": ["http"],
    "http.headers": ["all"],
    "bodies.excerpt_bytes": LONGEST_EXCERPT,
    "bodies.excerpt_types": ["*"],
}


class HarArgs(NamedTuple):
    """The arguments of the command; one of capture, events and since selects the source.

    since: as events write times. where: a test for transactions. most: the limit of entries. settings: options of the
    run that reads a capture, KEY=VALUE.
    """

    output: str
    capture: str = ""
    events: str = ""
    since: str = ""
    now: str = ""
    where: Test | None = None
    most: int = 100_000
    config: str = ""
    settings: Sequence[str] = ()
    endpoint: str = ""
    replay: str = ""
    server_key: str = ""
    key: str = ""


def make_archive(args: HarArgs, version: str) -> int:
    """Write the archive. Return the exit code. Raises Unusable, BusError and KeyFault."""
    inputs = [("-r", args.capture)] if args.capture else [("--events", args.events)] if args.events else []
    for mine, other in clashes(inputs, [("-o", args.output)]):
        raise Unusable(f"{mine} {args.output}: is the file of {other}, too; name another one")
    archive, code = Archive(args.most), 0
    if args.since:
        _from_feed(args, archive)
    elif args.events:
        _add_all(archive, lines_of_file(args.events, "--events"), args.where)
    else:
        words = [
            *(["-c", args.config] if args.config else []),
            *(word for one in args.settings for word in ("--set", one)),
        ]
        run = EventsOfCapture(args.capture, CAPTURE_OPTIONS, words)
        _add_all(archive, run, args.where)
        code = run.code
    try:
        _write(archive, args.output, version)
    except OSError as error:
        raise Unusable(f"-o {args.output}: {error.strerror}") from error
    _report(archive, args.output)
    return code


def _add_all(archive: Archive, lines: Iterable[bytes], where: Test | None) -> None:
    for line in lines:
        if line.strip() and (where is None or _matches(line, where)):
            archive.add(line)


def _matches(line: bytes, where: Test) -> bool:
    try:
        return where(decode_fields(line))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return True  # the archive counts it as no event


def _from_feed(args: HarArgs, archive: Archive) -> None:
    """Add the transactions that a feed stores, from the time of --since to now. Ctrl-C ends it early."""
    feed = Subscriber(
        args.endpoint,
        ["http."],
        replay=args.replay,
        backfill=True,
        server_key=args.server_key,
        key=args.key,
    )
    with feed, suppress(KeyboardInterrupt):
        latest = ""
        while latest < args.now and (message := feed.receive(SILENCE_S)) is not None:
            for event in message.events:
                try:
                    fields = decode_fields(event)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    archive.invalid += 1
                    continue
                latest = max(latest, fields.timestamp)
                if fields.timestamp >= args.since and (args.where is None or args.where(fields)):
                    archive.add(event)
    if not feed.heartbeats and not feed.messages:
        raise Unusable(f"--connect {args.endpoint}: no message came; is an appliance running there?")
    if feed.lost:
        stderr_line(f"{feed.lost:,} messages of the feed were lost: their transactions are missing")


def _write(archive: Archive, path: str, version: str) -> None:
    """Write to standard output, a device or a pipe, or replace a file by a whole one."""
    if path == "-":
        archive.write(sys.stdout.buffer, version)
        sys.stdout.flush()
    elif Path(path).exists() and not Path(path).is_file():
        with open(path, "wb") as out:
            archive.write(out, version)
    else:
        with whole_file(path) as out:
            archive.write(out, version)


def _report(archive: Archive, path: str) -> None:
    """Report the entries, and the transactions that are not among them."""
    stderr_line(f"{len(archive):,} transactions in {safe(path)}")
    if archive.left_out:
        stderr_line(f"{archive.left_out:,} more are left out: -n sets the limit")
    if archive.no_request:
        stderr_line(f"{archive.no_request:,} responses are left out: their requests were not captured")
    if archive.invalid:
        stderr_line(f"{archive.invalid:,} lines are no events, and are left out")
