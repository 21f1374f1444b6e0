"""What `appliance doctor` finds: a verdict, what was seen, why it matters, and the command that mends it.

A check is a small function from facts to findings. It stands in the registry of the facts it is about, so that a new
one is one function more and nothing else."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, Literal, TypeVar

import msgspec

Verdict = Literal["pass", "warn", "fail"]
EXIT_CODES = {"pass": 0, "warn": 1, "fail": 2}
COLOURS = {"pass": 32, "warn": 33, "fail": 31}
Facts = TypeVar("Facts")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at. why and mend are empty only where there is nothing to do."""

    check: str
    subject: str  # an interface, "host" or "run"
    verdict: Verdict
    seen: str
    why: str = ""
    mend: str = ""


class Checks(Generic[Facts]):
    """The checks on one kind of facts, in the order in which they were written down."""

    def __init__(self) -> None:
        self._checks: list[tuple[str, Callable[[Facts], Iterable[Said]]]] = []

    def check(self, name: str) -> Callable[[Callable[[Facts], Iterator[Said]]], Callable[[Facts], Iterator[Said]]]:
        """Registers a function that yields what it has to say; nothing where the check does not apply."""

        def register(function: Callable[[Facts], Iterator[Said]]) -> Callable[[Facts], Iterator[Said]]:
            self._checks.append((name, function))
            return function

        return register

    def run(self, subject: str, facts: Facts) -> Iterator[Finding]:
        for name, function in self._checks:
            for said in function(facts):
                yield Finding(
                    check=name, subject=subject, verdict=said.verdict, seen=said.seen, why=said.why, mend=said.mend
                )


class Said(msgspec.Struct, frozen=True):
    """What a check says; the registry knows its name and its subject."""

    verdict: Verdict
    seen: str
    why: str = ""
    mend: str = ""


def good(seen: str) -> Said:
    return Said("pass", seen)


def doubt(seen: str, why: str, mend: str) -> Said:
    return Said("warn", seen, why, mend)


def bad(seen: str, why: str, mend: str) -> Said:
    return Said("fail", seen, why, mend)


def exit_code(findings: Sequence[Finding]) -> int:
    """0 when everything passed, 1 with warnings, 2 with a failure."""
    return max((EXIT_CODES[finding.verdict] for finding in findings), default=0)


def to_json(findings: Sequence[Finding]) -> str:
    """All of them as one JSON document."""
    worst = max((finding.verdict for finding in findings), key=EXIT_CODES.__getitem__, default="pass")
    document = {"verdict": worst, "findings": [msgspec.structs.asdict(finding) for finding in findings]}
    return json.dumps(document, indent=2, ensure_ascii=False)


def render(findings: Sequence[Finding], *, width: int = 100, colours: bool = False) -> Iterator[str]:
    """Lines for people: grouped by subject; what passed takes one line, the others say why and what to do."""
    subject = None
    for finding in findings:
        if finding.subject != subject:
            subject = finding.subject
            yield subject
        word = f"{finding.verdict:<4}"
        if colours:
            word = f"\x1b[{COLOURS[finding.verdict]}m{word}\x1b[0m"
        first, *rest = textwrap.wrap(finding.seen, width - 25, break_on_hyphens=False) or [""]
        yield f"  {word}  {finding.check:<15}  {first}"
        for line in rest:
            yield f"{'':25}{line}"
        for line in textwrap.wrap(finding.why, width - 25, break_on_hyphens=False):
            yield f"{'':25}{line}"
        if finding.mend:
            yield f"{'':25}-> {finding.mend}"
    counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in EXIT_CODES}
    yield f"{counts['pass']} passed, {counts['warn']} to look at, {counts['fail']} failed"
