"""Unpacks the wheels of a folder that fit this interpreter into a virtual environment of their own.

usage: unpack.py WHEELS TARGET [FINAL]
                                    TARGET is new, or a virtual environment that gets the packages; FINAL is where it
                                    will lie when it runs, for the compiled files
       unpack.py --id WHEELS        prints the name of what would be unpacked
       unpack.py --sources WHEELS   prints what the appliance's wheel was built of

Needs nothing but the standard library: a sensor has neither pip nor network. TARGET gets bin/python, pyvenv.cfg and
lib/pythonX.Y/site-packages; every file is compared with its wheel's RECORD and compiled. The name is
VERSION-DIGEST, the same for the same wheels. Formats: PEP 427 (wheel), PEP 425 and PEP 600 (tags), PEP 405
(pyvenv.cfg).
"""

from __future__ import annotations

import base64
import compileall
import csv
import hashlib
import io
import os
import platform
import py_compile
import re
import sys
import zipfile
from pathlib import Path

PACKAGE = "capture_appliance"
# -P: a folder that happens to hold something named appliance is not the appliance.
COMMAND = """\
#!/bin/sh
exec "$(dirname "$(readlink -f "$0")")/python" -P -m appliance "$@"
"""
MAJOR, MINOR = sys.version_info[:2]


class Unfit(Exception):
    """The folder lacks a wheel for this interpreter, or a wheel is damaged; the text says which."""


def fits(tag: str) -> int:
    """Return how well a wheel's tag suits this interpreter and system: 0 not at all, more is better."""
    pythons, abis, systems = (part.split(".") for part in tag.split("-"))
    exact = f"cp{MAJOR}{MINOR}"
    if not any(system_fits(system) for system in systems):
        return 0
    if exact in pythons and exact in abis:
        return 3
    for python in pythons:
        found = re.fullmatch(r"cp3(\d+)", python)
        if found and "abi3" in abis and int(found[1]) <= MINOR:
            return 2
    return 1 if "none" in abis and {"py3", f"py3{MINOR}", exact} & set(pythons) else 0


def system_fits(system: str) -> bool:
    """Return whether a wheel's platform tag is of this machine and of no newer C library."""
    if system == "any":
        return True
    machine = platform.machine()
    aliases = {"manylinux1": "2_5", "manylinux2010": "2_12", "manylinux2014": "2_17"}
    for alias, needed in aliases.items():
        system = system.replace(f"{alias}_", f"manylinux_{needed}_")
    found = re.fullmatch(rf"manylinux_(\d+)_(\d+)_{re.escape(machine)}", system)
    if found is None:
        return system == f"linux_{machine}"
    library, version = platform.libc_ver()
    have = tuple(int(part) for part in version.split(".")[:2]) if library == "glibc" else (0, 0)
    return have >= (int(found[1]), int(found[2]))


def choose(folder: Path) -> list[Path]:
    """Return the wheel of each package that fits best, sorted by name.

    Raises Unfit when a package of the folder has no wheel for this interpreter, or the appliance itself has none.
    """
    best: dict[str, tuple[int, Path]] = {}
    names = set()
    for wheel in sorted(folder.glob("*.whl")):
        name, *_, python, abi, system = wheel.stem.split("-")
        score = fits(f"{python}-{abi}-{system}")
        names.add(name.lower())
        if score and score >= best.get(name.lower(), (0, wheel))[0]:
            best[name.lower()] = (score, wheel)
    if PACKAGE not in best:
        raise Unfit(f"{folder}: no wheel of the appliance for Python {MAJOR}.{MINOR} on {platform.machine()}")
    # What the standard library of a newer Python has is built for the older ones alone.
    optional = {"backports_zstd"} if (MAJOR, MINOR) >= (3, 14) else set()
    missing = sorted(names - set(best) - optional)
    if missing:
        raise Unfit(f"{folder}: no wheel for Python {MAJOR}.{MINOR} of {', '.join(missing)}")
    return [wheel for _, wheel in (best[name] for name in sorted(best))]


