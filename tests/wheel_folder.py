"""Small wheels for the tests of what builds and installs the real ones."""

from __future__ import annotations

import base64
import hashlib
import sys
import zipfile
from pathlib import Path

TAG = f"cp3{sys.version_info.minor}-cp3{sys.version_info.minor}-linux_x86_64"


def make_wheel(folder: Path, name: str, version: str, tag: str, files: dict[str, str], *, digest: str = "") -> Path:
    """Write a wheel with these files and return its path. digest: what RECORD says of each file, if not the truth."""
    info = f"{name}-{version}.dist-info"
    contents = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nLicense-Expression: MIT\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: false\nTag: {tag}\n",
        f"{info}/licenses/LICENSE": f"The licence of {name}.\n",
    }
    rows = []
    for path, text in contents.items():
        true = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest or true},{len(text.encode())}")
    wheel = folder / f"{name}-{version}-{tag}.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in contents.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]) + "\n")
    return wheel


def make_release(folder: Path, version: str) -> Path:
    """Write a folder with a wheel named as the appliance's, whose program says its version, and return the folder."""
    program = f'print("appliance {version}")\n'
    make_wheel(
        folder, "capture_appliance", version, TAG, {"appliance/__init__.py": "", "appliance/__main__.py": program}
    )
    return folder
