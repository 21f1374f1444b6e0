"""The build keeps compiled modules by what they are made of, and takes none that another could have put there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from eventually import PATIENCE_S

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PROJECT = """
[project]
name = "small"
version = "1"
[tool.setuptools]
packages = ["appliance", "appliance.native"]
[tool.setuptools.cmdclass]
build_ext = "ops.build_modules.Build"
[[tool.setuptools.ext-modules]]
name = "appliance.native.small"
sources = ["appliance/native/small.pyx"]
"""
SOURCE = '# cython: language_level=3\n"""One number."""\nfrom appliance.native.small cimport SIZE\n\nsize = SIZE\n'


def tree(path: Path, size: int) -> Path:
    """A project of one module and its declarations."""
    native = path / "appliance" / "native"
    native.mkdir(parents=True)
    for package in (native.parent, native):
        (package / "__init__.py").touch()
    (native / "small.pyx").write_text(SOURCE)
    (native / "small.pxd").write_text(f"cdef enum:\n    SIZE = {size}\n")
    (path / "pyproject.toml").write_text(PROJECT)
    (path / "ops").mkdir()
    shutil.copy(ROOT / "ops" / "build_modules.py", path / "ops")
    return path


def build(path: Path, cache: Path) -> tuple[int, set[str]]:
    """The number that the built module holds, and which modules were compiled for it."""
    environment = {**os.environ, "BUILD_CACHE": str(cache), "CFLAGS": "-O0"}
    words = ["-W", "ignore", "-c", "import setuptools; setuptools.setup()", "-q", "build_ext", "--inplace"]
    subprocess.run(
        [sys.executable, *words], cwd=path, env=environment, check=True, capture_output=True, timeout=PATIENCE_S
    )
    code = "from appliance.native.small import size; print(size)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=path, check=True, capture_output=True, text=True, timeout=PATIENCE_S
    )
    return int(done.stdout), {each.stem for each in path.rglob("*.c")}


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """A cache after one build, of size 1."""
    folder = tmp_path_factory.mktemp("build") / "cache"
    assert build(tree(folder.with_name("first"), 1), folder) == (1, {"small", "cython_utility"})
    return folder


def test_a_second_checkout_compiles_nothing(cache, tmp_path):
    assert build(tree(tmp_path, 1), cache) == (1, set())


def test_a_declaration_counts_like_a_source(cache, tmp_path):
    assert build(tree(tmp_path, 2), cache) == (2, {"small"})


def test_a_folder_that_others_write_to_is_not_used(cache, tmp_path):
    shared = tmp_path / "shared"
    shutil.copytree(cache, shared)
    shared.chmod(0o777)
    assert build(tree(tmp_path / "tree", 1), shared)[1] == {"small", "cython_utility"}


def test_a_changed_source_is_not_kept_under_the_old_name(cache, tmp_path):
    path = tree(tmp_path, 1)
    build(path, cache)
    (path / "appliance" / "native" / "small.pxd").write_text("cdef enum:\n    SIZE = 3\n")
    assert build(path, cache)[0] == 3
    (path / "appliance" / "native" / "small.pxd").write_text("cdef enum:\n    SIZE = 1\n")
    assert build(path, cache)[0] == 1
