"""Transactions of a capture that was damaged: frames lost, out of order, duplicated. All truth is known.

    python ops/bench/loss.py [--seeds 5] [--seed N] [--connections N] [--json PATH] [--show N]

The endpoints notice nothing: only the tap's frames are damaged. Every transaction counts whose two heads are in the
capture whole (eligible): it is right if one event has its method, URI, status and reason. An event with the request of
one transaction and the response of another is wrong; one with a URI or a reason that no message had, or that was
reported before, is invented. Frames go in-process through the Sharder and the Pipeline, as in the appliance.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from crowd import Crowd, Truth  # noqa: E402
from impair import drop, drop_bursts, duplicate, reorder  # noqa: E402
from pcapfile import ETHERNET, Frame  # noqa: E402

from appliance.capture.sharder import Sharder  # noqa: E402
from appliance.config.load import resolve  # noqa: E402
from appliance.ipc.frame_batch import stamp  # noqa: E402
from workers.pipeline import Pipeline  # noqa: E402

_KEY = bytes(range(16))
_WINDOW = 20  # places that a late frame moves, at most

Event = dict[str, Any]
Damage = Callable[[Sequence[Frame], int], list[Frame]]


@dataclass(frozen=True, slots=True)
class Impairment:
    """A kind of damage, and the share of eligible transactions that must come out right."""

    name: str
    goal: float
    damage: Damage


IMPAIRMENTS = (
    Impairment("none", 1.0, lambda frames, seed: list(frames)),
    Impairment("loss 0.1 %", 0.999, lambda frames, seed: drop(frames, 0.001, seed)),
    Impairment("loss 1 %", 0.995, lambda frames, seed: drop(frames, 0.01, seed)),
    Impairment("loss 1 % in bursts", 0.995, lambda frames, seed: drop_bursts(frames, 0.01, seed)),
    Impairment("reordered 5 %", 1.0, lambda frames, seed: reorder(frames, _WINDOW, seed, 0.05)),
    Impairment("twice 5 %", 1.0, lambda frames, seed: duplicate(frames, 0.05, seed, _WINDOW)),
    Impairment(
        "all: 1 %, 5 %, 5 %",
        0.995,
        lambda frames, seed: reorder(duplicate(drop(frames, 0.01, seed + 1), 0.05, seed, _WINDOW), _WINDOW, seed, 0.05),
    ),
)


@dataclass(slots=True)
class Score:
    """Counts of transactions (eligible ones unless said otherwise) and of events."""

    transactions: int = 0  # eligible or not
    eligible: int = 0
    right: int = 0
    apart: int = 0  # both messages reported, not together
    missing: int = 0  # at least one of the messages not reported
    uncertain: int = 0  # of all events, those that say so
    wrong: int = 0  # events
    invented: int = 0  # events
    failures: list[str] = field(default_factory=list)

    def add(self, other: Score) -> None:
        """Sums."""
        for name in ("transactions", "eligible", "right", "apart", "missing", "uncertain", "wrong", "invented"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.failures += other.failures

    @property
    def share(self) -> float:
        """Of the eligible ones, how many are right."""
        return self.right / self.eligible if self.eligible else 1.0


def said(event: Event) -> tuple[tuple[int, str, str] | None, tuple[int, int, str] | None]:
    """(client port, method, URI) and (client port, status, reason) of an event; None for a half that it has not."""
    port = event["source"]["port"]
    request, response = event["http"].get("request"), event["http"].get("response")
    return (
        None if request is None else (port, request.get("method", ""), event.get("url", {}).get("original", "")),
        None if response is None else (port, response.get("status_code", 0), response.get("reason", "")),
    )


def score(truths: Iterable[Truth], frames: Iterable[Frame], events: Iterable[Event]) -> Score:
    """Holds the events against the truth; `frames` are those that were captured."""
    out = Score()
    captured = {id(data) for _, data in frames}
    asked: dict[object, Truth] = {}
    answered: dict[object, Truth] = {}
    for truth in truths:
        asked[truth.port, truth.method, truth.uri] = truth
        answered[truth.port, truth.status, truth.answer] = truth
    seen_requests: dict[int, str] = {}  # id of a truth: how its request was reported
    seen_responses: dict[int, str] = {}
    right = set()
    for event in events:
        request, response = said(event)
        pairing = event["appliance"]["pairing"]
        out.uncertain += pairing == "uncertain"
        ends = []
        for half, known, seen in ((request, asked, seen_requests), (response, answered, seen_responses)):
            if half is None:
                continue
            truth = known.get(half)
            if truth is None or id(truth) in seen:
                out.invented += 1
                out.failures.append(
                    f"invented: {request} {response} {pairing}, {'never sent' if truth is None else 'again'}"
                )
                continue
            seen[id(truth)] = pairing
            ends.append(truth)
        if len(ends) == 2 and ends[0] is not ends[1]:
            out.wrong += 1
            out.failures.append(f"wrong: {request} {response} {pairing}, truth {place(ends[0])} and {place(ends[1])}")
        elif len(ends) == 2:
            right.add(id(ends[0]))
    for truth in truths:
        out.transactions += 1
        if not all(id(frame) in captured for frame in truth.heads):
            continue
        out.eligible += 1
        if id(truth) in right:
            out.right += 1
            continue
        halves = seen_requests.get(id(truth), "missing"), seen_responses.get(id(truth), "missing")
        out.missing += "missing" in halves
        out.apart += "missing" not in halves
        out.failures.append(f"not right: {place(truth)}, its request {halves[0]}, its response {halves[1]}")
    return out


def place(truth: Truth) -> str:
    """Return a description that locates a transaction in the capture."""
    return f"port {truth.port} #{truth.index} {truth.method} {truth.uri} {truth.status} {truth.answer} ({truth.style})"


def events_of(frames: Iterable[Frame]) -> list[Event]:
    """The events of some frames."""
    sharder = Sharder(_KEY, 1, None, 7, 0, ETHERNET)
    pipeline = Pipeline(resolve(None, {"source.interfaces": ["bench0"]}))
    sent = 0
    for ts_ns, frame in frames:
        sharder.push(ts_ns, frame, len(frame))
    for sequence, (_, size, message) in enumerate(sharder.end()):
        stamp(message, sequence, sent)
        sent += size
        pipeline.feed(bytes(message))
        sharder.recycle(message)
    pipeline.finish()
    return [json.loads(line) for _, _, body in pipeline.take() for line in body.split(b"\n")]


def table(results: Sequence[tuple[Impairment, list[Score]]]) -> str:
    """For people: a row for each impairment, over all seeds."""
    counted = (
        "transactions",
        "eligible",
        "right",
        "least",
        "goal",
        "wrong",
        "invented",
        "apart",
        "missing",
        "uncertain",
    )
    rows = [["damage", *counted, ""]]
    for impairment, scores in results:
        total = Score()
        for one in scores:
            total.add(one)
        counts = (total.wrong, total.invented, total.apart, total.missing, total.uncertain)
        rows.append(
            [
                impairment.name,
                f"{total.transactions:,}",
                f"{total.eligible:,}",
                f"{total.share:.3%}",
                f"{min(one.share for one in scores):.3%}",
                f"{impairment.goal:.1%}",
                *(f"{value:,}" for value in counts),
                "" if holds(impairment, scores) else "  BELOW THE GOAL",
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in (0, 11) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def holds(impairment: Impairment, scores: Sequence[Score]) -> bool:
    """Is the goal met over all seeds, with nothing wrong and nothing invented?"""
    eligible, right = sum(one.eligible for one in scores), sum(one.right for one in scores)
    return right >= impairment.goal * eligible and not any(one.wrong or one.invented for one in scores)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: 0 when every goal is met, 1 when not."""
    parser = argparse.ArgumentParser(
        prog="loss.py", description="Transactions that come out right of damaged captures."
    )
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--connections", type=int, default=1500, help="of each seed")
    parser.add_argument("--only", default="", metavar="TEXT", help="damages whose name holds this")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print the first failures of each damage")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every figure")
    options = parser.parse_args(arguments)
    chosen = [one for one in IMPAIRMENTS if options.only in one.name]
    results: list[tuple[Impairment, list[Score]]] = [(one, []) for one in chosen]
    seeds = range(options.seed, options.seed + options.seeds)
    for seed in seeds:
        crowd = Crowd(seed, options.connections)
        print(f"seed {seed}: {len(crowd.frames):,} frames", file=sys.stderr, flush=True)
        for impairment, scores in results:
            frames = impairment.damage(crowd.frames, seed)
            scores.append(score(crowd.truths, frames, events_of(frames)))
    for impairment, scores in results:
        failures = [
            f"{impairment.name}, seed {seed}: {text}"
            for seed, one in zip(seeds, scores, strict=True)
            for text in one.failures
        ]
        failures.sort(key=lambda text: ": not right: " in text)  # what is wrong or invented comes first
        for text in failures[: options.show]:
            print(text)
    print(table(results))
    if options.json:
        raw = {impairment.name: [asdict(one) for one in scores] for impairment, scores in results}
        options.json.write_text(json.dumps(raw, indent=1) + "\n")
    return 0 if all(holds(*result) for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
