"""The cost of many connections: time per frame from a thousand to a million, memory of an idle one, a SYN flood.

    python ops/bench/scale.py [curve] [idle] [flood] [--most N] [--frames N] [--syns N]

curve   N connections are open and have had one exchange each; then requests and responses come for random ones of them.
        Only the worker's pipeline is timed; at each size, several rounds of the same number of frames.
idle    resident memory for each further connection that is open and quiet, after its handshake and after one exchange.
flood   connections in the middle of an exchange, then SYNs from random addresses; then the rest of the exchange.

Whose memory is looked at has a process of its own: what others gave back would be taken first, and not be seen.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import struct
import sys
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from appliance.capture.sharder import Sharder  # noqa: E402
from appliance.config.load import resolve  # noqa: E402
from workers.pipeline import Pipeline  # noqa: E402

SYN, ACK, PSH = 2, 16, 8
KEY = bytes(range(16))
START_NS = 1_790_000_000_000_000_000
STEP_NS = 1_000  # a million frames a second
REQUEST = b"GET /item?id=0123456789 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench/1\r\nAccept: */*\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 32\r\n\r\n" + b"b" * 32
SERVER = 0xC6336414  # 198.51.100.20


class Template:
    """Frames of one kind, from a prepared header: only addresses, ports and numbers change."""

    def __init__(self, flags: int, payload: bytes = b"") -> None:
        total = 40 + len(payload)
        ip = struct.pack(">BBHHHBBHII", 0x45, 0, total, 0, 0x4000, 64, 6, 0, 0, 0)
        tcp = struct.pack(">HHIIBBHHH", 0, 0, 0, 0, 0x50, flags, 0xFFFF, 0, 0)
        self.head = bytes.fromhex("020000000002020000000001 0800")
        self.ip, self.tcp, self.payload = ip, tcp, payload
        self.ip_sum = int.from_bytes(ip, "big") % 65535
        padded = tcp + payload + b"\0" * (len(payload) & 1)
        self.tcp_sum = (int.from_bytes(padded, "big") + 6 + 20 + len(payload)) % 65535
        self.size = 20 + len(payload)
        self.flags = flags
        self.total = total

    def frame(self, source: int, target: int, ports: tuple[int, int], seq: int, ack: int) -> bytes:
        """One frame with right checksums."""
        addresses = source + target
        ip_sum = 65535 - (self.ip_sum + addresses) % 65535
        tcp_sum = 65535 - ((self.tcp_sum + addresses + ports[0] + ports[1] + seq + ack) % 65535 or 65535)
        return b"".join((
            self.head,
            struct.pack(">BBHHHBBHII", 0x45, 0, self.total, 0, 0x4000, 64, 6, ip_sum, source, target),
            struct.pack(">HHIIBBHHH", *ports, seq, ack, 0x50, self.flags, 0xFFFF, tcp_sum, 0),
            self.payload,
        ))  # fmt: skip


OPEN, ANSWER, READY = Template(SYN), Template(SYN | ACK), Template(ACK)
ASK, REPLY = Template(PSH | ACK, REQUEST), Template(PSH | ACK, RESPONSE)


class Clients:
    """Connections of a server, each from an address of its own."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.exchanges = array("L", bytes(8 * count))

    @staticmethod
    def _source(number: int) -> int:
        return 0x0A000000 + number  # 10.0.0.0/8

    def handshake(self, number: int) -> Iterator[bytes]:
        source, ports = self._source(number), (40000, 80)
        yield OPEN.frame(source, SERVER, ports, 999, 0)
        yield ANSWER.frame(SERVER, source, ports[::-1], 4999, 1000)
        yield READY.frame(source, SERVER, ports, 1000, 5000)

    def exchange(self, number: int) -> tuple[bytes, bytes]:
        source, ports, done = self._source(number), (40000, 80), self.exchanges[number]
        self.exchanges[number] += 1
        seq, ack = 1000 + done * len(REQUEST) & 0xFFFFFFFF, 5000 + done * len(RESPONSE) & 0xFFFFFFFF
        return (
            ASK.frame(source, SERVER, ports, seq, ack),
            REPLY.frame(SERVER, source, ports[::-1], ack, seq + len(REQUEST)),
        )


