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


def test_an_installation_takes_its_options_from_the_file(tmp_path):
    """As ops/setup.sh and ops/dist/wheels.sh ask for one process a core."""
    options = tmp_path / "build.cfg"
    options.write_text("[build_ext]\nparallel = 3\n")
    code = (
        "import setuptools; from ops.build_modules import Build\n"
        "made = setuptools.Distribution(); made.cmdclass['build_ext'] = Build; made.parse_config_files()\n"
        "command = made.get_command_obj('build_ext'); command.ensure_finalized(); print(command.parallel)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tree(tmp_path / "tree", 1),
        env={**os.environ, "DIST_EXTRA_CONFIG": str(options)},
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.stdout == "3\n"


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


def test_cython_writes_the_same_for_any_number_of_threads(tmp_path):
    """Threads of one process disturb each other in Cython: a module got what another one exports."""
    compiler = tmp_path / "compiler"
    compiler.write_text('#!/bin/sh\nwhile [ $# -gt 0 ]; do [ "$1" != -o ] || : >"$2"; shift; done\n')
    compiler.chmod(0o755)
    written = []
    for threads in (1, 6):
        path = tree(tmp_path / str(threads), 1)
        native = path / "appliance" / "native"
        (native / "inline.pxd").write_text(
            "".join(f"cdef inline int plus{n}(int a) noexcept:\n    return a + {n}\n\n" for n in range(9))
        )
        modules = PROJECT
        for name in ("inline", "user1", "user2", "user3", "user4"):
            use = "def add(int a):\n    return plus1(a) + plus2(a)\n"
            text = use if name == "inline" else f"from appliance.native.inline cimport plus1, plus2\n\n{use}"
            (native / f"{name}.pyx").write_text(f"# cython: language_level=3\n{text}")
            modules += "[[tool.setuptools.ext-modules]]\n"
            modules += f'name = "appliance.native.{name}"\nsources = ["appliance/native/{name}.pyx"]\n'
        (path / "pyproject.toml").write_text(modules)
        environment = {**os.environ, "BUILD_CACHE": "", "PYTHONHASHSEED": "0"}
        environment |= {"CC": str(compiler), "LDSHARED": str(compiler)}
        words = ["-W", "ignore", "-c", "import setuptools; setuptools.setup()", "-q", "build_ext", "--inplace"]
        subprocess.run(
            [sys.executable, *words, "--parallel", str(threads)],
            cwd=path, env=environment, check=True, capture_output=True, timeout=PATIENCE_S,
        )  # fmt: skip
        written.append({each.name: each.read_text() for each in native.glob("*.c")})
    assert len(written[0]) == 7
    assert [name for name in written[0] if written[0][name] != written[1][name]] == []
