"""Build the compiled modules that pyproject.toml lists: its table [tool.setuptools.cmdclass] names Build.

Every module is compiled without debugging information, and takes from one shared module what Cython would write into
each. Cython translates each module in a process of its own: threads would share its state, and what it writes would
depend on which is faster. So two builds of the same sources give the same bytes. BUILD_CACHE names a folder that keeps
compiled modules by the checksum of all that they are made of; ops/setup.sh sets it.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path

import Cython
from Cython.Build.Dependencies import create_dependency_tree, cythonize
from Cython.Compiler.Errors import CompileError
from setuptools import Extension
from setuptools.command.build_ext import build_ext

SHARED = "appliance.native.cython_utility"  # written by Cython: functions, exceptions and types as Cython makes them
DIRECTIVES = {"auto_pickle": False}  # object.__reduce__ refuses them as well, without 1,000 lines of C in each class
UNUSED_DAYS = 30  # after which the cache drops a module
_ENVIRONMENT = ("C_INCLUDE_PATH", "CPATH", "LIBRARY_PATH", "CFLAGS", "CPPFLAGS", "LDFLAGS")


def _cache() -> Path | None:
    """Return the folder of BUILD_CACHE, made if it is not there; None without one that is this user's alone."""
    name = os.environ.get("BUILD_CACHE")
    if not name:
        return None
    folder = Path(name)
    try:
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        found = folder.stat()
    except OSError:
        return None
    # What lies there is loaded into processes of this user.
    return folder if found.st_uid == os.getuid() and not found.st_mode & 0o022 else None


def _common(commands: list[list[str]]) -> bytes:
    """Return a digest of interpreter, Cython, compiler and its flags, environment and libpcap's headers."""
    compiler = commands[0]
    program = compiler[: next((at for at, word in enumerate(compiler) if word.startswith("-")), len(compiler))]
    version = subprocess.run([*program, "--version"], capture_output=True, check=True).stdout
    environment = [os.environ.get(name) for name in _ENVIRONMENT]
    about = [sys.version, Cython.__version__, SHARED, DIRECTIVES, commands, environment]
    digest = hashlib.sha256(repr(about).encode() + version)
    for folder in [*os.environ.get("C_INCLUDE_PATH", "").split(":"), "/usr/local/include", "/usr/include"]:
        for header in sorted(Path(folder or ".", "pcap").glob("*.h")):
            digest.update(header.read_bytes())
    return digest.digest()


class Build(build_ext):
    """Compile the modules, or take them from the cache."""

    command_name = "build_ext"  # the name under which setuptools looks for its options; without it, that of the class

    def initialize_options(self) -> None:
        """Set what holds for every module."""
        super().initialize_options()
        self.cython_directives = DIRECTIVES
        self.shared_utility_qualified_name = SHARED
        modules = self.distribution.ext_modules
        if modules and all(module.name != SHARED for module in modules):
            modules.insert(0, Extension(SHARED, [SHARED.replace(".", "/") + ".c"]))
        for module in modules or ():
            module.extra_compile_args = ["-g0"]

    def build_extensions(self) -> None:
        """Compile side by side what the cache does not have."""
        self.needs: dict[str, tuple[bytes, list[str]]] = {}
        self.folder = folder = _cache()
        common = _common([list(self.compiler.compiler_so), list(self.compiler.linker_so)]) if folder else b""
        tree = create_dependency_tree()
        for module in self.extensions:
            about = (module.name, module.libraries, module.extra_compile_args, module.extra_link_args)
            written = [source for source in module.sources if not source.endswith(".c")]
            paths = sorted({path for source in written for path in tree.all_dependencies(source)})
            self.needs[module.name] = common + repr(about).encode(), paths
        self._translate([module for module in self.extensions if not (folder and self._kept(module.name).exists())])
        super().build_extensions()
        for path in folder.glob("*.so") if folder else ():
            if path.stat().st_mtime < time.time() - UNUSED_DAYS * 86400:
                path.unlink(missing_ok=True)

    def _translate(self, modules: list[Extension]) -> None:
        """Have Cython write the C file of each module that has none of this age."""
        if self.folder:
            # All anew: times say nothing about flags, and a module made of something else must not get under this name.
            for module in modules:
                for source in module.sources:
                    Path(source).with_suffix(".c").unlink(missing_ok=True)
        count = self.parallel if type(self.parallel) is int else len(os.sched_getaffinity(0)) if self.parallel else 1
        failed: list[str] = []
        running: dict[int, tuple[ForkProcess, str]] = {}
        for module in [*modules, None]:
            # After the last one, until none runs.
            while running and (module is None or len(running) >= count):
                for sentinel in wait(list(running)):
                    process, name = running.pop(sentinel)
                    process.join()
                    failed += [name] if process.exitcode else []
            if module is not None:
                process = get_context("fork").Process(target=_translate, args=(module,))
                process.start()
                running[process.sentinel] = process, module.name
        if failed:
            raise SystemExit(f"Cython cannot translate {', '.join(failed)}")

    def build_extension(self, ext: Extension) -> None:
        """Make one module."""
        if self.folder is None:
            super().build_extension(ext)
            return
        kept = self._kept(ext.name)
        made = Path(self.get_ext_fullpath(ext.name))
        if kept.exists():
            os.utime(kept)
            _copy(kept, made)
            return
        made.unlink(missing_ok=True)
        super().build_extension(ext)
        if self._kept(ext.name) == kept:  # else a source changed during the build
            _copy(made, kept)

    def _kept(self, name: str) -> Path:
        """Return where the cache keeps a module of the sources as they are now."""
        about, paths = self.needs[name]
        digest = hashlib.sha256(about)
        for path in paths:
            digest.update(Path(path).read_bytes())
        return self.folder / f"{name}-{digest.hexdigest()}.so"


def _translate(module: Extension) -> None:
    """Have Cython write the C file of one module. Ends this process with 1 if that fails: Cython has shown where."""
    try:
        cythonize(module, quiet=True, compiler_directives=DIRECTIVES, shared_utility_qualified_name=SHARED)
    except CompileError:
        sys.exit(1)


def _copy(source: Path, target: Path) -> None:
    """Copy a file in one step: a process may have the old one loaded, another may write the same."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".")
    os.close(descriptor)
    try:
        shutil.copyfile(source, name)
        os.chmod(name, 0o755)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
