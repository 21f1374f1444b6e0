"""Writes the bill of materials of the artefacts: CycloneDX 1.5 in JSON.

usage: sbom.py WHEELS [DPKG-STATUS] >sbom.json

Lists the appliance, every package of the wheels with the hashes of its files, the libraries inside them and, given the
dpkg status file of an image, the Debian packages of that image. Libraries are those that lie in a wheel as files, and
those of the bills that a wheel brings along (PEP 770): the Rust crates and the OpenSSL of `cryptography`. The same
artefacts give the same bytes: the serial number is derived from the contents, the time is SOURCE_DATE_EPOCH.
Format: https://cyclonedx.org/docs/1.5/json/; addresses of packages: the purl specification.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from inventory import Package, library_of, read

OWN = "capture-appliance"
SPDX = re.compile(r"\(?[A-Za-z0-9.+-]+\)?(?: (?:AND|OR|WITH) \(?[A-Za-z0-9.+-]+\)?)*")
KNOWN = {  # what packages call licences, by their SPDX identifiers
    "MIT License": "MIT",
    "BSD License": "BSD-3-Clause",
    "BSD": "BSD-3-Clause",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
}


def licences(name: str) -> list[dict[str, Any]]:
    """Return a licence as CycloneDX has it: an SPDX expression, or a name."""
    name = KNOWN.get(name, name)
    if name == "NOASSERTION":
        return []
    if SPDX.fullmatch(name):
        return [{"expression": name}]
    return [{"license": {"name": name}}]


def component(package: Package) -> dict[str, Any]:
    """Return one Python package."""
    purl = f"pkg:pypi/{package.name}@{package.version}"
    entry: dict[str, Any] = {
        "type": "application" if package.name == OWN else "library",
        "bom-ref": purl,
        "name": package.name,
        "version": package.version,
        "purl": purl,
        "licenses": licences(package.licence),
        "properties": [{"name": f"sha256:{file}", "value": digest} for file, digest in sorted(package.wheels.items())],
    }
    if package.summary:
        entry["description"] = package.summary
    if package.homepage.startswith("http"):
        entry["externalReferences"] = [{"type": "website", "url": package.homepage}]
    if len(package.wheels) == 1:
        entry["hashes"] = [{"alg": "SHA-256", "content": next(iter(package.wheels.values()))}]
    inside = [bundled(file, package) for file in sorted(package.libraries)]
    inside += [linked(purl, package) for purl in package.parts]
    unique = {entry["bom-ref"]: entry for entry in inside}
    if unique:
        entry["components"] = [unique[ref] for ref in sorted(unique)]
    return entry


def bundled(file: str, package: Package) -> dict[str, Any]:
    """Return a C library inside a package's wheels."""
    name, version, licence, address = library_of(file)
    if name == "libpcap":
        version = str(package.built.get("libpcap", version)).partition(",")[0]
    entry: dict[str, Any] = {
        "type": "library",
        "bom-ref": f"{package.name}/{name}",
        "name": name,
        "licenses": licences(licence),
    }
    if version:
        entry["version"] = version
        entry["purl"] = f"pkg:generic/{name}@{version}"
    if address:
        entry["externalReferences"] = [{"type": "website", "url": address}]
    return entry


def linked(purl: str, package: Package) -> dict[str, Any]:
    """Return a library of the bills in a package's wheels."""
    name, version, licence = package.parts[purl]
    entry: dict[str, Any] = {"type": "library", "bom-ref": f"{package.name}/{purl}", "purl": purl, "name": name}
    return {**entry, "version": version, "licenses": licences(licence)}


def debian(status: Path) -> list[dict[str, Any]]:
    """Return the Debian packages of a dpkg status file."""
    found = []
    for paragraph in status.read_text().split("\n\n"):
        fields = dict(re.findall(r"(?m)^([A-Za-z-]+): (.*)$", paragraph))
        if "installed" in fields.get("Status", "") and fields["Package"] != OWN:
            purl = f"pkg:deb/debian/{fields['Package']}@{fields['Version']}?arch={fields['Architecture']}"
            found.append(
                {
                    "type": "library",
                    "bom-ref": purl,
                    "name": fields["Package"],
                    "version": fields["Version"],
                    "purl": purl,
                }
            )
    return found


def document(packages: list[Package], images: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the whole bill."""
    parts = [component(package) for package in packages if package.name != OWN] + images
    (own,) = (component(package) for package in packages if package.name == OWN)
    when = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", "0")))
    contents = json.dumps([own, parts], sort_keys=True)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, contents)}",
        "version": 1,
        "metadata": {"timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", when), "component": own},
        "components": parts,
        "dependencies": [
            {"ref": own["bom-ref"], "dependsOn": sorted(p["bom-ref"] for p in parts if "pypi" in p["purl"])}
        ],
    }


def main(words: list[str]) -> int:
    """Print the bill; return the exit code."""
    images = debian(Path(words[1])) if len(words) > 1 else []
    print(json.dumps(document(read(Path(words[0])), images), indent=2, sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
