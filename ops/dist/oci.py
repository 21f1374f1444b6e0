"""Writes a root file system down as an OCI image, with one layer.

usage: oci.py ROOT.tar IMAGE.oci.tar VERSION ARCHITECTURE

The layer is rewritten so that the same files give the same bytes: sorted, dated SOURCE_DATE_EPOCH at the latest, with
file capabilities kept. Formats: OCI image-spec (image-layout.md, config.md, layer.md), pax headers of tar(5).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
KEPT = "SCHILY.xattr.security.capability"
OWN = "10001:10001"


def layer(root: Path) -> bytes:
    """Return the root file system as an uncompressed layer in its canonical form."""
    out = io.BytesIO()
    with (
        tarfile.open(root) as old,
        tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: (member.islnk(), member.name)):
            name = member.name.removeprefix("./")
            if name in ("", ".") or name.split("/")[0] == "dev":
                continue
            member.name = name
            member.mtime = min(int(member.mtime), EPOCH)
            member.uname = member.gname = ""
            member.pax_headers = {key: value for key, value in member.pax_headers.items() if key == KEPT}
            new.addfile(member, old.extractfile(member) if member.isreg() else None)
    return out.getvalue()


def config(version: str, architecture: str, digest: str) -> dict[str, Any]:
    """Return the image's configuration: what runs, as which user, and what it needs, in labels."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(EPOCH))
    return {
        "created": when,
        "architecture": architecture,
        "os": "linux",
        "config": {
            "User": OWN,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"],
            "Entrypoint": ["/usr/bin/capture-appliance"],
            "Cmd": ["--help"],
            "WorkingDir": "/var/lib/capture-appliance",
            "Volumes": {"/var/lib/capture-appliance": {}},
            "ExposedPorts": {"5556/tcp": {}, "5557/tcp": {}, "9470/tcp": {}},
            "StopSignal": "SIGTERM",
            "Labels": {
                "org.opencontainers.image.title": "capture-appliance",
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.licenses": "BSD-3-Clause",
                "org.opencontainers.image.description": "Turns the packets of an interface into a feed of HTTP events.",
                "capture-appliance.needs": "--network host --cap-drop ALL --cap-add NET_RAW --shm-size 1g: batches lie "
                "in /dev/shm, of which engines give 64 MB unless told",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created": when, "created_by": "ops/dist/oci.sh"}],
    }


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def write(root: Path, image: Path, version: str, architecture: str) -> None:
    """Replace the image file."""
    plain = layer(root)
    packed = gzip.compress(plain, 6, mtime=0)
    blobs: dict[str, bytes] = {}

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    description = config(version, architecture, hashlib.sha256(plain).hexdigest())
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(canonical(description), "config.v1+json"),
        "layers": [blob(packed, "layer.v1.tar+gzip")],
    }
    entry = blob(canonical(manifest), "manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": f"capture-appliance:{version}"}
    entry["platform"] = {"architecture": architecture, "os": "linux"}
    blobs["index.json"] = canonical(
        {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}
    )
    blobs["oci-layout"] = canonical({"imageLayoutVersion": "1.0.0"})
    part = image.with_suffix(".part")
    with tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as out:
        for name in sorted(blobs):
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(blobs[name]), EPOCH, 0o644
            out.addfile(member, io.BytesIO(blobs[name]))
    part.replace(image)


def main(words: list[str]) -> int:
    """Write the image; return the exit code."""
    write(Path(words[0]), Path(words[1]), words[2], words[3])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
