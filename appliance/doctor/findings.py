"""Findings of `appliance doctor`: a verdict, the observation, its consequence, and the command that fixes it.

A check is a function from facts to results. It registers with the kind of facts that it reads, so a new check is one
function.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, Literal, TypeVar

import msgspec

from appliance.text.terminal import plain

Verdict = Literal["pass", "warn", "fail"]
EXIT_CODES = {"pass": 0, "warn": 1, "fail": 2}
COLOURS = {"pass": 32, "warn": 33, "fail": 31}
Facts = TypeVar("Facts")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one check for one subject. `why` and `fix` are empty only if nothing needs to be done."""

    check: str
    subject: str  # an interface, "host" or "run"
    verdict: Verdict
    seen: str
    why: str = ""
    fix: str = ""


class Checks(Generic[Facts]):
    """The checks on one kind of facts, in the order of their definition."""

    def __init__(self) -> None:
        self._checks: list[tuple[str, Callable[[Facts], Iterable[CheckResult]]]] = []

    def check(
        self, name: str
    ) -> Callable[[Callable[[Facts], Iterator[CheckResult]]], Callable[[Facts], Iterator[CheckResult]]]:
        """Register a function that yields its results; none where the check does not apply."""

        def register(function: Callable[[Facts], Iterator[CheckResult]]) -> Callable[[Facts], Iterator[CheckResult]]:
            self._checks.append((name, function))
            return function

        return register

    def run(self, subject: str, facts: Facts) -> Iterator[Finding]:
        for name, function in self._checks:
            for said in function(facts):
                yield Finding(
                    check=name, subject=subject, verdict=said.verdict, seen=said.seen, why=said.why, fix=said.fix
                )


class CheckResult(msgspec.Struct, frozen=True):
    """The result of a check; the registry adds its name and its subject."""

    verdict: Verdict
    seen: str
    why: str = ""
    fix: str = ""


def ok(seen: str) -> CheckResult:
    return CheckResult("pass", seen)


def warn(seen: str, why: str, fix: str) -> CheckResult:
    return CheckResult("warn", seen, why, fix)


def fail(seen: str, why: str, fix: str) -> CheckResult:
    return CheckResult("fail", seen, why, fix)


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 0 if everything passed, 1 with warnings, 2 with a failure."""
    return max((EXIT_CODES[finding.verdict] for finding in findings), default=0)


def to_json(findings: Sequence[Finding]) -> str:
    """Return all findings as one JSON document, with each fix under its former name, too."""
    worst = max((finding.verdict for finding in findings), key=EXIT_CODES.__getitem__, default="pass")
    document = {
        "verdict": worst,
        "findings": [{**msgspec.structs.asdict(found), "mend": found.fix} for found in findings],
    }
    return json.dumps(document, indent=2)


def _plain(finding: Finding) -> Finding:
    told = {name: plain(getattr(finding, name)) for name in ("subject", "seen", "why", "fix")}
    return msgspec.structs.replace(finding, **told)


def render(
    findings: Sequence[Finding], *, width: int = 100, colours: bool = False, verbose: bool = True
) -> Iterator[str]:
    """Yield lines for people: grouped by subject, with consequence and fix.

    A check that passed takes one line if verbose, else none. Texts from other sources are escaped.
    """
    subject = None
    for finding in map(_plain, findings):
        if finding.verdict == "pass" and not verbose:
            continue
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
        if finding.fix:
            yield f"{'':25}-> {finding.fix}"
    counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in EXIT_CODES}
    hidden = " (-v shows them)" if counts["pass"] and not verbose else ""
    yield f"{counts['pass']} passed{hidden}, {counts['warn']} to look at, {counts['fail']} failed"
