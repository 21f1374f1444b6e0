"""The project's traffic builder: captures for trying, testing and measuring, the same bytes from the same seed.

    python ops/bench/traffic.py sample OUT.pcap [--truth] [--seed N]
    python ops/bench/traffic.py shape web|api|bulk OUT.pcap [--scale F]

As a library: Conversation builds the frames of one connection, exchange() the bytes of one HTTP transaction, and
interleave, reorder, duplicate and drop make traffic of them. Every address is from a documentation range.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from conversation import START_NS, Conversation, Endpoint
from exchange import Exchange, Expected, chunked, exchange, pieces
from impair import drop, duplicate, interleave, reorder, truth
from pcapfile import ETHERNET, Frame, PcapWriter
from sample import sample
from shapes import SHAPES, write_shape
from wire import ACK, FIN, PSH, RST, SYN, Wire, arp_request, icmp_echo, udp

__all__ = [
    "ACK",
    "ETHERNET",
    "FIN",
    "PSH",
    "RST",
    "SHAPES",
    "START_NS",
    "SYN",
    "Conversation",
    "Endpoint",
    "Exchange",
    "Expected",
    "Frame",
    "PcapWriter",
    "Wire",
    "arp_request",
    "chunked",
    "drop",
    "duplicate",
    "exchange",
    "icmp_echo",
    "interleave",
    "pieces",
    "reorder",
    "sample",
    "truth",
    "udp",
    "write_sample",
    "write_shape",
]


def write_sample(path: Path, *, with_truth: bool = False, seed: int = 7) -> dict[str, int]:
    """Write the sample, and its transactions beside it (.truth.json instead of .pcap); returns its figures."""
    frames, expected = sample(seed)
    with PcapWriter(path) as out:
        out.write_all(frames)
    if with_truth:
        listed = [one.as_dict() for one in expected]
        path.with_suffix(".truth.json").write_text(json.dumps({"transactions": listed}, indent=1) + "\n")
    return {"frames": out.frames, "bytes": out.file_bytes, "transactions": len(expected)}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 when written."""
    parser = argparse.ArgumentParser(prog="traffic.py", description="Make capture files of HTTP traffic.")
    commands = parser.add_subparsers(dest="command", required=True)
    small = commands.add_parser("sample", help="some 300 transactions of every ordinary kind")
    small.add_argument("out", type=Path)
    small.add_argument("--truth", action="store_true", help="write OUT.truth.json: the transactions to be found")
    small.add_argument("--seed", type=int, default=7)
    large = commands.add_parser("shape", help="a million frames and more, for measuring; writes OUT.json beside it")
    large.add_argument("shape", choices=sorted(SHAPES))
    large.add_argument("out", type=Path)
    large.add_argument("--scale", type=float, default=1.0, help="share of the full size (default 1)")
    options = parser.parse_args(arguments)
    begun = time.perf_counter()
    figures: dict[str, int] | dict[str, int | float | str]
    if options.command == "sample":
        figures = write_sample(options.out, with_truth=options.truth, seed=options.seed)
    else:
        figures = write_shape(options.shape, options.out, options.scale)
    elapsed = time.perf_counter() - begun
    listed = ", ".join(
        f"{value:,} {name}" if isinstance(value, int) else f"{name} {value}" for name, value in figures.items()
    )
    print(f"{options.out}: {listed}; made in {elapsed:.1f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
