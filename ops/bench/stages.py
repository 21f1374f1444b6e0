"""The cost of each stage of the data path, one at a time: nanoseconds a frame, microseconds a transaction.

    python ops/bench/stages.py FILE.pcap … [--frames N] [--rounds N]

read       libpcap alone
shard      libpcap, locate, flow hash, copied into batches, the batches dropped
pipeline   batches from memory through reassembly and HTTP to encoded events
tcp        the same batches, but each payload begins like TLS: its bytes are reassembled and counted, and not read
http       pipeline less tcp, in every round: heads, framing, pairing and events, and what only they keep in the caches
link       batches from memory into slots of the link, and to another process that lets them go
publish    bodies of events from memory to another process that lets them go

Processor time of this process; of link and publish, the time until the other process has all. What goes on inside of
shard and pipeline is rooms.py's to say.
"""

from __future__ import annotations

import argparse
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import zmq

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from appliance.capture.sharder import Sharder  # noqa: E402
from appliance.config.load import resolve  # noqa: E402
from appliance.config.schema import Config  # noqa: E402
from appliance.ipc.event_batch import EventMessage, event_header, pack_runs  # noqa: E402
from appliance.ipc.event_link import EventReceiver, EventSender  # noqa: E402
from appliance.ipc.frame_batch import KEPT_BATCHES, header  # noqa: E402
from appliance.ipc.frame_link import FrameReceiver, FrameSender  # noqa: E402
from appliance.ipc.sockets import Bus, Waiter  # noqa: E402
from appliance.pcap import opening as pcap  # noqa: E402
from workers.pipeline import Pipeline  # noqa: E402

_KEY = bytes(range(16))
_STEP = 8192  # frames read between two looks at the sealed batches
_HEADER_BYTES, _RECORD_BYTES = 64, 40  # batch.pxd
_PLACES, _PLACES_AT = struct.Struct("<IIIHH"), 24  # of a record: caplen, wirelen, tcp_length, net, tcp
_WORD = struct.Struct(">H")
_TLS = 0x1603
_PATIENCE_MS = 30_000  # without a message: the other process died


def read(file: Path) -> int:
    """Frames of a file, handed out to an empty callback."""
    handle = pcap.open_offline(str(file))
    try:
        return int(handle.drain())
    finally:
        handle.close()


def shard(file: Path, frames: int, keep: Callable[[Any], object] | None = None) -> int:
    """Reads up to `frames` frames into batches for one worker; `keep` gets each message, which is then used again."""
    handle = pcap.open_offline(str(file))
    sharder = Sharder(_KEY, 1, link_type=handle.link_type)
    done = 0
    try:
        while done < frames:
            count = handle.read_into(sharder, min(_STEP, frames - done))
            if count < 0:
                break
            done += count
            for _, _, message in sharder.take():
                if keep:
                    keep(message)
                sharder.recycle(message)
        for _, _, message in sharder.end():
            if keep:
                keep(message)
    finally:
        handle.close()
    return done


def pipeline(file: Path, batches: Sequence[bytes], keep: Callable[[bytes], object] = lambda body: None) -> int:
    """Events made of the batches of a file; `keep` gets their bodies."""
    line = Pipeline(resolve(None, {"source.file": str(file)}))
    events = 0
    for batch in [*batches, None]:
        if batch is None:
            line.finish()
        else:
            line.feed(batch)
        for _, count, body in line.take():
            events += count
            keep(body)
    return events


def not_http(batches: Sequence[bytes]) -> list[bytes]:
    """The batches with each TCP payload begun like a TLS record: nothing in them is HTTP."""
    out = []
    for batch in batches:
        made = bytearray(batch)
        at = _HEADER_BYTES
        for _ in range(header(batch).frames):
            caplen, _, tcp_length, _, tcp = _PLACES.unpack_from(batch, at + _PLACES_AT)
            segment = at + _RECORD_BYTES + tcp
            payload = segment + (batch[segment + 12] >> 4) * 4
            if payload + 2 <= min(segment + tcp_length, at + _RECORD_BYTES + caplen):
                _WORD.pack_into(made, payload, _TLS)
            at += _RECORD_BYTES + (caplen + 7 & ~7)
        out.append(bytes(made))
    return out


def link(bus: Bus, config: Config, directory: Path, batches: Sequence[bytes]) -> Callable[[], None]:
    """Return the action that brings the batches to a worker."""
    sender = FrameSender(bus, config, directory, 0, time.time_ns())

    def bring() -> None:
        for batch in batches:
            slot = sender.acquire()
            while slot is None or not sender.wait(0, 1):
                slot = slot or sender.acquire()
            slot[: len(batch)] = batch  # as the sharder writes its frames
            sender.send(0, slot[: len(batch)])

    return bring


