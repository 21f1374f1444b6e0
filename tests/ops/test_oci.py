"""The OCI image: its parts name each other by their digests, and what runs in it is not root."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from eventually import PATIENCE_S

ROOT = Path(__file__).parents[2]
WHEN = 1_700_000_000
CAPABILITY = "SCHILY.xattr.security.capability"


def write(folder: Path, *, mtime: int = WHEN + 1) -> Path:
    """Make an image of a small root file system and return its path."""
    folder.mkdir()
    with tarfile.open(folder / "root.tar", "w", format=tarfile.PAX_FORMAT) as out:
        for name in ("./usr/bin/setpriv", "./dev/null", "./etc/passwd"):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = 4, mtime
            if name.endswith("setpriv"):
                member.pax_headers = {CAPABILITY: "\1\0\0\2\0 \0\0", "mtime": f"{mtime}.5"}
            out.addfile(member, io.BytesIO(b"text"))
    command = [sys.executable, ROOT / "ops/dist/oci.py", folder / "root.tar", folder / "image.tar", "1.0", "amd64"]
    subprocess.run(command, check=True, env={**os.environ, "SOURCE_DATE_EPOCH": str(WHEN)}, timeout=PATIENCE_S)
    return folder / "image.tar"


@pytest.fixture
def image(tmp_path: Path) -> dict[str, bytes]:
    with tarfile.open(write(tmp_path / "one")) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive.getmembers()}  # type: ignore[union-attr]


def blob(image: dict[str, bytes], part: dict[str, Any]) -> bytes:
    data = image["blobs/" + part["digest"].replace(":", "/")]
    assert len(data) == part["size"]
    assert "sha256:" + hashlib.sha256(data).hexdigest() == part["digest"]
    return data


def test_each_part_is_the_one_that_its_digest_names(image: dict[str, bytes]) -> None:
    assert json.loads(image["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(image["index.json"])["manifests"]
    manifest = json.loads(blob(image, entry))
    config = json.loads(blob(image, manifest["config"]))
    (layer,) = manifest["layers"]
    plain = gzip.decompress(blob(image, layer))
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(plain).hexdigest()]


def test_it_runs_as_a_user_and_says_what_shared_memory_it_needs(image: dict[str, bytes]) -> None:
    (entry,) = json.loads(image["index.json"])["manifests"]
    config = json.loads(blob(image, json.loads(blob(image, entry))["config"]))["config"]
    assert config["User"].split(":")[0] not in ("", "0", "root")
    assert "--shm-size" in config["Labels"]["capture-appliance.needs"]


def test_capabilities_are_kept_and_devices_left_out(image: dict[str, bytes]) -> None:
    (entry,) = json.loads(image["index.json"])["manifests"]
    (layer,) = json.loads(blob(image, entry))["layers"]
    with tarfile.open(fileobj=io.BytesIO(blob(image, layer))) as archive:
        members = {member.name: member for member in archive.getmembers()}
    assert set(members) == {"etc/passwd", "usr/bin/setpriv"}
    assert members["usr/bin/setpriv"].pax_headers == {CAPABILITY: "\1\0\0\2\0 \0\0"}
    assert max(member.mtime for member in members.values()) == WHEN


def test_two_builds_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = write(tmp_path / "one"), write(tmp_path / "two", mtime=WHEN + 5)
    assert first.read_bytes() == second.read_bytes()
