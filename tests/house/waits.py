"""Find waits for another process, thread or socket that have no bound."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

_RUNS = {"run", "check_output", "check_call", "call"}  # of subprocess: they return when the program has ended
_STREAMS = {"stdout", "stderr"}
_READS = {"read", "readline", "readlines"}
_HELPERS = {"box", "feed", "self"}  # names of helpers of tests, whose wait() has a bound inside


def unbounded(path: Path) -> list[tuple[int, str]]:
    """Return line and source of every call of a file that may wait for ever."""
    source = path.read_text()
    return [(node.lineno, ast.unparse(node)) for node in _unbounded(ast.parse(source))]


def _unbounded(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.For, ast.comprehension)) and _last(node.iter) in _STREAMS:
            yield node.iter
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, receiver = node.func.attr, _last(node.func.value)
        bounded = any(word.arg in ("timeout", None) for word in node.keywords)
        if (
            (name in _READS and receiver in _STREAMS)
            or (name in _RUNS and receiver == "subprocess" and not bounded)
            or (name == "communicate" and not bounded)
            or (name in ("wait", "join") and receiver not in _HELPERS and not node.args and not bounded)
        ):
            yield node


def _last(node: ast.expr) -> str:
    """Return the last name of a dotted expression."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
