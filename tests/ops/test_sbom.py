"""The bill of materials and the licences name every package of the wheels, with the hash of each file."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from eventually import PATIENCE_S
from wheel_folder import TAG, make_release, make_wheel

ROOT = Path(__file__).parents[2]


def run(script: str, *words: str | Path) -> str:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    command = [sys.executable, ROOT / "ops/dist" / script, *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment, timeout=PATIENCE_S
    ).stdout


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = make_release(tmp_path, "1.0")
    make_wheel(folder, "pyzmq", "27.0", TAG, {"pyzmq.libs/libzmq-0123abcd.so.5.2.5": "", "zmq.py": ""})
    make_wheel(folder, "dpkt", "1.9", "py3-none-any", {"dpkt.py": ""})
    return folder


def test_every_file_is_there_with_its_hash(wheels: Path) -> None:
    bill: dict[str, Any] = json.loads(run("sbom.py", wheels))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    assert bill["metadata"]["component"]["purl"] == "pkg:pypi/capture-appliance@1.0"
    assert [part["purl"] for part in bill["components"]] == ["pkg:pypi/dpkt@1.9", "pkg:pypi/pyzmq@27.0"]
    told = {
        entry["name"]: entry["value"]
        for part in [bill["metadata"]["component"], *bill["components"]]
        for entry in part["properties"]
    }
    assert told == {f"sha256:{file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in wheels.iterdir()}


def test_a_library_inside_a_wheel_is_a_part_of_it(wheels: Path) -> None:
    bill = json.loads(run("sbom.py", wheels))
    (zmq,) = [part for part in bill["components"] if part["name"] == "pyzmq"]
    (library,) = zmq["components"]
    assert (library["name"], library["version"], library["licenses"]) == (
        "libzmq",
        "5.2.5",
        [{"expression": "MPL-2.0"}],
    )


def test_what_the_bills_of_a_wheel_name_is_a_part_of_it(wheels: Path) -> None:
    crate = {
        "type": "library",
        "bom-ref": "path+file:///builder/pem",
        "name": "pem",
        "version": "4.0.0",
        "purl": "pkg:cargo/pem@4.0.0?download_url=file://pem",
        "licenses": [{"license": {"id": "MIT"}}],
    }
    openssl = {"type": "library", "name": "openssl", "version": "4.0.3", "purl": "pkg:generic/openssl@4.0.3"}
    bills = {
        f"cryptography-50.dist-info/sboms/{name}.json": json.dumps({"components": [part]})
        for name, part in (("rust", crate), ("c", openssl))
    }
    make_wheel(wheels, "cryptography", "50", TAG, {"cryptography.py": "", **bills})
    text = run("sbom.py", wheels)
    assert "builder" not in text
    (package,) = [part for part in json.loads(text)["components"] if part["name"] == "cryptography"]
    told = {part["purl"]: part["licenses"] for part in package["components"]}
    assert told == {
        "pkg:cargo/pem@4.0.0": [{"expression": "MIT"}],
        "pkg:generic/openssl@4.0.3": [{"expression": "Apache-2.0"}],
    }
    assert "\n  with openssl: Apache-2.0\n  with pem: MIT\n" in run("licences.py", wheels)


def test_the_packages_of_an_image_are_listed(wheels: Path, tmp_path: Path) -> None:
    status = tmp_path / "status"
    entry = "Package: {}\nStatus: {} ok {}\nArchitecture: amd64\nVersion: 1-2\n"
    status.write_text(
        entry.format("libc6", "install", "installed") + "\n" + entry.format("gone", "deinstall", "config-files")
    )
    bill = json.loads(run("sbom.py", wheels, status))
    assert [part["name"] for part in bill["components"] if part["purl"].startswith("pkg:deb")] == ["libc6"]


def test_it_is_the_same_each_time(wheels: Path) -> None:
    assert run("sbom.py", wheels) == run("sbom.py", wheels)


@pytest.mark.parametrize("form", [[], ["--copyright"]])
def test_each_licence_is_there(wheels: Path, form: list[str]) -> None:
    text = run("licences.py", *form, wheels)
    for name in ("pyzmq", "dpkt"):
        assert f"The licence of {name}." in text