def publish(bus: Bus, config: Config, directory: Path, bodies: Sequence[bytes]) -> Callable[[], None]:
    """Return the action that brings the events to the feed."""
    sender = EventSender(bus, config, directory, 0, time.time_ns())

    def bring() -> None:
        for number, body in enumerate(bodies):
            runs = pack_runs([(0, 1, len(body) + 1)])
            head = event_header(EventMessage(0, 1, 1, number, number, runs, body))
            while not sender.put(head, body):
                sender.ready(1)

    return bring


def brought(kind: Callable[..., Callable[[], None]], file: Path, messages: Sequence[bytes]) -> float:
    """Seconds until another process says that it has all the messages; its start does not count."""
    config = resolve(None, {"source.file": str(file), "workers.count": 1})
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/dev/shm") as directory, zmq.Context() as context:
        bus = Bus()
        bring = kind(bus, config, Path(directory), messages)
        with context.socket(zmq.PULL) as back:
            back.rcvtimeo = _PATIENCE_MS
            back.bind(f"ipc://{directory}/back")
            child = subprocess.Popen([sys.executable, __file__, "--sink", kind.__name__, directory, str(len(messages))])
            try:
                back.recv()
                begun = time.perf_counter()
                bring()
                back.recv()
                return time.perf_counter() - begun
            finally:
                child.kill()  # it has said all it had to say
                child.wait()
                bus.close()


def sink(kind: str, directory: Path, messages: int) -> int:
    """The other process of brought(): takes what comes and lets it go; batches the last few later, as a worker does."""
    bus, kept = Bus(), deque[object](maxlen=KEPT_BATCHES)
    config = resolve(None, {"source.file": "none"})
    receiver = FrameReceiver(bus, config, directory, 0) if kind == "link" else EventReceiver(bus, config, directory)
    waiter = Waiter()
    waiter.watch(receiver.socket, read=True)
    with zmq.Context() as context, context.socket(zmq.PUSH) as back:
        back.connect(f"ipc://{directory}/back")
        back.send(b"ready")
        while messages:
            message = receiver.receive()
            if message is None:
                waiter.wait(1)
                continue
            kept.append(message)
            messages -= 1
        back.send(b"done")
    return 0


def timed(action: Callable[[], object]) -> float:
    """Seconds of processor time an action took."""
    begun = time.process_time()
    action()
    return time.process_time() - begun


def report(file: Path, frames: int, rounds: int) -> None:
    """Measure all stages on one file, in turns, and print the medians."""
    batches: list[bytes] = []
    held = shard(file, frames, lambda message: batches.append(bytes(message)))
    total = read(file)
    names = ("read", "shard", "pipeline", "tcp", "http", "link", "publish")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    bodies: list[bytes] = []
    events = pipeline(file, batches, bodies.append)
    unread = not_http(batches)
    for _ in range(rounds):
        seconds["read"].append(timed(lambda: read(file)) * held / total)
        seconds["shard"].append(timed(lambda: shard(file, frames)))
        seconds["pipeline"].append(timed(lambda: pipeline(file, batches)))
        seconds["tcp"].append(timed(lambda: pipeline(file, unread)))
        seconds["http"].append(seconds["pipeline"][-1] - seconds["tcp"][-1])
        seconds["link"].append(brought(link, file, batches))
        seconds["publish"].append(brought(publish, file, bodies))
    size = sum(map(len, batches))
    print(f"\n{file.name}: {held:,} frames in {len(batches):,} batches, {size / 1e6:,.0f} MB; {events:,} events")
    print(f"{'stage':10}{'ns/frame':>10}{'us/trans':>10}{'Gbit/s':>8}{'min ns':>8}{'max ns':>8}")
    for stage, values in seconds.items():
        middle = median(values)
        each = f"{middle / events * 1e6:.2f}" if events else "-"
        least, most = min(values) / held * 1e9, max(values) / held * 1e9
        rate = size * 8 / middle / 1e9
        print(f"{stage:10}{middle / held * 1e9:>10.0f}{each:>10}{rate:>8.1f}{least:>8.0f}{most:>8.0f}", flush=True)
    print("tcp: the same frames with payloads that are not HTTP; http: pipeline less tcp (heads, pairing, events)")


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    if arguments[:1] == ["--sink"]:
        return sink(arguments[1], Path(arguments[2]), int(arguments[3]))
    parser = argparse.ArgumentParser(prog="stages.py", description="What each stage of the data path costs.")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--frames", type=int, default=500_000, help="at most so many, for they are held in memory")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    for file in options.files:
        report(file, options.frames, options.rounds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
