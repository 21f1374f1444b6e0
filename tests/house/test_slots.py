"""A slot of a stats page that the code names is in a layout: a wrong name shows here, not when it is first counted."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.stats import layout
from appliance.stats.snapshot import Snapshots
from appliance.wire.tcp_locator import VERDICTS

ROOT = Path(__file__).parents[2]
SLOTS = {
    *layout.capture_layout(2, VERDICTS, recording=True),
    *layout.worker_layout(2, files=True),
    *layout.feed_layout(2, keeping=True),
    *layout.recorder_layout(2),
    *layout.keeper_layout(),
    *layout.files_layout(2),
    *layout.supervisor_layout(2, 2, recording=True, keeping=True, files=True),
}
PAGES = {"page", "_page", "seen", "capture", "recorder", "keeper", *Snapshots._fields}  # names of pages in the code
PAGES -= {"captures", "workers", "files"}
WRITERS = {"add"}  # methods whose first argument is a slot


def pattern(key: ast.expr) -> str:
    """Return the regular expression of the slots that a key may name, "" if it names them without a word of its own."""
    if isinstance(key, ast.Constant) and isinstance(key.value, str):
        return re.escape(key.value)
    if isinstance(key, ast.JoinedStr):
        parts = [re.escape(part.value) if isinstance(part, ast.Constant) else ".+" for part in key.values]
        return "".join(parts) if set(parts) - {".+", r"\."} else ""
    return ""


def named(node: ast.expr) -> str:
    """Return the last name of an expression: `page` of `self.page`."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def keys(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, regular expression) of every slot that some code names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and named(node.value) in PAGES:
            key = node.slice
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in WRITERS
            and named(node.func.value) in PAGES
            and node.args
        ):
            key = node.args[0]
        else:
            continue
        if expression := pattern(key):
            yield node.lineno, expression


def unknown(text: str) -> list[str]:
    """Return the slots in some code that no layout has."""
    return [
        f"{line}: {key}" for line, key in keys(ast.parse(text)) if not any(re.fullmatch(key, slot) for slot in SLOTS)
    ]


FILES = sorted(path for half in ("appliance", "workers") for path in (ROOT / half).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_slot_that_a_file_names_is_in_a_layout(path: Path) -> None:
    assert unknown(path.read_text()) == []


@pytest.mark.parametrize(
    "text",
    ['page["evnts_sent"]', 'self.page[f"snt.{worker}"] = 1', 'self.page.add(f"restart.{slot}", 1)', 'seen["flow"]'],
)
def test_a_wrong_name_shows(text: str) -> None:
    assert len(unknown(text)) == 1


def test_the_names_of_pages_find_most_of_the_code() -> None:
    assert sum(len(list(keys(ast.parse(path.read_text())))) for path in FILES) > 200