def identity(wheels: list[Path]) -> str:
    """Return the appliance's version and eight digits that stand for the contents of all these wheels."""
    digest = hashlib.sha256(f"{MAJOR}.{MINOR}\n".encode())
    version = ""
    for wheel in wheels:
        if wheel.name.startswith(f"{PACKAGE}-"):
            version = wheel.name.split("-")[1]
        with zipfile.ZipFile(wheel) as archive:
            digest.update(wheel.name.encode() + b"\n" + archive.read(record_of(archive)))
    return f"{version}-{digest.hexdigest()[:8]}"


def sources(wheels: list[Path]) -> str:
    """Return the digest of the sources that the appliance's wheel was built of, or "" when it does not say."""
    import json

    for wheel in wheels:
        if wheel.name.startswith(f"{PACKAGE}-"):
            with zipfile.ZipFile(wheel) as archive:
                if "appliance/built.json" in archive.namelist():
                    return str(json.loads(archive.read("appliance/built.json"))["sources"])
    return ""


def record_of(archive: zipfile.ZipFile) -> str:
    """Return the path of the wheel's RECORD."""
    for name in archive.namelist():
        if name.endswith(".dist-info/RECORD") and name.count("/") == 1:
            return name
    raise Unfit(f"{archive.filename}: no RECORD in it")


def extract(wheel: Path, site: Path) -> None:
    """Write the files of one wheel below site, each compared with its digest in RECORD.

    Raises Unfit when the wheel is damaged or a name leads out of site. Scripts and data files are left out.
    """
    with zipfile.ZipFile(wheel) as archive:
        rows = csv.reader(io.StringIO(archive.read(record_of(archive)).decode()))
        digests = {row[0]: row[1] for row in rows if row}
        for entry in archive.infolist():
            name = entry.filename
            if entry.is_dir():
                continue
            parts = Path(name).parts
            if parts[0].endswith(".data"):
                if parts[1] not in ("purelib", "platlib"):
                    continue
                parts = parts[2:]
            if ".." in parts or Path(*parts).is_absolute():
                raise Unfit(f"{wheel.name}: {name} leads out of its folder")
            data = archive.read(entry)
            if not name.endswith((".dist-info/RECORD", ".dist-info/RECORD.jws")):
                digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                if digests.get(name) != f"sha256={digest}":
                    raise Unfit(f"{wheel.name}: {name} is damaged")
            target = site.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            target.chmod(0o755 if entry.external_attr >> 16 & 0o111 else 0o644)


def unpack(folder: Path, target: Path, final: str) -> None:
    """Make the virtual environment at target. It is complete only once this returns: make it beside, then rename."""
    wheels = choose(folder)
    site = target / "lib" / f"python{MAJOR}.{MINOR}" / "site-packages"
    site.mkdir(parents=True, exist_ok=True)
    if not (target / "pyvenv.cfg").exists():
        (target / "bin").mkdir()
        base = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
        (target / "bin" / "python").symlink_to(base)
        lines = (
            f"home = {os.path.dirname(base)}",
            "include-system-site-packages = false",
            f"version = {platform.python_version()}",
        )
        (target / "pyvenv.cfg").write_text("\n".join(lines) + "\n")
    command = target / "bin" / "appliance"
    command.write_text(COMMAND)
    command.chmod(0o755)
    for wheel in wheels:
        extract(wheel, site)
    # By content, not by time: the same files give the same bytes, and no clock or copy makes them stale.
    compileall.compile_dir(
        site,
        quiet=2,
        force=True,
        stripdir=str(target),
        prependdir=final,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def main(words: list[str]) -> int:
    """Do what the command line says; return the exit code."""
    try:
        if words[:1] == ["--id"]:
            print(identity(choose(Path(words[1]))))
        elif words[:1] == ["--sources"]:
            print(sources(choose(Path(words[1]))))
        else:
            target = Path(words[1])
            unpack(Path(words[0]), target, words[2] if len(words) > 2 else str(target))
    except (Unfit, OSError, zipfile.BadZipFile) as error:
        print(f"unpack: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
