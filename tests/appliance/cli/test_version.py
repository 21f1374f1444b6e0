"""`appliance version`: what runs here, in words and as JSON."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

from eventually import PATIENCE_S

from appliance import __version__


def version(*words: str) -> str:
    command = [sys.executable, "-P", "-m", "appliance", "version", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S).stdout


def test_the_document_names_libraries_kernel_and_features() -> None:
    known = json.loads(version("--json"))
    assert known["version"] == __version__
    assert known["python"] == platform.python_version()
    assert known["libpcap"].startswith("libpcap version")
    assert known["libzmq"].split(".")[0] == "4"
    assert known["kernel"]["release"] == platform.release()
    assert isinstance(known["kernel"]["landlock"], int)
    assert known["features"]["coding_zstd"] is True


def test_each_dependency_that_is_needed_has_a_version() -> None:
    known = json.loads(version("--json"))["dependencies"]
    assert {"msgspec", "pyzmq", "click"} <= {name for name, number in known.items() if number}


def test_a_person_gets_a_few_lines() -> None:
    text = version()
    assert text.splitlines()[0] == f"appliance {__version__}"
    assert len(text.splitlines()) == 4