class Line:
    """A pipeline with a sharder before it and a clock of frames."""

    def __init__(self, **options: object) -> None:
        self.sharder = Sharder(KEY, 1)
        self.pipeline = Pipeline(resolve(None, {"source.interfaces": ["bench0"], **options}))
        self.now = START_NS
        self.events = 0

    def batches(self, frames: Iterable[bytes]) -> Iterator[bytes]:
        """The frames in batches, as a capture makes them."""
        for frame in frames:
            self.sharder.push(self.now, frame)
            self.now += STEP_NS
            if self.sharder.ready:
                yield from self._taken()
        self.sharder.seal()
        yield from self._taken()

    def _taken(self) -> Iterator[bytes]:
        for _, _, message in self.sharder.take():
            yield bytes(message)
            self.sharder.recycle(message)

    def feed(self, batches: Iterable[bytes]) -> float:
        """Seconds inside the pipeline, its events taken and dropped."""
        spent = 0.0
        for batch in batches:
            begin = time.perf_counter()
            self.pipeline.feed(batch)
            taken = self.pipeline.take()
            spent += time.perf_counter() - begin
            self.events += sum(count for _, count, _ in taken)
        return spent


def resident() -> int:
    """Bytes of memory this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def opened(line: Line, clients: Clients, numbers: range, *, exchange: bool) -> None:
    """Handshakes of these clients, and an exchange of each."""
    line.feed(line.batches(frame for number in numbers for frame in clients.handshake(number)))
    if exchange:
        line.feed(line.batches(frame for number in numbers for frame in clients.exchange(number)))


def curve(most: int, frames: int, rounds: int) -> None:
    """Prints ns per frame for growing numbers of connections."""
    first = 0.0
    print(f"{'connections':>12} {'ns/frame':>9} {'vs. first':>9}   rounds")
    count = 1000
    while count <= most:
        line, clients = Line(), Clients(count)
        opened(line, clients, range(count), exchange=True)
        choice = random.Random(count)
        costs = []
        for _ in range(rounds):
            picked = [choice.randrange(count) for _ in range(frames // 2)]
            batches = list(line.batches(frame for number in picked for frame in clients.exchange(number)))
            before = line.events
            costs.append(line.feed(batches) / (2 * len(picked)) * 1e9)
            assert line.events - before == len(picked), (line.events - before, len(picked))
        cost = median(costs)
        first = first or cost
        print(f"{count:>12,} {cost:>9.0f} {cost / first:>9.2f}   {' '.join(f'{c:.0f}' for c in costs)}", flush=True)
        count *= 10


def alone(part: Callable[..., None], *arguments: object) -> None:
    """Runs a part in a process of its own."""
    process = multiprocessing.get_context("spawn").Process(target=part, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{part.__name__}: ended with {process.exitcode}")


def idle(count: int, exchange: bool) -> None:
    """Prints bytes per connection."""
    line, clients = Line(), Clients(2 * count)
    opened(line, clients, range(count), exchange=exchange)  # batches and buffers have their size from here on
    before = resident()
    opened(line, clients, range(count, 2 * count), exchange=exchange)
    assert line.pipeline.counts()["flows"] == 2 * count
    what = "one exchange" if exchange else "its handshake"
    print(
        f"an idle connection after {what}: {(resident() - before) / count:,.0f} bytes ({count:,} of them)", flush=True
    )


def flood(count: int, syns: int) -> None:
    """Prints what a SYN flood does to established connections and to memory."""
    line, clients = Line(), Clients(count)
    opened(line, clients, range(count), exchange=True)
    halves = [clients.exchange(number) for number in range(count)]
    line.feed(line.batches(ask for ask, _ in halves))
    before, events = resident(), line.events
    choice = random.Random(7)

    def attack() -> Iterator[bytes]:
        for _ in range(syns):
            source, port, seq = choice.getrandbits(32), choice.getrandbits(16), choice.getrandbits(32)
            yield OPEN.frame(source, SERVER, (port, 80), seq, 0)

    spent = line.feed(line.batches(attack()))
    peak = resident()
    line.feed(line.batches(reply for _, reply in halves))
    counts = line.pipeline.counts()
    print(f"{syns:,} SYNs: {spent / syns * 1e9:,.0f} ns each; memory {before >> 20} -> {peak >> 20} MiB")
    print(f"established: {line.events - events:,} of {count:,} exchanges complete after it")
    ends = {
        name.partition(".")[2]: value for name, value in counts.items() if name.startswith("flows_ended.") and value
    }
    print(f"half-open now {counts['half_open']:,}; ended: {ends}")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=[], metavar="curve|idle|flood")
    parser.add_argument("--most", type=int, default=1_000_000, help="connections (default 1,000,000)")
    parser.add_argument("--frames", type=int, default=400_000, help="frames of a round (default 400,000)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--syns", type=int, default=10_000_000)
    args = parser.parse_args()
    wanted = args.what or ["curve", "idle", "flood"]
    if "curve" in wanted:
        curve(args.most, args.frames, args.rounds)
    if "idle" in wanted:
        for exchange in (False, True):
            alone(idle, min(args.most, 200_000), exchange)
    if "flood" in wanted:
        alone(flood, 10_000, args.syns)


if __name__ == "__main__":
    main()
