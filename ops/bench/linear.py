"""Is the work linear in bytes? Every element of the grammar, at n and at 4n bytes, cut in small and in usual segments.

    python ops/bench/linear.py [ELEMENT …] [--bytes N] [--segments 1,100,1460]

ns/B     processor time of the worker's pipeline for a byte of payload, events and the end of the connection included
x2       what twice the bytes take, from n to 4n: 2.0 is linear, at most 2.3 is asked for
benign   bytes a second, as a share of those of small JSON calls (the api shape) cut the same way, with the same headers
         in the event, and for a content coding with answers in this coding, bodies looked into; at least 20 % are asked
         for. An element that makes an event of a few bytes pays for the event.

The best of several runs counts. Status 1: something is not linear.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from elements import ELEMENTS, Element, Runner, batches, benign, size_of

MOST_TO_DOUBLE = 2.3
LEAST_SHARE = 0.2
LEAST_S = 0.01  # of one measurement
SMALL = 1 << 13  # bytes at n, in segments of one byte: a frame each
TRIES = 4


def ratio_of(element: Element, n: int, segment: int, least: float = LEAST_S) -> tuple[float, float, float]:
    """(seconds a byte at n, at 4n, their ratio for a doubling)."""
    runner = Runner(element.headers, bool(element.coding))
    small, large = element.turns(n), element.turns(4 * n)
    few, many = size_of(small), size_of(large)
    first = runner.seconds(batches(small, segment), least) / few
    last = runner.seconds(batches(large, segment), least) / many
    return first, last, 2 * (last / first) ** (1 / 2)


def measured(element: Element, n: int, segment: int) -> tuple[float, float, float]:
    """The same, once more while it seems not to be linear: a busy machine is seen as such."""
    out = ratio_of(element, n, segment)
    for _ in range(TRIES):
        if out[2] <= MOST_TO_DOUBLE:
            break
        out = min(out, ratio_of(element, n, segment), key=lambda one: one[2])
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="linear.py", description="Is the work linear in bytes?")
    parser.add_argument("elements", nargs="*", help="only those whose name has one of these words")
    parser.add_argument("--bytes", type=int, default=1 << 16, help="n; an eighth of it in segments of one byte")
    parser.add_argument("--segments", default="1,100,1460", help="bytes of a segment")
    options = parser.parse_args(arguments)
    segments = [int(one) for one in options.segments.split(",")]
    chosen = [one for one in ELEMENTS if not options.elements or any(word in one.name for word in options.elements)]
    normal: dict[tuple[tuple[str, ...], str, int], float] = {}
    for headers, coding in sorted({(element.headers, element.coding) for element in chosen}):
        for segment in segments:
            turns = benign(4 * (options.bytes if segment > 1 else options.bytes // 8), coding=coding)
            made = batches(turns, segment)
            normal[headers, coding, segment] = Runner(headers, bool(coding)).seconds(made, LEAST_S) / size_of(turns)
        rates = ", ".join(f"{1e-6 / normal[headers, coding, segment]:,.0f} MB/s at {segment} B" for segment in segments)
        what = f"bodies in {coding}" if coding else "all headers in the event" if headers else "no headers in the event"
        print(f"benign, {what}: {rates}", flush=True)
    print(f"\n{'':32}" + "".join(f" | {f'{segment} B a segment':^29}" for segment in segments))
    print(f"{'element':32}" + " |   n ns/B 4n ns/B    x2 benign" * len(segments))
    bad, slow = [], []
    for element in chosen:
        cells = []
        for segment in segments:
            n = options.bytes if segment > 1 else options.bytes // 8
            first, last, doubling = measured(element, n, segment)
            share = normal[element.headers, element.coding, segment] / last
            cells.append(f" | {first * 1e9:>8.2f} {last * 1e9:>7.2f} {doubling:>5.2f} {share:>6.0%}")
            if doubling > MOST_TO_DOUBLE:
                bad.append(f"{element.name}, {segment} B: {doubling:.2f}")
            if share < LEAST_SHARE:
                slow.append((share, f"{element.name}, {segment} B: {share:.0%}"))
        print(f"{element.name:32}{''.join(cells)}", flush=True)
    print("\nnot linear:", "; ".join(bad) or "none")
    print(f"below {LEAST_SHARE:.0%} of benign:", "; ".join(text for _, text in sorted(slow)) or "none")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
