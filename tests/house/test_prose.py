"""The prose of the code is plain: docstrings, comments, and the texts that users read.

What the code still has against the rules stands in prose_allowed.txt, counted by file and rule. The counts are exact
and only shrink: `python tests/house/test_prose.py` writes the smaller ones down, and never a larger one. In tests/
and ops/, only the first word of each docstring is checked, and none is allowed to be wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from prose import Text, texts

ROOT = Path(__file__).parents[2]
ALLOWED = Path(__file__).with_name("prose_allowed.txt")
SUFFIXES = (".py", ".pyx", ".pxd", ".pyi")

# The first words of functions' docstrings. A verb that is missing there is added, in its imperative.
VERBS = frozenset(Path(__file__).with_name("verbs.txt").read_text().split())

NOT_A_NAME = r"(?:what|whatever|whether|whoever|whom|who|whose|where|how|which|when|why)\b"

# What no prose has: docstrings, comments, and every string that reads as a text.
BANNED = {
    "who": r"(?<!ARP )\b(?:who|whom|whoever)\b",
    "nobody": r"\b(?:nobody|somebody|anybody|strangers?)\b",
    "clause-as-subject": r"(?:^|[.;:] )(?:what|whatever|whoever|who) (?!(?:is|are|was|were|to|if)\b)\w+",
    "passive-without-agent": r"\b(?:is|are|was|were|be|been|being) "
    r"(?:said|told|asked|believed|let (?:in|go)|handed|thrown|heard|spoken of|looked at|given (?:up|back|away))\b",
    "all-that": r"\ball (?:that|else)\b",
    "so-much": r"\bso (?:many|often|long as)\b|\bfor so long\b|\bas far as\b",
    "everyday-word": r"\b(?:mend(?:s|ed|ing)?|hands? (?:on|over|out)|in its hands|last word|not enough for all"
    r"|goes on as|has its say)\b",
}
PATTERNS = {rule: re.compile(pattern, re.IGNORECASE) for rule, pattern in BANNED.items()}


def sources(*tops: str) -> list[Path]:
    """Return every source in these folders; without any, in the two halves."""
    tops = tops or ("appliance", "workers")
    return [path for top in tops for path in sorted((ROOT / top).rglob("*.*")) if fits(path)]


def fits(path: Path) -> bool:
    """Return whether a file is a source; C that Cython makes is none."""
    return path.suffix in SUFFIXES


def is_question(text: Text) -> bool:
    """Return whether a docstring begins with a question word instead of a name or a verb."""
    is_docstring = text.kind in ("function", "class", "module")
    return is_docstring and bool(re.match(NOT_A_NAME, text.words, re.IGNORECASE))


def faults(text: Text) -> Iterator[str]:
    """Yield the rules that a piece of prose breaks, each as often as it does."""
    if text.kind == "function":
        first = re.match(r"[A-Za-z-]+", text.words)
        if not first or first[0].lower() not in VERBS or not first[0][0].isupper():
            yield "first-word"
    elif is_question(text):
        yield "first-word"
    for rule, pattern in PATTERNS.items():
        yield from [rule] * len(pattern.findall(text.words))


@cache
def found() -> dict[tuple[str, str], list[str]]:
    """Return the faults of all sources: (path, rule): a line each."""
    every: dict[tuple[str, str], list[str]] = {}
    for path in sources():
        name = str(path.relative_to(ROOT))
        for text in texts(path):
            for rule in faults(text):
                every.setdefault((name, rule), []).append(f"{name}:{text.line}: {rule}: {text.words[:160]}")
    return every


def allowed() -> dict[tuple[str, str], int]:
    """Return the counts that are written down; of two after a merge, the larger one."""
    counts: dict[tuple[str, str], int] = {}
    for path, rule, count in re.findall(r"^(\S+\.pyx?|\S+\.pxd|\S+\.pyi) (\S+) (\d+)$", ALLOWED.read_text(), re.M):
        counts[path, rule] = max(int(count), counts.get((path, rule), 0))
    return counts


def shrink() -> None:
    """Write the counts down that are smaller now. A larger one stays as it is, and the test fails."""
    kept = {key: min(count, len(found().get(key, []))) for key, count in allowed().items()}
    ALLOWED.write_text("".join(f"{path} {rule} {count}\n" for (path, rule), count in sorted(kept.items()) if count))


@pytest.mark.parametrize("path", [str(path.relative_to(ROOT)) for path in sources()])
def test_prose_is_plain(path: str) -> None:
    mine = {rule: lines for (name, rule), lines in found().items() if name == path}
    more = {rule: lines for rule, lines in mine.items() if len(lines) > allowed().get((path, rule), 0)}
    assert not more, "\n".join(line for lines in more.values() for line in lines)


def test_the_allowed_faults_are_counted_exactly() -> None:
    counted = {key: len(found().get(key, [])) for key in allowed()}
    assert allowed() == counted, "fewer now: python tests/house/test_prose.py writes them down"


def test_no_docstring_of_tests_and_tools_begins_with_a_question_word() -> None:
    lines = [
        f"{path.relative_to(ROOT)}:{text.line}: {text.words[:160]}"
        for path in sources("tests", "ops")
        for text in texts(path)
        if is_question(text)
    ]
    assert not lines, "\n".join(lines)


WRONG = {
    "What is left of the budget.": ["first-word"],
    "Whether the file is closed.": ["first-word"],
    "The number of frames.": ["first-word"],
    "A frame.": ["first-word"],
    "Writes the buffer.": ["first-word"],
    "return the buffer": ["first-word"],
    "Drop frames of a host who does not acknowledge.": ["who"],
    "Close a socket that nobody reads.": ["nobody"],
    "Drop the rest. What waits is dropped, too.": ["clause-as-subject"],
    "Retry until the message is told.": ["passive-without-agent"],
    "Drop all that was sent.": ["all-that"],
    "Send the file so often.": ["so-much"],
    "Fix what an operator would mend.": ["everyday-word"],
}


@pytest.mark.parametrize("words", WRONG)
def test_each_rule_finds_its_fault(words: str) -> None:
    assert list(faults(Text("function", 1, words))) == WRONG[words]


@pytest.mark.parametrize("kind", ["function", "class", "module"])
@pytest.mark.parametrize("words", ["What is left.", "whether it is closed", "Whoever asks for it.", "Which of them."])
def test_a_question_word_at_the_start_of_a_docstring_is_found(kind: str, words: str) -> None:
    assert is_question(Text(kind, 1, words))
    assert not is_question(Text("comment", 1, words))
    assert not is_question(Text(kind, 1, f"The frame. {words}"))


@pytest.mark.parametrize("words", ["Return whether the file is closed.", "Drop frames whose checksum is wrong."])
def test_plain_prose_has_no_fault(words: str) -> None:
    assert list(faults(Text("function", 1, words))) == []


def test_every_kind_of_prose_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.pyx"
    path.write_text(
        '"""A module."""\n'
        'cdef extern from *:\n    """#define NOT_PROSE"""\n'
        'cdef class A:  # behind code,\n    # goes on\n    """A class."""\n\n'
        "    cdef int f(self) noexcept:\n"
        '        """Return it."""\n'
        '        raise ValueError(f"the frame {x} "\n            "is too long")\n'
        '        return "short word"\n'
    )
    assert [(text.kind, text.words) for text in texts(path)] == [
        ("module", "A module."),
        ("comment", "behind code, goes on"),
        ("class", "A class."),
        ("function", "Return it."),
        ("message", "the frame {x} is too long"),
    ]


if __name__ == "__main__":
    shrink()
