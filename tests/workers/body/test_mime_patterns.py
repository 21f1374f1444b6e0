"""Patterns of MIME types: those of excerpts and of files are the same."""

from __future__ import annotations

import pytest

from workers.body.mime_patterns import fits

FIT = [
    *[("*", ""), ("*", "text/html"), ("*/*", "image/png"), ("*/*", ""), ("text/*", "text/html")],
    *[("text/html", "text/html"), ("*+json", "application/problem+json")],
    *[("application/vnd.*", "application/vnd.rar"), ("*/json", "application/json")],
]
NOT = [("text/*", "image/png"), ("text/html", "text/html5"), ("*+json", "application/json"), ("image/*", "")]


@pytest.mark.parametrize(("pattern", "kind"), FIT)
def test_a_type_fits_its_pattern(pattern: str, kind: str) -> None:
    assert fits(kind, pattern)


@pytest.mark.parametrize(("pattern", "kind"), NOT)
def test_another_type_does_not(pattern: str, kind: str) -> None:
    assert not fits(kind, pattern)
