"""Children find this package, also where it is not installed."""

import subprocess
import sys

import pytest
from eventually import PATIENCE_S

from appliance.runtime.child_environment import child_environment


def test_a_child_without_installed_packages_imports_this_one() -> None:
    words = [sys.executable, "-P", "-S", "-c", "import appliance.runtime.child_environment"]
    subprocess.run(words, env=child_environment(), cwd="/", check=True, timeout=PATIENCE_S)


def test_a_part_of_the_package_is_no_package_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    words = [sys.executable, "-P", "-S", "-c", "import metrics"]
    assert (
        subprocess.run(
            words, env=child_environment(), cwd="/", stderr=subprocess.DEVNULL, timeout=PATIENCE_S
        ).returncode
        == 1
    )
