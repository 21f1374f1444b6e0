"""List the contents of the artefacts: the packages of the wheels, the libraries inside them, their licences and files.

A module for sbom.py and licences.py, which write it down.
"""

from __future__ import annotations

import email.parser
import hashlib
import json
import re
import zipfile
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any

# The Python packages whose wheels carry a C library: what it is, by the name that the file begins with.
LIBRARIES = {
    "libpcap": ("libpcap", "BSD-3-Clause", "https://www.tcpdump.org/"),
    "libzmq": ("libzmq", "MPL-2.0", "https://zeromq.org/"),
    "libsodium": ("libsodium", "ISC", "https://libsodium.org/"),
    "librdkafka": ("librdkafka", "BSD-2-Clause", "https://github.com/confluentinc/librdkafka"),
}
LINKED = {"openssl": "Apache-2.0"}  # of a library whose bill names no licence; OpenSSL's since 3.0


@dataclass
class Package:
    """One Python package, with every wheel of it and the licence texts that they carry."""

    name: str
    version: str
    licence: str
    summary: str
    homepage: str
    wheels: dict[str, str] = field(default_factory=dict)  # file name: sha256
    texts: dict[str, str] = field(default_factory=dict)  # path in the wheel: text
    libraries: set[str] = field(default_factory=set)  # file names of shared libraries that auditwheel put in
    parts: dict[str, tuple[str, str, str]] = field(default_factory=dict)  # linked in, see parts_of()
    built: dict[str, object] = field(default_factory=dict)


def licence_of(metadata: Message) -> str:
    """Return a licence as the package names it: the expression (PEP 639), the short field, else its classifiers."""
    expression = metadata.get("License-Expression")
    if expression:
        return str(expression)
    short = str(metadata.get("License") or "").strip()
    if short and "\n" not in short and len(short) < 60:
        return short
    classifiers = [str(value).rpartition(" :: ")[2] for value in metadata.get_all("Classifier", [])
                   if str(value).startswith("License ::")]  # fmt: skip
    return " OR ".join(classifiers) or "NOASSERTION"


def homepage_of(metadata: Message) -> str:
    """Return the address of the project, or ""."""
    for entry in metadata.get_all("Project-URL", []):
        label, _, address = str(entry).partition(", ")
        if label.lower() in ("homepage", "source", "repository", "source code", "github"):
            return address.strip()
    return str(metadata.get("Home-page") or "")


def read(folder: Path) -> list[Package]:
    """Return the packages of the wheels in a folder, sorted by name."""
    found: dict[str, Package] = {}
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            (path,) = (name for name in names if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            metadata = email.parser.Parser().parsestr(archive.read(path).decode())
            name = re.sub(r"[-_.]+", "-", str(metadata["Name"])).lower()
            package = found.setdefault(
                name,
                Package(
                    name,
                    str(metadata["Version"]),
                    licence_of(metadata),
                    str(metadata.get("Summary") or ""),
                    homepage_of(metadata),
                ),
            )
            package.wheels[wheel.name] = hashlib.sha256(wheel.read_bytes()).hexdigest()
            for name in names:
                base = name.rpartition("/")[2]
                if ".dist-info/" in name and re.match(r"(?i)(licen[cs]e|copying|notice|authors)", base):
                    package.texts.setdefault(name, archive.read(name).decode(errors="replace"))
                if ".dist-info/sboms/" in name and name.endswith(".json"):
                    package.parts.update(parts_of(json.loads(archive.read(name))))
                if ".libs/" in name and ".so" in base:
                    package.libraries.add(base)
            if "appliance/built.json" in names:
                package.built = json.loads(archive.read("appliance/built.json"))
    return [found[name] for name in sorted(found)]


def parts_of(bill: dict[str, Any]) -> dict[str, tuple[str, str, str]]:
    """Return {purl: (name, version, licence)} of a CycloneDX bill in a wheel (PEP 770)."""
    found = {}
    for part in bill.get("components", []):
        entries = [{**entry, **entry.get("license", {})} for entry in part.get("licenses", [])]
        named = [str(entry.get("expression") or entry.get("id") or entry.get("name")) for entry in entries]
        licence = " AND ".join(named) or LINKED.get(part["name"], "NOASSERTION")
        if "purl" in part:  # its qualifiers say where it was built
            found[str(part["purl"]).partition("?")[0]] = (str(part["name"]), str(part.get("version", "")), licence)
    return found


def library_of(file: str) -> tuple[str, str, str, str]:
    """Return name, version or "", licence and address of a bundled shared library, by its file name."""
    for start, (name, licence, address) in LIBRARIES.items():
        if file.startswith(start):
            version = re.search(r"\.so\.([0-9.]+)$", file)
            return name, version[1] if version else "", licence, address
    name = re.split(r"-[0-9a-f]{8}\b|\.so", file)[0]
    return name, "", "NOASSERTION", ""
